#!/bin/bash
# Plants one defect after the other into src and runs the smallest test that must notice it. Fails where one is not noticed.
# Every file is put back, whatever happens; src must have no changes that are not committed.
# usage: mutants.sh [NAME ...]      (all without; the floor's needs the servers: run it through tests/servers/with-servers.sh)
set -euo pipefail
cd "$(dirname "$0")/../.."
git diff --quiet -- src || { echo "mutants.sh: src has changes that are not committed" >&2; exit 1; }
trap 'git checkout -q -- src' EXIT

# name | file | the line's text | what it becomes | the test
mutants() {
  cat <<'END'
acknowledge-one-early|src/ack/tracker.rs|oldest <= sequence|oldest < sequence|--lib ack::tracker
drop-the-ordinal|src/model/version.rs|u64::from(ordinal)|u64::from(ordinal) * 0|--lib model::version
take-400-for-success|src/sink/outcome.rs|Outcome::Rejected { kind: kind.to_owned(), reason: cause.describe() }|Outcome::Done|--lib sink::outcome
do-not-count-items|src/sink/outcome.rs|answer.items.len() != actions|answer.items.len() > actions|--lib sink::outcome
skip-the-floor-barrier|src/source/floor.rs|xmin > burned.0|xmin > 0|--test catalog the_barrier_waits
pass-the-guard|src/lanes/guard.rs|if unseen(*xid, *version) => Verdict::Drop|if unseen(*xid, *version) => Verdict::Pass|--lib lanes::guard
give-up-too-early|src/lanes/suspicion.rs|1 if self.cuts > CUTS_ALONE|1 if self.cuts > 1|--lib lanes::suspicion
END
}

missed=()
while IFS='|' read -r name file from to test; do
  [ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
  FROM=$from TO=$to perl -0pi -e 's/\Q$ENV{FROM}\E/$ENV{TO}/ or die "not found: $ENV{FROM}\n"' "$file"
  # A defect that does not compile proves nothing.
  cargo test -q --locked --no-run ${test% *} 2> /dev/null < /dev/null || { echo "$name: does not compile"; exit 1; }
  if cargo test -q --locked $test > /dev/null 2>&1 < /dev/null; then
    missed+=("$name")
    echo "$name: NOT noticed by cargo test $test"
  else
    echo "$name: noticed by cargo test $test"
  fi
  git checkout -q -- "$file"
done < <(mutants)
[ ${#missed[@]} = 0 ]

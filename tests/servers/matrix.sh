#!/bin/bash
# Runs the tests that depend on the version of PostgreSQL against each MAJOR version, one after the other, each with a
# fresh PostgreSQL and a fresh OpenSearch. Goes on after a failure; the exit status says whether all passed.
# usage: matrix.sh MAJOR ...
# environment: PG2OS_E2E_SEEDS (1): random loads that are tried
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -ge 1 ] || usage
export PG2OS_E2E_SEEDS=${PG2OS_E2E_SEEDS:-1}
cd "$servers/../.."

suites=()
for suite in catalog replication types e2e; do
  [ ! -e "tests/$suite.rs" ] && [ ! -e "tests/$suite/main.rs" ] || suites+=(--test "$suite")
done
results=()
for major; do
  PGBIN=$("$servers/postgres-get.sh" "$major")
  export PGBIN
  say "PostgreSQL $major: $("$PGBIN/postgres" --version)"
  begun=$SECONDS outcome=passed
  "$servers/with-servers.sh" cargo test --locked --no-fail-fast "${suites[@]}" || {
    status=$? outcome=FAILED
    [ $status -lt 128 ] || exit $status   # Ctrl-C ends all of it
  }
  results+=("PostgreSQL $major: $outcome in $((SECONDS - begun)) s")
done
printf '%s\n' "${results[@]}"
[[ ${results[*]} != *FAILED* ]]

#!/bin/bash
# Runs COMMAND with a fresh PostgreSQL and a fresh OpenSearch (PG2OS_TEST_... tell it where, see up.sh), stops both whatever
# happens, and returns COMMAND's exit status.
# usage: [KEEP=1] with-servers.sh COMMAND [ARGUMENT ...]      (KEEP=1 leaves the servers up)
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -ge 1 ] || usage
mkdir -p "$PG2OS_DEV_HOME"
run=$(mktemp -d "$PG2OS_DEV_HOME/run.XXXXXX")
chmod 755 "$run"

leave() {
  trap '' INT TERM HUP   # a second Ctrl-C must not interrupt the stopping
  if [ -n "${KEEP:-}" ] && [ -e "$run/env" ]; then
    say "the servers stay up: source $run/env; stop them with $servers/down.sh $run"
  else
    "$servers/down.sh" "$run"
  fi
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
"$servers/up.sh" "$run" || { status=$?; [ $status != 1 ] || trap - EXIT; exit $status; }   # a failed start: keep the logs
. "$run/env"

# In the background, so that a TERM sent to this script alone reaches the command at once. Ctrl-C reaches both by itself:
# the command decides what to do with it (a background process ignores it unless told otherwise).
env --default-signal=INT,QUIT "$@" <&0 & command=$!
trap : INT
trap 'kill -TERM $command 2> /dev/null' TERM HUP
while runs $command ''; do wait $command || true; done   # a trapped signal interrupts wait, too
status=0
wait $command || status=$?
exit $status

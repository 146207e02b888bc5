#!/bin/bash
# Stops the servers that up.sh, and clusters that tests, started in RUNDIR and deletes their data. Nothing happens where none run.
# usage: down.sh RUNDIR
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || usage
run=$(realpath -m "$1")
"$servers/postgres-down.sh" "$run/postgres" &
"$servers/opensearch-down.sh" "$run/opensearch"
wait $!
for cluster in "$run"/patroni-*; do
  [ ! -d "$cluster" ] || "$servers/patroni-down.sh" "$cluster"
done
# Only what up.sh made: RUNDIR may be a folder with other contents.
rm -rf "$run"/{postgres,opensearch,patroni-*,env,.lock}
rmdir --ignore-fail-on-non-empty "$run" 2> /dev/null || true

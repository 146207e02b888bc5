#!/bin/bash
# Starts the Patroni of node N (1, 2 or 3) of the cluster in RUNDIR, also again after a kill: it takes its PostgreSQL back
# with pg_rewind where that has to be. One that runs already is left alone.
# usage: patroni-node.sh RUNDIR N
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 2 ] || usage
run=$(realpath "$1") node=$2
. "$run/env"
! runs "$(cat "$run/node$node.pid" 2> /dev/null || true)" "$run/node$node.yml" || exit 0
own_by postgres "$run/node$node"
cd "$run"
"${as[@]}" PATH="$PGBIN:/usr/bin:/bin" PYTHONPATH="$PATRONI_HOME/lib" LC_ALL=C.UTF-8 \
  setsid /usr/bin/python3 -m patroni "$run/node$node.yml" >> "$run/node$node.log" 2>&1 < /dev/null 9>&- &
echo $! > "$run/node$node.pid"

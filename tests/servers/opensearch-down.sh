#!/bin/bash
# Stops the OpenSearch node of RUNDIR; its data stay. Nothing happens where none runs.
# usage: opensearch-down.sh RUNDIR
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || usage
run=$(realpath -m "$1")
pid=$(cat "$run/pid" 2>/dev/null || true)
ended() { ! runs "$pid" "$run/data"; }
for signal in TERM KILL; do
  # The group: at its start the server is a shell script with a child.
  ended || kill -$signal -- "-$pid" 2> /dev/null || kill -$signal "$pid"
  ! retry 20 ended || { rm -f "$run/pid"; exit 0; }
done
die "process $pid does not end"

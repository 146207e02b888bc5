#!/bin/bash
# Stops the OpenSearch node, or the cluster's nodes, of RUNDIR; their data stay. Nothing happens where none runs.
# usage: opensearch-down.sh RUNDIR
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || usage
run=$(realpath -m "$1")
for node in "$run"/n[1-3]; do
  [ ! -d "$node" ] || "$0" "$node"
done
pid=$(cat "$run/pid" 2>/dev/null || true)
ended() { ! runs "$pid" "$run/data"; }
# One that a test has stopped would end by the second signal only.
ended || kill -CONT -- "-$pid" 2> /dev/null || true
for signal in TERM KILL; do
  # The group: at its start the server is a shell script with a child.
  ended || kill -$signal -- "-$pid" 2> /dev/null || kill -$signal "$pid"
  ! retry 20 ended || { rm -f "$run/pid"; exit 0; }
done
die "process $pid does not end"

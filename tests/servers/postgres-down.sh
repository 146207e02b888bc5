#!/bin/bash
# Stops the PostgreSQL server of RUNDIR; its data stay. Nothing happens where none runs.
# usage: postgres-down.sh RUNDIR
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || usage
run=$(realpath -m "$1")
# Not with pg_ctl, which takes a zombie for a live server.
pid=$(head -1 "$run/data/postmaster.pid" 2> /dev/null || true)
ended() { ! runs "$pid" "$run/data"; }
for signal in INT QUIT KILL; do   # fast, immediate
  ended || kill -$signal "$pid"
  ! retry 20 ended || exit 0
done
die "process $pid does not end"

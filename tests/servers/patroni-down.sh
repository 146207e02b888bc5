#!/bin/bash
# Stops the cluster of RUNDIR at once: Patroni, etcd and every PostgreSQL; their data stay. Nothing happens where none runs.
# usage: patroni-down.sh RUNDIR
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || usage
run=$(realpath -m "$1")

# Process ids of files that FILES name, of live processes of this cluster.
live() { local file pid; for file in "$@"; do pid=$(head -1 "$file" 2> /dev/null || true); ! runs "$pid" "$run/" || echo "$pid"; done; }
patroni() { live "$run"/{node1,node2,node3,etcd}.pid; }
postgres() { live "$run"/node{1,2,3}/data/postmaster.pid; }
ended() { [ -z "$(patroni; postgres)" ]; }

# Patroni first: it would start its PostgreSQL again. One that a test has stopped must go on to hear of its end.
kill -KILL $(patroni) 2> /dev/null || true
kill -QUIT $(postgres) 2> /dev/null || true
kill -CONT $(postgres) 2> /dev/null || true
retry 20 ended || kill -KILL $(postgres) 2> /dev/null || true
retry 5 ended || die "processes do not end: $(patroni; postgres)"

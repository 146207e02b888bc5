#!/bin/bash
# Starts one PostgreSQL and one OpenSearch on free ports, waits until both answer, and writes how to reach them to
# RUNDIR/env (to be sourced). Called again it starts what no longer runs, on the same ports.
# usage: up.sh RUNDIR      (stop with down.sh RUNDIR; a folder that every user can enter, not below /root)
# environment: HEAP (1g) of OpenSearch, NODES (1; 3: a cluster, see opensearch-cluster-up.sh), PGBIN, OPENSEARCH_VERSION
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || usage
run=$(realpath -m "$1")
mkdir -p "$run"
exec 9> "$run/.lock"; flock 9

NODES=${NODES:-1}
if [ -e "$run/env" ]; then
  . "$run/env"
else
  PG2OS_TEST_PG_PORT=$(free_port)
  PG2OS_TEST_OS_URL=http://127.0.0.1:$(free_port)
fi

# A process in the background does not get Ctrl-C: end both starts here. They stop what they started.
stop() {
  kill $(jobs -p) 2> /dev/null || true
  wait
  "$servers/postgres-down.sh" "$run/postgres"
  "$servers/opensearch-down.sh" "$run/opensearch"
}
trap stop EXIT
"$servers/postgres-up.sh" "$run/postgres" "$PG2OS_TEST_PG_PORT" fsync=off & postgres=$!
home=$("$servers/opensearch-get.sh")
opensearch_up=opensearch-up.sh
[ "$NODES" = 1 ] || opensearch_up=opensearch-cluster-up.sh
"$servers/$opensearch_up" "$home" "$run/opensearch" "${PG2OS_TEST_OS_URL##*:}" & opensearch=$!
wait $postgres
wait $opensearch
# It answers before the indices of an earlier start can be searched.
curl -s -o /dev/null "$PG2OS_TEST_OS_URL/_cluster/health?wait_for_status=yellow&timeout=60s"
trap - EXIT

cat > "$run/env" <<END
export PG2OS_TEST_PG_PORT=$PG2OS_TEST_PG_PORT
export PG2OS_TEST_PG_CA=$run/postgres/tls/ca.pem
export PG2OS_TEST_PGBIN=$PGBIN
export PG2OS_TEST_PSQL=$PSQL
export PG2OS_TEST_OS_URL=$PG2OS_TEST_OS_URL
export PG2OS_TEST_RUNDIR=$run
NODES=$NODES
END
say "PostgreSQL on port $PG2OS_TEST_PG_PORT, OpenSearch on $PG2OS_TEST_OS_URL; source $run/env"

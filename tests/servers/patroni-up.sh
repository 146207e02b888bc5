#!/bin/bash
# Starts etcd and a Patroni cluster of three PostgreSQL nodes and waits until the replicas stream. The nodes listen on one
# port of 127.0.0.1, 127.0.0.2 and 127.0.0.3. Data, logs and process ids lie in RUNDIR, ports and addresses in RUNDIR/env.
# usage: patroni-up.sh RUNDIR      (stop with patroni-down.sh RUNDIR; a folder that every user can enter)
# environment: PGBIN, the programs of another version (complete: initdb, pg_ctl, postgres, pg_basebackup, pg_rewind, ...)
# User postgres needs no password. A cluster loses its leader after 20 s of silence, the least that Patroni allows.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || usage
run=$(realpath -m "$1")
home=$("$servers/patroni-get.sh")
[ -x "$PGBIN/pg_rewind" ] || die "no complete PostgreSQL in $PGBIN: run setup.sh, or set PGBIN to the folder of its programs"
[ ! -e "$run/env" ] || die "$run has been used: stop its cluster with patroni-down.sh and delete it"

# An interrupted or failed start leaves nothing behind that runs.
trap '"$servers/patroni-down.sh" "$run"' EXIT
trap 'exit 143' TERM
mkdir -p "$run"
pg_port=$(free_port) api_port=$(free_port) etcd_port=$(free_port) peer_port=$(free_port)
cat > "$run/env" <<END
PATRONI_HOME=$home
PATRONI_PG_PORT=$pg_port
PATRONI_API_PORT=$api_port
ETCD_PORT=$etcd_port
ETCD_PEER_PORT=$peer_port
PGBIN=$PGBIN
END
for node in 1 2 3; do
  mkdir -p "$run/node$node"
  cat > "$run/node$node.yml" <<END
scope: pg2os
name: node$node
restapi: {listen: '127.0.0.$node:$api_port', connect_address: '127.0.0.$node:$api_port'}
etcd3: {host: '127.0.0.1:$etcd_port'}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 8
    maximum_lag_on_failover: 33554432
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters: {wal_level: logical, hot_standby_feedback: 'on', max_wal_senders: 20, max_replication_slots: 20, wal_keep_size: 512MB}
  initdb: [{encoding: UTF8}, {locale: C.UTF-8}, data-checksums, no-sync]
postgresql:
  listen: 127.0.0.$node:$pg_port
  connect_address: 127.0.0.$node:$pg_port
  data_dir: $run/node$node/data
  bin_dir: $PGBIN
  pgpass: $run/node$node/pgpass
  # A new replica would wait for a checkpoint that takes its time.
  basebackup: [{checkpoint: fast}]
  pg_hba: ['local all all trust', 'host all,replication all 127.0.0.0/8 trust']
  parameters: {unix_socket_directories: '$run/node$node', fsync: 'off'}
  authentication:
    superuser: {username: postgres}
    replication: {username: replicator}
    rewind: {username: rewind}
END
done
own_by postgres "$run"

cd "$run"
etcd_url=http://127.0.0.1:$etcd_port peer_url=http://127.0.0.1:$peer_port
"${as[@]}" setsid "$home/bin/etcd" --name etcd --data-dir "$run/etcd" --unsafe-no-fsync \
  --listen-client-urls "$etcd_url" --advertise-client-urls "$etcd_url" \
  --listen-peer-urls "$peer_url" --initial-advertise-peer-urls "$peer_url" --initial-cluster "etcd=$peer_url" \
  > etcd.log 2>&1 < /dev/null 9>&- &
echo $! > etcd.pid
retry 30 curl -sf -m 1 -o /dev/null "$etcd_url/health" || die "etcd does not answer, see $run/etcd.log"

# The first node makes the cluster, the others are copies.
"$servers/patroni-node.sh" "$run" 1
retry 90 curl -sf -m 1 -o /dev/null "http://127.0.0.1:$api_port/leader" || die "the first node does not lead, see $run/node1.log"
"$servers/patroni-node.sh" "$run" 2
"$servers/patroni-node.sh" "$run" 3
streaming() { [ "$(curl -s -m 2 "http://127.0.0.1:$api_port/cluster" | grep -o '"state": "streaming"' | wc -l)" = 2 ]; }
retry 90 streaming || die "the replicas do not stream, see $run/node2.log and $run/node3.log"
trap - EXIT
say "three nodes on port $pg_port of 127.0.0.1, 127.0.0.2 and 127.0.0.3"

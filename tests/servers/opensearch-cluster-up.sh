#!/bin/bash
# Starts an OpenSearch cluster of three nodes, n1 to n3, which listen on PORT of 127.0.0.1, 127.0.0.2 and 127.0.0.3, and waits
# until all have joined. Called again it starts the nodes that no longer run. Node N's data, logs and process id lie in RUNDIR/nN.
# usage: opensearch-cluster-up.sh HOME RUNDIR PORT [setting=value ...]      (HOME as printed by opensearch-get.sh)
# environment: HEAP (384m) of each node, JAVA
# A node that is silent for 7 s is taken out of the cluster, instead of 30 s.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -ge 3 ] || usage
home=$1 run=$(realpath -m "$2") port=$3; shift 3
export HEAP=${HEAP:-384m}

mkdir -p "$run"
[ -e "$run/transport_port" ] || free_port > "$run/transport_port"
transport=$(cat "$run/transport_port")
settings=(cluster.name=three cluster.initial_cluster_manager_nodes=n1,n2,n3 transport.port="$transport"
  discovery.seed_hosts="127.0.0.1:$transport,127.0.0.2:$transport,127.0.0.3:$transport"
  cluster.fault_detection.{follower,leader}_check.{interval=1s,timeout=3s,retry_count=2})

trap 'kill $(jobs -p) 2> /dev/null; exit 143' TERM
starts=()
for node in 1 2 3; do
  ADDRESS=127.0.0.$node "$servers/opensearch-up.sh" "$home" "$run/n$node" "$port" node.name=n$node "${settings[@]}" "$@" & starts+=($!)
done
failed=
for start in "${starts[@]}"; do wait "$start" || failed=1; done
joined() { curl -s -m 5 "http://127.0.0.1:$port/_cluster/health?wait_for_nodes=3&timeout=3s" | grep -q '"timed_out":false'; }
[ -z "$failed" ] && retry 90 joined || { "$servers/opensearch-down.sh" "$run"; die "three nodes did not form a cluster, see $run/n*/out.log"; }

#!/bin/bash
# Starts one OpenSearch node and waits until it answers. Data, logs and process id lie in RUNDIR; a node that
# runs already is left alone.
# usage: opensearch-up.sh HOME RUNDIR PORT [setting=value ...]      (HOME as printed by opensearch-get.sh)
# environment: HEAP (1g), ADDRESS (127.0.0.1), JAVA (a JDK's home: 17 for OpenSearch 2, 21 for 3; default Debian's 17)
# A cluster: opensearch-cluster-up.sh
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -ge 3 ] || usage
home=$(realpath "$1") run=$(realpath -m "$2") port=$3; shift 3
heap=${HEAP:-1g} address=${ADDRESS:-127.0.0.1}
java=${JAVA:-/usr/lib/jvm/java-17-openjdk-$(dpkg --print-architecture)}
url=http://$address:$port
[ -x "$java/bin/java" ] || die "no Java in $java: run setup.sh, or set JAVA to the home of a JDK"

answers() { curl -s -k -o /dev/null "$url" || curl -s -k -o /dev/null "${url/http/https}"; }
pid() { cat "$run/pid" 2>/dev/null || true; }
if runs "$(pid)" "$run/data"; then retry 120 answers; exit 0; fi
! answers || die "another server answers on $address:$port: choose another port"

# An interrupted or failed start leaves no server behind; with a trap, bash waits for what it just runs.
trap '"$servers/opensearch-down.sh" "$run"' EXIT
trap 'exit 143' TERM
mkdir -p "$run"/{data,logs,tmp,config,repo}
cp -r --no-clobber "$home/config/." "$run/config"
# The paths of jvm.options are relative to the home, which the server's user must not write to.
sed -i -E "s#(file|ErrorFile)=logs/#\1=$run/logs/#; s#HeapDumpPath=data#HeapDumpPath=$run/data#; /^-Xm[sx]/d" "$run/config/jvm.options"
own_by nobody "$run"

settings=(network.host="$address" http.port="$port" path.data="$run/data" path.logs="$run/logs" path.repo="$run/repo"
  cluster.routing.allocation.disk.threshold_enabled=false)   # a nearly full disk must not make a test's index read-only
case " $*" in
  *" discovery.seed_hosts="*) ;;
  *) settings+=(discovery.type=single-node transport.port=0) ;;
esac
settings+=("$@")

cd "$run"
"${as[@]}" env -u JAVA_HOME OPENSEARCH_JAVA_HOME="$java" OPENSEARCH_PATH_CONF="$run/config" OPENSEARCH_TMPDIR="$run/tmp" \
  OPENSEARCH_JAVA_OPTS="-Xms$heap -Xmx$heap" \
  setsid "$home/bin/opensearch" "${settings[@]/#/-E}" > out.log 2>&1 < /dev/null 9>&- &
echo $! > pid
sleep 1
answers_or_ended() { answers || ! runs "$(pid)" "$run/data"; }
retry 120 answers_or_ended || die "no answer on port $port in 120 s, see $run/out.log"
runs "$(pid)" "$run/data" || { grep -m 5 -E 'ERROR|Exception|root cause' out.log >&2 || true; die "OpenSearch ended at its start, see above and $run/out.log"; }
trap - EXIT

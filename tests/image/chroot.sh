#!/bin/bash
# Tries the image without a container runtime: its root is laid out by the script that the Dockerfile runs, and the binary runs
# in it by chroot as user 65532, with what a kubelet adds (hosts, resolv.conf, configuration) and nothing else. It
# resolves names by DNS, checks PostgreSQL's certificate against the image's authorities, and fills an index.
# usage: chroot.sh [PROFILE]      (dev; of release the size is checked, too; as root, with PG2OS_TEST_… as with-servers.sh sets them)
set -euo pipefail
. "$(dirname "$0")/../servers/lib.sh"
[ $# -le 1 ] || usage
: "${PG2OS_TEST_PG_PORT:?is not set: run tests/servers/with-servers.sh tests/image/chroot.sh}"
[ "$(id -u)" = 0 ] || die "chroot needs root: run it as root, as \`make test\` is"
profile=${1:-dev}
most=25000000
work=$(mktemp -d)
root=$work/root name=pg2os_image_$$
sql() { "$PSQL" -qAt -h 127.0.0.1 -p "$PG2OS_TEST_PG_PORT" -U postgres -v ON_ERROR_STOP=1 "$@"; }
leave() {
  trap - EXIT
  [ -z "${dns:-}" ] || kill "$dns" 2> /dev/null || true
  sql -d postgres -c "DROP DATABASE IF EXISTS $name WITH (FORCE)" || true
  curl -s -o /dev/null -X DELETE "$PG2OS_TEST_OS_URL/$name-000001" || true
  curl -s -o /dev/null -X DELETE "$PG2OS_TEST_OS_URL/$name-state" || true
  rm -rf "$work"
}
trap leave EXIT

"$servers/../../.ci/image-root" "$root" "$profile"
size=$(du -sb "$root" | cut -f1)
say "the image has $size bytes ($profile)"
[ "$profile" != release ] || [ "$size" -le $most ] || die "the image is larger than $most bytes"
[ "$(cd "$root" && find . -type f | sort | tr '\n' ' ')" = './etc/ssl/certs/ca-certificates.crt ./pg2os ' ] \
  || die "the image has other files than the binary and the certificates"

# What the kubelet and the cluster's DNS give.
exec 3< <(exec "$(dirname "$0")/dns.py" 127.0.53.53 127.0.0.1); dns=$!
read -r -t 10 _ <&3 || die "the DNS server of the test does not start"
echo 'nameserver 127.0.53.53' > "$root/etc/resolv.conf"
echo '127.0.0.1 localhost' > "$root/etc/hosts"
cat "$PG2OS_TEST_PG_CA" >> "$root/etc/ssl/certs/ca-certificates.crt"
mkdir "$root/etc/pg2os"
write_config() {   # HOST OF POSTGRESQL, SSLMODE
  cat > "$root/etc/pg2os/config.yaml" <<END
name: image
postgres: { host: $1, port: $PG2OS_TEST_PG_PORT, database: $name, user: postgres, tls: { mode: $2 } }
opensearch: { url: "${PG2OS_TEST_OS_URL/127.0.0.1/search.example}", state_index: $name-state }
tables: [{ table: public.t, index: $name }]
END
}
sql -d postgres -c "CREATE DATABASE $name"
sql -d "$name" -c "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)"

pg2os() { env -i "$(command -v chroot)" --userspec=65532:65532 --groups= "$root" /pg2os "$@"; }
pg2os --version
write_config db.example require
pg2os backfill --dry-run | grep -q '1,000 rows' || die "a dry run in the image does not see the rows"
write_config localhost verify-full
pg2os backfill
curl -sf -o /dev/null -X POST "$PG2OS_TEST_OS_URL/$name/_refresh"
[ "$(curl -sf "$PG2OS_TEST_OS_URL/$name/_count?filter_path=count")" = '{"count":1000}' ] || die "the index has not all rows"
write_config db.example verify-full
! pg2os backfill 2> "$work/log" || die "a certificate for another name is accepted"
grep -q 'connect by a name in the certificate' "$work/log" || die "another failure than the certificate's: $(cat "$work/log")"
say "runs as 65532 in a bare root, resolves names, and trusts the image's authorities"

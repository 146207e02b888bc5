#!/bin/bash
# Lays out Patroni (PyPI) and etcd (Debian's package) and prints their home; nothing is installed into the system.
# usage: patroni-get.sh      (into $PG2OS_DEV_HOME/patroni-VERSION; needs /usr/bin/python3 with pip, and apt-get)
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 0 ] || usage
version=4.1.5
home=$PG2OS_DEV_HOME/patroni-$version
mkdir -p "$PG2OS_DEV_HOME"
exec 9> "$PG2OS_DEV_HOME/.patroni.lock"; flock 9
[ ! -d "$home" ] || { echo "$home"; exit 0; }

say "fetching Patroni $version and etcd"
work=$(mktemp -d "$PG2OS_DEV_HOME/.patroni.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Debian's python3, which every user can run; one that is found first in PATH may lie below root's home.
/usr/bin/python3 -m pip install -q --root-user-action=ignore --target "$work/lib" "patroni[etcd3,psycopg3]==$version" >&2 \
  || die "Patroni $version cannot be fetched with /usr/bin/python3 -m pip"
cd "$work"
apt-get -qq download etcd-server 2> /dev/null || { apt-get -qq update && apt-get -qq download etcd-server; } \
  || die "etcd-server cannot be fetched with apt-get: run apt-get update as root"
dpkg -x etcd-server_*.deb etcd
mv etcd/usr/bin/etcd bin-etcd && rm -rf etcd etcd-server_*.deb && mkdir bin && mv bin-etcd bin/etcd
chmod -R a+rX "$work"
mv "$work" "$home"
echo "$home"

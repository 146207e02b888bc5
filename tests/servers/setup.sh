#!/bin/bash
# Installs what the servers, the tests and the demo need and this machine lacks (Debian 12, as root), and lays out
# OpenSearch in $PG2OS_DEV_HOME (/var/tmp/pg2os-dev). Fast when all is there.
# usage: setup.sh
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 0 ] || usage
mkdir -p "$PG2OS_DEV_HOME"
exec 9> "$PG2OS_DEV_HOME/.setup.lock"; flock 9

packages=()
need() { local package=$1; shift; "$@" > /dev/null 2>&1 || packages+=("$package"); }
need postgresql-15 test -x /usr/lib/postgresql/15/bin/postgres
need postgresql-client-15 test -x /usr/lib/postgresql/15/bin/psql
need openjdk-17-jdk-headless test -x "/usr/lib/jvm/java-17-openjdk-$(dpkg --print-architecture)/bin/java"
need maven which mvn
need unzip which unzip
need xz-utils which xz
need curl which curl
need openssl which openssl
need build-essential which cc
need python3 which python3
need python3-pip /usr/bin/python3 -m pip --version
need python3-pip python3 -m pip --version

if [ ${#packages[@]} != 0 ]; then
  [ "$(id -u)" = 0 ] || die "not root: install with apt: ${packages[*]}"
  say "installing ${packages[*]}"
  # Debian's package makes a cluster of its own and starts it: not wanted here.
  no_cluster=/etc/postgresql-common/createcluster.d/pg2os-setup.conf
  trap 'rm -f "$no_cluster"' EXIT
  mkdir -p "${no_cluster%/*}"
  echo 'create_main_cluster = false' > "$no_cluster"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  apt-get -qq install --no-install-recommends "${packages[@]}" > "$PG2OS_DEV_HOME/apt.log" 2>&1 9>&- \
    || { tail -20 "$PG2OS_DEV_HOME/apt.log" >&2; die "apt-get install failed, see above"; }
fi
"$servers/opensearch-get.sh" > /dev/null
"$servers/patroni-get.sh" > /dev/null
"$servers/../k8s/get.sh" > /dev/null

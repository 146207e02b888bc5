#!/bin/bash
# Starts a PostgreSQL server on 127.0.0.1 and waits until it answers. Data, log, socket and TLS files lie in RUNDIR; a
# server that runs already is left alone.
# usage: postgres-up.sh RUNDIR PORT [setting=value ...]      (for throw-away data: fsync=off)
# environment: PGBIN (/usr/lib/postgresql/15/bin), the programs of another version; initdb, pg_ctl and postgres suffice
# Superuser postgres needs no password, every other user one (SCRAM). TLS is offered: RUNDIR/tls/ca.pem verifies it for
# localhost and 127.0.0.1.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
[ $# -ge 2 ] || usage
run=$(realpath -m "$1") port=$2; shift 2
data=$run/data
[ -x "$PGBIN/postgres" ] || die "no PostgreSQL in $PGBIN: run setup.sh, or set PGBIN to the folder of its programs"

mkdir -p "$run"
[ -e "$run/tls/server.pem" ] || "$servers/certificates.sh" "$run/tls"
cd "$run"
! runs "$(head -1 "$data/postmaster.pid" 2> /dev/null || true)" "$data" || exit 0
# An interrupted or failed start leaves no server behind; with a trap, bash waits for what it just runs.
trap '"$servers/postgres-down.sh" "$run"' EXIT
trap 'exit 143' TERM
own_by postgres "$run"

if [ ! -e "$data/PG_VERSION" ]; then
  rm -rf "$data.new"   # of an interrupted start
  "${as[@]}" "$PGBIN/initdb" -D "$data.new" -U postgres -E UTF8 --locale=C.UTF-8 -A trust > initdb.log 2>&1 \
    || { cat initdb.log >&2; die "initdb failed, see above"; }
  cat > "$data.new/pg_hba.conf" <<'END'
# type  database         user      address       method
local   all,replication  postgres                trust
host    all,replication  postgres  127.0.0.1/32  trust
host    all,replication  all       127.0.0.1/32  scram-sha-256
END
  echo "include 'test.conf'" >> "$data.new/postgresql.conf"
  mv "$data.new" "$data"
fi
{
  cat <<END
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '$run'
max_connections = 200
wal_level = logical
max_wal_senders = 50
max_replication_slots = 50
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '$run/tls/server.pem'
ssl_key_file = '$run/tls/server.key'
END
  for setting; do echo "${setting%%=*} = '${setting#*=}'"; done
} > "$data/test.conf"
own_by postgres "$run"

# After a kill -9 the server's other processes need a moment to end, and a zombie must not pass for the old server.
patience=0
[ ! -e "$data/postmaster.pid" ] || { rm "$data/postmaster.pid"; patience=10; }
start() { "${as[@]}" "$PGBIN/pg_ctl" start -D "$data" -l "$run/log" -w -t 60 > /dev/null 2>&1 9>&-; }
retry $patience start || { tail -5 log >&2 || true; die "PostgreSQL did not start, see above and $run/log"; }
trap - EXIT

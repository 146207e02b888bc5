#!/usr/bin/env python3
"""Changes the flights database for some seconds: inserts, updates and deletes in all five tables.

usage: writer.py [--seconds 20] [--rate 40] [--seed 1]

Works on the server of PG2OS_TEST_PG_PORT through psql. Among the changes are those that replication gets wrong most
easily: changed primary keys, deleted and inserted again, many rows in one statement, rows touched several times in one
transaction, rolled back work, long values that an update leaves alone (TOAST), and awkward characters in keys and texts.
"""

import argparse
import collections
import os
import random
import re
import subprocess
import sys
import time

AWKWARD = ["a|b", "back\\slash", "two\nlines", 'double "quotes"', "Zürich ✈ 東京", "tab\there", " space ", "\u2028", "'"]


class Psql:
    def __init__(self):
        self.process = subprocess.Popen(
            [os.environ["PG2OS_TEST_PSQL"], "-X", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres",
             "-p", os.environ["PG2OS_TEST_PG_PORT"], "-d", "flights"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def run(self, sql):
        """Runs statements and returns the lines that they print."""
        self.process.stdin.write(sql + ";\n\\echo '<end>'\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line == "<end>\n":
                return lines
            lines.append(line.rstrip("\n"))
        sys.exit(f"writer.py: psql ended with status {self.process.wait()}; the statement was: {sql}")


def literal(value):
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


class Writer:
    def __init__(self, psql, rng):
        self.psql, self.rng = psql, rng
        # A fixed sample, in an order that depends on nothing but the data: equal seeds make equal changes.
        self.flights = [line.split("|") for line in psql.run(
            "SET TimeZone = 'UTC'; SELECT time_hour, carrier, flight FROM flights"
            " ORDER BY md5(flights::text) LIMIT 5000") if "|" in line]
        self.tailnums = psql.run("SELECT tailnum FROM planes ORDER BY 1")
        self.serial = int(psql.run("SELECT max(flight) FROM flights")[0])

    def next_serial(self):
        self.serial += 1
        return self.serial

    def a_flight(self):
        time_hour, carrier, flight = self.rng.choice(self.flights)
        return f"time_hour = {literal(time_hour)} AND carrier = {literal(carrier)} AND flight = {flight}"

    def insert_flights(self):
        """From before 2013 to far ahead: the stream is not bound to the windows."""
        rows = []
        for _ in range(self.rng.choice([1, 1, 1, 20])):
            hour = f"{self.rng.randint(2012, 2015)}-{self.rng.randint(1, 12):02}-{self.rng.randint(1, 28):02} {self.rng.randint(0, 23):02}:00+00"
            key = [hour, self.rng.choice(["UA", "DL", "AA", "B6"]), self.next_serial()]
            self.flights.append(key)
            rows.append(f"({literal(hour)}, {literal(key[1])}, {key[2]}, {literal(self.rng.choice(self.tailnums))}, 'JFK', 'SFO', "
                        f"{self.rng.choice(['NULL', self.rng.randint(-20, 900)])}, 2586)")
        return ["INSERT INTO flights (time_hour, carrier, flight, tailnum, origin, dest, dep_delay, distance) VALUES " + ", ".join(rows)]

    def update_flight(self):
        return [f"UPDATE flights SET dep_delay = {self.rng.choice(['NULL', self.rng.randint(-20, 900)])}, "
                f"dest = {literal(self.rng.choice(['SEA', 'BOS', None]))} WHERE {self.a_flight()}"]

    def update_many_flights(self):
        return [f"UPDATE flights SET air_time = air_time + 1 WHERE carrier = 'OO' AND month = {self.rng.randint(1, 12)}"]

    def change_key(self):
        return [f"UPDATE flights SET flight = {self.next_serial()} WHERE {self.a_flight()}"]

    def delete_flight(self):
        return [f"DELETE FROM flights WHERE {self.a_flight()}"]

    def delete_and_insert(self):
        where = self.a_flight()
        return [f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM flights WHERE {where}",
                f"DELETE FROM flights WHERE {where}",
                "INSERT INTO flights SELECT * FROM kept",
                f"UPDATE flights SET arr_delay = {self.rng.randint(0, 99)} WHERE {where}"]

    def rolled_back(self):
        return [f"DELETE FROM flights WHERE {self.a_flight()}", "UPDATE airlines SET name = 'nobody'", "ROLLBACK"]

    def weather(self):
        return [f"UPDATE weather SET temp = {self.rng.randint(-1000, 9999) / 100}, wind_gust = {self.rng.random() * 50!r} "
                f"WHERE origin = 'JFK' AND month = {self.rng.randint(1, 12)} AND day = 9 AND hour = {self.rng.randint(0, 23)}"]

    def airline(self):
        name = self.rng.choice(AWKWARD)
        carrier = f"{name}{self.rng.randint(0, 9)}"
        return [f"INSERT INTO airlines VALUES ({literal(carrier)}, {literal(name)}) "
                f"ON CONFLICT (carrier) DO UPDATE SET name = airlines.name || {literal(name)}"]

    def delete_airline(self):
        return [f"DELETE FROM airlines WHERE carrier LIKE '%{self.rng.randint(0, 9)}' AND length(carrier) > 2"]

    def plane(self):
        tailnum = self.rng.choice(self.tailnums)
        long_text = f"(SELECT string_agg(md5(i::text), '') FROM generate_series({self.serial}, {self.serial + 300}) AS i)"
        return [f"UPDATE planes SET model = {long_text} WHERE tailnum = {literal(tailnum)}",
                f"UPDATE planes SET seats = seats + 1 WHERE tailnum = {literal(tailnum)}"]

    def seats(self):
        """Long models among them: the server does not send a long value that did not change."""
        return ["UPDATE planes SET seats = seats + 1 WHERE length(model) > 1000"]

    def airport(self):
        return [f"UPDATE airports SET name = {literal(self.rng.choice(AWKWARD))}, lat = {self.rng.uniform(-90, 90)!r}, tzone = NULL "
                f"WHERE faa = (SELECT min(faa) FROM airports WHERE faa > {literal(chr(self.rng.randint(65, 89)))})"]

    def step(self):
        """One transaction; returns how many rows it changed by (operation, table)."""
        change = self.rng.choices(
            [self.insert_flights, self.update_flight, self.update_many_flights, self.change_key, self.delete_flight,
             self.delete_and_insert, self.rolled_back, self.weather, self.airline, self.delete_airline, self.plane,
             self.seats, self.airport],
            [20, 30, 1, 5, 10, 5, 2, 10, 10, 5, 3, 2, 4])[0]
        statements = change()
        rolled_back = statements[-1] == "ROLLBACK"
        tags = self.psql.run(";\n".join(["BEGIN", *statements] + ([] if rolled_back else ["COMMIT"])))
        done = collections.Counter()
        if rolled_back:
            return done
        for statement, tag in zip(statements, tags[1:]):
            target = re.match(r"(INSERT INTO|UPDATE|DELETE FROM) (\w+)", statement)
            if target:
                done[target[1].split()[0].lower(), target[2]] += int(tag.split()[-1])
        return done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=40, help="transactions a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    writer = Writer(Psql(), random.Random(options.seed))
    done, transactions, start = collections.Counter(), 0, time.monotonic()
    # A count of transactions, not the clock, ends the work: a slow machine makes the same changes.
    while transactions < options.seconds * options.rate:
        done += writer.step()
        transactions += 1
        time.sleep(max(0, start + transactions / options.rate - time.monotonic()))
    print(f"writer: {transactions} transactions in {time.monotonic() - start:.1f} s: "
          + ", ".join(f"{table} {operation} {rows:,}" for (operation, table), rows in sorted(done.items(), key=lambda x: (x[0][1], x[0][0]))))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares every row of the tables with every document of their indices, without any code of pg2os.

usage: compare.py [--database flights] [TABLE[=INDEX] ...]      (default: the tables of the flights database)

Uses the servers of PG2OS_TEST_PG_PORT and PG2OS_TEST_OS_URL. Nothing may write meanwhile. The last line is the verdict;
the exit status is 0 only if all is equal.
"""

import argparse
import decimal
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

FLIGHTS = ["airlines", "airports", "planes", "weather", "flights"]
SHOWN = 5  # differences a table


def psql(database, sql):
    """The lines of a query's result, as they arrive."""
    process = subprocess.Popen(
        [os.environ["PG2OS_TEST_PSQL"], "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres",
         "-p", os.environ["PG2OS_TEST_PG_PORT"], "-d", database, "-c", sql],
        stdout=subprocess.PIPE, text=True, encoding="utf-8",
        env={**os.environ, "PGOPTIONS": "-c TimeZone=UTC -c DateStyle=ISO"})
    for line in process.stdout:
        yield line.rstrip("\n")
    if process.wait() != 0:
        sys.exit(f"compare.py: psql failed: {sql}")


def opensearch(method, path, body=None):
    request = urllib.request.Request(
        os.environ["PG2OS_TEST_OS_URL"] + path, None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return parse(response.read())


def parse(text):
    return json.loads(text, parse_float=decimal.Decimal)


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def columns(database, table):
    """The columns' types by name, and the columns of the primary key in its order."""
    types, key = {}, []
    for line in psql(database, f"""
            SELECT json_build_array(a.attname, format_type(a.atttypid, NULL), array_position(i.indkey::int2[], a.attnum))
              FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
             WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""):
        name, kind, position = json.loads(line)
        types[name] = kind
        if position is not None:
            key.append((position, name))
    return types, [name for _, name in sorted(key)]


def expected_document(row, types):
    document = {}
    for name, value in parse(row).items():
        kind = types[name]
        if kind == "timestamp with time zone" and value is not None:
            value = value.removesuffix("+00:00") + "Z"
        if kind in ("real", "double precision", "numeric") and isinstance(value, str):
            value = None  # NaN and the infinities are no JSON numbers
        if value is not None:
            document[name] = value
    return document


def rows(database, table, key):
    """The rows by document id, as JSON text, which takes less memory than objects."""
    texts = [f"{quoted(name)}::text" for name in key]
    if len(texts) > 1:
        texts = [rf"replace(replace({text}, '\', '\\'), '|', '\|')" for text in texts]
    identity = " || '|' || ".join(texts)
    result = {}
    for line in psql(database, f"COPY (SELECT to_json({identity}), row_to_json(t) FROM {table} t) TO STDOUT"):
        # COPY doubles the backslash; JSON has no other character that COPY escapes.
        identity, row = line.replace("\\\\", "\\").split("\t")
        result[json.loads(identity)] = row
    return result


def documents(index):
    opensearch("POST", f"/{index}/_refresh")
    page = opensearch("POST", f"/{index}/_search?scroll=2m", {"size": 5000, "sort": ["_doc"], "query": {"match_all": {}}})
    while page["hits"]["hits"]:
        for hit in page["hits"]["hits"]:
            yield hit["_id"], hit["_source"]
        page = opensearch("POST", "/_search/scroll", {"scroll": "2m", "scroll_id": page["_scroll_id"]})
    opensearch("DELETE", "/_search/scroll", {"scroll_id": page["_scroll_id"]})


def same(a, b):
    """Equal JSON values; unlike Python's own comparison, true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def compare(database, table, index):
    """Prints the differences; returns the number of rows and of differences."""
    types, key = columns(database, table)
    expected = rows(database, table, key)
    count = len(expected)
    differences = []
    try:
        for identity, document in documents(index):
            row = expected.pop(identity, None)
            if row is None:
                differences.append(f"{identity!r}: a document, but no row: {json.dumps(document, default=str)}")
                continue
            row = expected_document(row, types)
            if not same(row, document):
                names = [name for name in {**row, **document} if not same(row.get(name), document.get(name))]
                differences.append(f"{identity!r}: " + ", ".join(
                    f"{name}: row {row.get(name)!r}, document {document.get(name)!r}" for name in names))
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        differences.append(f"index {index} does not exist")
    differences += [f"{identity!r}: a row, but no document: {row}" for identity, row in expected.items()]
    print(f"{table}: {count:,} rows, " + (f"{len(differences):,} differences from index {index}" if differences else f"index {index} equals them"))
    for difference in differences[:SHOWN]:
        print(f"  {difference[:600]}")
    if len(differences) > SHOWN:
        print(f"  ... and {len(differences) - SHOWN:,} more")
    return count, len(differences)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default="flights")
    parser.add_argument("tables", metavar="TABLE[=INDEX]", nargs="*", default=FLIGHTS)
    options = parser.parse_args()
    results = []
    for pair in options.tables:
        table, _, index = pair.partition("=")
        results.append(compare(options.database, table, index or table))
    total, differing = (sum(column) for column in zip(*results))
    verdict = "every index equals its table" if differing == 0 else f"{differing:,} DIFFERENCES"
    print(f"verdict: {len(results)} tables, {total:,} rows: {verdict}")
    return 0 if differing == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

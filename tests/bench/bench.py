#!/usr/bin/env python3
"""Measures pg2os on the servers of with-servers.sh and prints one table: goal, figure, verdict.

usage: with-servers.sh bench.py [NAME ...]      (encode, drain, mixed, latency, memory; default all)

A goal that is missed by less than NOISE counts as within the noise; the exit status is 0 unless one is missed by more.
docs/performance.md says what is measured and how.
"""

import os
import platform
import sys

sys.dont_write_bytecode = True   # nothing is left in the checkout

from scenarios import ALL
from support import build, say, sql

# Walls of equal runs differ by this much on the machine that the goals were set on.
NOISE = 0.10


def verdict(factor):
    if factor >= 1:
        return "met"
    return "within noise" if factor >= 1 - NOISE else "MISSED"


def main():
    names = sys.argv[1:] or list(ALL)
    if unknown := [name for name in names if name not in ALL]:
        sys.exit(f"bench.py: {', '.join(unknown)} is not among {', '.join(ALL)}")
    binary, stream = build()
    rows = []
    for name in names:
        say(f"{name}, load average {os.getloadavg()[0]:.1f}: {ALL[name].__doc__}")
        rows += ALL[name](binary, stream)
    version = sql("SHOW server_version", "postgres")[0].split()[0]
    print(f"\n{os.cpu_count()} CPUs, Linux {platform.release()}, PostgreSQL {version} (fsync off)")
    table = [("benchmark", "goal", "measured: median (lowest to highest)", "verdict")]
    table += [(what, goal, figure, verdict(factor)) for what, goal, figure, factor in rows]
    widths = [max(map(len, column)) for column in zip(*table)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    sys.exit(any(verdict(factor) == "MISSED" for *_, factor in rows))


if __name__ == "__main__":
    main()

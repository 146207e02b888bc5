#!/bin/bash
# The demo: a PostgreSQL database with a year of flights, an empty OpenSearch, and pg2os between them. Backfill, then
# changes under load, then a comparison of every row with every document, whose verdict is the last line.
# usage: [KEEP=1] demo.sh      (KEEP=1 leaves the two servers up)
set -euo pipefail
cd "$(dirname "$0")/../.."
tests/servers/setup.sh
cargo build --release --locked
exec tests/servers/with-servers.sh tests/demo/scenario.sh "${CARGO_TARGET_DIR:-target}/release/pg2os"

# Servers, caches and tools live in $PG2OS_DEV_HOME (/var/tmp/pg2os-dev), outside the checkout.

.PHONY: help setup lint test image simulate test-matrix failover chaos fuzz demo bench clean
.DEFAULT_GOAL := help

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## Install PostgreSQL, OpenSearch and what else tests and demo need (Debian 12, as root)
	@tests/servers/setup.sh

lint: setup ## Format, compiler and clippy warnings, dependencies, documentation
	cargo fmt --check
	.ci/deny
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

test: lint ## Everything: lint, then all tests against real servers
	tests/servers/with-servers.sh sh -c 'cargo test --locked && tests/image/chroot.sh'

image: setup ## Build what the image holds as the Dockerfile does, and try it as non-root in a bare chroot
	tests/servers/with-servers.sh tests/image/chroot.sh release

simulate: ## RUNS=5000000 random schedules of the code that decides, and how often each rule is missed where it is off
	SIM_RUNS=$(or $(RUNS),5000000) cargo test --locked --profile simulation --test sim -- --include-ignored --nocapture

VERSIONS = 14 16 17 18
test-matrix: setup ## The tests that depend on the version of PostgreSQL, on the others than 15; VERSIONS="17 18" runs some
	tests/servers/matrix.sh $(VERSIONS)

fuzz: ## 10 million runs of each fuzz target (nightly Rust, hours); RUNS=100000 or TARGETS="arrays json" for less
	@tests/fuzz/fuzz.sh $(TARGETS)

failover: setup ## Every kind of failover with a Patroni cluster, then ROUNDS=20 in a row (SEED=1); half an hour
	PG2OS_FAILOVER_ROUNDS=$(ROUNDS) PG2OS_FAILOVER_SEED=$(SEED) tests/servers/with-servers.sh \
	  cargo test --locked --test failover -- --include-ignored --test-threads=1 --nocapture

SEEDS = 100
CLUSTER_SEEDS = 10
FIRST = 0
chaos: setup ## Random load and random faults on both servers and the network: SEEDS=1000, CLUSTER_SEEDS=100 with three nodes of OpenSearch, from FIRST=0
	PG2OS_CHAOS_SEEDS=$(SEEDS) PG2OS_CHAOS_CLUSTER_SEEDS=$(CLUSTER_SEEDS) PG2OS_CHAOS_FIRST=$(FIRST) tests/servers/with-servers.sh \
	  cargo test --locked --test chaos -- --include-ignored --nocapture

demo: ## Follow a database under load and compare every row with every document (under 5 minutes)
	@tests/demo/demo.sh

bench: setup ## Benchmarks against real servers, about 10 minutes; ONLY="drain mixed" runs some of them
	HEAP=2g tests/servers/with-servers.sh tests/bench/bench.py $(ONLY)

clean: ## Delete what was built (the cache of servers and tools stays)
	cargo clean

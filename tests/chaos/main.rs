//! Random load and random faults on servers of the test's own: in the end every index is its table, and the dead letters are
//! those that were planted (G1 to G4, G8).
//!
//! A seed gives the tables, the statements of each connection, and the schedule of faults (`schedule`); what happens at the
//! same time is up to the machine. A seed that fails prints both. `make test` tries a few seeds, `make chaos SEEDS=1000` many;
//! `PG2OS_CHAOS_FIRST` is the first one, `PG2OS_CHAOS_SEEDS` their number with a single node of OpenSearch (10),
//! `PG2OS_CHAOS_CLUSTER_SEEDS` that with a cluster of three (10), which `make test` leaves out.

#![allow(clippy::unwrap_used)]

mod field;
mod load;
mod schedule;
#[allow(dead_code)] // Some of it only the end-to-end tests use.
#[path = "../e2e/convergence/statements.rs"]
mod statements;
#[allow(dead_code)] // Some of it only the end-to-end tests use.
#[path = "../e2e/support/mod.rs"]
mod support;
#[path = "../e2e/convergence/tables.rs"]
mod tables;

use field::Field;
use futures_util::FutureExt;
use load::Load;
use schedule::schedule;
use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};
use support::{World, in_world_on, servers::Servers};
use tokio::sync::Mutex;

/// Both load the machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_index_equals_its_table_after_random_faults_on_every_side() {
    let _alone = ONE_AT_A_TIME.lock().await;
    survives_all(&Servers::private(), 0, number("PG2OS_CHAOS_SEEDS").unwrap_or(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, and three nodes; `make chaos` runs it, `make test` has tests/e2e/nodes.rs"]
async fn every_index_equals_its_table_after_random_faults_of_one_node_of_three() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let seeds = number("PG2OS_CHAOS_CLUSTER_SEEDS").unwrap_or(10);
    survives_all(&Servers::private_cluster(), 0, seeds).await;
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

async fn survives_all(servers: &Servers, first: u64, count: u64) {
    let first = number("PG2OS_CHAOS_FIRST").unwrap_or(first);
    let mut failed = vec![];
    for seed in first..first + count {
        // What a failed seed may have left must not fail the next one.
        field::heal(servers).await;
        let begun = Instant::now();
        let outcome = AssertUnwindSafe(survives(seed, servers)).catch_unwind().await;
        let seconds = begun.elapsed().as_secs();
        match outcome {
            Ok(done) => eprintln!("seed {seed}: equal after {seconds} s; {done}"),
            Err(_) => {
                eprintln!(
                    "seed {seed} FAILED after {seconds} s, see above; its schedule:\n{:#?}",
                    schedule(seed, servers.is_cluster())
                );
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "seeds that failed (PG2OS_CHAOS_FIRST=N tries one again): {failed:?}");
}

async fn survives(seed: u64, servers: &Servers) -> String {
    let schema = format!("{}; {}", tables::schema(seed), load::PLANTED);
    let mut said = String::new();
    in_world_on(servers.lend(), &schema, async |world: &World| {
        load::prepare(world).await;
        let mut field = Field::start(world, servers).await;
        let load = Load::start(world, seed);
        let (schedule, begun) = (schedule(seed, servers.is_cluster()), Instant::now());
        for event in &schedule {
            field.pass(event.after).await;
            field.suffers(event).await;
        }
        let faults = begun.elapsed().as_secs();
        field.recover().await;
        field.pass(Duration::from_millis(500)).await;
        let done = load.stop().await;
        field.becomes_equal().await;
        let restarts = field.stop().await;
        said = format!("{done}; {} faults in {faults} s, {restarts} processes", schedule.len());
    })
    .await;
    said
}

//! Guarantee 2: random load during the backfill and after it, one kill -9 somewhere, and in the end every index is its
//! table. PG2OS_E2E_SEEDS says how many seeds are tried (20), PG2OS_E2E_SEED tries one again.

mod load;
mod statements;
mod tables;

use crate::support::{World, eventually, in_world, process::Pg2os, rng::Rng};
use futures_util::{FutureExt, StreamExt, future, stream};
use load::Load;
use std::{panic::AssertUnwindSafe, time::Duration};

/// Seeds that run at the same time: the load of one seed leaves room for another.
const AT_ONCE: usize = 2;
const LOAD: Duration = Duration::from_secs(6);
const CONNECTIONS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_index_equals_its_table_after_random_load_and_a_kill() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("PG2OS_E2E_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PG2OS_E2E_SEEDS").unwrap_or(20),
    };
    let outcomes = stream::iter(seeds).map(async |seed| {
        let outcome = AssertUnwindSafe(converges(seed)).catch_unwind().await;
        outcome.err().map(|_| {
            eprintln!("seed {seed} failed, see above");
            seed
        })
    });
    let failed: Vec<u64> = outcomes.buffer_unordered(AT_ONCE).filter_map(future::ready).collect().await;
    assert!(failed.is_empty(), "seeds that failed (PG2OS_E2E_SEED=N tries one again): {failed:?}");
}

async fn converges(seed: u64) {
    in_world(&tables::schema(seed), async |world: &World| {
        let mut rng = Rng::new(seed, 0);
        let followed = tables::followed(world);
        let config = world.config(&followed, tables::SETTINGS);
        // One seed in four begins under load: then the slot and the floor have to wait for open transactions.
        let mut load = rng.chance(25).then(|| Load::start(world, seed, CONNECTIONS));
        let first = world.start(&config, &["run"]);
        // And one in four may be killed while it still prepares.
        if rng.chance(75) {
            first.logs("streaming from=").await;
        }
        let load = load.take().unwrap_or_else(|| Load::start(world, seed, CONNECTIONS));
        let killed_after = LOAD.mul_f64(rng.below(1000) as f64 / 1000.0);
        tokio::time::sleep(killed_after).await;
        first.kill();
        let second = world.start(&config, &["run"]);
        tokio::time::sleep(LOAD.saturating_sub(killed_after)).await;
        let done = load.stop().await;
        stays_up(second, world).await;
        world.catch_up(&config).await;
        eprintln!("seed {seed}: {done}; killed after {} ms", killed_after.as_millis());
        world.assert_equal(&followed).await;
        let dead = world.dead_letters().await;
        assert!(dead.is_empty(), "dead letters: {dead:?}");
    })
    .await;
}

/// The second process has taken the slot over, and leaves in order when it is told to.
async fn stays_up(mut pg2os: Pg2os, world: &World) {
    eventually("the second process streams", Duration::from_secs(30), async || {
        assert!(pg2os.ended().is_none(), "it ended by itself");
        world.of_slot("active").await.as_deref() == Some("true")
    })
    .await;
    pg2os.stop().await;
}

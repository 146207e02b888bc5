//! Failover with real Patroni: three nodes and etcd, and after every fault the index is the table again.
//!
//! `make failover` runs all of it and prints the times; `make test` runs the first scenario. Each has a cluster of its own,
//! one after the other. The logical slot is known to Patroni, which keeps a copy on the replicas that is up to two seconds
//! old, and the replicas follow asynchronously: a leader that is killed may take commits with it.

#![allow(clippy::unwrap_used)]

mod cluster;
mod load;
mod scenario;
#[allow(dead_code)] // Some of it only the end-to-end tests use.
#[path = "../e2e/support/mod.rs"]
mod support;

use cluster::PATIENCE;
use scenario::{HORIZON, Scenario, in_cluster, in_cluster_with_failover_slots};
use serde_json::json;
use std::time::{Duration, Instant};
use support::rng::Rng;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_is_no_gap_and_a_killed_leader_is_followed_to_the_next() {
    in_cluster(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let leader = cluster.leader().await.unwrap();
        scenario.load(1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let fault = Instant::now();
        let took = cluster.switchover(leader).await;
        scenario.streams_again("switchover", leader, fault).await;
        eprintln!("  patronictl switchover took {:.1} s", took.as_secs_f32());
        assert!(took < Duration::from_secs(15), "blocked by the walsender: {took:?}");
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["a gap", "a failover lost commits"]);

        let leader = cluster.new_leader(leader).await;
        cluster.is_whole(&world.slot()).await;
        scenario.load(2);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let fault = Instant::now();
        cluster.kill(leader);
        scenario.streams_again("kill -9 of the leader", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

/// A process that was killed has left the highest position a step too high; its successor finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_switchover_a_while_after_a_crash_of_pg2os_is_no_gap() {
    in_cluster(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let leader = cluster.leader().await.unwrap();
        scenario.load(15);
        tokio::time::sleep(Duration::from_secs(3)).await;
        scenario.kill_and_start_again();
        scenario.becomes_equal().await;
        // Until the killed one can do nothing any more; and then nothing is written for a while.
        tokio::time::sleep(Duration::from_secs(65)).await;
        let fault = Instant::now();
        cluster.switchover(leader).await;
        scenario.streams_again("switchover after a crash of pg2os", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["a gap", "a failover lost commits"]);
        scenario.stop().await;
    })
    .await;
}

/// Commits reach the index but no replica, and are lost with the leader: inserts, updates, deletes, key changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn commits_that_are_lost_with_the_leader_are_taken_back_by_their_ids() {
    in_cluster(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let leader = cluster.leader().await.unwrap();
        cluster.cut_replicas_off(leader).await;
        scenario.load(3);
        scenario.phantoms_arrive("").await;
        let fault = Instant::now();
        cluster.kill(leader);
        scenario.streams_again("kill -9 with lost commits", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.pg2os.logs("what was written past the fork is looked up again").await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

/// The same while a request to OpenSearch hangs; it is executed when everything is repaired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_request_that_hangs_over_a_failover_that_loses_commits_brings_nothing_back() {
    in_cluster(async |world, cluster| {
        // It is held longer than the short horizon of the other scenarios.
        let mut scenario = Scenario::start(world, cluster, Duration::from_secs(120)).await;
        let leader = cluster.leader().await.unwrap();
        scenario.load(4);
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.cut_replicas_off(leader).await;
        scenario.opensearch.hold_next_bulk();
        scenario.opensearch.holds_a_bulk().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let fault = Instant::now();
        cluster.kill(leader);
        scenario.streams_again("kill -9 with lost commits and a lane stuck", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.opensearch.release_bulk();
        tokio::time::sleep(Duration::from_secs(5)).await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_table_of_which_a_window_was_read_past_the_fork_is_read_again() {
    in_cluster(async |world, cluster| {
        let leader = cluster.leader().await.unwrap();
        // The backfill begins when the replicas are cut off, and does not end.
        let scenario = Scenario::prepare(world, HORIZON).await;
        world.sql(&format!("CREATE PUBLICATION {} FOR TABLE t", world.slot())).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        scenario.opensearch.hold_next_bulk();
        cluster.cut_replicas_off(leader).await;
        world.sql("INSERT INTO t SELECT g, 1, 'lost' FROM generate_series(100001, 102000) g").await;
        let mut scenario = scenario.run(world, cluster);
        scenario.opensearch.holds_a_bulk().await;
        scenario.load(5);
        scenario.phantoms_arrive("").await;
        let fault = Instant::now();
        cluster.kill(leader);
        scenario.streams_again("kill -9 during the backfill", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

/// The publication itself is lost with the leader that it was made on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_publication_that_is_lost_with_the_leader_is_made_again_and_all_tables_are_read() {
    in_cluster(async |world, cluster| {
        let leader = cluster.leader().await.unwrap();
        cluster.cut_replicas_off(leader).await;
        let mut scenario = Scenario::prepare(world, HORIZON).await.run(world, cluster);
        scenario.load(14);
        scenario.phantoms_arrive("").await;
        let fault = Instant::now();
        cluster.kill(leader);
        scenario.streams_again("kill -9 that loses the publication", leader, fault).await;
        scenario.pg2os.logs("all tables are read again").await;
        scenario.becomes_equal().await;
        scenario.stop().await;
    })
    .await;
}

/// A new process does not know what was written: it reads everything again. Slow: its sweep waits for the horizon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_process_that_did_not_write_what_was_lost_reads_all_tables_again() {
    in_cluster(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let leader = cluster.leader().await.unwrap();
        cluster.cut_replicas_off(leader).await;
        scenario.load(6);
        scenario.phantoms_arrive("").await;
        let fault = Instant::now();
        cluster.kill(leader);
        cluster.new_leader(leader).await;
        scenario.kill_and_start_again();
        scenario.streams_again("kill -9 of leader and pg2os", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.pg2os.logs("all tables are read again").await;
        scenario.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_leader_that_was_paused_and_goes_on_when_there_is_another_does_no_harm() {
    in_cluster(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let leader = cluster.leader().await.unwrap();
        scenario.load(7);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let fault = Instant::now();
        cluster.pause(leader);
        cluster.new_leader(leader).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        cluster.resume(leader);
        scenario.streams_again("SIGSTOP of the leader", leader, fault).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

/// The third node never hears of the second one's timeline, and gives its own the same number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn two_leaders_in_turn_that_number_their_timelines_alike_are_told_apart() {
    in_cluster(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let first = cluster.leader().await.unwrap();
        let third = first % 3 + 1;
        scenario.load(13);
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.pause(third);
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.kill(first);
        let second = cluster.new_leader(first).await;
        cluster.is_streamed_from(&world.slot()).await;
        scenario.phantoms_arrive("on the second timeline").await;
        let fault = Instant::now();
        cluster.kill(second);
        cluster.resume(third);
        scenario.streams_again("a second leader is killed that nobody has followed", second, fault).await;
        scenario.pg2os.logs("is on timeline 2, whose history left timeline 2").await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

/// pg2os cannot see the leader any more, though the cluster is healthy: it waits, and no gap is invented.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_network_that_is_cut_between_pg2os_and_the_leader_is_waited_out() {
    in_cluster(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let leader = cluster.leader().await.unwrap();
        scenario.load(8);
        tokio::time::sleep(Duration::from_secs(2)).await;
        scenario.network(leader).stall();
        tokio::time::sleep(Duration::from_secs(40)).await;
        let healed = Instant::now();
        scenario.network(leader).go_on();
        scenario.streams_again("the network is healed", 0, healed).await;
        scenario.becomes_equal().await;

        // Cut off from a leader that dies meanwhile.
        scenario.load(9);
        scenario.network(leader).stall();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let fault = Instant::now();
        cluster.kill(leader);
        scenario.streams_again("kill -9 behind a cut network", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn with_a_synchronous_standby_a_failover_loses_nothing() {
    in_cluster(async |world, cluster| {
        cluster.configure(json!({"synchronous_mode": true})).await;
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let leader = cluster.leader().await.unwrap();
        scenario.load(10);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let fault = Instant::now();
        cluster.kill(leader);
        scenario.streams_again("kill -9, synchronous_mode", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_slot_that_patroni_makes_again_is_a_gap_and_is_repaired() {
    in_cluster(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        scenario.load(11);
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Patroni makes it again within two seconds, at the position of that moment; pg2os may be quicker.
        let fault = Instant::now();
        let slot = world.slot();
        world
            .eventually("the slot is dropped", async || {
                let client = world.connect().await;
                let end = format!("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
                client.batch_execute(&end).await.unwrap();
                client.batch_execute(&format!("SELECT pg_drop_replication_slot('{slot}')")).await.is_ok()
            })
            .await;
        scenario.pg2os.logs("all tables are read again").await;
        scenario.streams_again("slot dropped", 0, fault).await;
        scenario.becomes_equal().await;

        // While nobody streams: certainly Patroni's.
        let config = scenario.stop_and_keep().await;
        world.sql(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
        world.sql("DELETE FROM t WHERE id % 3 = 0; UPDATE t SET n = -1 WHERE id % 3 = 1").await;
        cluster.is_whole(&slot).await;
        let scenario = config.run(world, cluster);
        scenario.pg2os.logs("past the checkpoint").await;
        scenario.becomes_equal_now().await;
        scenario.stop().await;
    })
    .await;
}

/// Nobody has to tell Patroni of such a slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make failover"]
async fn a_failover_slot_of_postgresql_18_is_followed_to_the_next_leader() {
    in_cluster_with_failover_slots(async |world, cluster| {
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        let leader = cluster.leader().await.unwrap();
        scenario.load(12);
        cluster.is_whole(&world.slot()).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let fault = Instant::now();
        cluster.kill(leader);
        scenario.streams_again("kill -9, failover slot of PostgreSQL 18", leader, fault).await;
        scenario.becomes_equal().await;
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
}

/// `ROUNDS` (20) failovers with one process of pg2os; each second one loses commits. `SEED` repeats a run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute a round: make failover"]
async fn many_failovers_in_a_row_leave_no_difference() {
    let number = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let number = |name: &str, default| number(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let (rounds, seed) = (number("PG2OS_FAILOVER_ROUNDS", 20), number("PG2OS_FAILOVER_SEED", 1));
    in_cluster(async |world, cluster| {
        let mut rng = Rng::new(seed, 0);
        let mut scenario = Scenario::start(world, cluster, HORIZON).await;
        for round in 1..=rounds {
            cluster.is_whole(&world.slot()).await;
            let leader = cluster.leader().await.unwrap();
            scenario.load(seed * 1000 + round);
            tokio::time::sleep(Duration::from_millis(1000 + rng.below(4000))).await;
            let loses = rng.chance(50);
            if loses {
                cluster.cut_replicas_off(leader).await;
                scenario.phantoms_arrive(&format!("round {round}")).await;
            }
            let fault = Instant::now();
            cluster.kill(leader);
            let what = format!("round {round}: kill -9{}", if loses { " with lost commits" } else { "" });
            scenario.streams_again(&what, leader, fault).await;
            scenario.becomes_equal().await;
            cluster.rejoin(leader).await;
        }
        scenario.has_not_logged(&["all tables are read again"]);
        scenario.stop().await;
    })
    .await;
    eprintln!(
        "seed {seed}: {rounds} failovers, no difference after any of them; a leader was waited for at most {} s",
        PATIENCE.as_secs()
    );
}

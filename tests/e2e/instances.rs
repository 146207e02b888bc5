//! Two instances of one pipeline: the second waits on the slot and takes over, and the first, should it wake up, does no
//! harm.

use crate::support::{
    PATIENCE, World, eventually, in_world,
    process::{Pg2os, signal},
    proxy::Proxy,
};
use std::time::{Duration, Instant};

const T: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 2000) g";

/// The second instance, which waits for the first.
async fn waiting(world: &World) -> Pg2os {
    let second = world.run(&[world.followed("t", &["id"])]);
    second.logs("another instance streams").await;
    second
}

/// Waits until the second instance streams; returns how long that took.
async fn takes_over(second: &Pg2os, patience: Duration) -> Duration {
    let begun = Instant::now();
    eventually("the second instance streams", patience, async || second.log().contains("streaming from"))
        .await;
    begun.elapsed()
}

#[tokio::test]
async fn a_second_instance_takes_over_within_ten_seconds_of_a_kill() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let first = world.run(&followed);
        world.becomes_equal(&followed).await;
        let second = waiting(world).await;
        world.sql("UPDATE t SET n = 1; DELETE FROM t WHERE id % 3 = 0").await;
        first.kill();
        takes_over(&second, Duration::from_secs(10)).await;
        world.sql("UPDATE t SET n = 2 WHERE id % 2 = 0").await;
        world.becomes_equal(&followed).await;
        second.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_waiting_instance_survives_what_passes() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let first = world.run(&followed);
        world.becomes_equal(&followed).await;
        let server = ([127, 0, 0, 1], world.servers.pg_port).into();
        let network = Proxy::start(([127, 0, 0, 1], 0).into(), server).await;
        let config = world.config(&followed, "");
        let port = |port: u16| format!("port: {port}");
        let config = config.replace(&port(world.servers.pg_port), &port(network.address().port()));
        let mut second = world.start(&config, &["run"]);
        second.logs("another instance streams").await;
        network.stall();
        second.logs("the session is lost").await;
        network.go_on();
        first.kill();
        takes_over(&second, PATIENCE).await;
        assert!(second.ended().is_none());
        second.stop().await;
    })
    .await;
}

/// Its packets are dropped: neither side is told. The server frees the slot after `wal_sender_timeout`, which is 20 s.
#[tokio::test]
async fn a_second_instance_takes_over_from_a_node_that_vanished() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let server = ([127, 0, 0, 1], world.servers.pg_port).into();
        let network = Proxy::start(([127, 0, 0, 1], 0).into(), server).await;
        let config = world.config(&followed, "");
        let port = |port: u16| format!("port: {port}");
        let config = config.replace(&port(world.servers.pg_port), &port(network.address().port()));
        let first = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        let second = waiting(world).await;
        network.stall();
        world.sql("UPDATE t SET n = 1; DELETE FROM t WHERE id % 3 = 0").await;
        let took = takes_over(&second, Duration::from_secs(30)).await;
        assert!(took > Duration::from_secs(5), "the slot was free at once: nothing was shown");
        let holder = world.of_slot("active_pid").await;
        world.becomes_equal(&followed).await;

        // The first one is told at last: it waits now.
        network.go_on();
        first.logs("the session is lost").await;
        first.logs("another instance streams").await;
        world.sql("UPDATE t SET n = 2 WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0").await;
        world.becomes_equal(&followed).await;
        assert_eq!(world.of_slot("active_pid").await, holder);
        second.stop().await;
        first.stop().await;
    })
    .await;
}

/// It is stopped with much in its queues, and goes on when its lease has long ended and its rows are others.
#[tokio::test]
async fn an_instance_that_was_paused_and_wakes_up_changes_nothing() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let first = world.run(&followed);
        world.becomes_equal(&followed).await;
        let second = waiting(world).await;
        world.sql("INSERT INTO t SELECT g, 1 FROM generate_series(10001, 60000) g; UPDATE t SET n = 1 WHERE id <= 2000").await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let paused = Instant::now();
        signal(first.id(), "STOP");
        takes_over(&second, Duration::from_secs(40)).await;
        world.sql("DELETE FROM t WHERE id % 2 = 0; UPDATE t SET n = 2 WHERE id % 3 = 0").await;
        world.becomes_equal(&followed).await;
        tokio::time::sleep(Duration::from_secs(33).saturating_sub(paused.elapsed())).await;
        signal(first.id(), "CONT");
        first.logs("the session is lost").await;
        first.logs("another instance streams").await;
        world.sql("UPDATE t SET n = 3 WHERE id % 5 = 0").await;
        world.becomes_equal(&followed).await;
        second.stop().await;
        first.stop().await;
    })
    .await;
}

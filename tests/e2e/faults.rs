//! Servers that stop, hang and come back, on servers of the test's own.

use crate::support::{in_world_on, process::signal, servers::Servers};
use std::time::{Duration, Instant};

const T: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 2000) g";

#[tokio::test]
async fn while_opensearch_hangs_postgresql_keeps_the_connection_and_the_program_can_leave() {
    in_world_on(Servers::private(), T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        let walsender = world.of_slot("active_pid").await;
        let opensearch = world.servers.opensearch_pid();
        signal(opensearch, "STOP");
        world.sql("UPDATE t SET n = 1; DELETE FROM t WHERE id % 2 = 0; UPDATE t SET id = id + 5000 WHERE id % 3 = 0").await;
        tokio::time::sleep(Duration::from_secs(12)).await;
        let meanwhile = world.of_slot("active_pid").await;
        signal(opensearch, "CONT");
        assert_eq!(meanwhile, walsender);
        world.becomes_equal(&followed).await;
        assert_eq!(world.of_slot("active_pid").await, walsender);

        // Told to leave meanwhile, it does, and nothing is lost.
        signal(opensearch, "STOP");
        world.sql("UPDATE t SET n = 2").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        pg2os.terminate();
        let left = pg2os.exit_code(Duration::from_secs(25)).await;
        signal(opensearch, "CONT");
        assert_eq!(left, 0);
        world.catch_up(&world.config(&followed, "")).await;
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn a_fast_restart_of_postgresql_is_not_held_up_and_the_stream_goes_on() {
    in_world_on(Servers::private_postgres(&[]), T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        for n in 1..=3 {
            world.sql(&format!("UPDATE t SET n = {n} WHERE id < 1000")).await;
            let begun = Instant::now();
            assert!(world.servers.restart_postgres(60), "restart {n}");
            let took = begun.elapsed();
            world.sql(&format!("DELETE FROM t WHERE id < {n}00")).await;
            world.becomes_equal(&followed).await;
            assert!(took < Duration::from_secs(6), "restart {n} took {took:?}");
        }
        pg2os.stop().await;
    })
    .await;
}

/// On a server of its own: its open transaction would hold up the slots of other tests.
#[tokio::test]
async fn after_a_lost_window_connection_the_next_session_takes_the_slot() {
    let schema = format!("{T}; CREATE TABLE late AS SELECT * FROM t; ALTER TABLE late ADD PRIMARY KEY (id)");
    in_world_on(Servers::private_postgres(&[]), &schema, async |world| {
        let (t, late) = (world.followed("t", &["id"]), world.followed("late", &["id"]));
        world.catch_up(&world.config(std::slice::from_ref(&t), "")).await;
        // The windows of the new table wait for this transaction.
        let open = world.connect().await;
        open.batch_execute("BEGIN; UPDATE t SET n = 5 WHERE id = 1").await.unwrap();
        let both = [t, late];
        let pg2os = world.run(&both);
        let windows =
            format!("FROM pg_stat_activity WHERE application_name = 'pg2os {} windows'", world.name);
        world
            .eventually("the backfill waits", async || {
                world.value(&format!("SELECT count(*) {windows}")).await.as_deref() == Some("1")
            })
            .await;
        world.sql(&format!("SELECT pg_terminate_backend(pid) {windows}")).await;
        world
            .eventually("another session streams", async || {
                pg2os.log().matches("streaming from").count() == 2
            })
            .await;
        open.batch_execute("COMMIT").await.unwrap();
        world.becomes_equal(&both).await;
        pg2os.stop().await;
    })
    .await;
}

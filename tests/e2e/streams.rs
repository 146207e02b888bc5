//! Starting, stopping and taking over.

use crate::support::{PATIENCE, World, in_world};
use std::time::Duration;

const T: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 2000) g";

/// The end of the log now.
async fn log_end(world: &World) -> String {
    world.value("pg_current_wal_insert_lsn()").await.unwrap()
}

async fn confirmed(world: &World, lsn: &str) -> bool {
    world.of_slot(&format!("confirmed_flush_lsn >= '{lsn}'")).await.as_deref() == Some("true")
}

#[tokio::test]
async fn sigterm_acknowledges_what_was_written_and_nothing_of_it_is_streamed_again() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        world.sql("UPDATE t SET n = 1").await;
        let end = log_end(world).await;
        world.becomes_equal(&followed).await;
        pg2os.stop().await;
        assert!(confirmed(world, &end).await, "{:?} of {end}", world.of_slot("confirmed_flush_lsn").await);

        world.sql("UPDATE t SET n = 2 WHERE id <= 7").await;
        let again = world.start(&world.config(&followed, ""), &["run", "--until-caught-up"]);
        let (code, log) = again.ending(PATIENCE).await;
        assert_eq!(code, 0);
        assert!(log.contains("changes=7 "), "{log}");
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn an_idle_table_acknowledges_the_wal_of_other_tables() {
    in_world(&format!("{T}; CREATE TABLE other (id int, text text)"), async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        world.sql("INSERT INTO other SELECT g, md5(g::text) FROM generate_series(1, 20000) g").await;
        let end = log_end(world).await;
        let begun = std::time::Instant::now();
        world.eventually("the slot passes the WAL of others", async || confirmed(world, &end).await).await;
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_added_is_filled_beside_the_stream_of_the_others() {
    in_world(
        &format!("{T}; CREATE TABLE late AS SELECT * FROM t; ALTER TABLE late ADD PRIMARY KEY (id)"),
        async |world| {
            let (t, late) = (world.followed("t", &["id"]), world.followed("late", &["id"]));
            let first = world.run(std::slice::from_ref(&t));
            first.logs("live table=public.t").await;
            world.becomes_equal(std::slice::from_ref(&t)).await;
            first.stop().await;
            world
                .sql(
                    "UPDATE t SET n = 1; DELETE FROM late WHERE id < 10; UPDATE late SET n = 1 WHERE id < 20",
                )
                .await;
            let both = [t, late];
            let second = world.run(&both);
            second.logs("streaming from").await;
            world
                .sql("UPDATE t SET n = 2 WHERE id < 100; UPDATE late SET n = 2, id = -id WHERE id < 100")
                .await;
            world.becomes_equal(&both).await;
            second.logs("live table=public.late").await;
            let log = second.log();
            second.stop().await;
            assert!(!log.contains("live table=public.t\n"), "t is read again: {log}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_slot_that_is_older_than_its_publication_is_used() {
    in_world(T, async |world| {
        world
            .sql(&format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", world.slot()))
            .await;
        world.sql("UPDATE t SET n = 1; DELETE FROM t WHERE id > 1990").await;
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        world.sql("DELETE FROM t WHERE id > 1980").await;
        world.becomes_equal(&followed).await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn windows_can_come_first_and_the_stream_after_them() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"]).with("window: { column: id, rows: 100 }")];
        let config = world.config(&followed, "backfill: { order: first, parallel: 1 }");
        let pg2os = world.start(&config, &["run"]);
        pg2os.logs("streaming from").await;
        world.sql("DELETE FROM t WHERE id % 3 = 0; UPDATE t SET id = id + 10000 WHERE id % 3 = 1").await;
        world.becomes_equal(&followed).await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_second_instance_waits_and_takes_over_without_a_gap() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let first = world.run(&followed);
        world.becomes_equal(&followed).await;
        let second = world.run(&followed);
        second.logs("waiting for it to leave").await;
        world.sql("UPDATE t SET n = 1 WHERE id < 100").await;
        world.becomes_equal(&followed).await;
        first.stop().await;
        second.logs("streaming from").await;
        world.sql("UPDATE t SET n = 2 WHERE id < 50").await;
        world.becomes_equal(&followed).await;
        let log = second.log();
        second.stop().await;
        assert!(!log.contains("gap"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn two_instances_that_start_together_share_the_work_in_turn() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let both = [world.run(&followed), world.run(&followed)];
        world.becomes_equal(&followed).await;
        world.sql("DELETE FROM t WHERE id < 100").await;
        world.becomes_equal(&followed).await;
        for instance in both {
            instance.stop().await;
        }
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_terminated_walsender_is_replaced() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        for n in 1..=3 {
            let slot = world.slot();
            world.sql(&format!("UPDATE t SET n = {n}; SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}'")).await;
            world.becomes_equal(&followed).await;
        }
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_backfill_that_was_interrupted_goes_on_where_it_was() {
    in_world(&T.replace("2000", "30000"), async |world| {
        let followed = [world.followed("t", &["id"]).with("window: { column: id, rows: 1000 }")];
        let config = world.config(&followed, "backfill: { parallel: 1 }");
        let first = world.start(&config, &["run"]);
        let done = world.index("state");
        let windows = async || {
            let documents = world.os.documents(&done).await;
            documents.values().filter(|d| d.source.get().contains("\"kind\":\"window\"")).count()
        };
        world.eventually("some windows are done", async || windows().await >= 3).await;
        first.kill();
        let before = windows().await;
        world.sql("DELETE FROM t WHERE id % 7 = 0; UPDATE t SET n = 1 WHERE id % 5 = 0").await;
        let (code, log) = world.start(&config, &["run", "--until-caught-up"]).ending(PATIENCE).await;
        assert_eq!(code, 0);
        world.assert_equal(&followed).await;
        let rows = log.split("windows, ").nth(1).unwrap_or_default().split(' ').next().unwrap_or_default();
        let rows: usize = rows.replace(',', "").parse().unwrap_or_else(|_| panic!("{log}"));
        assert!(
            rows <= 30_000 - before * 800,
            "{before} windows were done, and {rows} rows were read: {log}"
        );
    })
    .await;
}

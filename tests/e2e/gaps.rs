//! Guarantee 4: gaps are seen, and repaired or stopped on.

use crate::support::{PATIENCE, World, connect, in_world, in_world_on, servers::Servers};
use serde_json::{Value, json};

const T: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 2000) g";

/// Fills the index, and drops the slot while rows come and go.
async fn make_a_gap(world: &World) {
    world.catch_up(&world.config(&[world.followed("t", &["id"])], "")).await;
    world.sql(&format!("SELECT pg_drop_replication_slot('{}')", world.slot())).await;
    world.sql("UPDATE t SET n = 1; DELETE FROM t WHERE id <= 100; INSERT INTO t VALUES (5000, 1)").await;
}

#[tokio::test]
async fn with_on_gap_stop_a_lost_slot_ends_with_4_and_the_position() {
    in_world(T, async |world| {
        make_a_gap(world).await;
        let config = world.config(&[world.followed("t", &["id"])], "on_gap: stop");
        let (code, log) = world.start(&config, &["run"]).ending(PATIENCE).await;
        assert_eq!(code, 4, "{log}");
        assert!(log.contains(&format!("slot {} is missing", world.slot())), "{log}");
        assert!(
            log.contains("hold everything up to 0/") || log.contains("hold everything up to 1/"),
            "{log}"
        );
        assert!(log.contains("on_gap: resync"), "{log}");
    })
    .await;
}

/// Slow: the sweep waits for the horizon after the slot was taken, at least a minute.
#[tokio::test]
async fn a_lost_slot_is_repaired_and_deleted_rows_are_swept() {
    in_world(T, async |world| {
        make_a_gap(world).await;
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "limits: { late_request_horizon: 1s }");
        let pg2os = world.start(&config, &["run", "--until-caught-up"]);
        assert_eq!(pg2os.exit_code(PATIENCE * 3).await, 0);
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn a_slot_that_was_moved_past_the_checkpoint_is_a_gap() {
    in_world(T, async |world| {
        world.catch_up(&world.config(&[world.followed("t", &["id"])], "")).await;
        world.sql("UPDATE t SET n = 1").await;
        world
            .sql(&format!("SELECT pg_replication_slot_advance('{}', pg_current_wal_lsn())", world.slot()))
            .await;
        let config = world.config(&[world.followed("t", &["id"])], "on_gap: stop");
        let (code, log) = world.start(&config, &["run"]).ending(PATIENCE).await;
        assert_eq!(code, 4, "{log}");
        assert!(log.contains("past the checkpoint"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn a_publication_that_was_made_again_is_a_gap_and_is_repaired() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "on_gap: stop");
        world.catch_up(&config).await;
        let publication = world.slot();
        world.sql(&format!("DROP PUBLICATION {publication}")).await;
        world.sql("UPDATE t SET n = 1; DELETE FROM t WHERE id <= 100").await;
        // It stays a gap, though the first of them has made the publication again.
        for _ in 0..2 {
            let (code, log) = world.start(&config, &["run"]).ending(PATIENCE).await;
            assert_eq!(code, 4, "{log}");
            assert!(log.contains("a publication is not the one"), "{log}");
        }
        world.catch_up(&world.config(&followed, "limits: { late_request_horizon: 1s }")).await;
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn another_database_with_the_same_pipeline_ends_with_4() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "");
        world.catch_up(&config).await;
        let other = format!("{}_other", world.name);
        world.sql(&format!("CREATE DATABASE {other} TEMPLATE template0")).await;
        let there = connect(world.servers.pg_port, &other).await;
        there.batch_execute(T).await.unwrap();
        let config = config.replace(&format!("database: {}", world.name), &format!("database: {other}"));
        let (code, log) = world.start(&config, &["run"]).ending(PATIENCE).await;
        world.sql(&format!("DROP DATABASE {other} WITH (FORCE)")).await;
        assert_eq!(code, 4, "{log}");
        assert!(log.contains(&other), "{log}");
    })
    .await;
}

#[tokio::test]
async fn another_server_with_the_same_database_ends_with_4() {
    in_world(T, async |world| {
        let config = world.config(&[world.followed("t", &["id"])], "");
        world.catch_up(&config).await;
        let other = Servers::private_postgres(&[]);
        let admin = connect(other.pg_port, "postgres").await;
        admin.batch_execute(&format!("CREATE DATABASE {}", world.name)).await.unwrap();
        connect(other.pg_port, &world.name).await.batch_execute(T).await.unwrap();
        let port = |port: u16| format!("port: {port}");
        let config = config.replace(&port(world.servers.pg_port), &port(other.pg_port));
        let (code, log) = world.start(&config, &["run"]).ending(PATIENCE).await;
        assert_eq!(code, 4, "{log}");
        assert!(log.contains("it may be another server"), "{log}");
        let made = connect(other.pg_port, &world.name).await;
        let made = made.query("SELECT FROM pg_publication", &[]).await.unwrap();
        assert!(made.is_empty(), "nothing is made on a server that may not be ours");
    })
    .await;
}

#[tokio::test]
async fn an_index_that_is_deleted_under_a_live_process_is_made_and_filled_again() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        pg2os.logs("live table=public.t").await;
        for change in ["UPDATE t SET n = n + 1 WHERE id % 2 = 0", "DELETE FROM t WHERE id % 9 = 0"] {
            world.os.call("DELETE", &format!("/{}-000001", world.index("t")), Value::Null).await;
            world.sql(change).await;
            world.becomes_equal(&followed).await;
        }
        pg2os.logs("was deleted or made anew").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn with_on_gap_stop_an_index_that_was_made_anew_ends_with_4_until_a_resync() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "on_gap: stop\nlimits: { late_request_horizon: 1s }");
        let pg2os = world.start(&config, &["run"]);
        pg2os.logs("live table=public.t").await;
        world.os.call("DELETE", &format!("/{}-000001", world.index("t")), Value::Null).await;
        let (code, log) = pg2os.ending(PATIENCE).await;
        assert_eq!(code, 4, "{log}");
        assert!(log.contains("was deleted or made anew"), "{log}");
        let (code, log) = world.start(&config, &["run"]).ending(PATIENCE).await;
        assert_eq!(code, 4, "{log}");
        assert_eq!(world.start(&config, &["resync", "--table", "t"]).exit_code(PATIENCE).await, 0);
        world.assert_equal(&followed).await;
        world.catch_up(&config).await;
    })
    .await;
}

/// The uuid stays where an index that is closed is restored over.
#[tokio::test]
async fn an_index_that_was_restored_from_a_snapshot_is_read_again() {
    in_world_on(Servers::private_opensearch(), T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        pg2os.logs("live table=public.t").await;
        let repository = world.servers.own_run().join("repo");
        let repository = json!({"type": "fs", "settings": {"location": repository}});
        world.os.call("PUT", "/_snapshot/backup", repository).await;
        let index = format!("{}-000001", world.index("t"));
        let only = json!({"indices": index, "include_global_state": false});
        world.os.call("PUT", "/_snapshot/backup/first?wait_for_completion=true", only.clone()).await;
        world.sql("UPDATE t SET n = 7 WHERE id < 50; DELETE FROM t WHERE id > 1990").await;
        world.becomes_equal(&followed).await;
        world.os.call("POST", &format!("/{index}/_close"), Value::Null).await;
        world.os.call("POST", "/_snapshot/backup/first/_restore?wait_for_completion=true", only).await;
        world.becomes_equal_within(PATIENCE * 3, &followed).await;
        pg2os.logs("was restored from an older copy").await;
        pg2os.stop().await;
    })
    .await;
}

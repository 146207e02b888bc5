//! Windows that are read from a standby (`postgres.backfill_host`), with the stream from the primary.

use crate::support::{
    World, connect_to, in_world_on,
    servers::Servers,
    standby::{ADDRESS, SECOND, Standby},
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio_postgres::{Client, NoTls};

const TABLES: &str = "
CREATE TABLE t (k uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int NOT NULL, pad text);
INSERT INTO t (n, pad) SELECT i, repeat('x', 100) FROM generate_series(1, 6000) i; ANALYZE";

async fn connect_standby(world: &World, address: &str) -> Client {
    let config = format!("host={address} port={} user=postgres dbname={}", world.servers.pg_port, world.name);
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Waits until every standby has what the primary has.
async fn has_replayed(world: &World) {
    let admin = connect_to(&world.servers, "postgres").await;
    let sql =
        "SELECT coalesce(bool_and(replay_lsn >= pg_current_wal_flush_lsn()), false) FROM pg_stat_replication";
    world
        .eventually("the standby has the database", async || admin.query_one(sql, &[]).await.unwrap().get(0))
        .await;
}

fn config(world: &World, more: &str) -> String {
    let config = world.config(&[world.followed("t", &["k"])], more);
    config.replace("user: postgres", &format!("user: postgres, backfill_host: {ADDRESS}"))
}

async fn write(world: &World, stop: &AtomicBool) {
    let client = world.connect().await;
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n = (n + 37) % 6_000;
        let sql = format!(
            "DELETE FROM t WHERE n = {n}; UPDATE t SET pad = pad || 'y' WHERE n = {n} + 1; INSERT INTO t (n) VALUES ({n} + 2)"
        );
        client.batch_execute(&sql).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn g2_windows_of_a_standby_beside_the_primarys_stream_make_the_index_the_table() {
    let servers = Servers::private_postgres(&[]);
    let standby = Standby::of(&servers, &["max_standby_streaming_delay = 300s"]);
    in_world_on(servers, TABLES, async |world| {
        has_replayed(world).await;
        let (on_standby, stop) = (connect_standby(world, ADDRESS).await, AtomicBool::new(false));
        let tables = [world.followed("t", &["k"])];
        let more = "backfill: { rate: 50kB, window_bytes: 60kB }\nlimits: { standby_lag: 1s }";
        let filling = async {
            // Deletes reach the indices long before the standby has them.
            on_standby.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
            let pg2os = world.start(&config(world, more), &["run"]);
            tokio::time::sleep(Duration::from_secs(3)).await;
            on_standby.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
            world.eventually("windows are read on the standby", async || {
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg2os % windows' AND query LIKE 'COPY%'";
                on_standby.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
            })
            .await;
            on_standby.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
            pg2os.logs("windows pause: the standby that they are read from is").await;
            on_standby.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
            pg2os.logs("windows go on").await;
            pg2os.logs("the table is filled and live").await;
            stop.store(true, Ordering::Relaxed);
            pg2os
        };
        let (pg2os, ()) = tokio::join!(filling, write(world, &stop));
        world.becomes_equal(&tables).await;
        pg2os.stop().await;
    })
    .await;
    drop(standby);
}

#[tokio::test]
async fn a_window_that_a_standby_cancels_is_read_again() {
    let servers = Servers::private_postgres(&["autovacuum=off"]);
    let standby = Standby::of(&servers, &["max_standby_streaming_delay = 100ms"]);
    in_world_on(servers, TABLES, async |world| {
        let tables = [world.followed("t", &["k"])];
        let pg2os = world
            .start(&config(world, "backfill: { rate: 60kB, window_time: 10s, window_bytes: 1GB }"), &["run"]);
        pg2os.logs("divided: ranges of blocks").await;
        let client = world.connect().await;
        for n in 0..10 {
            if pg2os.log().contains("the standby did not let the window be read") {
                break;
            }
            client.batch_execute(&format!("DELETE FROM t WHERE n % 10 = {n}")).await.unwrap();
            client.batch_execute("VACUUM t").await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        pg2os.logs("the standby did not let the window be read").await;
        pg2os.logs("the table is filled and live").await;
        world.becomes_equal(&tables).await;
        pg2os.stop().await;
    })
    .await;
    drop(standby);
}

#[tokio::test]
async fn a_standby_of_another_history_is_refused() {
    let servers = Servers::private_postgres(&[]);
    let replaced = Standby::of(&servers, &[]);
    in_world_on(servers, TABLES, async |world| {
        has_replayed(world).await;
        // It goes a way of its own, with more transactions and WAL than the primary, and has a standby there.
        let client = connect_standby(world, ADDRESS).await;
        client.batch_execute("SELECT pg_promote()").await.unwrap();
        let stray = Standby::following(&world.servers, ADDRESS, SECOND, &[]);
        for n in 0..300 {
            client.batch_execute(&format!("UPDATE t SET n = n + 1 WHERE n % 300 = {n}")).await.unwrap();
        }
        let end: String =
            client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.unwrap().get(0);
        let on_stray = connect_standby(world, SECOND).await;
        world
            .eventually("its standby has it", async || {
                let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
                on_stray.query_one(&sql, &[]).await.unwrap().get(0)
            })
            .await;
        let config = config(world, "").replace(ADDRESS, SECOND);
        let (code, log) = world.start(&config, &["run"]).ending(Duration::from_secs(30)).await;
        assert!(
            code == 2 && log.contains("postgres.backfill_host 127.0.0.3 is no standby of the primary"),
            "{log}"
        );
        drop(stray);
    })
    .await;
    drop(replaced);
}

//! `resync`: whole tables and ranges are made right beside the stream and alone, and another source is accepted.

use crate::support::{Followed, PATIENCE, World, connect, in_world};
use serde_json::Value;
use std::time::Duration;

const T: &str = "
CREATE TABLE t (id int PRIMARY KEY, day date NOT NULL, n int, filler text);
INSERT INTO t SELECT g, '2024-01-01'::date + g % 100, g, repeat('x', 500) FROM generate_series(1, 5000) g;
CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other SELECT g, g FROM generate_series(1, 100) g";
const SETTINGS: &str = "limits: { late_request_horizon: 1s }";

fn tables(world: &World) -> Vec<Followed> {
    let t = world.followed("t", &["id"]).with("window: { column: day, days: 10 }");
    vec![t, world.followed("other", &["id"])]
}

/// What is wrong afterwards: documents without rows, rows without documents, and wrong documents, in January and in March.
async fn spoil(world: &World) {
    let t = world.index("t");
    for (id, day) in [(90_001, "2024-01-05"), (90_002, "2024-03-05")] {
        let document = format!(r#"{{"id":{id},"day":"{day}","n":1}}"#);
        world.os.put_source(&t, &id.to_string(), document).await;
    }
    // 4 and 5 are of January, 60 and 61 of March.
    for id in [4, 60] {
        world.os.call("DELETE", &format!("/{t}/_doc/{id}"), Value::Null).await;
    }
    for (id, day) in [(5, "2024-01-06"), (61, "2024-03-02")] {
        let document = format!(r#"{{"id":{id},"day":"{day}","n":-1}}"#);
        world.os.put_source(&t, &id.to_string(), document).await;
    }
    // Its row is of March: a range of January finds it and looks it up.
    world.os.put_source(&t, "62", r#"{"id":62,"day":"2024-01-07","n":62}"#.into()).await;
}

async fn wrong(world: &World, config: &str) -> usize {
    let (_, out) = world.start(config, &["verify", "--json"]).ending(PATIENCE).await;
    out.lines().filter(|line| line.contains("\"difference\":")).count()
}

async fn resync(world: &World, config: &str, flags: &[&str]) -> String {
    let (code, out) = world.start(config, &[&["resync"], flags].concat()).ending(PATIENCE * 3).await;
    assert_eq!(code, 0, "{out}");
    out
}

#[tokio::test]
async fn a_table_and_a_range_are_made_right_beside_the_stream() {
    in_world(T, async |world| {
        let tables = tables(world);
        let config = world.config(&tables, SETTINGS);
        let pg2os = world.start(&config, &["run"]);
        pg2os.logs("live table=public.t").await;
        pg2os.logs("live table=public.other").await;

        spoil(world).await;
        world.sql("UPDATE t SET n = n + 1 WHERE id % 7 = 0").await;
        resync(world, &config, &["--table", "t", "--from", "2024-01-01", "--to", "2024-02-01"]).await;
        assert_eq!(wrong(world, &config).await, 3, "what is of March stays");

        let writer = async {
            for n in 0..50 {
                let id = 100 + n * 7;
                let sql = format!(
                    "UPDATE t SET n = {n} WHERE id % 50 = {n}; DELETE FROM t WHERE id = {id}; \
                     INSERT INTO t VALUES ({id} + 10000, '2024-02-02', {n}, NULL)"
                );
                world.sql(&sql).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ((), out) = tokio::join!(writer, resync(world, &config, &["--table", "t"]));
        assert!(!out.contains("streaming from="), "the live process does it: {out}");
        pg2os.logs("the table is to be read again").await;
        world.becomes_equal(&tables).await;
        assert_eq!(wrong(world, &config).await, 0);
        assert_eq!(
            pg2os.log().matches("live table=public.other").count(),
            1,
            "the other table is left alone"
        );
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_resync_that_is_killed_and_repeated_makes_everything_right_alone() {
    in_world(T, async |world| {
        let tables = tables(world);
        let config = world.config(&tables, SETTINGS);
        world.catch_up(&config).await;
        for flags in [&["resync", "--from", "2024-01-01", "--table", "t"][..], &["resync"]] {
            spoil(world).await;
            let killed = world.start(&config, flags);
            let (client, begun) = (world.connect().await, std::time::Instant::now());
            // In the middle of a window, where it can be caught there.
            let copying = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                           AND application_name LIKE 'pg2os%' AND query LIKE 'COPY%'";
            while client.query_one(copying, &[]).await.unwrap().get::<_, i64>(0) == 0
                && begun.elapsed() < Duration::from_secs(20)
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            killed.kill();
            world.sql("DELETE FROM t WHERE id % 10 = 3; UPDATE t SET n = -n WHERE id % 10 = 4").await;
            resync(world, &config, &flags[1..]).await;
            world.catch_up(&config).await;
            assert_eq!(wrong(world, &config).await, 0, "{flags:?}");
            world.assert_equal(&tables).await;
        }
        let state = world.os.documents(&world.index("state")).await;
        assert!(!state.keys().any(|id| id.contains(":attempt:")), "nothing is left in doubt");
    })
    .await;
}

/// The process dies after its writes and before it looked at the rows again; their deletes have come and are forgotten.
#[tokio::test]
async fn m9_what_a_killed_writer_left_is_looked_at_by_the_next_one() {
    in_world(T, async |world| {
        // Many windows, so that it is killed among them.
        let t = world.followed("t", &["id"]).with("window: { column: day, days: 1 }");
        let tables = [t, world.followed("other", &["id"])];
        let config = world.config(&tables, SETTINGS);
        let pg2os = world.start(&config, &["run"]);
        pg2os.logs("live table=public.t").await;
        pg2os.logs("live table=public.other").await;
        let before = world.os.documents(&world.index("t")).await;
        let highest = before.values().map(|document| document.version).max().unwrap();
        let writer = world.start(&config, &["backfill", "--table", "t"]);
        let written = world.index("state");
        world
            .eventually("the attempt is stored", async || {
                world.os.documents(&written).await.keys().any(|id| id.contains(":attempt:"))
            })
            .await;
        writer.kill();
        // Documents of rows that are gone, with the version of the attempt: as if the tombstones were lost.
        let state = world.os.documents(&written).await;
        let attempt = state.iter().find(|(id, _)| id.contains(":attempt:")).expect("the attempt is left").1;
        let attempt: Value = serde_json::from_str(attempt.source.get()).unwrap();
        let version = attempt["versions"][0].as_u64().unwrap();
        assert!(version > highest, "it is durable before the first write");
        for id in [70_001, 70_002] {
            let path = format!("/{}/_doc/{id}?version={version}&version_type=external_gte", world.index("t"));
            world.os.call("PUT", &path, serde_json::json!({"id": id, "day": "2024-01-02", "n": 0})).await;
        }
        // Another table's writer leaves it to those who write this one.
        assert_eq!(world.start(&config, &["backfill", "--table", "other"]).exit_code(PATIENCE).await, 0);
        assert_eq!(world.os.count(&world.index("t")).await, 5002);
        assert_eq!(world.start(&config, &["backfill", "--table", "t"]).exit_code(PATIENCE).await, 0);
        world.becomes_equal(&tables).await;
        let state = world.os.documents(&written).await;
        assert!(!state.keys().any(|id| id.contains(":attempt:")), "nothing is left in doubt");
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn another_source_is_accepted_only_when_told_and_everything_is_read_from_it() {
    in_world(T, async |world| {
        let tables = tables(world);
        let config = world.config(&tables, &format!("{SETTINGS}\non_gap: stop"));
        world.catch_up(&config).await;
        let other = format!("{}_other", world.name);
        world.sql(&format!("CREATE DATABASE {other} TEMPLATE template0")).await;
        let there = connect(world.servers.pg_port, &other).await;
        there.batch_execute(T).await.unwrap();
        there.batch_execute("DELETE FROM t WHERE id > 4000; UPDATE t SET n = 7 WHERE id < 10").await.unwrap();
        let moved = config
            .replace(&format!("database: {}", world.name), &format!("database: {other}"))
            .replace("user: postgres", &format!("user: postgres, slot: pg2os_{other}"));
        for command in [&["run"][..], &["resync"], &["verify"]] {
            let (code, out) = world.start(&moved, command).ending(PATIENCE).await;
            assert_eq!(code, 4, "{out}");
            assert!(out.contains("resync --accept-source"), "{out}");
        }
        let (code, out) = world.start(&moved, &["resync", "--accept-source"]).ending(PATIENCE * 3).await;
        assert_eq!(code, 0, "{out}");
        let (code, out) = world.start(&moved, &["verify"]).ending(PATIENCE).await;
        assert_eq!(code, 0, "{out}");
        assert_eq!(world.os.count(&world.index("t")).await, 4000);
        let seven = world.os.document(&world.index("t"), "9").await.unwrap();
        assert_eq!(seven["n"], 7);
        // The first one is the other one now.
        let (code, out) = world.start(&config, &["run"]).ending(PATIENCE).await;
        assert_eq!(code, 4, "{out}");
        there.batch_execute("UPDATE t SET n = 8 WHERE id < 10").await.unwrap();
        world.catch_up(&moved).await;
        let (code, out) = world.start(&moved, &["verify"]).ending(PATIENCE).await;
        assert_eq!(code, 0, "{out}");
        there.batch_execute(&format!("SELECT pg_drop_replication_slot('pg2os_{other}')")).await.unwrap();
        drop(there);
        world.sql(&format!("DROP DATABASE {other} WITH (FORCE)")).await;
    })
    .await;
}

//! Replay from a saved position, and the bookmark that keeps history for it.

use crate::support::{PATIENCE, World, in_world, process::Pg2os, proxy::Proxy};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const T: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 200) g;
     CREATE TABLE u (a text, b int, n int, PRIMARY KEY (a, b)); INSERT INTO u SELECT 'a|' || g, g, 0 FROM generate_series(1, 200) g;";

/// A column of the bookmark's row in pg_replication_slots.
async fn of_bookmark(world: &World, column: &str) -> Option<String> {
    let slot = format!("{}_bookmark", world.slot());
    world.value(&format!("SELECT {column} FROM pg_replication_slots WHERE slot_name = '{slot}'")).await
}

async fn has_bookmark(world: &World) {
    world.eventually("the bookmark is there", async || of_bookmark(world, "slot_name").await.is_some()).await;
}

async fn now(world: &World) -> String {
    world.value("SELECT pg_current_wal_lsn()").await.unwrap()
}

/// No copy of the bookmark is left.
async fn leaves_no_slot(world: &World) {
    let copies =
        "SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND temporary";
    world.eventually("the copy is gone", async || world.value(copies).await.unwrap() == "0").await;
}

async fn replay(world: &World, config: &str, arguments: &[&str]) -> (i32, String) {
    world.start(config, &[&["replay"], arguments].concat()).ending(PATIENCE).await
}

/// The configuration with OpenSearch behind `proxy`.
fn behind(world: &World, config: &str, proxy: &Proxy) -> String {
    config.replace(&world.servers.os_url, &format!("http://{}", proxy.address()))
}

async fn to_opensearch(world: &World) -> Proxy {
    let server = world.servers.os_url.trim_start_matches("http://").parse().unwrap();
    Proxy::start(([127, 0, 0, 1], 0).into(), server).await
}

/// A replay from `from` that is in the middle of its first bulk request.
async fn held_replay(world: &World, config: &str, network: &Proxy, from: &str) -> Pg2os {
    network.hold_next_bulk();
    let replay = world.start(&behind(world, config, network), &["replay", "--from-lsn", from]);
    tokio::time::timeout(PATIENCE, network.holds_a_bulk()).await.unwrap();
    replay
}

#[tokio::test]
async fn what_was_done_to_documents_by_hand_is_undone_by_a_replay_beside_a_live_run() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"]), world.followed("u", &["a", "b"])];
        let config = world.config(&followed, "");
        let live = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        has_bookmark(world).await;
        let from = now(world).await;
        world.sql("UPDATE t SET n = 1; UPDATE u SET n = 1; DELETE FROM t WHERE id <= 20").await;
        world.sql("UPDATE u SET b = -b WHERE b <= 20; INSERT INTO t VALUES (1000, 1)").await;
        world.becomes_equal(&followed).await;

        let [t, u] = [&followed[0].index, &followed[1].index];
        let some = json!({"query": {"range": {"n": {"gte": 1}}}, "max_docs": 100});
        world.os.call("POST", &format!("/{t}/_delete_by_query?refresh=true"), some.clone()).await;
        world.os.call("POST", &format!("/{u}/_delete_by_query?refresh=true"), some).await;
        for id in [7, 150, 200] {
            world.os.put_source(t, &id.to_string(), format!("{{\"id\":{id},\"n\":-1}}")).await;
        }
        let done = AtomicBool::new(false);
        let writing = async {
            let client = world.connect().await;
            for i in 0.. {
                if done.load(Ordering::Acquire) {
                    break;
                }
                let id = i % 50 + 100;
                let sql = format!(
                    "UPDATE t SET n = n + 1 WHERE id = {id}; DELETE FROM u WHERE b = {id}; INSERT INTO u VALUES ('w', {id}, {i})
                     ON CONFLICT DO NOTHING; INSERT INTO t VALUES ({}, 0) ON CONFLICT (id) DO UPDATE SET n = t.n + 1",
                    2000 + id
                );
                client.batch_execute(&sql).await.unwrap();
            }
        };
        let replaying = async {
            let ending = replay(world, &config, &["--from-lsn", &from]).await;
            done.store(true, Ordering::Release);
            ending
        };
        let ((), (code, output)) = tokio::join!(writing, replaying);
        assert_eq!(code, 0, "{output}");
        assert!(output.contains(&format!("replayed {from} to ")), "{output}");
        leaves_no_slot(world).await;
        world.becomes_equal(&followed).await;
        live.stop().await;
        world.assert_equal(&followed).await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_replay_to_a_position_ends_there_or_soon_after() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "");
        let live = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        has_bookmark(world).await;
        let from = now(world).await;
        world.sql("UPDATE t SET n = 1 WHERE id <= 10").await;
        let to = now(world).await;
        world.sql("UPDATE t SET n = 1 WHERE id > 10").await;
        world.becomes_equal(&followed).await;
        live.stop().await;
        let index = &followed[0].index;
        let all = json!({"query": {"match_all": {}}});
        world.os.call("POST", &format!("/{index}/_delete_by_query?refresh=true"), all).await;
        let (code, output) = replay(world, &config, &["--from-lsn", &from, "--to-lsn", &to]).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains(&format!("replayed {from} to {to}: ")), "{output}");
        assert!(world.os.count(index).await >= 10);
        let (code, output) = replay(world, &config, &["--from-lsn", &from]).await;
        assert_eq!(code, 0, "{output}");
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn m11_a_truncate_in_history_takes_what_is_older_and_leaves_what_is_younger() {
    in_world(T, async |world| {
        let followed =
            [world.followed("t", &["id"]), world.followed("u", &["a", "b"]).with("on_truncate: ignore")];
        let config = world.config(&followed, "");
        let live = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        has_bookmark(world).await;
        let from = now(world).await;
        world.sql("UPDATE u SET n = 1; TRUNCATE t, u; INSERT INTO t VALUES (1, 1), (2, 2)").await;
        world.becomes_equal(&followed[..1]).await;
        let (t, u) = (&followed[0].index, &followed[1].index);
        for id in ["2", "300"] {
            world.os.put_source(t, id, "{\"n\":-1}".to_owned()).await;
        }
        let (code, output) = replay(world, &config, &["--from-lsn", &from]).await;
        assert_eq!(code, 0, "{output}");
        world.becomes_equal(&followed[..1]).await;
        assert_eq!(world.os.count(u).await, 200, "what was truncated is kept there");
        live.stop().await;
    })
    .await;
}

/// Without the second reading (**M9**, **M10**) the rows that are deleted meanwhile come back for good.
#[tokio::test]
async fn m10_a_row_that_goes_between_its_reading_and_a_late_request_stays_gone() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "");
        let live = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        has_bookmark(world).await;
        let from = now(world).await;
        world.sql("UPDATE t SET n = 1").await;
        world.becomes_equal(&followed).await;
        // Tombstones are forgotten at once.
        let forget = json!({"index.gc_deletes": "0s"});
        world.os.call("PUT", &format!("/{}/_settings", followed[0].index), forget).await;
        let network = to_opensearch(world).await;
        let replay = held_replay(world, &config, &network, &from).await;
        world.sql("DELETE FROM t WHERE id % 2 = 0").await;
        world
            .eventually("the live stream has followed", async || {
                world.os.count(&followed[0].index).await == 100
            })
            .await;
        // They go with a refresh, after the clock of OpenSearch has moved.
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.os.count(&followed[0].index).await;
        network.release_bulk();
        let (code, output) = replay.ending(PATIENCE).await;
        assert_eq!(code, 0, "{output}");
        world.assert_equal(&followed).await;
        live.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_replay_that_is_killed_or_told_to_stop_leaves_no_slot_and_no_harm() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "");
        let live = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        has_bookmark(world).await;
        let from = now(world).await;
        world.sql("INSERT INTO t SELECT g, 0 FROM generate_series(1000, 1100) g; UPDATE t SET n = 1").await;
        world.sql("DELETE FROM t WHERE id > 150").await;
        world.becomes_equal(&followed).await;
        let forget = json!({"index.gc_deletes": "0s"});
        world.os.call("PUT", &format!("/{}/_settings", followed[0].index), forget).await;
        let network = to_opensearch(world).await;
        let killed = held_replay(world, &config, &network, &from).await;
        world.sql("UPDATE t SET n = 2").await;
        killed.kill();
        network.release_bulk();
        leaves_no_slot(world).await;
        world.becomes_equal(&followed).await;
        let stopped = held_replay(world, &config, &network, &from).await;
        stopped.terminate();
        assert_eq!(stopped.exit_code(PATIENCE).await, 143);
        network.release_bulk();
        leaves_no_slot(world).await;
        world.sql("UPDATE t SET n = 3 WHERE id < 100").await;
        world.becomes_equal(&followed).await;
        live.stop().await;
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn positions_outside_of_what_is_kept_are_refused_with_the_range_that_is_there() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "");
        let (code, output) = replay(world, &config, &["--from-lsn", "0/1"]).await;
        assert_eq!((code, output.contains("nothing was streamed yet")), (2, true), "{output}");
        let off = world.config(&followed, "bookmark: off");
        world.catch_up(&off).await;
        assert_eq!(of_bookmark(world, "slot_name").await, None);
        for (config, said) in [(&off, "bookmark is `off`"), (&config, "there is no bookmark slot")] {
            let (code, output) = replay(world, config, &["--from-lsn", "0/1"]).await;
            assert_eq!(
                (code, output.contains(said), output.contains("pg2os resync")),
                (2, true, true),
                "{output}"
            );
        }
        let live = world.start(&config, &["run"]);
        has_bookmark(world).await;
        live.stop().await;
        let first = of_bookmark(world, "confirmed_flush_lsn").await.unwrap();
        for (arguments, said) in [
            (&["--from-lsn", "0/1"][..], "before what is kept"),
            (&["--from-lsn", "FFFF/0"], "past the end of the log"),
            (&["--from-lsn", &first, "--to-lsn", "0/1"], "does not lie past --from-lsn"),
            (&["--from-lsn", &first, "--to-lsn", "FFFF/0"], "past the end of the log"),
        ] {
            let (code, output) = replay(world, &config, arguments).await;
            let range = format!("history is kept from {first} to ");
            assert_eq!((code, output.contains(said), output.contains(&range)), (2, true, true), "{output}");
        }
        let (code, output) = replay(world, &config, &["--from-lsn", "x"]).await;
        assert_eq!(code, 2, "{output}");
        let other = world.config(&[world.followed("t", &["id"]), world.followed("u", &["a", "b"])], "");
        let (code, output) = replay(world, &other, &["--from-lsn", &first]).await;
        assert_eq!(
            (code, output.contains("others than those that `pg2os run` follows")),
            (2, true),
            "{output}"
        );
        leaves_no_slot(world).await;
    })
    .await;
}

/// `(bookmark − lsn, end of the range − bookmark)` of `status`, which must find the range.
async fn distances(world: &World, config: &str, lsn: &str) -> (i64, i64) {
    let (_, output) = world.start(config, &["status", "--json"]).ending(PATIENCE).await;
    let status: Value = serde_json::from_str(&output[..=output.rfind('}').unwrap()]).unwrap();
    let [from, to] = ["from_lsn", "to_lsn"].map(|key| status["bookmark"][key].as_str().expect("a range"));
    let sql = format!("SELECT '{from}'::pg_lsn - '{lsn}' || ' ' || ('{to}'::pg_lsn - '{from}')");
    let both = world.value(&sql).await.unwrap();
    let (behind, kept) = both.split_once(' ').unwrap();
    (behind.parse().unwrap(), kept.parse().unwrap())
}

#[tokio::test]
async fn the_bookmark_follows_the_checkpoint_by_bytes_and_by_time() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        for more in ["bookmark: { keep: 50kB, keep_time: 5m }", "bookmark: { keep: 1GB, keep_time: 2s }"] {
            let config = world.config(&followed, more);
            let live = world.start(&config, &["run"]);
            world.becomes_equal(&followed).await;
            has_bookmark(world).await;
            let lsn = now(world).await;
            for _ in 0..10 {
                world.sql("UPDATE t SET n = n + 1").await;
            }
            world
                .eventually("the bookmark has passed it", async || {
                    let (past, kept) = distances(world, &config, &lsn).await;
                    assert!(kept >= 0);
                    past >= 0
                })
                .await;
            live.stop().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_bookmark_that_is_gone_is_made_again() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "bookmark: { keep_time: 5s }");
        let live = world.start(&config, &["run"]);
        has_bookmark(world).await;
        let drop = format!("SELECT pg_drop_replication_slot('{}_bookmark')", world.slot());
        let client = world.connect().await;
        // It may be in use for a moment.
        world.eventually("it is dropped", async || client.batch_execute(&drop).await.is_ok()).await;
        has_bookmark(world).await;
        world.sql("UPDATE t SET n = 1").await;
        world.becomes_equal(&followed).await;
        live.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_bookmark_that_cannot_be_made_is_said_and_does_not_hold_up_the_stream() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        world.sql(&format!("SELECT pg_create_physical_replication_slot('{}_b')", world.name)).await;
        let config = world.config(&followed, &format!("bookmark: {{ slot: {}_b }}", world.name));
        let live = world.start(&config, &["run"]);
        live.logs("is no logical slot of this database").await;
        world.sql("UPDATE t SET n = 1").await;
        world.becomes_equal(&followed).await;
        live.stop().await;
        world.sql(&format!("SELECT pg_drop_replication_slot('{}_b')", world.name)).await;
    })
    .await;
}

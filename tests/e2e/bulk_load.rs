//! Settings of an empty index while it is filled, and that they come back whatever happens.

use crate::support::{Followed, PATIENCE, World, in_world};
use serde_json::{Value, json};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, pad text);
INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 6000) i; ANALYZE";
/// Slow enough for a test to come between.
const SLOW: &str = "backfill: { rate: 150kB, window_bytes: 60kB }";

fn followed(world: &World) -> Followed {
    world.followed("t", &["id"]).with("settings: { refresh_interval: 7s, number_of_replicas: 2 }")
}

/// Refresh interval and replicas of the index of `followed`; null where there is none yet.
async fn settings(world: &World, followed: &Followed) -> Value {
    let path = format!("/{}/_settings?flat_settings=true", followed.index);
    let (_, text) = world.os.ask("GET", &path, Value::Null).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let of_index = answer.as_object().and_then(|indices| indices.values().next());
    let settings = of_index.map(|index| index["settings"].clone()).unwrap_or_default();
    assert!(settings["index.translog.durability"] != "async");
    json!([settings["index.refresh_interval"], settings["index.number_of_replicas"]])
}

async fn has_settings(world: &World, followed: &Followed, wanted: Value) {
    world.eventually("the settings", async || settings(world, followed).await == wanted).await;
}

#[tokio::test]
async fn refresh_and_replicas_are_off_while_an_empty_index_is_filled_and_come_back_after_kill_9() {
    in_world(TABLE, async |world| {
        let tables = [followed(world)];
        let config = world.config(&tables, SLOW);
        for _ in 0..2 {
            let pg2os = world.start(&config, &["run"]);
            has_settings(world, &tables[0], json!(["-1", "0"])).await;
            pg2os.logs("window").await;
            pg2os.kill();
            assert_eq!(settings(world, &tables[0]).await, json!(["-1", "0"]));
        }
        world.catch_up(&world.config(&tables, "backfill: { force_merge: true }")).await;
        assert_eq!(settings(world, &tables[0]).await, json!(["7s", "2"]));
        world.assert_equal(&tables).await;
        // It is not empty any more: a fill of later leaves it alone.
        let pg2os = world.start(&config, &["resync"]);
        pg2os.logs("divided: ").await;
        assert!(!pg2os.log().contains("no refresh and no replicas"));
        assert_eq!(settings(world, &tables[0]).await, json!(["7s", "2"]));
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_killed_leaves_settings_that_whoever_comes_next_puts_back() {
    in_world(&format!("{TABLE}; CREATE TABLE other (id int PRIMARY KEY)"), async |world| {
        let (t, other) = (followed(world), world.followed("other", &["id"]));
        let job = world.start(&world.config(std::slice::from_ref(&t), SLOW), &["backfill"]);
        has_settings(world, &t, json!(["-1", "0"])).await;
        job.kill();
        // Somebody has other wishes meanwhile: they stay.
        let wish = json!({ "index.number_of_replicas": 1 });
        world.os.call("PUT", &format!("/{}/_settings", t.index), wish).await;
        // One that does not even fill that table.
        world.catch_up(&world.config(&[other], "")).await;
        assert_eq!(settings(world, &t).await, json!(["7s", "1"]));
    })
    .await;
}

#[tokio::test]
async fn an_index_with_documents_or_of_somebody_else_keeps_its_settings() {
    in_world(TABLE, async |world| {
        let adopted = world.followed_as("public.t", &["id"], "adopted");
        world.os.call("PUT", &format!("/{}", adopted.index), Value::Null).await;
        let before = settings(world, &adopted).await;
        let (code, log) = world
            .start(&world.config(std::slice::from_ref(&adopted), ""), &["backfill"])
            .ending(PATIENCE)
            .await;
        assert!(code == 0 && !log.contains("no refresh and no replicas"), "{log}");
        assert_eq!(settings(world, &adopted).await, before);
    })
    .await;
}

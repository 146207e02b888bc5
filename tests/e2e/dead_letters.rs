//! Dead letters: listed, resolved by a later success, retried once the cause is cured, and limited.

use crate::support::{World, in_world};
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Ids of the documents that `dead-letters list` names, and its exit code.
async fn listed(world: &World, config: &str) -> (Vec<String>, i32) {
    let (code, out) = world.start(config, &["dead-letters", "list", "--json"]).ending(SOON).await;
    let letters = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ids: Vec<String> = letters.filter_map(|l| Some(l["id"].as_str()?.to_owned())).collect();
    ids.sort();
    (ids, code)
}

async fn refuse_large_numbers(world: &World) {
    let mapping = json!({"mappings": {"properties": {"n": {"type": "byte"}}}});
    world.os.call("PUT", &format!("/{}", world.index("t")), mapping).await;
}

#[tokio::test]
async fn a_later_change_that_succeeds_resolves_a_dead_letter_and_a_retry_the_rest() {
    in_world(
        "CREATE TABLE t (id text PRIMARY KEY, n int); INSERT INTO t VALUES ('a|b', 1000), ('c', 2000), ('d', 3000), ('e', 1)",
        async |world| {
            refuse_large_numbers(world).await;
            let followed = [world.followed("t", &["id"])];
            let config = world.config(&followed, "");
            let pg2os = world.start(&config, &["run"]);
            pg2os.logs("live table=public.t").await;
            assert_eq!(listed(world, &config).await, (vec!["a|b".into(), "c".into(), "d".into()], 3));

            world.sql("UPDATE t SET n = 2 WHERE id = 'c'").await;
            pg2os.logs("resolved by a later success").await;
            assert_eq!(listed(world, &config).await.0, ["a|b", "d"]);

            // Cured in the source without the stream, so that only a retry finds out.
            pg2os.stop().await;
            world.sql("UPDATE t SET n = 3 WHERE id = 'a|b'").await;
            let (code, out) = world.start(&config, &["dead-letters", "retry"]).ending(SOON).await;
            assert_eq!(code, 3, "{out}");
            assert!(out.contains("2 retried: 1 resolved, 1 still refused"), "{out}");
            assert_eq!(world.os.document(&world.index("t"), "a|b").await, Some(json!({"id": "a|b", "n": 3})));

            // Its row is gone by now: the retry deletes, which resolves.
            world.sql("DELETE FROM t WHERE id = 'd'").await;
            let (code, out) = world.start(&config, &["dead-letters", "retry", "d"]).ending(SOON).await;
            assert_eq!(code, 0, "{out}");
            assert_eq!(listed(world, &config).await, (vec![], 0));
            world.catch_up(&config).await;
            world.becomes_equal(&followed).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_flood_of_refused_documents_stops_with_the_reason_and_loses_nothing() {
    in_world(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 1000 + i FROM generate_series(1, 50) i",
        async |world| {
            refuse_large_numbers(world).await;
            let followed = [world.followed("t", &["id"])];
            let config = world.config(&followed, "limits: { dead_letters: 20 }");
            let (code, out) = world.start(&config, &["run"]).ending(SOON).await;
            assert_eq!(code, 2, "{out}");
            assert!(out.contains("more than 20 documents were refused") && out.contains("out of range"), "{out}");
            assert!(world.dead_letters().await.len() <= 20);

            // Cured in the mapping: nothing is missing after the next start.
            world.os.call("DELETE", &format!("/{}", world.index("t")), json!(null)).await;
            let pg2os = world.start(&config, &["run"]);
            pg2os.logs("live table=public.t").await;
            world.becomes_equal(&followed).await;
            pg2os.stop().await;
            assert_eq!(listed(world, &config).await.1, 0, "what succeeded is resolved");
        },
    )
    .await;
}

#[tokio::test]
async fn letters_are_shown_and_dropped_by_name() {
    in_world(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1000), (2, 2000)",
        async |world| {
            refuse_large_numbers(world).await;
            let followed = [world.followed("t", &["id"])];
            let config = world.config(&followed, "");
            world.catch_up(&config).await;
            let (code, out) = world.start(&config, &["dead-letters", "show", "2"]).ending(SOON).await;
            assert!(code == 0 && out.contains("2000") && out.contains("out of range"), "{code}: {out}");
            let (code, out) = world.start(&config, &["dead-letters", "show", "7"]).ending(SOON).await;
            assert!(code == 2 && out.contains("no dead letter of a document \"7\""), "{code}: {out}");
            let (code, out) = world.start(&config, &["dead-letters", "drop", "1"]).ending(SOON).await;
            assert!(code == 0 && out.contains("1 dropped"), "{code}: {out}");
            assert_eq!(listed(world, &config).await.0, ["2"]);
            let (code, _) = world.start(&config, &["dead-letters", "drop", "--all"]).ending(SOON).await;
            assert_eq!((code, listed(world, &config).await.0.len()), (0, 0));
        },
    )
    .await;
}

//! Documents that are routed by a column: every copy of an id lies where its row says, and there is one copy.

use crate::support::{Followed, PATIENCE, World, in_world};
use serde_json::{Value, json};

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, tenant int, n int DEFAULT 0, big text);
    ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE t REPLICA IDENTITY FULL;
    INSERT INTO t SELECT g, nullif(g % 7, 0), 0, CASE WHEN g % 3 = 0 THEN repeat(md5(g::text), 90) END
      FROM generate_series(1, 300) g";

fn routed(world: &World, column: &str) -> Followed {
    world.followed("t", &["id"]).with(&format!("routing: {column}, settings: {{ number_of_shards: 3 }}"))
}

/// Id, routing and document of every hit; unlike a map by id it shows two copies.
async fn hits(world: &World) -> Vec<(String, Option<String>, Value)> {
    let index = world.index("t");
    let (status, _) = world.os.ask("POST", &format!("/{index}/_refresh"), Value::Null).await;
    if status == 404 {
        return vec![];
    }
    let text = world.os.call("POST", &format!("/{index}/_search"), json!({ "size": 5000 })).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let hits = answer["hits"]["hits"].as_array().unwrap().iter();
    let mut hits: Vec<_> = hits
        .map(|hit| (text(&hit["_id"]).unwrap(), text(&hit["_routing"]), hit["_source"].clone()))
        .collect();
    hits.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
    hits
}

/// The same of every row.
async fn rows(world: &World, column: &str) -> Vec<(String, Option<String>, Value)> {
    let sql = format!(
        "SELECT id::text, {column}::text, json_strip_nulls(row_to_json(t))::text FROM t ORDER BY id::text COLLATE \"C\""
    );
    let rows = world.connect().await.query(&sql, &[]).await.unwrap();
    rows.iter().map(|r| (r.get(0), r.get(1), serde_json::from_str(r.get(2)).unwrap())).collect()
}

async fn becomes_equal(world: &World, column: &str) {
    world
        .eventually("documents and routings are those of the rows", async || {
            hits(world).await == rows(world, column).await
        })
        .await;
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_routed_row_moves_with_its_routing_and_leaves_no_copy() {
    in_world(T, async |world| {
        let pg2os = world.run(&[routed(world, "tenant")]);
        becomes_equal(world, "tenant").await;
        for sql in [
            // One by one, in runs longer than the numbered places of a transaction, back and forth within one, with the
            // value out of line unchanged, to and from NULL, and together with the key.
            "UPDATE t SET tenant = tenant + 1 WHERE id <= 20",
            "UPDATE t SET tenant = 20 - tenant",
            "BEGIN; UPDATE t SET tenant = 30; UPDATE t SET tenant = 31; UPDATE t SET tenant = id; UPDATE t SET n = 5; COMMIT",
            "UPDATE t SET tenant = NULL WHERE id % 2 = 0; UPDATE t SET tenant = 4 WHERE id % 4 = 0",
            "UPDATE t SET id = id + 1000, tenant = tenant + 1 WHERE id < 50",
            "DELETE FROM t WHERE id % 5 = 0; INSERT INTO t SELECT g, g, 0, 'x' FROM generate_series(5, 300, 5) g",
        ] {
            world.sql(sql).await;
            becomes_equal(world, "tenant").await;
        }
        // More changes of one id than a transaction has places: the rows decide.
        world
            .sql(
                "DO $$ BEGIN FOR i IN 1..1200 LOOP UPDATE t SET tenant = i % 5 WHERE id IN (1001, 1002); END LOOP; END $$",
            )
            .await;
        becomes_equal(world, "tenant").await;
        world.sql("TRUNCATE t; INSERT INTO t VALUES (1, 2, 3, 'after')").await;
        becomes_equal(world, "tenant").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_index_of_key_and_routing_is_identity_enough_and_unchanged_values_are_looked_up() {
    let schema = format!(
        "{T}; UPDATE t SET tenant = 9 WHERE tenant IS NULL; ALTER TABLE t ALTER tenant SET NOT NULL;
         CREATE UNIQUE INDEX by_tenant ON t (id, tenant); ALTER TABLE t REPLICA IDENTITY USING INDEX by_tenant"
    );
    in_world(&schema, async |world| {
        let pg2os = world.run(&[routed(world, "tenant")]);
        becomes_equal(world, "tenant").await;
        for n in 1..6 {
            world.sql(&format!("UPDATE t SET n = {n}; UPDATE t SET tenant = tenant * {n} + id % 3")).await;
        }
        world.sql("DELETE FROM t WHERE id < 30").await;
        becomes_equal(world, "tenant").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_backfill_beside_rows_that_move_leaves_one_copy_of_each() {
    in_world(T, async |world| {
        let followed = [routed(world, "tenant")];
        let pg2os = world.run(&followed);
        becomes_equal(world, "tenant").await;
        let config = world.config(&followed, "");
        let moving = async {
            for n in 0..60 {
                world
                    .sql(&format!(
                        "UPDATE t SET tenant = (id * {n}) % 11; UPDATE t SET id = -id WHERE id % 9 = {n} % 9"
                    ))
                    .await;
            }
        };
        let filling = async {
            for _ in 0..3 {
                assert_eq!(world.start(&config, &["backfill"]).exit_code(PATIENCE).await, 0);
            }
        };
        tokio::join!(moving, filling);
        becomes_equal(world, "tenant").await;
        pg2os.stop().await;
    })
    .await;
}

/// Slow: the sweep waits for the horizon after the slot was taken, at least a minute.
#[tokio::test]
async fn with_another_routing_column_the_table_is_read_again_and_old_copies_are_swept() {
    in_world(T, async |world| {
        world.catch_up(&world.config(&[routed(world, "tenant")], "")).await;
        becomes_equal(world, "tenant").await;
        world.sql("UPDATE t SET n = id % 4").await;
        let config = world.config(&[routed(world, "n")], "limits: { late_request_horizon: 1s }");
        let pg2os = world.start(&config, &["run", "--until-caught-up"]);
        assert_eq!(pg2os.exit_code(PATIENCE * 3).await, 0);
        becomes_equal(world, "n").await;
    })
    .await;
}

//! Entries that stand for many tables.

use crate::support::{PATIENCE, World, in_world};
use serde_json::json;

/// A configuration whose tables are these lines.
fn config(world: &World, entries: &[&str]) -> String {
    let entries: String = entries.iter().map(|entry| format!("  - {{ {entry} }}\n")).collect();
    format!("{}{entries}", world.config(&[], ""))
}

/// Tables whose default indices belong to the world: `orders` and `Items` in `sales`, one of them partitioned, and others
/// that must not be followed.
async fn make(world: &World) {
    let name = &world.name;
    world
        .sql(&format!(
            "CREATE SCHEMA sales; CREATE SCHEMA hr;
             CREATE TABLE sales.{name}_orders (id int PRIMARY KEY, secret text, n int) PARTITION BY RANGE (id);
             CREATE TABLE sales.{name}_orders_1 PARTITION OF sales.{name}_orders DEFAULT;
             CREATE TABLE sales.\"{name}_Items\" (id int PRIMARY KEY, n int);
             CREATE TABLE sales.{name}_tmp_1 (id int);
             CREATE TABLE hr.{name}_people (id int PRIMARY KEY);
             CREATE VIEW sales.{name}_view AS SELECT 1 AS id; CREATE UNLOGGED TABLE sales.{name}_cache (id int PRIMARY KEY);
             INSERT INTO sales.{name}_orders VALUES (1, 's', 2); INSERT INTO sales.\"{name}_Items\" VALUES (3, 4)"
        ))
        .await;
}

#[tokio::test]
async fn the_tables_that_match_are_followed_with_the_settings_of_their_entry() {
    in_world("", async |world| {
        make(world).await;
        let name = &world.name;
        let tmp = format!("sales.{name}_tmp_*");
        let config = config(
            world,
            &[&format!("table: sales.*, exclude: ['{tmp}'], columns: {{ exclude: [secret], rename: {{ n: number }} }}")],
        );
        let pg2os = world.start(&config, &["run"]);
        let is = async |index: &str, id: &str, expected: serde_json::Value| {
            let index = world.index(index).replace('-', "_");
            world
                .eventually(&format!("{index} {id}"), async || {
                    world.os.document(&index, id).await.as_ref() == Some(&expected)
                })
                .await;
        };
        is("orders", "1", json!({"id": 1, "number": 2})).await;
        is("items", "3", json!({"id": 3, "number": 4})).await;
        world
            .sql(&format!(
                "UPDATE sales.{name}_orders SET n = 5; INSERT INTO sales.\"{name}_Items\" VALUES (6, 7);
                 INSERT INTO sales.{name}_tmp_1 VALUES (1); UPDATE sales.{name}_tmp_1 SET id = 2"
            ))
            .await;
        is("orders", "1", json!({"id": 1, "number": 5})).await;
        is("items", "6", json!({"id": 6, "number": 7})).await;
        pg2os.stop().await;
        let published = format!("SELECT count(*) FROM pg_publication_tables WHERE pubname = '{}'", world.slot());
        assert_eq!(world.value(&published).await.as_deref(), Some("2"));
        let (code, _) = world.start(&config, &["status"]).ending(PATIENCE).await;
        assert_eq!(code, 0);
        let one = format!("sales.{name}_orders");
        assert_eq!(world.start(&config, &["backfill", "--table", &one]).exit_code(PATIENCE).await, 0);
        assert_eq!(world.start(&config, &["backfill", "--dry-run"]).exit_code(PATIENCE).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_table_that_matches_and_cannot_be_followed_is_named_with_its_ways_out() {
    in_world("", async |world| {
        make(world).await;
        let name = &world.name;
        let (code, log) = world.start(&config(world, &["table: sales.*"]), &["run"]).ending(PATIENCE).await;
        assert_eq!(code, 2, "{log}");
        for words in [
            format!("tables[0]: sales.{name}_tmp_1 has no primary key"),
            format!("exclude: ['\"sales\".\"{name}_tmp_1\"']"),
            "append_only".to_owned(),
        ] {
            assert!(log.contains(&words), "{words} is not in {log}");
        }
        // As it says.
        let entry = format!("table: sales.*, exclude: ['\"sales\".\"{name}_tmp_1\"']");
        world.catch_up(&config(world, &[&entry])).await;
        let entry = format!("table: sales.{name}_tmp_1, append_only: true, id: id, id_unique: asserted");
        world.catch_up(&config(world, &["table: sales.*", &entry])).await;
    })
    .await;
}

#[tokio::test]
async fn two_tables_that_would_share_an_index_are_told() {
    in_world("CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (id int PRIMARY KEY); CREATE TABLE b.t (id int PRIMARY KEY)", async |world| {
        let (code, log) = world.start(&config(world, &["table: '*.t'"]), &["run"]).ending(PATIENCE).await;
        assert_eq!(code, 2, "{log}");
        assert!(log.contains("tables[0].table: b.t would be index \"t\", which is that of a.t"), "{log}");
    })
    .await;
}

//! Schema changes while streaming, of columns and of whole tables: in the end the index equals the table, and nothing is
//! read again that need not be.

use crate::support::{PATIENCE, World, in_world, process::Pg2os};
use serde_json::{Value, json};

const AGAIN: &str = "it is read again beside the stream";

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, v varchar(10), at timestamp);
    INSERT INTO t SELECT g, g, 'v' || g, '2024-01-01' FROM generate_series(1, 300) g";

fn config(world: &World) -> String {
    world.config(&[world.followed("t", &["id"])], "limits: { late_request_horizon: 1s }")
}

/// Follows `t`, filled.
async fn follow(world: &World) -> Pg2os {
    let pg2os = world.start(&config(world), &["run"]);
    pg2os.logs("live table=public.t").await;
    world.becomes_equal(&[world.followed("t", &["id"])]).await;
    pg2os
}

fn times_read_again(pg2os: &Pg2os) -> usize {
    pg2os.log().matches(AGAIN).count()
}

/// Lets `sql` happen, which must make the table be read again for `reason`.
async fn is_repaired(world: &World, pg2os: &Pg2os, sql: &str, reason: &str) {
    let before = times_read_again(pg2os);
    world.sql(sql).await;
    world
        .eventually(&format!("{sql}: the table is read again, as {reason}"), async || {
            let log = pg2os.log();
            times_read_again(pg2os) > before && log.contains(reason)
        })
        .await;
    let filled = before + 2;
    world
        .eventually("it is filled", async || {
            pg2os.log().matches("the table is filled and live table=public.t").count() == filled
        })
        .await;
    world.becomes_equal(&[world.followed("t", &["id"])]).await;
}

async fn mapping(world: &World, field: &str) -> Value {
    let found = world.os.call("GET", &format!("/{}/_mapping", world.index("t")), Value::Null).await;
    let found: Value = serde_json::from_str(&found).unwrap();
    let index = found.as_object().unwrap().values().next().unwrap();
    index["mappings"]["properties"][field].clone()
}

#[tokio::test]
async fn new_columns_are_mapped_before_their_first_document_and_nothing_is_read_again() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        world.sql("ALTER TABLE t ADD c bigint, ADD j jsonb; UPDATE t SET c = id, j = '{\"a\": 1}' WHERE id < 50").await;
        pg2os.logs(r#"new columns are followed table=public.t columns=["c", "j"]"#).await;
        world.sql("INSERT INTO t (id, c) VALUES (1000, 7); ALTER TABLE t ADD d date").await;
        world.sql("UPDATE t SET d = '2024-02-29' WHERE id = 3").await;
        pg2os.logs(r#"new columns are followed table=public.t columns=["d"]"#).await;
        world.sql("VACUUM FULL t").await;
        world.sql("UPDATE t SET n = 0 WHERE id = 4").await;
        world.becomes_equal(&[world.followed("t", &["id"])]).await;
        assert_eq!(times_read_again(&pg2os), 0, "{}", pg2os.log());
        assert_eq!(mapping(world, "c").await["type"], "long");
        assert_eq!(mapping(world, "j").await["type"], "flat_object");
        assert_eq!(mapping(world, "j__json").await["enabled"], false);
        // Documents that came before their mapping would not be found.
        let query = json!({"query": {"exists": {"field": "c"}}});
        let index = world.index("t");
        world.os.call("POST", &format!("/{index}/_refresh"), Value::Null).await;
        let found = world.os.call("POST", &format!("/{index}/_count"), query).await;
        assert!(found.starts_with("{\"count\":50,"), "{found}");
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn changes_of_columns_that_send_no_rows_are_repaired() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        for (sql, reason) in [
            ("ALTER TABLE t ADD c int DEFAULT 7", "column c was added with a value"),
            ("ALTER TABLE t ADD r float8 DEFAULT random()", "column r was added with a value"),
            ("ALTER TABLE t RENAME n TO m", "column n is called m now"),
            ("ALTER TABLE t ALTER at TYPE timestamptz", "column at is timestamp with time zone now"),
            ("ALTER TABLE t ALTER m TYPE int USING m + 1", "its rows were written anew"),
            ("ALTER TABLE t DROP c", "column c was dropped"),
        ] {
            let touch =
                "UPDATE t SET v = 'w' WHERE id = 1; DELETE FROM t WHERE id IN (SELECT max(id) FROM t)";
            is_repaired(world, &pg2os, &format!("{sql}; {touch}"), reason).await;
        }
        // No rewrite, and the same text.
        world
            .sql("ALTER TABLE t ALTER v TYPE text; UPDATE t SET v = 'longer than before' WHERE id = 2")
            .await;
        world.becomes_equal(&[world.followed("t", &["id"])]).await;
        assert_eq!(times_read_again(&pg2os), 6);
        pg2os.stop().await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_truncate_of_the_stream_is_not_repaired_on_top() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        world.sql("BEGIN; TRUNCATE t; INSERT INTO t VALUES (1, 2, 'after', NULL); COMMIT").await;
        world.sql("TRUNCATE t; INSERT INTO t VALUES (2, 3, 'later', NULL)").await;
        world.becomes_equal(&[world.followed("t", &["id"])]).await;
        // The next look has the new file; the session after it finds it known.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        pg2os.stop().await;
        let pg2os = world.start(&config(world), &["run", "--until-caught-up"]);
        let (code, log) = pg2os.ending(PATIENCE).await;
        assert!(code == 0 && !log.contains(AGAIN), "{log}");
    })
    .await;
}

#[tokio::test]
async fn a_key_column_that_gets_another_name_is_followed() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        world.sql("UPDATE t SET n = 5 WHERE id < 9; ALTER TABLE t RENAME id TO key; DELETE FROM t WHERE key < 3").await;
        let followed = [world.followed("t", &["key"])];
        world.becomes_equal(&followed).await;
        world.sql("UPDATE t SET n = 6 WHERE key > 290; DELETE FROM t WHERE key = 3").await;
        world.becomes_equal(&followed).await;
        pg2os.stop().await;
    })
    .await;
}

/// Slow: the sweep waits for the horizon after the slot was taken from another process, at least a minute.
#[tokio::test]
async fn a_change_that_was_made_while_it_was_stopped_is_repaired() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        world.catch_up(&config(world)).await;
        world.sql("ALTER TABLE t ADD c int DEFAULT 7, DROP v; DELETE FROM t WHERE id = 5").await;
        let pg2os = world.start(&config(world), &["run", "--until-caught-up"]);
        let (code, log) = pg2os.ending(PATIENCE * 3).await;
        assert!(code == 0 && log.matches(AGAIN).count() == 1, "{log}");
        world.assert_equal(&followed).await;
    })
    .await;
}

/// Slow, for the same reason.
#[tokio::test]
async fn a_repair_that_is_killed_at_its_beginning_is_made_by_the_next_process() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        world.sql("ALTER TABLE t ADD c int DEFAULT 7, DROP v; DELETE FROM t WHERE id = 5").await;
        pg2os.logs(AGAIN).await;
        pg2os.kill();
        world.sql("DELETE FROM t WHERE id < 100; UPDATE t SET c = 8 WHERE id < 200").await;
        let pg2os = world.start(&config(world), &["run", "--until-caught-up"]);
        let (code, log) = pg2os.ending(PATIENCE * 3).await;
        assert!(code == 0 && log.contains("documents without a row swept"), "{log}");
        world.assert_equal(&[world.followed("t", &["id"])]).await;
    })
    .await;
}

#[tokio::test]
async fn on_schema_change_ignore_says_so_once_and_leaves_old_documents() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"]).with("on_schema_change: ignore")];
        let config = world.config(&followed, "limits: { late_request_horizon: 1s }");
        let pg2os = world.start(&config, &["run"]);
        pg2os.logs("live table=public.t").await;
        world.sql("ALTER TABLE t ADD c int DEFAULT 7; UPDATE t SET n = 0 WHERE id = 1").await;
        pg2os.logs("on_schema_change is `ignore`").await;
        let index = world.index("t");
        world
            .eventually("the changed row is there", async || {
                world.os.document(&index, "1").await.is_some_and(|d| d["c"] == 7)
            })
            .await;
        assert_eq!(world.os.document(&index, "2").await.unwrap().get("c"), None);
        pg2os.stop().await;
        let (code, log) = world.start(&config, &["run", "--until-caught-up"]).ending(PATIENCE).await;
        assert!(code == 0 && !log.contains("a way that the stream does not carry"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn a_type_that_the_mapping_does_not_take_is_said_with_its_cure() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        world.sql("ALTER TABLE t ALTER n TYPE text USING 'n' || n; UPDATE t SET n = 'x' WHERE id = 1").await;
        pg2os.logs("field n is mapped as integer, where text is right now").await;
        pg2os.logs("kept as a dead letter").await;
        world
            .eventually("every row is a dead letter", async || world.dead_letters().await.len() == 300)
            .await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_limit_of_fields_is_raised_for_new_columns() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"]).with("settings: { mapping.total_fields.limit: 8 }")];
        let pg2os = world.start(&world.config(&followed, ""), &["run"]);
        pg2os.logs("live table=public.t").await;
        world.sql("ALTER TABLE t ADD a int, ADD b int, ADD c int, ADD d int, ADD e int; INSERT INTO t (id, e) VALUES (999, 1)").await;
        world.becomes_equal(&followed).await;
        assert_eq!(mapping(world, "e").await["type"], "integer");
        pg2os.stop().await;
    })
    .await;
}

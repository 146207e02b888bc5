//! What each kind of change does to the documents.

use crate::support::{World, in_world};
use serde_json::{Value, json};

const BIG: &str = "repeat(md5(random()::text), 90)";

/// A table `t` whose column `big` lies out of line.
fn table(more: &str) -> String {
    format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
         INSERT INTO t SELECT g, 0, {BIG} FROM generate_series(1, 20) g; {more}"
    )
}

/// Follows `t`, lets `sql` happen once the table is filled, and expects its documents in the end.
async fn follows(world: &World, sql: &str) {
    let followed = [world.followed("t", &["id"])];
    let pg2os = world.run(&followed);
    world.becomes_equal(&followed).await;
    world.sql(sql).await;
    world.becomes_equal(&followed).await;
    pg2os.stop().await;
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test]
async fn an_unchanged_toast_column_is_completed_by_a_lookup() {
    in_world(&table(""), async |world| {
        follows(world, "UPDATE t SET n = 1; UPDATE t SET n = 2 WHERE id = 3; DELETE FROM t WHERE id = 4")
            .await;
        let count = world.os.count(&world.index("t")).await;
        assert_eq!(count, 19);
    })
    .await;
}

#[tokio::test]
async fn a_row_that_is_gone_when_its_lookup_comes_leaves_no_document() {
    in_world(&table(""), async |world| {
        follows(world, "BEGIN; UPDATE t SET n = 1; DELETE FROM t WHERE id <= 10; COMMIT; UPDATE t SET n = 2")
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_primary_key_change_deletes_the_old_document() {
    in_world(&table(""), async |world| {
        follows(
            world,
            "UPDATE t SET id = id + 100 WHERE id <= 10; UPDATE t SET id = 5, big = 'x' WHERE id = 105",
        )
        .await;
        assert_eq!(world.os.document(&world.index("t"), "1").await, None);
        assert_eq!(
            world.os.document(&world.index("t"), "5").await,
            Some(json!({"id": 5, "n": 0, "big": "x"}))
        );
    })
    .await;
}

#[tokio::test]
async fn keys_that_change_places_in_one_transaction_end_in_the_right_documents() {
    in_world(&table(""), async |world| {
        let swap = "BEGIN; UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2;
                    UPDATE t SET id = 2 WHERE id = -1; COMMIT";
        follows(world, swap).await;
    })
    .await;
}

#[tokio::test]
async fn with_replica_identity_full_every_change_is_followed() {
    in_world(&table("ALTER TABLE t REPLICA IDENTITY FULL"), async |world| {
        let changes =
            "UPDATE t SET n = 1; UPDATE t SET id = id + 100 WHERE id <= 5; DELETE FROM t WHERE id = 105;
                       UPDATE t SET big = NULL WHERE id = 7";
        follows(world, changes).await;
    })
    .await;
}

#[tokio::test]
async fn truncate_empties_the_index_and_later_inserts_of_its_transaction_stay() {
    in_world(&table(""), async |world| {
        let truncate = "BEGIN; INSERT INTO t VALUES (50, 1, 'before'); TRUNCATE t;
                        INSERT INTO t VALUES (3, 2, 'after'), (60, 2, 'after'); COMMIT; INSERT INTO t VALUES (4, 3, 'later')";
        follows(world, truncate).await;
        let count = world.os.count(&world.index("t")).await;
        assert_eq!(count, 3);
    })
    .await;
}

#[tokio::test]
async fn a_truncate_late_in_a_large_transaction_keeps_what_comes_after_it() {
    in_world(&table(""), async |world| {
        let truncate = "BEGIN; INSERT INTO t SELECT g, 1, 'x' FROM generate_series(100, 400) g; TRUNCATE t;
                        INSERT INTO t SELECT g, 2, 'y' FROM generate_series(1, 300) g; DELETE FROM t WHERE id % 3 = 0;
                        UPDATE t SET n = 3 WHERE id % 3 = 1; TRUNCATE t;
                        INSERT INTO t SELECT g, 4, 'z' FROM generate_series(290, 310) g; COMMIT";
        follows(world, truncate).await;
    })
    .await;
}

#[tokio::test]
async fn a_row_of_every_kind_of_value_is_the_same_from_window_and_stream() {
    let schema = r#"
        CREATE TABLE t (id bigint PRIMARY KEY, s smallint, r real, d double precision, m numeric, p numeric(20,5), b boolean,
            v varchar(20), c char(5), u uuid, day date, ts timestamp, tz timestamptz, j json, jb jsonb, ta text[], ia int[],
            na numeric[], da date[], big text);
        INSERT INTO t SELECT g, g, 1.5, 1e-7, 123456789012345678901234567890.123456789, 1.5, g % 2 = 0,
            'ü"\' || chr(9) || chr(10) || chr(127), 'ab', md5(g::text)::uuid, '0044-03-15', '2024-02-29 23:59:59.999999',
            '2013-01-01 00:00:00-05', '{"b": 1.0, "a": [1, {"x" : null}]}', '{"z": 1e2, "deep": {"a": [true, "\u00fc"]}}',
            ARRAY['a', NULL, 'b,"c"\'], '{{1,2},{3,NULL}}', '{1.50,2}', '{2024-01-01,NULL}', repeat('é', 3000)
          FROM generate_series(1, 5) g;
        INSERT INTO t (id, s) VALUES (100, -1);"#;
    in_world(schema, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        world.sql("INSERT INTO t SELECT id + 10, s, r, d, m, p, b, v, c, u, day, ts, tz, j, jb, ta, ia, na, da, big FROM t").await;
        world.becomes_equal(&followed).await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_document_is_a_dead_letter_with_its_reason_and_the_position_moves() {
    in_world(
        "CREATE TABLE t (id int PRIMARY KEY, n int, big text); INSERT INTO t VALUES (1, 1), (2, 1000)",
        async |world| {
            let index = world.index("t");
            let mapping = json!({"mappings": {"properties": {"n": {"type": "byte"}}}});
            world.os.call("PUT", &format!("/{index}"), mapping).await;
            let followed = [world.followed("t", &["id"])];
            let pg2os =
                world.start(&world.config(&followed, "limits: { late_request_horizon: 1s }"), &["run"]);
            pg2os.logs("kept as a dead letter").await;
            world.sql("INSERT INTO t VALUES (3, 3), (4, 4000), (5, 5)").await;
            let end = world.value("pg_current_wal_insert_lsn()").await.unwrap();
            let passed = format!("confirmed_flush_lsn >= '{end}'");
            world
                .eventually("the position passes the refused document", async || {
                    world.of_slot(&passed).await.as_deref() == Some("true")
                })
                .await;
            pg2os.stop().await;

            let ids: Vec<String> = world.os.documents(&index).await.into_keys().collect();
            assert_eq!(ids, ["1", "3", "5"]);
            let mut letters = world.dead_letters().await;
            letters.sort_by_key(|letter| letter["id"].to_string());
            let told: Vec<[&Value; 5]> = letters
                .iter()
                .map(|l| [&l["index"], &l["id"], &l["key"], &l["action"], &l["error"]["type"]])
                .collect();
            let expected = |id: &str| json!([index, id, {"id": id}, "index", "mapper_parsing_exception"]);
            assert_eq!(json!(told), json!([expected("2"), expected("4")]));
            assert!(
                letters[1]["error"]["reason"].as_str().unwrap().contains("out of range"),
                "{}",
                letters[1]
            );
            assert!(letters[1]["body"].as_str().unwrap().contains("4000"), "{}", letters[1]);
        },
    )
    .await;
}

#[tokio::test]
async fn a_document_that_is_too_large_is_a_dead_letter_whichever_way_it_comes() {
    in_world(&table("INSERT INTO t VALUES (100, 0, repeat('x', 9000))"), async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.start(&world.config(&followed, "bulk: { max_document_bytes: 5kB }"), &["run"]);
        pg2os.logs("live table=public.t").await;
        // From the window; from the stream; by a lookup.
        world
            .sql("INSERT INTO t VALUES (101, 0, repeat('x', 9000)); UPDATE t SET n = 1 WHERE id = 100")
            .await;
        world.sql("INSERT INTO t VALUES (102, 0, 'small')").await;
        let last = world.index("t");
        world
            .eventually("the last change is there", async || world.os.document(&last, "102").await.is_some())
            .await;
        pg2os.stop().await;
        for id in ["100", "101"] {
            assert_eq!(world.os.document(&last, id).await, None);
        }
        let mut ids: Vec<String> = world.dead_letters().await.iter().map(|l| l["id"].to_string()).collect();
        ids.sort();
        assert_eq!(ids, ["\"100\"", "\"101\""]);
    })
    .await;
}

#[tokio::test]
async fn a_column_that_is_added_is_followed_in_lookups_too() {
    in_world(&table(""), async |world| {
        follows(world, "ALTER TABLE t ADD more text; UPDATE t SET more = 'x' WHERE id < 10; INSERT INTO t VALUES (30, 1, 'y', 'z')").await;
    })
    .await;
}

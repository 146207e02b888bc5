//! Which columns and rows of a table become documents, and as what: columns left out and renamed, column lists and row
//! filters of the publication, mapping and settings of a new index. Windows, stream and lookups agree.

use crate::support::{World, in_world};
use serde_json::{Value, json};

/// PostgreSQL's major version.
async fn major(world: &World) -> u32 {
    let version = world.value("SELECT current_setting('server_version_num')::int / 10000").await;
    version.unwrap().parse().unwrap()
}

async fn document(world: &World, id: &str) -> Option<Value> {
    world.os.document(&world.index("t"), id).await
}

async fn becomes(world: &World, id: &str, expected: Option<Value>) {
    let what = format!("{id} is {expected:?}");
    world.eventually(&what, async || document(world, id).await == expected).await;
}

#[tokio::test]
async fn columns_are_left_out_and_renamed_in_windows_stream_and_lookups() {
    let schema = "CREATE TABLE t (a int, b int, secret text, ts date, big text, PRIMARY KEY (a, b));
        ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE t ALTER secret SET STORAGE EXTERNAL;
        INSERT INTO t SELECT 1, 2, repeat('s', 5000), '2024-01-31', repeat('b', 5000)";
    in_world(schema, async |world| {
        let columns = "columns: { exclude: [a, secret], rename: { ts: '@timestamp', b: a } }";
        let pg2os = world.run(&[world.followed("t", &["a", "b"]).with(columns)]);
        let expected = |day: &str| json!({"a": 2, "@timestamp": day, "big": "b".repeat(5000)});
        becomes(world, "1|2", Some(expected("2024-01-31"))).await;
        // The long value is not sent again: a lookup completes the row.
        world.sql("UPDATE t SET ts = '2024-02-01'").await;
        becomes(world, "1|2", Some(expected("2024-02-01"))).await;
        world.sql("INSERT INTO t VALUES (3, 4, 'x', '2024-03-01', 'y'); DELETE FROM t WHERE a = 1").await;
        becomes(world, "3|4", Some(json!({"a": 4, "@timestamp": "2024-03-01", "big": "y"}))).await;
        becomes(world, "1|2", None).await;
        pg2os.stop().await;
        let mapping = world.os.call("GET", &format!("/{}/_mapping", world.index("t")), Value::Null).await;
        assert!(mapping.contains("@timestamp") && !mapping.contains("secret"), "{mapping}");
    })
    .await;
}

#[tokio::test]
async fn a_column_list_of_the_publication_holds_for_windows_stream_and_lookups() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, secret text DEFAULT 's', n int, big text);
        ALTER TABLE t ALTER big SET STORAGE EXTERNAL; INSERT INTO t VALUES (1, 's', 1, repeat('b', 5000))";
    in_world(schema, async |world| {
        if major(world).await < 15 {
            return;
        }
        world.sql(&format!("CREATE PUBLICATION {} FOR TABLE t (id, n, big)", world.slot())).await;
        let pg2os = world.run(&[world.followed("t", &["id"])]);
        let expected = |n: i32| Some(json!({"id": 1, "n": n, "big": "b".repeat(5000)}));
        becomes(world, "1", expected(1)).await;
        world.sql("UPDATE t SET n = 2; INSERT INTO t VALUES (2, 's', 3, 'x')").await;
        becomes(world, "1", expected(2)).await;
        becomes(world, "2", Some(json!({"id": 2, "n": 3, "big": "x"}))).await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_row_filter_is_published_and_rows_come_and_go_as_they_cross_it() {
    let schema = "CREATE TABLE t (id int, tenant int, big text, PRIMARY KEY (id, tenant));
        ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
        INSERT INTO t SELECT g, g % 2, repeat('b', 5000) FROM generate_series(1, 10) g";
    in_world(schema, async |world| {
        if major(world).await < 15 {
            return;
        }
        let followed = [world.followed("t", &["id", "tenant"]).with("where: tenant = 1")];
        let config = world.config(&followed, "");
        // Alone, before there is a publication: the same rows.
        assert_eq!(world.start(&config, &["backfill"]).exit_code(crate::support::PATIENCE).await, 0);
        assert_eq!(world.os.count(&followed[0].index).await, 5);
        let pg2os = world.run(&followed);
        pg2os.logs("streaming").await;
        let filter =
            format!("SELECT rowfilter FROM pg_publication_tables WHERE pubname = '{}'", world.slot());
        assert_eq!(world.value(&filter).await.as_deref(), Some("(tenant = 1)"));
        let ids = async || world.os.documents(&followed[0].index).await.into_keys().collect::<Vec<_>>();
        // The value out of line comes with no change across the filter: it is looked up.
        world.sql("UPDATE t SET tenant = 1 WHERE id = 2; UPDATE t SET tenant = 0 WHERE id = 1").await;
        world.sql("INSERT INTO t VALUES (11, 1, 'x'), (12, 0, 'x'); DELETE FROM t WHERE id = 3").await;
        let expected = ["11|1", "2|1", "5|1", "7|1", "9|1"];
        world.eventually("the rows within the filter are there", async || ids().await == expected).await;
        let two = document(world, "2|1").await;
        assert_eq!(two, Some(json!({"id": 2, "tenant": 1, "big": "b".repeat(5000)})));
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn mapping_and_settings_shape_a_new_index_and_the_values_follow() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, n int, ts timestamptz, code text, at point, places point[], r int4range,
          doc jsonb, said text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
        INSERT INTO t VALUES (1, 0, '2024-01-31 12:00:00.123456+00', 'A-1', '(13.4,52.5)', '{\"(1,2)\",NULL,\"(3,4)\"}', '[1,5)',
          '{\"a\": 1}', 'Über-Größe', repeat('b', 5000)), (2, 0, 'infinity', 'A-2', '(13.4,91)', '{}', 'empty', '[1]', '', '')";
    in_world(schema, async |world| {
        let followed = world.followed("t", &["id"]).with(
            "mapping: { ts: date_nanos, code: keyword, at: geo_point, places: geo_point, r: integer_range, doc: object, \
               said: { type: text, analyzer: folded } }, \
             settings: { number_of_shards: 2, index: { analysis: { analyzer: { folded: { tokenizer: standard, \
               filter: [lowercase, asciifolding] } } } } }",
        );
        let pg2os = world.run(&[followed]);
        let one = |n: i32| {
            Some(json!({
                "id": 1, "n": n, "ts": "2024-01-31T12:00:00.123456Z", "code": "A-1", "at": [13.4, 52.5],
                "places": [[1, 2], null, [3, 4]], "r": {"gte": 1, "lt": 5}, "doc": {"a": 1}, "said": "Über-Größe",
                "big": "b".repeat(5000),
            }))
        };
        becomes(world, "1", one(0)).await;
        world.sql("UPDATE t SET n = 1; INSERT INTO t SELECT 3, n, ts, code, at FROM t WHERE id = 1").await;
        becomes(world, "1", one(1)).await;
        let three = json!({"id": 3, "n": 1, "ts": "2024-01-31T12:00:00.123456Z", "code": "A-1", "at": [13.4, 52.5]});
        becomes(world, "3", Some(three)).await;
        let index = world.index("t");
        let found = async |query: Value| {
            world.os.call("POST", &format!("/{index}/_refresh"), Value::Null).await;
            let text = world.os.call("POST", &format!("/{index}/_search"), json!({ "query": query })).await;
            let answer: Value = serde_json::from_str(&text).unwrap();
            let mut ids: Vec<String> = answer["hits"]["hits"].as_array().unwrap().iter().map(|h| h["_id"].to_string()).collect();
            ids.sort_unstable();
            ids.join(",")
        };
        let near = json!({"geo_distance": {"distance": "1km", "at": {"lat": 52.5, "lon": 13.4}}});
        assert_eq!(found(near).await, "\"1\",\"3\"");
        assert_eq!(found(json!({"match": {"said": "grosse"}})).await, "\"1\"");
        assert_eq!(found(json!({"term": {"code": "A-2"}})).await, "\"2\"");
        assert_eq!(found(json!({"term": {"r": 4}})).await, "\"1\"");
        assert_eq!(found(json!({"range": {"ts": {"gt": "2024-01-31T12:00:00.123455Z", "lt": "2024-01-31T12:00:00.123457Z"}}})).await, "\"1\",\"3\"");
        let settings = world.os.call("GET", &format!("/{index}/_settings"), Value::Null).await;
        assert!(settings.contains("\"number_of_shards\":\"2\""), "{settings}");
        // What a date_nanos and a geo_point refuse is not searched, and its document is there.
        assert_eq!(document(world, "2").await.unwrap()["at"], json!([13.4, 91]));
        pg2os.stop().await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_value_that_a_whole_mapping_refuses_is_a_dead_letter() {
    let schema =
        "CREATE TABLE t (id int PRIMARY KEY, at point); INSERT INTO t VALUES (1, '(1,91)'), (2, '(1,2)')";
    in_world(schema, async |world| {
        let followed = world.followed("t", &["id"]).with("mapping: { at: { type: geo_point } }");
        world.catch_up(&world.config(&[followed], "")).await;
        assert_eq!(world.os.documents(&world.index("t")).await.into_keys().collect::<Vec<_>>(), ["2"]);
        let letters = world.dead_letters().await;
        assert_eq!((letters.len(), &letters[0]["id"]), (1, &json!("1")));
        assert!(letters[0]["error"]["reason"].as_str().unwrap().contains("latitude"), "{letters:?}");
    })
    .await;
}

#[tokio::test]
async fn a_truncate_that_is_ignored_leaves_the_documents() {
    in_world("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)", async |world| {
        let pg2os = world.run(&[world.followed("t", &["id"]).with("on_truncate: ignore")]);
        becomes(world, "1", Some(json!({"id": 1}))).await;
        world.sql("TRUNCATE t; INSERT INTO t VALUES (2)").await;
        becomes(world, "2", Some(json!({"id": 2}))).await;
        assert_eq!(document(world, "1").await, Some(json!({"id": 1})));
        pg2os.stop().await;
    })
    .await;
}

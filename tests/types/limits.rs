//! What OpenSearch cannot take at all never costs a row: a dead letter with its reason, or an error before the start.

use crate::{
    support::{PATIENCE, in_world},
    ways,
};
use serde_json::{Value, json};

/// Rows whose only fault is a value too deep: their neighbours arrive, the cluster lives, the reason is kept.
#[tokio::test]
async fn what_is_nested_deeper_than_900_is_a_dead_letter_with_its_reason() {
    let deep = |depth: usize| format!("(repeat('[', {depth}) || repeat(']', {depth}))");
    let schema = format!(
        "CREATE TYPE with_json AS (j json);
         CREATE TABLE t (id int PRIMARY KEY, j json, jb jsonb, js jsonb[], c with_json, v text);
         INSERT INTO t (id, v) VALUES (0, 'fine');
         INSERT INTO t (id, j) VALUES (1, {}::json), (2, {}::json);
         INSERT INTO t (id, jb) VALUES (3, {}::jsonb);
         INSERT INTO t (id, js) VALUES (4, ARRAY[{}::jsonb]);
         INSERT INTO t (id, c) VALUES (5, ROW({}::json));
         INSERT INTO t (id, v) VALUES (6, 'fine');",
        deep(900),
        deep(5000),
        deep(1200),
        deep(899),
        deep(899)
    );
    in_world(&schema, async |world| {
        let config = world.config(&[world.followed("t", &["id"])], "");
        world.catch_up(&config).await;
        world.sql("INSERT INTO t SELECT id + 10, j, jb, js, c, v FROM t").await;
        world.catch_up(&config).await;
        let documents = world.os.documents(&world.index("t")).await;
        assert_eq!(documents.keys().collect::<Vec<_>>(), ["0", "10", "16", "6"]);
        let mut letters = world.dead_letters().await;
        letters.sort_by_key(|letter| letter["id"].as_str().unwrap().parse::<u32>().unwrap());
        let found: Vec<_> = letters.iter().map(|l| (l["id"].as_str().unwrap(), l.to_string())).collect();
        assert_eq!(
            found.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
            ["1", "2", "3", "4", "5", "11", "12", "13", "14", "15"]
        );
        for (at, (field, depth)) in [("j", 901), ("j", 5001), ("jb", 1201), ("js", 901), ("c", 901)]
            .iter()
            .cycle()
            .take(10)
            .enumerate()
        {
            let reason = format!("field {field} is nested {depth} deep; OpenSearch takes at most 900");
            assert!(found[at].1.contains(&reason), "{reason}: {:.600}", found[at].1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_table_of_1600_columns_has_its_index() {
    let columns: Vec<String> =
        (1..1600).map(|n| format!("c{n} {}", ["text", "int4range", "jsonb"][n % 3])).collect();
    let schema = format!(
        "CREATE TABLE t (id int PRIMARY KEY, {}); INSERT INTO t (id, c3, c1599) VALUES (1, 'a', 'b')",
        columns.join(",")
    );
    in_world(&schema, async |world| {
        world.catch_up(&world.config(&[world.followed("t", &["id"])], "")).await;
        assert_eq!(
            world.os.document(&world.index("t"), "1").await,
            Some(json!({"id": 1, "c3": "a", "c1599": "b"}))
        );
        assert_eq!(ways::mapping(world).await.len(), 1600 + 533);
    })
    .await;
}

#[tokio::test]
async fn names_that_opensearch_takes_are_fields_that_are_found() {
    let deep = vec!["a"; 31].join(".");
    let names = [
        "a b",
        "a*b",
        "*",
        "_type",
        "_all",
        "x._id",
        "é",
        "properties",
        "type",
        "d.e",
        "d.f",
        "@timestamp",
        "#",
        "\\",
        "a'b",
        &deep,
    ];
    let quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\" int")).collect();
    let schema = format!(
        "CREATE TABLE t (id int PRIMARY KEY, \"q\"\"q\" int, {}); INSERT INTO t SELECT 1{}",
        quoted.join(","),
        ", 7".repeat(names.len() + 1)
    );
    in_world(&schema, async |world| {
        world.catch_up(&world.config(&[world.followed("t", &["id"])], "")).await;
        assert!(world.dead_letters().await.is_empty());
        world.os.count(&world.index("t")).await;
        for name in names.iter().chain(&["q\"q"]) {
            let query = json!({"query": {"term": {*name: 7}}});
            let answer = world.os.call("POST", &format!("/{}/_count", world.index("t")), query).await;
            assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["count"], 1, "{name:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn names_that_opensearch_refuses_are_an_error_until_they_are_renamed() {
    let names =
        [".a", "b.", "c..d", "e. .f", " ", "_id", "_source", "_primary_term", "p", "p.q", "x", "x__json"];
    let columns: Vec<String> = names.iter().map(|n| format!("\"{n}\" jsonb")).collect();
    let schema = format!(
        "CREATE TABLE t (id int PRIMARY KEY, {}); INSERT INTO t (id, x, x__json) VALUES (1, '{{}}', '[1]')",
        columns.join(",")
    );
    in_world(&schema, async |world| {
        let followed = world.followed("t", &["id"]);
        let refused = world.start(&world.config(std::slice::from_ref(&followed), ""), &["run"]);
        let (code, log) = refused.ending(PATIENCE).await;
        assert_eq!(code, 2, "{log}");
        let bad: Vec<&str> = names.into_iter().filter(|name| !["p", "x"].contains(name)).collect();
        for name in &bad {
            assert!(log.contains(&format!("column `{name}` cannot be a field")), "{name}: {log}");
        }
        assert_eq!(log.matches("columns.rename").count(), bad.len(), "{log}");
        let renames: Vec<String> =
            bad.iter().enumerate().map(|(n, name)| format!("\"{name}\": r{n}")).collect();
        let renamed = followed.with(&format!("columns: {{ rename: {{ {} }} }}", renames.join(", ")));
        world.catch_up(&world.config(&[renamed], "")).await;
        let expected = json!({"id": 1, "x": {}, (format!("r{}", bad.len() - 1)): {"value": [1]}});
        assert_eq!(world.os.document(&world.index("t"), "1").await, Some(expected));
    })
    .await;
}

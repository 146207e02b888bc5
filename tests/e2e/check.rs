//! `check`: what it finds on real servers, and that its cures cure.

use crate::support::{PATIENCE, World, in_world};
use serde_json::{Value, json};

/// The findings, and the exit code.
async fn check(world: &World, config: &str) -> (i32, Vec<Value>) {
    let (code, printed) = world.start(config, &["check", "--json"]).ending(PATIENCE).await;
    // Behind the JSON comes the log.
    let found = serde_json::Deserializer::from_str(&printed).into_iter().next();
    (code, found.unwrap().unwrap_or_else(|error| panic!("{error}: {printed}")))
}

/// The findings of one kind that are errors or warnings.
fn of<'a>(found: &'a [Value], check: &str) -> Vec<&'a Value> {
    found.iter().filter(|f| f["check"] == check && f["severity"] != "note").collect()
}

#[tokio::test]
async fn where_nothing_is_in_the_way_check_ends_with_0_and_changes_nothing() {
    in_world("CREATE TABLE t (id int PRIMARY KEY)", async |world| {
        let config = world.config(&[world.followed("t", &["id"])], "");
        let (code, found) = check(world, &config).await;
        assert_eq!(code, 0, "{found:#?}");
        assert!(found.iter().any(|f| f["check"] == "slot" && f["severity"] == "note"), "{found:#?}");
        assert_eq!(world.value("SELECT count(*) FROM pg_publication").await.as_deref(), Some("0"));
        let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
        assert_eq!(world.value(slots).await.as_deref(), Some("0"));
        for index in ["t", "state", "dead-letters"] {
            assert_eq!(world.os.ask("GET", &format!("/{}", world.index(index)), Value::Null).await.0, 404);
        }
        world.catch_up(&config).await;
        assert_eq!(check(world, &config).await.0, 0, "beside what `run` has made");
    })
    .await;
}

#[tokio::test]
async fn the_sql_of_the_findings_cures_them() {
    let schema =
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, tenant int NOT NULL);
                  CREATE TABLE c (id int PRIMARY KEY); ALTER TABLE c REPLICA IDENTITY NOTHING;
                  INSERT INTO a VALUES (1), (2)";
    in_world(schema, async |world| {
        let role = format!("{}_plain", world.name);
        world.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT SELECT ON b TO {role}")).await;
        let followed = |name| world.followed(name, &["id"]);
        let tables = [followed("a"), followed("b").with("routing: tenant"), followed("c")];
        let config =
            world.config(&tables, "").replace("user: postgres", &format!("user: {role}, password: secret"));
        let mut run: Vec<String> = vec![];
        // A table that may not be read hides what else is wrong with it.
        for round in 0.. {
            let (code, found) = check(world, &config).await;
            let errors: Vec<_> = found.into_iter().filter(|f| f["severity"] == "error").collect();
            assert_eq!(code == 0, errors.is_empty(), "{code}: {errors:#?}");
            if errors.is_empty() {
                break;
            }
            assert!(round < 5, "{run:#?}\n{errors:#?}");
            for error in &errors {
                assert_eq!(error["cure"]["kind"], "sql", "{error:#}");
                let sql = error["cure"]["text"].as_str().unwrap();
                if !run.iter().any(|done| done == sql) {
                    world.sql(sql).await;
                    run.push(sql.to_owned());
                }
            }
        }
        let all = run.join("\n");
        for cure in ["REPLICATION;", "GRANT SELECT", "REPLICA IDENTITY", "CREATE PUBLICATION"] {
            assert!(all.contains(cure), "no {cure} in {all}");
        }
        world.catch_up(&config).await;
    })
    .await;
}

#[tokio::test]
async fn an_index_of_others_is_seen_by_its_mapping_its_ids_and_its_blocks() {
    let schema =
        "CREATE TABLE t (id int PRIMARY KEY, ts timestamptz); INSERT INTO t VALUES (1, now()), (2, now());
                  CREATE TABLE u (id int PRIMARY KEY, n int); INSERT INTO u VALUES (1, 1)";
    in_world(schema, async |world| {
        let tables = ["t", "u"].map(|name| world.followed(name, &["id"]));
        let job =
            json!({ "mappings": { "properties": { "ts": { "type": "long" }, "id": { "type": "long" } } } });
        world.os.call("PUT", &format!("/{}", world.index("t")), job).await;
        let document = format!("/{}/_doc/a%7C1?refresh=true", world.index("t"));
        world.os.call("PUT", &document, json!({ "id": 1 })).await;
        let other = json!({ "mappings": { "properties": { "n": { "type": "keyword" } } },
                            "settings": { "index.blocks.write": true } });
        world.os.call("PUT", &format!("/{}", world.index("u")), other).await;
        let (code, found) = check(world, &world.config(&tables, "")).await;
        assert_eq!(code, 3);
        let mappings = of(&found, "mapping");
        assert_eq!(mappings.len(), 2, "{found:#?}");
        assert!(
            mappings.iter().any(|f| f["cure"]["text"].as_str().unwrap().contains("documents: spark")),
            "{found:#?}"
        );
        assert!(
            mappings.iter().any(|f| f["reason"].as_str().unwrap().contains("n is keyword, not integer")),
            "{found:#?}"
        );
        let ids = of(&found, "ids");
        assert_eq!(ids.len(), 1, "{found:#?}");
        assert!(ids[0]["reason"].as_str().unwrap().contains("`1`, a document there `a|1`"), "{found:#?}");
        assert!(
            of(&found, "index")[0]["reason"].as_str().unwrap().contains("index.blocks.write"),
            "{found:#?}"
        );
    })
    .await;
}

#[tokio::test]
async fn one_server_that_is_not_there_does_not_hide_what_the_other_says() {
    in_world("CREATE TABLE t (n int)", async |world| {
        let config = world.config(&[world.followed("t", &["id"])], "");
        let url = format!("url: '{}'", world.servers.os_url);
        let (code, found) = check(world, &config.replace(&url, "url: 'http://127.0.0.1:1'")).await;
        assert_eq!(
            (code, of(&found, "opensearch").len(), of(&found, "table").len()),
            (3, 1, 1),
            "{found:#?}"
        );
        let port = format!("port: {}", world.servers.pg_port);
        let (code, found) = check(world, &config.replace(&port, "port: 1")).await;
        assert_eq!(
            (code, of(&found, "postgres").len(), of(&found, "opensearch").len()),
            (3, 1, 0),
            "{found:#?}"
        );
        let (code, text) = world.start(&config, &["check"]).ending(PATIENCE).await;
        assert!(code == 3 && text.contains("error   table: ") && text.contains("1 errors,"), "{text}");
    })
    .await;
}

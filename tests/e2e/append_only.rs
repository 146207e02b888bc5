//! Tables without a usable key: inserts alone are followed, and the application's UPDATE and DELETE go on working.

use crate::support::{Followed, PATIENCE, World, in_world};
use serde_json::json;

const APPEND: &str = "append_only: true, id: n, id_unique: asserted";
/// One table for each replica identity, and a partitioned one without.
const TABLES: [&str; 5] = ["bare", "nothing", "full_rows", "indexed", "parts"];

fn tables() -> String {
    let make = |table: &&str| {
        let (by, part) = match *table {
            "parts" => (" PARTITION BY RANGE (n)", "CREATE TABLE part PARTITION OF parts DEFAULT;"),
            _ => ("", ""),
        };
        format!(
            "CREATE TABLE {table} (n int NOT NULL, k int NOT NULL, v text){by}; {part}
             INSERT INTO {table} VALUES (1, 1, 'a'), (2, 2, 'b');"
        )
    };
    let made: String = TABLES.iter().map(make).collect();
    format!(
        "{made} CREATE TABLE keyed (id int PRIMARY KEY, v text); INSERT INTO keyed VALUES (1, 'a');
         ALTER TABLE nothing REPLICA IDENTITY NOTHING; ALTER TABLE full_rows REPLICA IDENTITY FULL;
         CREATE UNIQUE INDEX by_k ON indexed (k); ALTER TABLE indexed REPLICA IDENTITY USING INDEX by_k"
    )
}

fn followed(world: &World) -> Vec<Followed> {
    let append = TABLES.iter().map(|t| world.followed(t, &["n"]).with(APPEND));
    append.chain([world.followed("keyed", &["id"])]).collect()
}

async fn ids(world: &World, table: &str) -> String {
    world.os.documents(&world.index(table)).await.into_keys().collect::<Vec<_>>().join(" ")
}

async fn all_hold(world: &World, expected: &str) {
    for table in TABLES {
        let what = format!("{table} holds {expected}");
        world.eventually(&what, async || ids(world, table).await == expected).await;
    }
}

/// What a publication sends, and of which tables.
async fn publication(world: &World, name: &str) -> Option<String> {
    let sql = format!(
        "SELECT concat(pubinsert, pubupdate, pubdelete, pubtruncate, ' ', string_agg(tablename, ' ' ORDER BY tablename))
           FROM pg_publication JOIN pg_publication_tables USING (pubname) WHERE pubname = '{name}'
          GROUP BY pubinsert, pubupdate, pubdelete, pubtruncate"
    );
    world.connect().await.query_opt(&sql, &[]).await.unwrap().map(|row| row.get(0))
}

#[tokio::test]
async fn inserts_alone_are_followed_whatever_the_replica_identity_and_the_application_goes_on() {
    in_world(&tables(), async |world| {
        let pg2os = world.run(&followed(world));
        all_hold(world, "1 2").await;
        for table in TABLES {
            world.sql(&format!("INSERT INTO {table} VALUES (3, 3, 'c')")).await;
            world
                .sql(&format!(
                    "UPDATE {table} SET v = 'changed', k = k + 10; DELETE FROM {table} WHERE n = 1"
                ))
                .await;
        }
        all_hold(world, "1 2 3").await;
        world.sql("UPDATE keyed SET v = 'b'").await;
        let keyed = world.index("keyed");
        let changed = Some(json!({"id": 1, "v": "b"}));
        world
            .eventually("the key's table is followed", async || {
                world.os.document(&keyed, "1").await == changed
            })
            .await;
        assert_eq!(
            world.os.document(&world.index("bare"), "3").await,
            Some(json!({"n": 3, "k": 3, "v": "c"}))
        );
        let name = world.slot();
        assert_eq!(publication(world, &name).await.as_deref(), Some("tttt keyed"));
        let append = publication(world, &format!("{name}_append")).await;
        assert_eq!(append.as_deref(), Some("tfft bare full_rows indexed nothing parts"));
        world.sql(&format!("TRUNCATE {}", TABLES.join(", "))).await;
        all_hold(world, "").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn without_the_right_to_publish_both_statements_are_printed_and_they_harm_nobody() {
    in_world(&tables(), async |world| {
        let (role, database) = (format!("{}_role", world.name), &world.name);
        world
            .sql(&format!(
                "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'secret'; GRANT CONNECT ON DATABASE {database} TO {role};
                 GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
            ))
            .await;
        let config = world.config(&followed(world), "");
        let config = config.replace("user: postgres", &format!("user: {role}, password: secret"));
        let (code, log) = world.start(&config, &["run"]).ending(PATIENCE).await;
        assert_eq!(code, 2, "{log}");
        let sql = &log[log.find("CREATE PUBLICATION").unwrap()..=log.rfind(';').unwrap()];
        assert_eq!(sql.matches("CREATE PUBLICATION").count(), 2, "{sql}");
        world.sql(sql).await;
        for table in TABLES {
            world.sql(&format!("UPDATE {table} SET v = 'x'; DELETE FROM {table} WHERE n = 2")).await;
        }
        world.catch_up(&config).await;
        all_hold(world, "1").await;
        world.sql(&format!("DROP OWNED BY {role}")).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_publication_of_all_tables_sends_beyond_inserts_is_passed_over() {
    in_world(
        "CREATE TABLE t (n int, v text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'a')",
        async |world| {
            world.sql(&format!("CREATE PUBLICATION {} FOR ALL TABLES", world.slot())).await;
            let pg2os = world.run(&[world.followed("t", &["n"]).with(APPEND)]);
            let index = world.index("t");
            world.eventually("it is filled", async || world.os.documents(&index).await.len() == 1).await;
            world
                .sql("UPDATE t SET v = 'b'; UPDATE t SET n = 7; DELETE FROM t; INSERT INTO t VALUES (2, 'c')")
                .await;
            world
                .eventually("the insert is there", async || world.os.documents(&index).await.len() == 2)
                .await;
            assert_eq!(world.os.document(&index, "1").await, Some(json!({"n": 1, "v": "a"})));
            pg2os.stop().await;
            assert_eq!(publication(world, &format!("{}_append", world.slot())).await, None);
        },
    )
    .await;
}

/// Adds a table to a pipeline that has streamed and has something left to stream from before.
async fn is_added_later(world: &World, first: Followed, second: Followed) {
    world.catch_up(&world.config(std::slice::from_ref(&first), "")).await;
    world.sql("INSERT INTO bare SELECT g, g, 'x' FROM generate_series(10, 20) g; INSERT INTO keyed SELECT generate_series(10, 20)").await;
    let both = [first, second];
    let pg2os = world.run(&both);
    world.becomes_equal(&both).await;
    // From 18 on the server streams on without the publication.
    let refuses = "SELECT current_setting('server_version_num')::int < 180000";
    if world.value(refuses).await.as_deref() == Some("true") {
        pg2os.logs("a publication is newer than what is to be streamed").await;
    }
    world.sql("INSERT INTO bare VALUES (30, 30, 'y'); INSERT INTO keyed VALUES (30)").await;
    world.becomes_equal(&both).await;
    pg2os.stop().await;
    assert!(world.dead_letters().await.is_empty());
}

#[tokio::test]
async fn a_first_append_only_table_is_added_to_a_pipeline_that_has_streamed() {
    in_world(&tables(), async |world| {
        let (keyed, bare) = (world.followed("keyed", &["id"]), world.followed("bare", &["n"]).with(APPEND));
        is_added_later(world, keyed, bare).await;
    })
    .await;
}

#[tokio::test]
async fn a_first_table_with_a_key_is_added_to_a_pipeline_that_has_streamed() {
    in_world(&tables(), async |world| {
        let (keyed, bare) = (world.followed("keyed", &["id"]), world.followed("bare", &["n"]).with(APPEND));
        is_added_later(world, bare, keyed).await;
    })
    .await;
}

//! Bad input: it ends within seconds, with one clear message that names the cure, and the exit code that a retry policy
//! can rely on.

use crate::support::{World, in_world, in_world_on, servers::Servers};
use std::time::Duration;

const SECONDS: Duration = Duration::from_secs(15);
const T: &str = "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t VALUES (1, 1)";

/// `run` must end with `code` and a last word that has all of `words`. Returns that word.
async fn is_refused(world: &World, config: &str, code: i32, words: &[&str]) -> String {
    let (found, log) = world.start(config, &["run"]).ending(SECONDS).await;
    let missing: Vec<&&str> = words.iter().filter(|word| !log.contains(**word)).collect();
    assert!(found == code && missing.is_empty(), "exit {found}, not {code}; lacks {missing:?}:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.lines().count() < 12, "one message, not many:\n{log}");
    log
}

/// The usual configuration of a world with table `t`, with one thing in it replaced.
fn config(world: &World, from: &str, to: &str) -> String {
    let config = world.config(&[world.followed("t", &["id"])], "");
    assert!(config.contains(from), "{config}");
    config.replace(from, to)
}

#[tokio::test]
async fn an_unreachable_postgresql_is_named_and_may_be_retried() {
    in_world(T, async |world| {
        let config = config(world, &format!("port: {}", world.servers.pg_port), "port: 1");
        is_refused(world, &config, 1, &["127.0.0.1", "postgres.host"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_host_name_that_does_not_exist_is_named() {
    in_world(T, async |world| {
        let config = config(world, "host: 127.0.0.1", "host: nowhere.invalid");
        is_refused(world, &config, 1, &["nowhere.invalid", "postgres.host"]).await;
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_opensearch_is_named_and_may_be_retried() {
    in_world(T, async |world| {
        let config = config(world, &world.servers.os_url, "http://127.0.0.1:1");
        is_refused(world, &config, 1, &["http://127.0.0.1:1", "opensearch.url"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_wrong_password_is_a_matter_of_configuration() {
    in_world(T, async |world| {
        let role = format!("{}_role", world.name);
        world.sql(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'right'")).await;
        let config = config(world, "user: postgres", &format!("user: {role}, password: wrong"));
        is_refused(world, &config, 2, &["password", "postgres.password"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_missing_database_is_named() {
    in_world(T, async |world| {
        let config = config(world, &format!("database: {}", world.name), "database: nowhere_at_all");
        is_refused(world, &config, 2, &["nowhere_at_all", "postgres.database"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_missing_table_is_told_with_a_near_name() {
    in_world("CREATE TABLE customers (id int PRIMARY KEY)", async |world| {
        let config = world.config(&[world.followed("custmers", &["id"])], "");
        is_refused(world, &config, 2, &["tables[0]", "public.custmers", "public.customers"]).await;
    })
    .await;
}

#[tokio::test]
async fn an_id_outside_the_replica_identity_is_refused_with_the_statement_that_cures_it() {
    in_world(&format!("{T}; CREATE UNIQUE INDEX by_n ON t (n)"), async |world| {
        let followed = [world.followed("t", &["n"]).with("id: n")];
        let config = world.config(&followed, "");
        let log = is_refused(world, &config, 2, &["ALTER TABLE", "REPLICA IDENTITY", "public.t"]).await;
        world.sql(&statement(&log, "ALTER TABLE")).await;
        world.catch_up(&config).await;
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn a_table_whose_updates_would_fail_if_published_is_refused_with_the_statement_that_cures_it() {
    in_world(&format!("{T}; ALTER TABLE t REPLICA IDENTITY NOTHING"), async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "");
        let log = is_refused(world, &config, 2, &["public.t", "REPLICA IDENTITY"]).await;
        world.sql("UPDATE t SET n = 2").await;
        world.sql(&statement(&log, "ALTER TABLE")).await;
        world.catch_up(&config).await;
        world.assert_equal(&followed).await;
    })
    .await;
}

/// The statement in a message that begins with `beginning` and ends with a semicolon.
fn statement(log: &str, beginning: &str) -> String {
    let from = log.rfind(beginning).unwrap_or_else(|| panic!("no {beginning} in {log}"));
    let end = log[from..].find(';').unwrap_or_else(|| panic!("{log}"));
    log[from..=from + end].to_owned()
}

#[tokio::test]
async fn a_server_that_is_not_logical_is_refused_with_the_statement_that_cures_it() {
    in_world_on(Servers::private_postgres(&["wal_level=replica"]), T, async |world| {
        let config = world.config(&[world.followed("t", &["id"])], "");
        is_refused(world, &config, 2, &["wal_level", "ALTER SYSTEM SET wal_level = 'logical'"]).await;
    })
    .await;
}

#[tokio::test]
async fn an_unknown_key_is_told_with_a_suggestion() {
    in_world(T, async |world| {
        let config = world.config(&[world.followed("t", &["id"])], "backfil: { paralel: 3 }\non_gapp: stop");
        is_refused(world, &config, 2, &["backfil", "did you mean", "backfill", "on_gapp", "on_gap"]).await;
    })
    .await;
}

#[tokio::test]
async fn an_index_name_that_opensearch_refuses_is_told_before_anything_is_dialled() {
    in_world(T, async |world| {
        let config = config(world, &world.index("t"), "Not/An*Index");
        let config = config.replace(&format!("port: {}", world.servers.pg_port), "port: 1");
        is_refused(world, &config, 2, &["tables[0].index", "Not/An*Index"]).await;
    })
    .await;
}

#[tokio::test]
async fn without_the_right_to_publish_the_administrator_gets_the_exact_statement() {
    in_world(T, async |world| {
        let (role, database) = (format!("{}_role", world.name), &world.name);
        world
            .sql(&format!(
                "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'secret'; GRANT CONNECT ON DATABASE {database} TO {role};
                 GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON t TO {role}"
            ))
            .await;
        let config = config(world, "user: postgres", &format!("user: {role}, password: secret"));
        let log = is_refused(world, &config, 2, &["administrator", "CREATE PUBLICATION"]).await;
        world.sql(&statement(&log, "CREATE PUBLICATION")).await;
        world.catch_up(&config).await;
        world.assert_equal(&[world.followed("t", &["id"])]).await;
        world.sql(&format!("DROP OWNED BY {role}")).await;
    })
    .await;
}

#[tokio::test]
async fn without_select_the_owner_gets_the_exact_grant() {
    in_world(T, async |world| {
        let role = format!("{}_role", world.name);
        world.sql(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'secret'")).await;
        let config = config(world, "user: postgres", &format!("user: {role}, password: secret"));
        is_refused(world, &config, 2, &["GRANT SELECT ON", "public.t", &role]).await;
    })
    .await;
}

#[tokio::test]
async fn a_table_without_a_key_is_refused_with_what_to_set() {
    in_world("CREATE TABLE t (id int, n int)", async |world| {
        let config = world.config(&[world.followed("t", &["id"])], "");
        is_refused(world, &config, 2, &["public.t", "primary key", "`id`"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_routing_column_outside_the_replica_identity_is_refused_with_the_statement_that_cures_it() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"]).with("routing: n")];
        let config = world.config(&followed, "");
        let log = is_refused(world, &config, 2, &["tables[0]", "REPLICA IDENTITY", "public.t"]).await;
        world.sql(&statement(&log, "ALTER TABLE")).await;
        world.catch_up(&config).await;
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn columns_and_fields_that_do_not_exist_are_told_with_the_nearest_names() {
    in_world(T, async |world| {
        let columns = "columns: { exclude: [nn], rename: { idd: x } }, mapping: { nnn: keyword }, routing: m";
        let config = world.config(&[world.followed("t", &["id"]).with(columns)], "");
        is_refused(world, &config, 2, &["column `m` of public.t", "does not exist"]).await;
        let config = config.replace(", routing: m", "");
        let words = [
            "tables[0].columns.exclude: there is no column \"nn\"; did you mean n?",
            "tables[0].columns.rename: there is no column \"idd\"; did you mean id?",
            "tables[0].mapping: there is no field \"nnn\"",
        ];
        is_refused(world, &config, 2, &words).await;
    })
    .await;
}

#[tokio::test]
async fn settings_and_mappings_that_opensearch_refuses_are_told_with_their_key() {
    in_world(T, async |world| {
        for (given, words) in [
            ("settings: { number_of_shard: 2 }", ["tables[0].settings", "index.number_of_shard]"]),
            ("mapping: { n: longg }", ["tables[0].mapping", "longg"]),
            ("mapping: { n: { type: keyword, analyser: x } }", ["tables[0].mapping", "analyser"]),
            ("mapping: { n: flat_object }", ["tables[0]: mapping.n", "takes objects only"]),
        ] {
            let config = world.config(&[world.followed("t", &["id"]).with(given)], "");
            is_refused(world, &config, 2, &words).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_row_filter_other_than_the_one_in_force_is_refused() {
    in_world(T, async |world| {
        let with = |filter: &str| {
            world.config(&[world.followed("t", &["id"]).with(&format!("where: {filter}"))], "")
        };
        if world.value("SELECT current_setting('server_version_num')::int < 150000").await.unwrap() == "true"
        {
            is_refused(world, &with("id > 3"), 2, &["tables[0]", "PostgreSQL 15"]).await;
            return;
        }
        is_refused(world, &with("n = 1"), 2, &["tables[0]", "42P10", "REPLICA IDENTITY FULL"]).await;
        is_refused(world, &with("nope = 1"), 2, &["tables[0]", "is not a condition"]).await;
        world.catch_up(&with("id > 3")).await;
        is_refused(world, &with("id > 4"), 2, &["tables[0]", "is in force", "(id > 3)"]).await;
    })
    .await;
}

#[tokio::test]
async fn an_append_only_table_still_needs_an_id_that_is_unique() {
    in_world("CREATE TABLE t (n int)", async |world| {
        let with = |more: &str| world.config(&[world.followed("t", &["n"]).with(more)], "");
        is_refused(world, &with("append_only: true"), 2, &["tables[0]", "`id`"]).await;
        is_refused(world, &with("append_only: true, id: n"), 2, &["unique", "id_unique: asserted"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_publication_that_breaks_the_application_is_refused_with_the_statement_that_cures_it() {
    in_world("CREATE TABLE t (n int)", async |world| {
        let followed = world.followed("t", &["n"]).with("append_only: true, id: n, id_unique: asserted");
        let config = world.config(&[followed], "");
        let main = world.slot();
        world.sql(&format!("CREATE PUBLICATION {main} FOR TABLE t")).await;
        let log = is_refused(world, &config, 2, &["which has no replica identity, fail"]).await;
        world.sql(&statement(&log, "ALTER PUBLICATION")).await;
        world.catch_up(&config).await;
        world.sql("INSERT INTO t VALUES (1); UPDATE t SET n = 2").await;
        world.sql(&format!("DROP PUBLICATION {main}; CREATE PUBLICATION {main} FOR ALL TABLES")).await;
        let log = is_refused(world, &config, 2, &["which has no replica identity, fail"]).await;
        world.sql(&statement(&log, "ALTER TABLE")).await;
        world.sql("UPDATE t SET n = 3").await;
    })
    .await;
}

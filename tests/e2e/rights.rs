//! Roles: what is enough, and what hides rows.

use crate::support::{Followed, PATIENCE, World, in_world};

const T: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
                 INSERT INTO t SELECT g, 0, repeat(md5(g::text), 90) FROM generate_series(1, 20) g;";

/// A role with REPLICATION and SELECT on `tables`, whose publication an administrator has made; the configuration with it.
async fn reader(world: &World, followed: &[Followed], tables: &str) -> (String, String) {
    let role = format!("{}_reader", world.name);
    world
        .sql(&format!(
            "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'secret'; GRANT SELECT ON {tables} TO {role};
             CREATE PUBLICATION {} FOR TABLE {tables} WITH (publish_via_partition_root = true)",
            world.slot()
        ))
        .await;
    let config =
        world.config(followed, "").replace("user: postgres", &format!("user: {role}, password: secret"));
    (role, config)
}

#[tokio::test]
async fn replication_and_select_are_enough_for_everything() {
    let schema = format!(
        "{T} CREATE TABLE p (id int PRIMARY KEY, n int, big text) PARTITION BY RANGE (id);
         CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10); CREATE TABLE p_2 PARTITION OF p DEFAULT;
         ALTER TABLE p_2 ALTER big SET STORAGE EXTERNAL; INSERT INTO p SELECT * FROM t;
         CREATE TYPE mood AS ENUM ('ok', 'so'); CREATE TABLE full_of (id int PRIMARY KEY, n int, mood mood, big text);
         ALTER TABLE full_of ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL; INSERT INTO full_of SELECT id, n, 'ok', big FROM t"
    );
    in_world(&schema, async |world| {
        let followed = ["t", "p", "full_of"].map(|name| world.followed(name, &["id"]));
        let (role, config) = reader(world, &followed, "t, p, full_of").await;
        let pg2os = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        let statements = [
            "UPDATE t SET n = 1; UPDATE p SET n = 1, id = id + 100; UPDATE full_of SET mood = 'so'",
            "TRUNCATE t; INSERT INTO t VALUES (1, 1, 'x'); DELETE FROM p WHERE id % 2 = 0",
        ];
        for sql in statements {
            world.sql(sql).await;
            world.becomes_equal(&followed).await;
        }
        // Under identity FULL the old row has what the new one leaves out: nothing is looked up.
        world.sql(&format!("REVOKE SELECT ON full_of FROM {role}; UPDATE full_of SET n = 3; UPDATE full_of SET id = -id WHERE id < 5")).await;
        world.becomes_equal(&followed).await;
        pg2os.stop().await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

const HIDE: &str = "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON t USING (id > 10)";

#[tokio::test]
async fn row_security_is_an_error_with_its_cure_and_never_fewer_rows() {
    in_world(&format!("{T} {HIDE}"), async |world| {
        let followed = [world.followed("t", &["id"])];
        let (role, config) = reader(world, &followed, "t").await;
        let (code, log) = world.start(&config, &["run"]).ending(PATIENCE).await;
        let cure = format!("ALTER ROLE \"{role}\" BYPASSRLS;");
        assert_eq!(code, 2, "{log}");
        assert!(log.contains(&cure) && log.contains("public.t"), "{log}");
        world.sql(&cure).await;
        world.catch_up(&config).await;
        world.assert_equal(&followed).await;
    })
    .await;
}

#[tokio::test]
async fn row_security_that_comes_later_holds_lookups_until_it_is_cured() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let (role, config) = reader(world, &followed, "t").await;
        let pg2os = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        world
            .sql(&format!(
                "{HIDE}; UPDATE t SET n = 1; INSERT INTO t VALUES (30, 1, 'x'); DELETE FROM t WHERE id = 1"
            ))
            .await;
        pg2os.logs("BYPASSRLS").await;
        assert!(world.os.count(&world.index("t")).await >= 19, "no row is taken for deleted");
        world.sql(&format!("ALTER ROLE {role} BYPASSRLS")).await;
        world.becomes_equal(&followed).await;
        pg2os.stop().await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

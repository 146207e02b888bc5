//! Tables that are renamed, dropped, made again, or leave their publication; partitions that come and go.

use crate::support::{PATIENCE, World, in_world, process::Pg2os};
use std::time::Duration;

const AGAIN: &str = "it is read again beside the stream";

const T: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, g FROM generate_series(1, 300) g";

const PARTITIONED: &str = "CREATE TABLE t (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100);
    CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200);
    INSERT INTO t SELECT g, g FROM generate_series(1, 199) g";

fn config(world: &World, table: &str) -> String {
    let followed = world.followed(table, &["id"]);
    let config = world.config(&[followed], "limits: { late_request_horizon: 1s }");
    config.replace(&world.index(table), &world.index("t"))
}

async fn follow(world: &World) -> Pg2os {
    let pg2os = world.start(&config(world, "t"), &["run"]);
    pg2os.logs("live table=public.t").await;
    pg2os
}

async fn becomes_equal(world: &World) {
    world.becomes_equal(&[world.followed("t", &["id"])]).await;
}

/// Waits until the table was read again `times` times, for `reason` last.
async fn is_repaired(world: &World, pg2os: &Pg2os, times: usize, reason: &str) {
    world
        .eventually(reason, async || {
            let log = pg2os.log();
            log.matches("the table is filled and live table=public.t").count() == times + 1
                && log.lines().rfind(|line| line.contains(AGAIN)).is_some_and(|line| line.contains(reason))
        })
        .await;
    becomes_equal(world).await;
}

#[tokio::test]
async fn a_renamed_table_stops_the_pipeline_until_the_configuration_follows_and_nothing_is_lost_or_read_again()
 {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        world
            .sql("ALTER TABLE t RENAME TO t9; UPDATE t9 SET n = 0 WHERE id < 10; DELETE FROM t9 WHERE id = 1")
            .await;
        let (code, log) = pg2os.ending(PATIENCE).await;
        assert_eq!(code, 2, "{log}");
        let told = "tables[0]: table public.t is called public.t9 now: set tables[0].table to public.t9";
        assert!(log.contains(told), "{log}");
        world.sql("INSERT INTO t9 VALUES (1000, 1); DELETE FROM t9 WHERE id = 2").await;
        let (code, log) = world.start(&config(world, "t"), &["run"]).ending(PATIENCE).await;
        assert!(code == 2 && log.contains(told), "{log}");
        let (code, log) =
            world.start(&config(world, "t9"), &["run", "--until-caught-up"]).ending(PATIENCE).await;
        assert!(code == 0 && !log.contains(AGAIN) && !log.contains("filled and live"), "{log}");
        world.sql("CREATE VIEW t AS SELECT * FROM t9").await;
        becomes_equal(world).await;
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_dropped_and_made_again_is_published_read_and_swept() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        let make = "CREATE TABLE t (id int PRIMARY KEY, n bigint)";
        world.sql(&format!("UPDATE t SET n = 0; BEGIN; DROP TABLE t; {make}; INSERT INTO t VALUES (7, 1); COMMIT")).await;
        is_repaired(world, &pg2os, 1, "it is another table than before").await;
        world.sql("INSERT INTO t VALUES (8, 2); DELETE FROM t WHERE id = 7").await;
        becomes_equal(world).await;
        // Another one takes its name.
        world.sql("CREATE TABLE u (id int PRIMARY KEY, n bigint); INSERT INTO u VALUES (20, 2)").await;
        world.sql("BEGIN; ALTER TABLE t RENAME TO old; ALTER TABLE u RENAME TO t; COMMIT; INSERT INTO old VALUES (99, 9)").await;
        is_repaired(world, &pg2os, 2, "it is another table than before").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_dropped_table_stops_the_pipeline_with_what_to_do() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        world.sql("DROP TABLE t").await;
        let (code, log) = pg2os.ending(PATIENCE).await;
        assert!(
            code == 2 && log.contains("table public.t was dropped; make it again, or remove tables[0]"),
            "{log}"
        );
        let (code, log) = world.start(&config(world, "t"), &["run"]).ending(PATIENCE).await;
        assert!(code == 2 && log.contains("table public.t was dropped"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn changes_made_while_the_table_was_out_of_its_publication_are_repaired() {
    in_world(T, async |world| {
        let pg2os = follow(world).await;
        let publication = format!("pg2os_{}", world.name);
        let alter = |what: &str| format!("ALTER PUBLICATION {publication} {what} TABLE t");
        world.sql(&alter("DROP")).await;
        world.sql("UPDATE t SET n = -1 WHERE id < 50; DELETE FROM t WHERE id > 250").await;
        world.sql(&alter("ADD")).await;
        world.sql("UPDATE t SET n = -2 WHERE id = 100").await;
        is_repaired(world, &pg2os, 1, "it was taken out of its publication").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn partitions_that_are_made_and_vacuumed_cost_nothing() {
    in_world(PARTITIONED, async |world| {
        let pg2os = follow(world).await;
        world.sql("CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (200) TO (300); INSERT INTO t VALUES (200, 1)").await;
        // As partition managers do, and in two steps.
        world.sql("BEGIN; CREATE TABLE t4 (LIKE t INCLUDING ALL); ALTER TABLE t ATTACH PARTITION t4 FOR VALUES FROM (300) TO (400); INSERT INTO t VALUES (300, 1); COMMIT").await;
        world.sql("CREATE TABLE t5 PARTITION OF t FOR VALUES FROM (400) TO (500) PARTITION BY RANGE (id)").await;
        world.sql("CREATE TABLE t51 PARTITION OF t5 FOR VALUES FROM (400) TO (450); INSERT INTO t VALUES (400, 1)").await;
        world.sql("VACUUM FULL t1").await;
        world.sql("CLUSTER t2 USING t2_pkey; UPDATE t SET n = 0 WHERE id IN (1, 101)").await;
        world.sql("TRUNCATE t; INSERT INTO t VALUES (5, 5), (205, 5)").await;
        becomes_equal(world).await;
        // A look of its own, whatever the stream brings.
        tokio::time::sleep(Duration::from_secs(32)).await;
        pg2os.stop().await;
        let (code, log) = world.start(&config(world, "t"), &["run", "--until-caught-up"]).ending(PATIENCE).await;
        assert!(code == 0 && !log.contains(AGAIN), "{log}");
    })
    .await;
}

#[tokio::test]
async fn rows_that_come_or_go_with_a_partition_are_repaired() {
    in_world(PARTITIONED, async |world| {
        let pg2os = follow(world).await;
        world.sql("CREATE TABLE a (LIKE t INCLUDING ALL); INSERT INTO a VALUES (250, 1)").await;
        world.sql("ALTER TABLE t ATTACH PARTITION a FOR VALUES FROM (200) TO (300); INSERT INTO t VALUES (251, 1)").await;
        is_repaired(world, &pg2os, 1, "partition public.a was attached with rows in it").await;
        world.sql("BEGIN; CREATE TABLE b (LIKE t INCLUDING ALL); INSERT INTO b VALUES (350, 1); ALTER TABLE t ATTACH PARTITION b FOR VALUES FROM (300) TO (400); COMMIT; INSERT INTO t VALUES (351, 1)").await;
        is_repaired(world, &pg2os, 2, "partition public.b was attached with rows in it").await;
        world.sql("TRUNCATE t1; INSERT INTO t VALUES (9, 9)").await;
        is_repaired(world, &pg2os, 3, "the rows of partition public.t1 were removed or written anew").await;
        world.sql("ALTER TABLE t DETACH PARTITION t2; INSERT INTO t VALUES (10, 9)").await;
        is_repaired(world, &pg2os, 4, "partition public.t2 was detached or dropped").await;
        world.sql("TRUNCATE t; INSERT INTO t VALUES (11, 9), (351, 2)").await;
        world.sql("TRUNCATE b; INSERT INTO t VALUES (352, 2)").await;
        is_repaired(world, &pg2os, 5, "the rows of partition public.b were removed or written anew").await;
        world.sql("ALTER TABLE t ADD c int DEFAULT 3; INSERT INTO t VALUES (12, 9)").await;
        is_repaired(world, &pg2os, 6, "column c was added with a value").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn rows_of_a_partition_that_is_gone_do_not_come_back_with_the_stream() {
    in_world(PARTITIONED, async |world| {
        world.sql("CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (1000) TO (200000)").await;
        let pg2os = follow(world).await;
        world.sql("INSERT INTO t SELECT g, g FROM generate_series(1000, 100000) g").await;
        world.sql("DROP TABLE t3").await;
        is_repaired(world, &pg2os, 1, "partition public.t3 was detached or dropped").await;
        world.sql("INSERT INTO t VALUES (0, 0)").await;
        becomes_equal(world).await;
        pg2os.stop().await;
    })
    .await;
}

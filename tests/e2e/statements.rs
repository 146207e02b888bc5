//! What kinds of statements and transactions send.

use crate::support::{PATIENCE, in_world, in_world_on, servers::Servers};

const T: &str =
    "CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
                 INSERT INTO t SELECT g, 0, repeat(md5(g::text), 90) FROM generate_series(1, 20) g;";

#[tokio::test]
async fn every_form_of_truncate_empties_what_it_empties() {
    let schema = "CREATE TABLE a (id serial PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int);
        CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES a); CREATE TABLE unfollowed (id int PRIMARY KEY REFERENCES b);
        INSERT INTO a (n) SELECT g FROM generate_series(1, 30) g; INSERT INTO b SELECT g, g FROM generate_series(1, 30) g;
        INSERT INTO c SELECT g, g FROM generate_series(1, 30) g; INSERT INTO unfollowed SELECT 1";
    in_world(schema, async |world| {
        let followed = ["a", "b", "c"].map(|name| world.followed(name, &["id"]));
        let fill = "INSERT INTO a (n) SELECT g FROM generate_series(1, 10) g; INSERT INTO b SELECT g, g FROM generate_series(31, 40) g ON CONFLICT DO NOTHING;
                    INSERT INTO c SELECT g, (SELECT min(id) FROM a) FROM generate_series(31, 40) g ON CONFLICT DO NOTHING";
        world
            .follows(
                &followed,
                &[
                    // Rolled back.
                    "BEGIN; UPDATE b SET n = 2 WHERE id < 5; SAVEPOINT s; TRUNCATE a, b, c, unfollowed; INSERT INTO a VALUES (77, 1); ROLLBACK TO s;
                     INSERT INTO a VALUES (78, 1); COMMIT",
                    fill,
                    "BEGIN; TRUNCATE a, c RESTART IDENTITY; INSERT INTO a (n) VALUES (100), (101); INSERT INTO c VALUES (1, 1); COMMIT; UPDATE a SET n = -1",
                    fill,
                    "TRUNCATE b CASCADE",
                    "BEGIN; INSERT INTO b SELECT g, g FROM generate_series(1, 100) g; TRUNCATE a CASCADE; INSERT INTO a (id, n) VALUES (500, 1);
                     UPDATE b SET n = -n; TRUNCATE b, unfollowed; INSERT INTO b SELECT g, 5 FROM generate_series(90, 110) g; DELETE FROM b WHERE id = 91; COMMIT",
                ],
            )
            .await;
    })
    .await;
}

#[tokio::test]
async fn copy_merge_upserts_savepoints_and_what_is_not_followed() {
    let origin = format!("e2e_{}_origin", std::process::id());
    let schema = format!("{T} CREATE TABLE source AS SELECT id + 15 AS id, 5 AS n FROM t");
    in_world(&schema, async |world| {
        let session = format!(
            "SELECT pg_replication_origin_create('{origin}'); SELECT pg_replication_origin_session_setup('{origin}')"
        );
        let mut statements = vec![
            r#"COPY t FROM PROGRAM 'seq 1000 1400 | sed "s/$/\t1\ta\\\\tb/"'"#,
            r"COPY t (id) FROM PROGRAM 'seq 2000 2300'; DELETE FROM t WHERE id > 2250",
            "INSERT INTO t SELECT id, n, 'new' FROM source ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n;
             INSERT INTO t SELECT id, 99 FROM source ON CONFLICT DO NOTHING;
             INSERT INTO t VALUES (1, 7), (5000, 7) ON CONFLICT (id) DO UPDATE SET id = excluded.id + 6000",
            "BEGIN; UPDATE t SET n = 8 WHERE id < 9; SAVEPOINT a; UPDATE t SET n = 9, big = 'lost' WHERE id < 20; SAVEPOINT b; DELETE FROM t WHERE id < 5;
             RELEASE b; INSERT INTO t VALUES (7000, 0, 'lost'); ROLLBACK TO a; SAVEPOINT c; INSERT INTO t VALUES (7001, 0, 'kept'); RELEASE c; COMMIT",
            "DO $$ BEGIN FOR i IN 1..300 LOOP BEGIN INSERT INTO t VALUES (8000 + i / 2, i, 'x'); EXCEPTION WHEN unique_violation THEN
             UPDATE t SET n = -i WHERE id = 8000 + i / 2; END; END LOOP; END $$",
            // Beside what is followed, in one transaction with it.
            "CREATE TABLE made AS SELECT * FROM t; SELECT * INTO made_too FROM t; UPDATE made SET n = 1; UPDATE t SET n = 11 WHERE id < 3;
             SELECT pg_logical_emit_message(true, 'e2e', 'in a transaction'); SELECT pg_logical_emit_message(false, 'e2e', 'beside it');
             DROP TABLE made; CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE moods (id int PRIMARY KEY, mood mood); INSERT INTO moods VALUES (1, 'ok')",
            "UPDATE t SET n = n",
        ];
        if world.major().await >= 15 {
            statements.push(
                "MERGE INTO t USING source s ON t.id = s.id WHEN MATCHED AND s.id % 3 = 0 THEN DELETE
                 WHEN MATCHED THEN UPDATE SET n = s.n * 2 WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.n, 'merged')",
            );
        }
        world.follows(&[world.followed("t", &["id"])], &statements).await;

        // Transactions that came from elsewhere themselves.
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        let client = world.connect().await;
        client.batch_execute(&session).await.unwrap();
        for sql in ["UPDATE t SET n = 12", "TRUNCATE t; INSERT INTO t VALUES (1, 1, 'x')"] {
            client.batch_execute(sql).await.unwrap();
            world.becomes_equal(&followed).await;
        }
        client.batch_execute("SELECT pg_replication_origin_session_reset()").await.unwrap();
        client.batch_execute(&format!("SELECT pg_replication_origin_drop('{origin}')")).await.unwrap();
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn prepared_transactions_are_followed_when_they_are_committed_over_a_restart_too() {
    in_world_on(Servers::private_postgres(&["max_prepared_transactions=5"]), T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let prepare = |name: &str, sql: &str| format!("BEGIN; {sql}; PREPARE TRANSACTION '{name}'");
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        world
            .sql(&prepare("first", "UPDATE t SET n = 1 WHERE id < 5; UPDATE t SET id = 100 WHERE id = 5"))
            .await;
        world
            .sql(&prepare("never", "DELETE FROM t WHERE id = 6; INSERT INTO t VALUES (300, 0, 'never')"))
            .await;
        world
            .sql(&prepare("later", "DELETE FROM t WHERE id = 7; INSERT INTO t VALUES (200, 2, 'later')"))
            .await;
        world.sql("UPDATE t SET n = 3 WHERE id > 8").await;
        world.becomes_equal(&followed).await;
        world.sql("COMMIT PREPARED 'first'").await;
        world.becomes_equal(&followed).await;
        pg2os.stop().await;

        world.sql("UPDATE t SET n = 4 WHERE id > 8").await;
        let again = world.run(&followed);
        world.becomes_equal(&followed).await;
        world.sql("ROLLBACK PREPARED 'never'").await;
        world.sql("COMMIT PREPARED 'later'").await;
        world.sql("UPDATE t SET n = 5 WHERE id = 200").await;
        world.becomes_equal(&followed).await;
        again.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_very_large_transaction_and_small_ones_beside_it_all_arrive() {
    let schema = format!("{T} INSERT INTO t SELECT g, 0, 'x' FROM generate_series(21, 5000) g");
    in_world(&schema, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        // 200,000 changes of half of the rows, 1,500 of a single one, and keys that move.
        let large = "BEGIN; DO $$ BEGIN FOR i IN 1..80 LOOP UPDATE t SET n = i WHERE id % 2 = 0; END LOOP;
                     FOR i IN 1..1500 LOOP UPDATE t SET n = i WHERE id = 10; END LOOP; END $$;
                     UPDATE t SET id = id + 100000 WHERE id % 4 = 0; DELETE FROM t WHERE id = 10; UPDATE t SET n = 7 WHERE id = 12; COMMIT";
        let small = async {
            let client = world.connect().await;
            for n in 0..60 {
                let id = n * 2 + 1;
                let sql = format!("UPDATE t SET n = {n} WHERE id = {id}; UPDATE t SET id = -id WHERE id = {}", id + 1000);
                client.batch_execute(&sql).await.unwrap();
            }
        };
        futures_util::future::join(world.sql(large), small).await;
        let begun = std::time::Instant::now();
        world.becomes_equal(&followed).await;
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        pg2os.stop().await;
    })
    .await;
}

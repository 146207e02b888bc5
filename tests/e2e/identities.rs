//! Unchanged out-of-line values and key changes under every replica identity.

use crate::support::{World, in_world};

const BIG: &str = "repeat(md5(random()::text), 90)";

/// A table with 20 rows whose column `big` lies out of line.
fn table(name: &str, identity: &str) -> String {
    format!(
        "CREATE TABLE {name} (id int PRIMARY KEY, code int NOT NULL, n int, big text);
         CREATE UNIQUE INDEX {name}_code ON {name} (code);
         CREATE UNIQUE INDEX {name}_both ON {name} (code, id);
         ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY {identity};
         INSERT INTO {name} SELECT g, g * 10, 0, {BIG} FROM generate_series(1, 20) g;"
    )
}

#[tokio::test]
async fn unchanged_toast_is_right_under_every_identity_with_and_without_a_key_change() {
    let names = ["by_key", "whole", "by_index", "by_code"];
    let schema: String = [
        table("by_key", "DEFAULT"),
        table("whole", "FULL"),
        table("by_index", "USING INDEX by_index_both"),
        // The primary key is outside the identity here, and the id is the code.
        table("by_code", "USING INDEX by_code_code"),
    ]
    .concat();
    in_world(&schema, async |world| {
        let followed = names.map(|name| match name {
            "by_code" => world.followed(name, &["code"]).with("id: code"),
            _ => world.followed(name, &["id"]),
        });
        let all = |sql: &str| names.map(|name| sql.replace("{t}", name)).join(";");
        let changes = [
            "UPDATE {t} SET n = 1",
            "UPDATE {t} SET id = id + 100, n = 2 WHERE id <= 5",
            "UPDATE {t} SET code = code + 1, n = 3 WHERE id BETWEEN 4 AND 104",
            "UPDATE {t} SET id = id + 100, code = -code WHERE id BETWEEN 8 AND 10",
            // Away and back, and over the place that another row has left, without a value of `big` in sight.
            "UPDATE {t} SET id = 500 WHERE id = 101; UPDATE {t} SET id = 501 WHERE id = 102;
             UPDATE {t} SET id = 102 WHERE id = 500; UPDATE {t} SET id = 101 WHERE id = 501; UPDATE {t} SET n = 4 WHERE id = 101",
            "UPDATE {t} SET id = 600, n = 5 WHERE id = 12; UPDATE {t} SET id = 12 WHERE id = 600",
            "UPDATE {t} SET id = 700 WHERE id = 13; DELETE FROM {t} WHERE id = 700;
             DELETE FROM {t} WHERE id = 14; INSERT INTO {t} VALUES (14, 140, 6, 'small')",
            "UPDATE {t} SET big = NULL WHERE id = 15; UPDATE {t} SET n = 7 WHERE id >= 15",
            "DELETE FROM {t} WHERE id % 2 = 0",
        ];
        let changes = changes.map(all);
        world.follows(&followed, &changes.each_ref().map(String::as_str)).await;
    })
    .await;
}

#[tokio::test]
async fn keys_that_move_up_in_chains_and_change_only_in_spelling_are_followed() {
    let schema = format!(
        "{} CREATE TABLE spelt (id numeric PRIMARY KEY, n int, big text); ALTER TABLE spelt ALTER big SET STORAGE EXTERNAL;
         INSERT INTO spelt VALUES (1.0, 1, {BIG}), (2, 2, {BIG}), (3, 3, 'small');
         INSERT INTO t SELECT g, g * 10, 0, 'small' FROM generate_series(21, 300) g",
        table("t", "DEFAULT")
    );
    in_world(&schema, async |world| {
        let followed = [world.followed("t", &["id"]), world.followed("spelt", &["id"])];
        world
            .follows(
                &followed,
                &[
                    "UPDATE t SET id = id - 1",
                    "UPDATE t SET id = id - 1; UPDATE t SET id = id - 1; DELETE FROM t WHERE id = 40; UPDATE t SET n = id",
                    // Equal as numbers, two ids.
                    "UPDATE spelt SET id = 1.00 WHERE id = 1; UPDATE spelt SET id = 2.0, n = 5 WHERE id = 2",
                    "UPDATE spelt SET id = id + 0.00, n = 6; UPDATE spelt SET id = id + 0.000, n = 7",
                ],
            )
            .await;
    })
    .await;
}

#[tokio::test]
async fn rows_that_swap_ids_under_a_deferrable_constraint_keep_their_documents() {
    let schema = format!(
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, n int, big text);
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
         INSERT INTO t SELECT g, g, CASE WHEN g % 3 = 0 THEN {BIG} END FROM generate_series(1, 400) g"
    );
    in_world(&schema, async |world| {
        let followed = [world.followed("t", &["id"])];
        world
            .follows(
                &followed,
                &[
                    "UPDATE t SET id = 3 - id WHERE id <= 2",
                    "UPDATE t SET id = id + 1",
                    "UPDATE t SET id = 403 - id",
                    // Two rows of one id for a while: the newer one goes, then the older one.
                    "INSERT INTO t VALUES (10, -1, 'twin'); UPDATE t SET n = -2 WHERE id = 10; DELETE FROM t WHERE id = 10 AND big = 'twin'",
                    "INSERT INTO t VALUES (11, -1, 'twin'); DELETE FROM t WHERE id = 11 AND big IS DISTINCT FROM 'twin'",
                    "UPDATE t SET id = 12 WHERE id = 13; UPDATE t SET n = n + 1 WHERE id = 12; UPDATE t SET id = 13 WHERE id = 12 AND n % 2 = 0;
                     UPDATE t SET id = 1000 + n WHERE id = 12",
                    "DELETE FROM t WHERE id % 2 = 0; INSERT INTO t SELECT g, 7, 'new' FROM generate_series(100, 200, 2) g",
                ],
            )
            .await;
    })
    .await;
}

/// The filter's column is in each identity, else the application's own UPDATE would fail.
async fn filtered(world: &World) {
    let names = ["whole", "by_index"];
    let followed = names.map(|name| {
        let rows = format!("SELECT * FROM {name} WHERE code > 0");
        world.followed(name, &["id"]).with("where: code > 0").holding(&rows)
    });
    let large = world.followed("large", &["key"]).with("where: n > 0");
    let large = large.holding("SELECT * FROM large WHERE n > 0");
    let all = |sql: &str| names.map(|name| sql.replace("{t}", name)).join(";");
    let changes = [
        "UPDATE {t} SET code = -code WHERE id <= 10",
        "UPDATE {t} SET code = -code, n = 1 WHERE id <= 5",
        "UPDATE {t} SET id = id + 100, code = -code WHERE id BETWEEN 3 AND 12",
        "UPDATE {t} SET id = id + 100, n = 2 WHERE id BETWEEN 1 AND 20; UPDATE {t} SET n = 3, code = abs(code)",
        "UPDATE {t} SET code = -code; UPDATE {t} SET code = -code, n = 4 WHERE id % 2 = 0; DELETE FROM {t} WHERE id % 3 = 0",
    ];
    let mut changes: Vec<String> = changes.into_iter().map(all).collect();
    // A key that lies out of line itself.
    changes.push("UPDATE large SET n = -n".to_owned());
    changes.push("UPDATE large SET n = abs(n) + 1; UPDATE large SET n = n + 1; UPDATE large SET n = -n WHERE n % 2 = 0".to_owned());
    changes.push("UPDATE large SET key = reverse(key), n = abs(n)".to_owned());
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    world.follows(&[&followed[..], &[large]].concat(), &changes).await;
}

#[tokio::test]
async fn rows_that_pass_a_row_filter_come_and_go_with_their_toast() {
    let schema = [
        table("whole", "FULL"),
        table("by_index", "USING INDEX by_index_both"),
        format!(
            "CREATE TABLE large (key text PRIMARY KEY, n int NOT NULL, big text);
             CREATE UNIQUE INDEX large_n ON large (key, n);
             ALTER TABLE large ALTER key SET STORAGE EXTERNAL, ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY USING INDEX large_n;
             INSERT INTO large SELECT (SELECT string_agg(md5((g * h)::text), '') FROM generate_series(1, 70) h), g, {BIG} FROM generate_series(1, 6) g"
        ),
    ];
    in_world(&schema.concat(), async |world| {
        // Before 15 there are no row filters.
        if world.major().await >= 15 {
            filtered(world).await;
        }
    })
    .await;
}

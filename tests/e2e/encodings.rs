//! Databases of other encodings than UTF-8.

use crate::support::{in_database, servers::Servers};

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, big text); CREATE TABLE k (key text PRIMARY KEY, n int, big text);
                 ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE k ALTER big SET STORAGE EXTERNAL;";
const BIG: &str = "repeat(md5(random()::text), 90)";

#[tokio::test]
async fn a_latin_1_database_is_read_as_utf_8() {
    let schema = format!(
        "{T} CREATE TABLE \"Größe\" (\"schlüssel\" text PRIMARY KEY, \"maß\" int);
         INSERT INTO t VALUES (1, 'Ünï', {BIG}), (2, 'é', 'è'); INSERT INTO k VALUES ('ÿ', 1, 'ç' || {BIG}), ('ñ', 2, 'ø');
         INSERT INTO \"Größe\" VALUES ('ä', 1)"
    );
    in_database(Servers::shared(), "", "ENCODING 'LATIN1' LOCALE 'C'", &schema, async |world| {
        let followed =
            [world.followed("t", &["id"]), world.followed("k", &["key"]), world.followed_as("public.\"Größe\"", &["schlüssel"], "size")];
        world
            .follows(
                &followed,
                &[
                    "UPDATE t SET name = name || 'ß'; UPDATE k SET n = 5; INSERT INTO \"Größe\" VALUES ('ö', 2)",
                    "UPDATE k SET key = key || 'Å'; UPDATE \"Größe\" SET \"maß\" = 3; DELETE FROM k WHERE key = 'ñÅ'",
                ],
            )
            .await;
    })
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_utf_8_are_dead_letters_and_hold_nothing_up() {
    // An a-umlaut of Latin 1.
    let bad = r"convert_from('\x61e462', 'SQL_ASCII')";
    let schema = format!(
        "{T} CREATE TABLE j (id int PRIMARY KEY, j text[]); INSERT INTO j VALUES (1, ARRAY['x', {bad}]), (2, ARRAY['é']);
         INSERT INTO t VALUES (1, {bad}, 'x'), (2, 'é', {BIG}), (3, {bad}, {BIG}), (4, 'ok', {BIG});
         INSERT INTO k VALUES ({bad}, 1, 'x'), ('é', 2, {BIG}), ({bad} || 'big', 3, {BIG})"
    );
    in_database(Servers::shared(), "", "ENCODING 'SQL_ASCII' LOCALE 'C'", &schema, async |world| {
        let good = |column: &str| format!("position('\\xe4'::bytea IN {column}::bytea) = 0");
        let followed = [
            world.followed("t", &["id"]).holding(&format!("SELECT * FROM t WHERE {}", good("name"))),
            world.followed("k", &["key"]).holding(&format!("SELECT * FROM k WHERE {}", good("key"))),
            world.followed("j", &["id"]).holding("SELECT * FROM j WHERE id <> 1"),
        ];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        let letters = async || world.dead_letters().await;
        world.eventually("rows of the windows are dead letters", async || letters().await.len() == 5).await;

        // By the stream, by lookups (of rows 2 to 4), and a key that no lookup can name.
        world
            .sql(&format!(
                "UPDATE t SET id = id + 10; INSERT INTO t VALUES (20, {bad}, 'new'), (21, 'é', 'new'); UPDATE k SET n = n + 10;
                 INSERT INTO k VALUES ('f' || {bad}, 1, 'x'), ('é2', 1, 'x'); DELETE FROM k WHERE key = {bad}"
            ))
            .await;
        world.becomes_equal(&followed).await;
        // Letters of rows that were deleted or got another key are resolved by that.
        world.eventually("they are dead letters too", async || letters().await.len() == 6).await;
        let told = letters().await;
        let of = |table: &str| {
            let of = told.iter().filter(|l| l["table"] == table);
            let mut told: Vec<String> = of.map(|l| format!("{}: {}", l["id"], l["error"]["reason"])).collect();
            told.sort();
            told
        };
        let t = of("public.t");
        assert_eq!(t.len(), 3, "{t:?}");
        for (id, told) in ["11", "13", "20"].iter().zip(&t) {
            assert!(told.starts_with(&format!("\"{id}\": \"the text of name is not UTF-8")), "{told}");
        }
        let k = of("public.k").concat();
        assert_eq!(k.matches("the text of key is not UTF-8").count(), 1, "{k}");
        assert_eq!(k.matches("cannot be looked up").count(), 1, "{k}");

        world.sql("UPDATE t SET name = 'mended' WHERE id IN (11, 13); UPDATE t SET name = name || 'é' WHERE id <> 20; UPDATE j SET j = '{y}'").await;
        let mended = followed.clone().map(|f| if f.table == "public.j" { world.followed("j", &["id"]) } else { f });
        world.becomes_equal(&mended).await;
        world.eventually("mended rows have no letters", async || letters().await.len() == 3).await;
        let end = world.value("pg_current_wal_insert_lsn()").await.unwrap();
        let passed = format!("confirmed_flush_lsn >= '{end}'");
        world.eventually("the position moves on", async || world.of_slot(&passed).await.as_deref() == Some("true")).await;
        pg2os.stop().await;
    })
    .await;
}

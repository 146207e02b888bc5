//! An index that a PySpark job filled is taken over in place: the same ids, and the same bytes where nothing changed.

use crate::support::{Followed, World, in_world, opensearch::Document};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

/// A column of each kind that the job writes differently from PostgreSQL's text, or from pg2os.
const TABLE: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE TABLE t (k text, day date, n int, b bigint, r real, d double precision, ok boolean, amount numeric(12,2),
        big numeric(30,0), price numeric(12,4), free numeric, at timestamptz, local timestamp, clock time, j json,
        jb jsonb, u uuid, i interval, ip inet, mood mood, cash money, x xml, span int4range, words tsvector, p point,
        c char(5), bytes bytea, bits bit(3), tags text[], none int[], days date[], empty text, gone text, toast text,
        PRIMARY KEY (k, day, n));
    ALTER TABLE t ALTER toast SET STORAGE EXTERNAL;";

const FULL: &str = r#"'2024-06-15', 7, 9007199254740993, 1.1, 1e-5, true, 12345.67, 1234567890123456789, 12345.67, 1.5,
    '2024-06-15 12:34:56.789999+00', '2024-06-15 12:34:56.789999', '03:04:05.678', '{"b": 1.0,  "a":[1]}',
    '{"b": 1.0, "a": null}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '1 year 2 mons 3 days 04:05:06.789', '10.0.0.1',
    'happy', '12.34', '<a/>', '[1,5)', 'b a', '(1,2.5)', 'ab', '\x68c3a9', b'101', '{x,y,NULL}', '{}',
    '{2024-06-15,NULL}', '', NULL, repeat('é', 3000)"#;

/// What the job made of it: fields in the order of the table, NULL left out.
const FULL_JSON: &str = r#""day":1718409600000,"n":7,"b":9007199254740993,"r":1.1,"d":1.0E-5,"ok":true,"amount":12345.67,"big":1.23456789012345677E18,"price":"12345.6700","free":"1.500000000000000000","at":1718454896789,"local":1718454896789,"clock":11045000,"j":"{\"b\": 1.0,  \"a\":[1]}","jb":"{\"a\": null, \"b\": 1.0}","u":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11","i":"1 year 2 mons 3 days 04:05:06.789","ip":"10.0.0.1","mood":"happy","cash":"$12.34","x":"<a/>","span":"[1,5)","words":"'a' 'b'","p":"(1,2.5)","c":"ab   ","bytes":"aMOp","bits":"MTAx","tags":["x","y",null],"none":[],"days":[1718409600000,null],"empty":"""#;

/// Windows of `n`, as days from year 1 on are thousands of windows.
const SPARK: &str = "window: { column: n, rows: 100 }, documents: spark, id_form: spark, spark: { timezone: UTC, cast: { amount: double, big: double, price: string, free: string } }";

/// A full row's document under key `k`.
fn full(k: &str) -> (String, String) {
    (
        format!("{k}|2024-06-15|7"),
        format!("{{\"k\":{},{FULL_JSON},\"toast\":\"{}\"}}", json!(k), "é".repeat(3000)),
    )
}

/// A row of nothing but its key.
fn sparse(k: &str, day: &str, millis: i64) -> (String, String) {
    (format!("{k}|{day}|0"), format!("{{\"k\":{},\"day\":{millis},\"n\":0}}", json!(k)))
}

/// The documents that the job made of the rows that [`fill`] writes.
fn of_the_job() -> BTreeMap<String, String> {
    BTreeMap::from([
        full("a|b"),
        full("later updated"),
        full("later deleted"),
        full("key"),
        // Julian before 1582-10-15, and days that are in neither calendar.
        sparse("old", "1582-10-20", -12_218_860_800_000),
        sparse("\\", "0001-01-01", -62_135_769_600_000),
        sparse("", "1969-12-31", -86_400_000),
    ])
}

async fn fill(world: &World) {
    for k in ["a|b", "later updated", "later deleted", "key"] {
        world.sql(&format!("INSERT INTO t VALUES ('{k}', {FULL})")).await;
    }
    world
        .sql("INSERT INTO t (k, day, n) VALUES ('old', '1582-10-10', 0), (E'\\\\', '0001-01-01', 0), ('', '1969-12-31', 0)")
        .await;
}

fn sources(documents: BTreeMap<String, Document>) -> BTreeMap<String, String> {
    documents.into_iter().map(|(id, document)| (id, document.source.get().to_owned())).collect()
}

/// Waits until the index has exactly these documents, byte for byte.
async fn becomes(world: &World, followed: &Followed, expected: &BTreeMap<String, String>) {
    let mut found = BTreeMap::new();
    let begun = std::time::Instant::now();
    while found != *expected {
        if begun.elapsed() > Duration::from_secs(30) {
            assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
            for (id, document) in expected {
                assert_eq!(&found[id], document, "{id}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = sources(world.os.documents(&followed.index).await);
    }
}

/// Windows, then stream, lookup, delete and key change, all into the same documents.
async fn follows(world: &World, foreign: Option<(String, String)>) {
    let followed = world.followed("t", &["k", "day", "n"]).with(SPARK);
    let config = world.config(std::slice::from_ref(&followed), "");
    let pg2os = world.start(&config, &["run"]);
    pg2os.logs("is filled and live").await;
    let mut expected = of_the_job();
    expected.extend(foreign);
    becomes(world, &followed, &expected).await;

    // The stream; a lookup, as the value out of line is unchanged; a delete; a key change.
    world.sql(&format!("INSERT INTO t VALUES ('streamed', {FULL})")).await;
    world.sql("UPDATE t SET amount = 0.005 WHERE k = 'later updated'").await;
    world.sql("DELETE FROM t WHERE k = 'later deleted'; UPDATE t SET k = 'changed' WHERE k = 'key'").await;
    world.sql("INSERT INTO t (k, day, n, d) VALUES ('huge', '2024-06-15', 0, 'NaN')").await;
    expected.extend([full("streamed"), full("changed")]);
    let updated = expected.get_mut("later updated|2024-06-15|7").unwrap();
    *updated = updated.replace("\"amount\":12345.67", "\"amount\":0.01");
    for gone in ["later deleted|2024-06-15|7", "key|2024-06-15|7"] {
        expected.remove(gone).unwrap();
    }
    if followed_is_new(world, &followed).await {
        let huge = "{\"k\":\"huge\",\"day\":1718409600000,\"n\":0,\"d\":\"NaN\"}".to_owned();
        expected.insert("huge|2024-06-15|0".to_owned(), huge);
    }
    becomes(world, &followed, &expected).await;
    pg2os.stop().await;
}

/// Did pg2os make the index?
async fn followed_is_new(world: &World, followed: &Followed) -> bool {
    world.os.ask("GET", &format!("/{}-000001", followed.index), Value::Null).await.0 == 200
}

#[tokio::test]
async fn an_index_of_a_pyspark_job_is_taken_over_in_place() {
    in_world(TABLE, async |world| {
        fill(world).await;
        let index = world.index("t");
        let foreign = full("row that was gone before");
        for (id, source) in of_the_job().into_iter().chain([foreign.clone()]) {
            world.os.put_source(&index, &id, source).await;
        }
        // A lost update of the job's last run: the row says otherwise.
        world.os.put_source(&index, "old|1582-10-20|0", "{\"k\":\"stale\"}".to_owned()).await;
        follows(world, Some(foreign)).await;
        // The job's own mapping refuses what would have ended the job.
        let letters = world.dead_letters().await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert_eq!(letters[0]["id"], "huge|2024-06-15|0");
    })
    .await;
}

#[tokio::test]
async fn a_new_index_of_spark_documents_takes_what_the_jobs_mapping_refused() {
    in_world(TABLE, async |world| {
        fill(world).await;
        follows(world, None).await;
        assert_eq!(world.dead_letters().await, Vec::<Value>::new());
    })
    .await;
}

#[tokio::test]
async fn plain_documents_for_an_index_of_a_pyspark_job_are_warned_of() {
    in_world("CREATE TABLE t (id int PRIMARY KEY, at timestamptz, p jsonb)", async |world| {
        world
            .os
            .put_source(&world.index("t"), "1", r#"{"id":1,"at":1718454896789,"p":"{}"}"#.to_owned())
            .await;
        let pg2os = world.run(&[world.followed("t", &["id"])]);
        pg2os.logs("at (timestamp with time zone) is long, p (jsonb) is text").await;
        pg2os.logs("set documents: spark").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_the_job_cannot_have_written_is_refused_with_its_cure_before_anything_is_made() {
    in_world("CREATE TABLE t (cash money PRIMARY KEY, amount numeric(12,2), times time[])", async |world| {
        let followed = world
            .followed("t", &["cash"])
            .with("documents: spark, id_form: spark, spark: { cast: { amuont: double } }");
        let (code, log) =
            world.start(&world.config(&[followed], ""), &["run"]).ending(Duration::from_secs(15)).await;
        assert_eq!(code, 2, "{log}");
        for words in [
            "tables[0].id_form: column `cash` (money)",
            "tables[0].documents: column `amount` (numeric(12,2))",
            "double or string",
            "tables[0].documents: column `times` (time without time zone[])",
            "columns.exclude",
            "tables[0].spark.cast: column `amuont` (no such column)",
        ] {
            assert!(log.contains(words), "lacks {words:?}: {log}");
        }
        assert_eq!(world.os.ask("GET", &format!("/{}", world.index("t")), Value::Null).await.0, 404);
    })
    .await;
}

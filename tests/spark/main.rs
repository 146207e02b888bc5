//! Ids and documents of a PySpark job, case by case: what a real Spark made of a value of a real PostgreSQL is what pg2os
//! makes of the same value, read again from a real PostgreSQL with its own session settings.
//!
//! `spark_ids.csv` and `measured.csv` are outputs of Spark 3.5.9 on JDK 17 with pgjdbc 42.5.5: value, Spark's
//! `cast(… AS STRING)` of each column, `concat_ws('|', …)`, its MD5, or why the job failed. `measured.csv` has more types,
//! random values and time zones, and `java.sql.Timestamp.getTime`, which is what opensearch-hadoop writes.

#![allow(clippy::unwrap_used)]

use futures_util::TryStreamExt;
use pg2os::{
    config::{self, Documents, IdForm, Spark, SparkCast},
    decode::CopyDecoder,
    map::{IdBuffers, TablePlan, TableSpec, spark_problems},
    model::TableSchema,
    source::{catalog::load_table, copy, sql},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use tokio_postgres::Client;

/// Columns of the files; several columns of a table are separated by ` ;; `.
#[derive(Clone, Deserialize)]
struct Case {
    id: u32,
    pg_types: String,
    pg_sql_values: String,
    jvm_tz: String,
    session_tz: String,
    cast_as_string: String,
    concat_ws_utf8_hex: String,
    md5: String,
    error: String,
    /// Absent in `spark_ids.csv`.
    #[serde(default)]
    millis: Option<i64>,
}

/// Key types that are refused at start, in whichever file they come.
const REFUSED: [&str; 11] = [
    // The locale of the job's server printed it.
    "money",
    // Spark has no such decimal.
    "numeric(10,-2)",
    "numeric(3,5)",
    // Spark cannot read such arrays, or prints them as its driver's objects.
    "money[]",
    "bit(1)[]",
    "bit(3)[]",
    "time[]",
    "timetz[]",
    "interval[]",
    "point[]",
    // Printed by the server in the zone of the JVM; only refused where that is not UTC.
    "tstzrange",
];

/// Values that end the job, so that no index of it has them: what remains is that they have an id.
const END_THE_JOB: [(&str, &str); 11] = [
    ("numeric", "NaN"),
    ("numeric", "'-Infinity'"),
    ("numeric(50,45)", "1.5"),
    ("date", "'infinity'"),
    ("date", "'-infinity'"),
    ("timestamp", "'294276-12-31 23:59:59.999999'"),
    ("timestamp[]", "'{infinity,-infinity}'"),
    ("timestamptz[]", "'{\"2024-01-01 12:00:00.5+00\",infinity,NULL}'"),
    ("int4[]", "'{{1,2},{3,4}}'"),
    ("text[]", "'{{a,b}}'"),
    ("numeric", "'Infinity'"),
];

/// Cases of each file that are refused or end the job.
const WITHOUT_ID: [(&str, usize); 2] = [("spark_ids.csv", 9), ("measured.csv", 123)];

const TYPES: &str =
    "CREATE TYPE comp AS (a int, b text); CREATE TYPE e AS ENUM ('x', 'y'); CREATE DOMAIN dom AS int;
    CREATE DOMAIN domn AS numeric(10,2); CREATE DOMAIN domt AS text; CREATE DOMAIN doma AS int[];";

#[tokio::test]
async fn every_case_of_a_real_spark_is_reproduced_or_its_type_is_refused() {
    in_database(async |client| {
        client.batch_execute(&format!("SET search_path = public; {TYPES}")).await.unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spark");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "csv") {
                files += 1;
                check(client, &path).await;
            }
        }
        assert_eq!(files, WITHOUT_ID.len(), "a file of cases is missing");
    })
    .await;
}

async fn check(client: &Client, path: &Path) {
    let cases =
        csv::Reader::from_path(path).unwrap().deserialize().collect::<Result<Vec<Case>, _>>().unwrap();
    // Cases of the same columns and zones share a table.
    let mut groups: BTreeMap<[&str; 3], Vec<&Case>> = BTreeMap::new();
    for case in &cases {
        groups.entry([&case.pg_types, &case.jvm_tz, &case.session_tz]).or_default().push(case);
    }
    let mut tally = Tally::default();
    for group in groups.values() {
        check_group(client, group, &mut tally).await;
    }
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(tally.wrong.is_empty(), "{name}: {} wrong\n{}", tally.wrong.len(), {
        tally.wrong.truncate(20);
        tally.wrong.join("\n")
    });
    let unexpected: Vec<_> = tally.refused.iter().filter(|t| !REFUSED.contains(&t.as_str())).collect();
    assert!(unexpected.is_empty(), "{name}: refused, and not among the known: {unexpected:?}");
    assert_eq!(tally.reproduced + tally.without_id, cases.len(), "{name}: no case may be left out");
    let without_id = WITHOUT_ID.iter().find(|(file, _)| *file == name).map(|(_, number)| *number);
    assert_eq!(without_id, Some(tally.without_id), "{name}: refused or ending the job");
}

#[derive(Default)]
struct Tally {
    reproduced: usize,
    /// Refused or ending the job.
    without_id: usize,
    refused: BTreeSet<String>,
    wrong: Vec<String>,
}

async fn check_group(client: &Client, cases: &[&Case], tally: &mut Tally) {
    let types: Vec<&str> = cases[0].pg_types.split(" ;; ").collect();
    let names: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let columns: Vec<String> = names.iter().zip(&types).map(|(name, ty)| format!("{name} {ty}")).collect();
    let created = format!("DROP TABLE IF EXISTS t; CREATE TABLE t (i int, {})", columns.join(", "));
    if let Err(error) = client.batch_execute(&created).await {
        // A scale outside of 0 to precision came with PostgreSQL 15.
        let too_old = error.code().is_some_and(|code| code.code() == "22023")
            && cases[0].pg_types.starts_with("numeric(");
        assert!(too_old, "{created}: {error:?}");
        tally.refused.insert(cases[0].pg_types.clone());
        tally.without_id += cases.len();
        return;
    }
    for chunk in cases.chunks(500) {
        let rows: Vec<String> = chunk.iter().map(|c| format!("({}, {})", c.id, literals(c))).collect();
        client.batch_execute(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await.unwrap();
    }
    let schema = load_table(client, "public", "t", &[]).await.unwrap();
    let zone = |name: &str| name.parse().unwrap();
    let spark =
        Spark { timezone: zone(&cases[0].session_tz), jvm_timezone: zone(&cases[0].jvm_tz), cast: vec![] };
    let spec = |id_form, documents, cast| TableSpec {
        id: names.clone(),
        id_form,
        exclude: vec!["i".to_owned()],
        rename: vec![],
        documents,
        spark: Spark { cast, ..spark.clone() },
        ..TableSpec::default()
    };
    let plain = spec(IdForm::Spark, Documents::Plain, vec![]);
    if !spark_problems(&plain, &schema.columns).is_empty() {
        tally.refused.insert(cases[0].pg_types.clone());
        tally.without_id += cases.len();
        return;
    }
    let as_strings = names.iter().map(|name| (name.clone(), SparkCast::String)).collect();
    let plan = |spec: &TableSpec| TablePlan::of_schema(spec, &schema).unwrap();
    let plans = [
        plan(&spec(IdForm::Spark, Documents::Spark, as_strings)),
        plan(&spec(IdForm::SparkMd5, Documents::Spark, vec![])),
    ];
    let rows = read(client, &schema).await;
    let (mut decoder, mut ids, mut document) = (CopyDecoder::default(), IdBuffers::default(), vec![]);
    let cases: BTreeMap<u32, &&Case> = cases.iter().map(|case| (case.id, case)).collect();
    assert_eq!(rows.len(), cases.len());
    for line in rows {
        let row = decoder.decode(&line, schema.columns.len()).unwrap();
        let number: u32 = std::str::from_utf8(&line).unwrap().split('\t').next().unwrap().parse().unwrap();
        let case = cases[&number];
        let mut made = |plan: &TablePlan| {
            plan.write_id(&row, &mut ids).unwrap();
            document.clear();
            plan.write_document(&row, &mut document).unwrap();
            let id = String::from_utf8(ids.id.clone()).unwrap();
            (id, serde_json::from_slice::<Map<String, Value>>(&document).unwrap())
        };
        let ((id, strings), (md5, uncast)) = (made(&plans[0]), made(&plans[1]));
        if ends_the_job(case) {
            tally.without_id += 1;
            tally.wrong.extend((id.is_empty() || md5.len() != 32).then(|| format!("{number} has no id")));
            continue;
        }
        assert!(
            case.error.is_empty(),
            "{} {} ends the job: {}",
            case.pg_types,
            case.pg_sql_values,
            case.error
        );
        let mut same = |what: &str, found: &str, expected: &str| {
            if found != expected {
                let Case { pg_types, pg_sql_values, jvm_tz, session_tz, .. } = case;
                let place = format!("{number} {pg_types} {pg_sql_values} {jvm_tz}/{session_tz}");
                tally.wrong.push(format!("{place}: {what}\n  is  {found}\n  not {expected}"));
            }
        };
        same("id", &id, &fitting(&case.concat_ws_utf8_hex));
        same("md5", &md5, &case.md5);
        let expected: Vec<Option<String>> = serde_json::from_str(&case.cast_as_string).unwrap();
        for (name, expected) in names.iter().zip(expected) {
            let found = strings.get(name).map(|value| value.as_str().unwrap().to_owned());
            same("cast", &format!("{found:?}"), &format!("{expected:?}"));
        }
        if let Some(millis) = case.millis {
            same("document", &uncast["c0"].to_string(), &millis.to_string());
        }
        tally.reproduced += 1;
    }
}

/// The values of a case as SQL; numbers stand in the files without their quotes, and -0.0 would lose its sign.
fn literals(case: &Case) -> String {
    let is_bare = |value: &str| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let quoted = |value: &str| match value {
        "NULL" => "NULL".to_owned(),
        value if is_bare(value) => format!("'{value}'"),
        value => value.to_owned(),
    };
    case.pg_sql_values.split(" ;; ").map(quoted).collect::<Vec<_>>().join(", ")
}

fn ends_the_job(case: &Case) -> bool {
    END_THE_JOB.contains(&(&case.pg_types, &case.pg_sql_values))
}

/// The id of Spark's bytes: as Java makes a string of them, and their SHA-256 where OpenSearch takes no such id.
fn fitting(hex: &str) -> String {
    let digits: Vec<u8> = hex.bytes().map(|b| char::from(b).to_digit(16).unwrap() as u8).collect();
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if (1..=512).contains(&text.len()) {
        return text;
    }
    Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rows as a window reads them.
async fn read(client: &Client, schema: &TableSchema) -> Vec<Vec<u8>> {
    let columns: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    let sql = copy::copy_sql(schema, &columns, None, None);
    let rows: Vec<_> = copy::read(client, &sql).await.unwrap().try_collect().await.unwrap();
    rows.iter().map(|row| row.to_vec()).collect()
}

/// Runs a test in a database of its own, on a connection as pg2os makes it.
async fn in_database(test: impl AsyncFnOnce(&Client)) {
    let port = std::env::var("PG2OS_TEST_PG_PORT")
        .expect("PG2OS_TEST_PG_PORT is not set: run `make test`, which starts PostgreSQL and sets it");
    let connect = async |database: &str| {
        let file = format!(
            "postgres: {{ host: 127.0.0.1, port: {port}, database: {database}, user: postgres }}\n\
             opensearch: {{ url: 'http://localhost:9200' }}\ntables: [{{ table: t }}]"
        );
        let sources = config::Sources { file: Some(("spark.yaml".into(), file)), ..Default::default() };
        let postgres = config::load(&sources).unwrap().config.postgres;
        sql::connect(&postgres, None, "spark_test").await.unwrap()
    };
    let name = format!("spark_{}", std::process::id());
    let admin = connect("postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.unwrap();
    let client = connect(&name).await;
    let outcome = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(test(&client))).await;
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

//! The configuration as a whole: files, layers, origins, and every problem with its place.

mod layers;

use super::*;
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::Value;

const SMALL: &str = "
postgres: { host: localhost, database: shop, user: pg2os, password_file: /var/run/secrets/pg/password }
opensearch: { url: http://localhost:9200 }
tables:
  - table: public.events
";

/// interface.md 1, the fuller file.
const FULL: &str = r#"
name: warehouse
on_gap: resync
http: 0.0.0.0:8080
postgres:
  host: analytics-cluster
  port: 5432
  database: datawarehouse
  user_file: /etc/pg2os/pg/username
  password_file: /etc/pg2os/pg/password
  tls: { mode: verify-full, ca_file: /etc/pg2os/pg/ca.crt }
  slot: pg2os_warehouse
  publication: pg2os_warehouse
  backfill_host: analytics-cluster-repl
opensearch:
  url: https://opensearch:9200
  username: pg2os
  password_file: /etc/pg2os/os/password
  tls: { ca_file: /etc/pg2os/os/ca.crt }
  state_index: pg2os-state
  dead_letter_index: pg2os-dead-letters
bulk: { lanes: auto, bytes: 5MB, flush_after: 5ms, max_document_bytes: 20MB }
backfill: { parallel: 2, rate: unlimited, order: overlap, window_bytes: 1GB, window_time: 5m }
limits: { retained_wal: 10GB, on_retained_wal: stop, standby_lag: 30s, dead_letters: 10000, late_request_horizon: 2m }
bookmark: { slot: pg2os_warehouse_bookmark, keep: 1GB, keep_time: 10m }
tables:
  - table: public.events
    index: events
    id: [event_date, source, seq]
    id_form: plain
    window: { column: event_date, days: 30, from: 2020-01-01, to: today+1d }
    columns: { exclude: [secret], rename: { ts: "@timestamp" } }
    where: "tenant_id = 7"
    routing: tenant_id
    settings: { number_of_shards: 3 }
    mapping: { sku: keyword, payload: flat_object }
    on_schema_change: resync
    on_truncate: delete
  - { table: public.measurements, window: { column: ts, days: 7 } }
  - { table: public.audit_log, append_only: true, id: [ts, source, seq], id_unique: asserted }
  - { table: sales.*, exclude: [sales.tmp_*] }
  - { table: crm.events, index: crm-events, documents: spark, id_form: spark, spark: { timezone: UTC, cast: { amount: double } } }
  - query: |
      SELECT e.*, u.display_name, o.org_name
        FROM events e JOIN users u ON u.id = e.user_id JOIN orgs o ON o.id = u.org_id
    root: public.events
    index: events_enriched
    id: [event_date, source, seq]
    window: { column: event_date, days: 30 }
"#;

fn sources(file: &str, environment: &[(&str, &str)]) -> Sources {
    Sources {
        file: Some((PathBuf::from("config.yaml"), file.to_owned())),
        environment: environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        ..Sources::default()
    }
}

fn good(file: &str, environment: &[(&str, &str)]) -> Loaded {
    load(&sources(file, environment)).unwrap_or_else(|problems| panic!("{problems}"))
}

fn bad(file: &str, environment: &[(&str, &str)]) -> Vec<Problem> {
    load(&sources(file, environment)).err().map(|p| p.0).unwrap_or_default()
}

/// Asserts that exactly these places are reported, each with these words.
#[track_caller]
fn expect(problems: &[Problem], expected: &[(&str, &str)]) {
    let shown = Problems(problems.to_vec()).to_string();
    for (place, words) in expected {
        let found = problems.iter().find(|p| p.place == *place && p.to_string().contains(words));
        assert!(found.is_some(), "no problem at {place} with {words:?} in:\n{shown}");
    }
    assert_eq!(problems.len(), expected.len(), "\n{shown}");
    assert!(problems.iter().all(|p| !p.cure.is_empty()));
}

#[test]
fn the_smallest_file_gets_all_defaults() {
    let config = good(SMALL, &[]).config;
    assert_eq!((config.name.as_str(), config.on_gap), ("pg2os", OnGap::Resync));
    assert_eq!((config.postgres.slot.as_str(), config.postgres.port), ("pg2os", 5432));
    assert_eq!(config.postgres.publications, ["pg2os"]);
    assert_eq!(config.postgres.tls.mode, TlsMode::Prefer);
    assert_eq!(config.opensearch.urls, ["http://localhost:9200"]);
    assert_eq!(config.opensearch.tls.mode, TlsMode::Disable);
    assert_eq!((config.bulk.lanes, config.bulk.bytes), (None, 5_000_000));
    assert_eq!(config.limits.late_request_horizon, Duration::from_secs(120));
    let bookmark = config.bookmark.as_ref().map(|b| (b.slot.as_str(), b.keep, b.keep_time.as_secs()));
    assert_eq!(bookmark, Some(("pg2os_bookmark", 1_000_000_000, 600)));
    let table = &config.tables[0];
    assert_eq!(
        (table.schema.as_str(), table.name.as_str(), table.index.as_str()),
        ("public", "events", "events")
    );
    assert!(table.id.is_none() && table.window.is_none() && table.place == "tables[0]");
}

#[test]
fn the_fuller_file_is_refused_only_for_what_is_not_there_yet() {
    let problems = bad(FULL, &[]);
    let places = ["http", "tables[5].query", "tables[5].root"];
    let expected: Vec<(&str, &str)> =
        places.iter().map(|place| (*place, "not in this version yet")).collect();
    expect(&problems, &expected);
}

#[test]
fn the_fuller_file_loads_without_them() {
    let file = FULL.split("  - query").next().unwrap();
    let kept = file.lines().filter(|line| !line.contains("http:"));
    let config = good(&kept.collect::<Vec<_>>().join("\n"), &[]).config;
    assert_eq!(config.opensearch.tls.mode, TlsMode::VerifyFull);
    let table = &config.tables[0];
    assert_eq!(table.id.as_deref().unwrap(), ["event_date", "source", "seq"]);
    let window = table.window.as_ref().unwrap();
    assert_eq!(window.step, WindowStep::Days(30));
    assert_eq!((window.from.as_deref(), window.to.as_deref()), (Some("2020-01-01"), Some("today+1d")));
    assert_eq!(table.rename, [("ts".to_owned(), "@timestamp".to_owned())]);
    assert_eq!(table.settings["number_of_shards"], 3);
    assert_eq!(table.filter.as_deref(), Some("tenant_id = 7"));
    assert_eq!(table.routing.as_deref(), Some("tenant_id"));
    assert_eq!((table.on_truncate, table.on_schema_change), (OnTruncate::Delete, OnSchemaChange::Resync));
    assert!(config.tables[2].append_only && config.tables[2].id_unique_asserted);
    assert_eq!(config.postgres.append_publication.as_deref(), Some("pg2os_warehouse_append"));
    assert_eq!(config.wildcards[0].settings.wildcard.as_deref(), Some("sales.*"));
    let name = |schema: &str, name: &str| TableName { schema: schema.into(), name: name.into() };
    assert!(config.wildcards[0].covers(&name("sales", "orders")));
    assert!(!config.wildcards[0].covers(&name("sales", "tmp_1")));
    let one = config.select(&["sales.orders".to_owned()]).unwrap();
    assert_eq!((one.tables[0].index.as_str(), one.wildcards.len()), ("orders", 0));
    assert_eq!(expand(&one, &[]).unwrap().len(), 1);
    assert!(config.select(&["sales.tmp_1".to_owned()]).is_err());
}

#[test]
fn keys_that_do_not_fit_the_kind_of_their_entry_are_told() {
    let file = r#"
postgres: { host: h, database: d, user: u, publication: a_publication_with_a_name_of_more_than_fifty_six_bytes_it }
opensearch: { url: "http://h:1" }
tables:
  - { table: "s.*", index: x, exclude: ["a-b"] }
  - { table: t, exclude: [s.x], routing: " ", mapping: { a: 3 } }
  - { table: "a b.*", on_schema_change: never }
  - { table: u, append_only: true }
"#;
    expect(
        &bad(file, &[]),
        &[
            ("postgres.publication", "at most 56 bytes"),
            ("tables[0].index", "stands for many"),
            ("tables[0].exclude", "characters that need quotes"),
            ("tables[1].exclude", "columns.exclude"),
            ("tables[1].routing", "is empty"),
            ("tables[1].mapping.a", "neither a type nor a field mapping"),
            ("tables[2].table", "characters that need quotes"),
            ("tables[2].on_schema_change", "resync, ignore"),
        ],
    );
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let file = r#"
name: Ware house
on_gapp: stop
postgres: { host: "db:5433", port: 70000, user: u, user_file: /u, slot: My-Slot, tls: { mode: verify_full, key_file: /k } }
opensearch: { url: "https://me:secret@h:9200", tls: { mode: disable }, state_index: Bad Name, password: 12345 }
bulk: { lanes: 65, bytes: 1kB, flush_after: 5, max_document_bytes: 1.5GB }
backfill: { parallel: 0, order: never }
limits: [1]
tables:
  - { table: Sales.Events, index: Events, id: [a, a], window: { column: d, days: 0 } }
  - { table: sales.events, index: x, window: { column: d, days: 1, rows: 1 }, columns: { rename: { a: _id } } }
  - { table: public.a-b, index: x, where: " " }
  - 7
  - { table: t, index: x, window: { days: 3, from: 2024-02-30 }, colums: {} }
  - { table: u, index: pg2os-dead-letters, window: { column: d, from: today, to: -1d }, id: 3 }
"#;
    expect(
        &bad(file, &[]),
        &[
            ("name", "a-z"),
            ("on_gapp", "did you mean on_gap?"),
            ("postgres.host", "postgres.port"),
            ("postgres.port", "70000 is out of range; say 0 to 65535"),
            ("postgres.database", "is missing"),
            ("postgres.user", "beside user_file"),
            ("postgres.slot", "My-Slot"),
            ("bookmark.slot", "My-Slot_bookmark"),
            ("postgres.tls.mode", "did you mean verify-full?"),
            ("postgres.tls.cert_file", "is missing"),
            ("opensearch.url", "contains a user name or password"),
            ("opensearch.tls.mode", "https"),
            ("opensearch.state_index", "capitals"),
            ("opensearch.password", "found a value (not shown), expected a text; put it in quotes"),
            ("bulk.lanes", "1 to 64"),
            ("bulk.bytes", "64kB to 100MB"),
            ("bulk.flush_after", "give the unit"),
            ("bulk.max_document_bytes", "is not a size"),
            ("backfill.parallel", "1 to 64"),
            ("backfill.order", "overlap, first"),
            ("limits", "found a list, expected a mapping"),
            ("tables[0].index", "set tables[0].index"),
            ("tables[0].id", "twice"),
            ("tables[0].window.days", "0 is out of range"),
            ("tables[1].table", "sales.events is also tables[0]"),
            ("tables[1].window", "both days and rows"),
            ("tables[1].columns.rename", "_id"),
            ("tables[2].table", "characters that need quotes"),
            ("tables[2].where", "is empty"),
            ("tables[3]", "found the number 7, expected a mapping"),
            ("tables[4].index", "also the index of tables[1].index"),
            ("tables[4].window.column", "is missing"),
            ("tables[4].window.from", "2024-02-30"),
            ("tables[4].colums", "did you mean columns?"),
            ("tables[5].index", "opensearch.dead_letter_index"),
            ("tables[5].window.to", "not after from"),
            ("tables[5].id", "expected a text or a list or a mapping"),
        ],
    );
}

#[test]
fn secrets_appear_in_no_message() {
    let file =
        "postgres: { password: [hunter2] }\nopensearch: { url: 'http://u:hunter2@x' , password: 777111 }";
    let shown = Problems(bad(file, &[])).to_string();
    assert!(!shown.contains("hunter2") && !shown.contains("777111"), "{shown}");
}

#[test]
fn an_empty_configuration_says_what_is_needed() {
    let needed = [
        ("postgres.host", "PG_HOST"),
        ("postgres.database", "PG_DATABASE"),
        ("postgres.user", "PG_USER"),
        ("opensearch.url", "OS_HOST"),
        ("tables", "--table"),
    ];
    for file in ["", "# nothing\n", "tables: []\npostgres:\n"] {
        expect(&bad(file, &[]), &needed);
    }
}

#[test]
fn broken_yaml_is_told_with_line_and_column() {
    expect(&bad("postgres:\n  host: [a\n", &[]), &[("config.yaml:3:1", "is not YAML")]);
    expect(&bad("name: a\nname: b\n", &[]), &[("config.yaml:1:1", "duplicate")]);
    expect(&bad("- 1\n", &[]), &[("config.yaml", "not a mapping")]);
}

#[test]
fn the_effective_configuration_names_origins_masks_secrets_and_loads_again() {
    let entry = "{ table: 'public.\"A: b\"', where: \"x = '$${Y}'\", index: a }";
    let file = SMALL.replace("table: public.events", entry);
    let yaml =
        good(&file, &[("PG_PASSWORD", "hunter2"), ("PG2OS_OPENSEARCH__PROXY", "http://u:hunter2@p:1")])
            .to_yaml();
    for line in [
        "name: pg2os  # default\n",
        "  host: localhost  # file\n",
        "  port: 5432  # default\n",
        "  password: \"***\"  # environment PG_PASSWORD\n",
        "  slot: pg2os  # default\n",
        "  proxy: \"http://***@p:1\"  # environment PG2OS_OPENSEARCH__PROXY\n",
        "    on_truncate: delete  # default\n",
        "  - table: \"public.\\\"A: b\\\"\"  # file\n",
    ] {
        assert!(yaml.contains(line), "{line} is not in:\n{yaml}");
    }
    assert!(!yaml.contains("hunter2"));
    let again = good(&yaml, &[]).config;
    assert_eq!(again.tables[0].name, "A: b");
    assert_eq!(again.tables[0].filter.as_deref(), Some("x = '${Y}'"));
}

#[test]
fn a_credential_file_is_its_content_less_one_newline() {
    let path = std::env::temp_dir().join(format!("pg2os-credential-{}", std::process::id()));
    std::fs::write(&path, "s3cret \n\n").unwrap();
    let secret = Credential::File(path.clone()).read().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(secret.expose_secret(), "s3cret \n");
    let error = Credential::File(path.clone()).read().unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn walk(node: &Value, count: &mut usize) {
        for (key, property) in node["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{key} has no description");
            *count += 1;
        }
        for child in node["$defs"].as_object().into_iter().flat_map(|defs| defs.values()) {
            walk(child, count);
        }
    }
    let mut count = 0;
    walk(schema(), &mut count);
    assert!(count > 70, "{count}");
    assert_eq!(schema()["additionalProperties"], false);
}

/// Any small value of any type.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.*\"${}:/-]{0,8}|true|17|-30d".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{1,3}|table|window", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The paths of all values, as JSON pointers.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    for (key, value) in value.as_object().into_iter().flatten() {
        pointers(value, &format!("{at}/{key}"), all);
    }
    for (i, value) in value.as_array().into_iter().flatten().enumerate() {
        pointers(value, &format!("{at}/{i}"), all);
    }
}

proptest! {
    #[test]
    fn a_wrong_value_anywhere_is_a_problem_with_a_place(value in any_value(), at in any::<prop::sample::Index>()) {
        let mut file: Value = yaml_serde::from_str(FULL).unwrap();
        let mut all = Vec::new();
        pointers(&file, "", &mut all);
        *file.pointer_mut(at.get::<String>(&all)).unwrap() = value;
        // JSON is YAML. The walk must leave nothing that cannot be read afterwards.
        for problem in bad(&file.to_string(), &[]) {
            prop_assert_ne!(problem.place, "the configuration");
        }
    }

    #[test]
    fn no_text_makes_loading_panic(text in "[a-z:{}\\[\\]\n &*<!|>'\"-]{0,60}", name in "PG2OS_[A-Z0-9_]{0,12}") {
        let _ = load(&sources(&text, &[(&name, &text)]));
    }
}

#[test]
fn a_bookmark_is_off_or_a_mapping() {
    let file = |bookmark: &str| {
        format!(
            "postgres: {{ host: h, database: d, user: u }}\nopensearch: {{ url: 'http://h:1' }}\ntables: [{{ table: a }}]\n\
             bookmark: {bookmark}"
        )
    };
    let off = good(&file("off"), &[]);
    assert!(
        off.config.bookmark.is_none() && off.to_yaml().contains("bookmark: off  # file"),
        "{}",
        off.to_yaml()
    );
    let by_environment = good(&file("{ keep: 1MB }"), &[("PG2OS_BOOKMARK", "off")]);
    assert!(by_environment.config.bookmark.is_none());
    assert_eq!(good(&file("{ keep: 1MB }"), &[]).config.bookmark.map(|b| b.keep), Some(1_000_000));
    expect(&bad(&file("of"), &[]), &[("bookmark", "did you mean off?")]);
    expect(&bad(&file("{ keeps: 1MB }"), &[]), &[("bookmark.keeps", "did you mean keep?")]);
}

#[test]
fn the_settings_of_a_pyspark_job_are_checked() {
    let of = |more: &str| {
        format!(
            "postgres: {{ host: h, database: d, user: u }}\nopensearch: {{ url: 'http://h:9200' }}\ntables: [{{ table: t, {more} }}]"
        )
    };
    let spark = "documents: spark, spark: { timezone: Asia/Tokyo, cast: { a: double, b: 'array<String>' } }";
    let table = good(&of(spark), &[]).config.tables.remove(0);
    assert_eq!((table.documents, table.id_form), (Documents::Spark, IdForm::Plain));
    assert_eq!((table.spark.timezone.name(), table.spark.jvm_timezone.name()), ("Asia/Tokyo", "Asia/Tokyo"));
    let strings = SparkCast::Array(Box::new(SparkCast::String));
    assert_eq!(table.spark.cast, [("a".to_owned(), SparkCast::Double), ("b".to_owned(), strings)]);
    let problems = bad(
        &of("id_form: spark, spark: { timezone: JST, jvm_timezone: '+09:00', cast: { a: decimal } }"),
        &[],
    );
    let cure = "Etc/GMT-9 for +09:00";
    let places = ["timezone", "jvm_timezone"].map(|key| format!("tables[0].spark.{key}"));
    expect(
        &problems,
        &[(&places[0], cure), (&places[1], cure), ("tables[0].spark.cast.a", "say string, double")],
    );
    expect(&bad(&of("spark: { timezone: UTC }"), &[]), &[("tables[0].spark", "documents: spark")]);
}

//! Layers over the file: environment, expansions, flags.

use super::*;

#[test]
fn environment_is_over_file_and_passwords_replace_password_files() {
    let environment = [
        ("PG_HOST", "a, b"),
        ("PG_PORT", "6432"),
        ("PG_PASSWORD", "s3cret"),
        ("OS_HOST", "os1"),
        ("OS_SCHEME", "https"),
        ("PG2OS_BULK__BYTES", "2MB"),
        ("PG2OS_ON_GAP", "stop"),
        ("PG2OS_BACKFILL__PARALLEL", "4"),
        ("PG2OS_POSTGRES__PUBLICATION", "p1,p2"),
        ("PG2OS_TABLES__0__WINDOW__COLUMN", "d"),
        ("PG2OS_NAME", ""),
        ("HTTP_PROXY", "http://ignored"),
    ];
    let config = good(SMALL, &environment).config;
    assert_eq!((config.postgres.hosts, config.postgres.port), (vec!["a".to_owned(), "b".to_owned()], 6432));
    let Some(Credential::Value(password)) = config.postgres.password else { panic!("no password") };
    assert_eq!(password.expose_secret(), "s3cret");
    assert_eq!(config.opensearch.urls, ["https://os1:9200"]);
    assert_eq!((config.bulk.bytes, config.on_gap, config.backfill.parallel), (2_000_000, OnGap::Stop, 4));
    assert_eq!(config.postgres.publications, ["p1", "p2"]);
    assert_eq!(config.tables[0].window.as_ref().unwrap().column, "d");
    assert_eq!(config.opensearch.proxy, None);
}

#[test]
fn unknown_names_in_the_environment_are_problems_with_a_suggestion() {
    let environment = [
        ("PG2OS_BULK__BYTE", "2MB"),
        ("PG2OS_BULK", "x"),
        ("PG2OS_POSTGRES__PORT", "many"),
        ("OS_PORT", "9200"),
        ("PG2OS_CONFIG", "x"),
        ("PG2OS_TEST_HOME", "x"),
        ("PG2OS_LOG_LEVEL", "x"),
        ("PG2OS_DEV_HOME", "x"),
    ];
    expect(
        &bad(SMALL, &environment),
        &[
            ("PG2OS_BULK__BYTE", "did you mean PG2OS_BULK__BYTES?"),
            ("PG2OS_BULK", "names no key"),
            ("postgres.port", "from environment PG2OS_POSTGRES__PORT"),
            ("OS_PORT", "without OS_HOST"),
        ],
    );
}

#[test]
fn what_kubernetes_sets_for_services_is_no_configuration() {
    let environment = [
        ("PG2OS_SERVICE_HOST", "10.0.0.1"),
        ("PG2OS_SERVICE_PORT_HTTP", "8080"),
        ("PG2OS_PORT", "tcp://10.0.0.1:8080"),
        ("PG2OS_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("PG2OS_METRICS_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("PG_PORT", "tcp://10.0.0.1:5432"),
    ];
    assert_eq!(good(SMALL, &environment).config.postgres.port, 5432);
}

#[test]
fn expansions_take_the_environment_or_their_default() {
    let file = "
postgres: { host: '${DB:-localhost}', port: '${DB_PORT:-6000}', database: 'a${X}b', user: u }
opensearch: { url: http://x }
tables: [{ table: t, where: \"a = '$${X}' or b = $1\" }]
";
    let config = good(file, &[("X", "-"), ("DB", "")]).config;
    assert_eq!((config.postgres.hosts[0].as_str(), config.postgres.port), ("localhost", 6000));
    assert_eq!(config.postgres.database, "a-b");
    assert_eq!(config.tables[0].filter.as_deref(), Some("a = '${X}' or b = $1"));
    expect(&bad(file, &[]), &[("postgres.database", "X is not set")]);
    expect(&bad(&file.replace("a${X}b", "${X"), &[]), &[("postgres.database", "not closed")]);
}

#[test]
fn dates_of_the_batch_pattern_fill_what_windows_leave_open() {
    let file = SMALL.replace("table: public.events", "{ table: a, window: { column: d, from: 2020-01-01 } }");
    let file = format!("{file}  - {{ table: b, window: {{ column: seq, rows: 10 }} }}\n");
    let environment = [("DATE_FROM", "-30d"), ("DATE_TO", "today"), ("BATCH_DAYS", "7")];
    let config = good(&file, &environment).config;
    let window = config.tables[0].window.as_ref().unwrap();
    assert_eq!((window.from.as_deref(), window.to.as_deref()), (Some("2020-01-01"), Some("today")));
    assert_eq!(window.step, WindowStep::Days(7));
    assert_eq!(config.tables[1].window.as_ref().unwrap().from, None);
    expect(&bad(SMALL, &environment[..1]), &[("tables[0].window", "DATE_FROM is set")]);
    expect(&bad(&file, &[("BATCH_DAYS", "0")]), &[("tables[0].window.days", "0 is out of range")]);
}

#[test]
fn one_table_comes_from_flags_over_environment_without_a_file() {
    let environment = [
        ("PG_HOST", "h"),
        ("PG_DATABASE", "d"),
        ("PG_USER", "u"),
        ("OS_HOST", "::1"),
        ("PG2OS_TABLE", "public.old"),
        ("PG2OS_ID", "a,b"),
        ("PG2OS_WINDOW_COLUMN", "day"),
    ];
    let mut sources = sources("", &environment);
    sources.file = None;
    sources.flags.table = vec!["public.events".to_owned()];
    sources.flags.id_form = Some("md5".to_owned());
    let loaded = load(&sources).unwrap_or_else(|p| panic!("{p}"));
    let table = &loaded.config.tables[0];
    assert_eq!((table.name.as_str(), table.id.as_deref().unwrap().len()), ("events", 2));
    assert_eq!((table.id_form, table.window.as_ref().unwrap().step), (IdForm::Md5, WindowStep::Days(30)));
    assert_eq!(loaded.config.opensearch.urls, ["http://[::1]:9200"]);
    let yaml = loaded.to_yaml();
    assert!(yaml.contains("- table: public.events  # flag --table\n"), "{yaml}");
    assert!(yaml.contains("id: [a, b]  # environment PG2OS_ID\n"), "{yaml}");
}

#[test]
fn table_flags_beside_a_file_choose_for_backfill_and_are_refused_elsewhere() {
    let mut sources = sources(SMALL, &[]);
    sources.flags.table = vec!["public.events".to_owned()];
    expect(&load(&sources).err().unwrap().0, &[("--table", "the file has tables")]);
    sources.table_selects = true;
    let config = load(&sources).unwrap_or_else(|p| panic!("{p}")).config;
    assert_eq!(config.select(&["events".to_owned()]).unwrap().tables.len(), 1);
    assert_eq!(config.select(&[]).unwrap().tables.len(), 1);
    expect(
        &config.select(&["public.event".to_owned()]).unwrap_err().0,
        &[("--table", "did you mean public.events?")],
    );
}

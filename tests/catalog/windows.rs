//! Windows over random tables: every row within the bounds is in exactly one, every other row in none.

use crate::support::{in_database, load};
use pg2os::{
    config::{Window, WindowStep},
    source::{divide::Divider, window::WindowRange},
};
use std::hash::{BuildHasher, RandomState};
use tokio_postgres::Client;

const TABLES: u64 = 40;
/// Small enough for tables of a few hundred kilobytes to have many windows.
const MOST_BYTES: u64 = 60_000;

/// Choices that a seed repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A table and how it is to be divided.
#[derive(Debug)]
struct Case {
    setup: String,
    window: Option<Window>,
    /// Rows that the windows are to hold, as SQL.
    inside: String,
    filter: Option<String>,
    is_streamed: bool,
    /// Has half of the table one value, and does the planner know?
    is_skewed: bool,
    has_key: bool,
}

fn case(dice: &mut Dice) -> Case {
    let column_type = dice.one_of(&["integer", "bigint", "date", "timestamp", "timestamptz"]);
    let days = dice.one_of(&[
        "(random() * 4000)::int",
        "CASE WHEN random() < 0.5 THEN 1234 ELSE (random() * 4000)::int END",
        "CASE i WHEN 1 THEN -700000 WHEN 2 THEN 2900000 ELSE (random() * 100)::int END",
        "7",
    ]);
    let value = match column_type {
        "date" => format!("date '1970-01-01' + {days}"),
        "integer" | "bigint" => days.to_owned(),
        other => {
            format!("{other} '1970-01-01 00:00' + ({days}) * interval '1 day' + random() * interval '1 day'")
        }
    };
    let is_number = matches!(column_type, "integer" | "bigint");
    let infinities = if is_number { "" } else { "WHEN i = 3 THEN 'infinity' WHEN i = 4 THEN '-infinity' " };
    let nulls = if dice.chance(40) { "WHEN random() < 0.1 THEN NULL " } else { "" };
    let value = format!("CASE WHEN i < 0 THEN NULL {infinities}{nulls}ELSE {value} END");
    let rows = dice.one_of(&[0, 1, 5, 2_000, 4_000]);
    let (key, keys) = dice.one_of(&[
        ("k uuid", "gen_random_uuid()"),
        ("k text COLLATE \"C\"", "md5(i::text) || '''|\\'"),
        ("k text, l numeric", "(i % 7)::text, i / 10.0"),
        ("k int", "i"),
    ]);
    let has_key = dice.chance(80);
    let primary = key.split(", ").filter_map(|c| c.split(' ').next()).collect::<Vec<_>>().join(", ");
    let constraint = if has_key { format!(", PRIMARY KEY ({primary})") } else { String::new() };
    let (by, partitions) = if dice.chance(30) {
        let hash =
            |n| format!("CREATE TABLE t{n} PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER {n});");
        (" PARTITION BY HASH (k)", (0..3).map(hash).collect::<String>())
    } else {
        ("", String::new())
    };
    let index = if dice.chance(60) { "CREATE INDEX ON t (c);" } else { "" };
    let analyze = dice.chance(70);
    let setup = format!(
        "SELECT setseed({}); CREATE TABLE t ({key}, c {column_type}, pad text{constraint}){by}; {partitions}
         INSERT INTO t SELECT {keys}, {value}, repeat('x', 60) FROM generate_series(1, {rows}) i; {index} {}",
        dice.below(1_000) as f64 / 1_000.0,
        if analyze { "ANALYZE t;" } else { "" }
    );
    let filter = dice.chance(20).then(|| "pad IS NOT NULL AND c IS DISTINCT FROM NULL".to_owned());
    let (mut window, mut inside) = (None, "true".to_owned());
    if dice.chance(70) {
        let step = match is_number {
            true => WindowStep::Rows(dice.one_of(&[1, 30, 500, 1_000_000])),
            false => WindowStep::Days(dice.one_of(&[1, 7, 30, 36_525])),
        };
        let (from, to) = match column_type {
            "date" => ("1971-02-03", "1975-11-30"),
            // Half an hour that a clock in Berlin showed twice in 1980, and one that it never showed.
            "timestamptz" => ("1980-09-28 02:30:00+01:00", "1981-03-29T00:30:00.000001Z"),
            "timestamp" => ("1971-02-03 04:05:06.789", "1975-11-30"),
            _ => ("100", "3000"),
        };
        let (from, to) = (dice.chance(40).then_some(from), dice.chance(40).then_some(to));
        let side = |sign, end: &Option<&str>| end.map(|end| format!(" AND c {sign} '{end}'::{column_type}"));
        inside = [side(">=", &from), side("<", &to)].into_iter().flatten().fold(inside, |a, b| a + &b);
        let owned = |end: Option<&str>| end.map(str::to_owned);
        window = Some(Window { column: "c".into(), step, from: owned(from), to: owned(to) });
    }
    let is_skewed = days.contains("1234") && analyze && rows > 1_000;
    Case { setup, window, inside, filter, is_streamed: dice.chance(60), is_skewed, has_key }
}

/// Rows that are in more or fewer windows than they should be.
async fn misplaced(client: &Client, case: &Case, windows: &[WindowRange]) -> i64 {
    let filter = case.filter.as_deref().unwrap_or("true");
    client.batch_execute("CREATE TEMP TABLE seen (part oid, at tid)").await.unwrap();
    for window in windows {
        let predicate = window.predicate().unwrap_or_else(|| "true".into());
        let sql = format!(
            "INSERT INTO seen SELECT tableoid, ctid FROM public.t WHERE ({filter}) AND ({predicate})"
        );
        client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{predicate}: {e:?}"));
    }
    let inside = &case.inside;
    let sql = format!(
        "SELECT count(*) FROM (SELECT tableoid AS part, ctid AS at, (({filter}) AND ({inside})) IS TRUE AS wanted FROM public.t) t
           FULL JOIN (SELECT part, at, count(*) AS times FROM seen GROUP BY 1, 2) s USING (part, at)
          WHERE coalesce(times, 0) <> coalesce(wanted, false)::int"
    );
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

async fn count(client: &Client, window: &WindowRange) -> i64 {
    let predicate = window.predicate().unwrap_or_else(|| "true".into());
    let sql = format!("SELECT count(*) FROM public.t WHERE {predicate}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_row_within_the_bounds_is_in_exactly_one_window_of_any_table() {
    let seed = match std::env::var("PG2OS_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => RandomState::new().hash_one(0) >> 32,
    };
    println!("PG2OS_TEST_SEED={seed}");
    in_database("", move |db| async move {
        let mut dice = Dice(seed);
        for number in 0..TABLES {
            let client = db.connect().await;
            let case = case(&mut dice);
            let setup = format!("DROP TABLE IF EXISTS t; {}", case.setup);
            client
                .batch_execute(&format!("SET search_path = public; {setup}; SET search_path = pg_catalog"))
                .await
                .unwrap();
            let mut table = load(&client, "t", &[]).await.unwrap();
            table.row_filter.clone_from(&case.filter);
            let divider = Divider {
                client: &client,
                table: &table,
                is_streamed: case.is_streamed,
                most_bytes: MOST_BYTES,
            };
            let divided = divider.divide(case.window.as_ref(), chrono::Utc::now()).await.unwrap();
            let windows = &divided.windows;
            let all: i64 = client.query_one("SELECT count(*) FROM public.t", &[]).await.unwrap().get(0);
            assert!(windows.len() as i64 <= 2 * all + 3, "{} windows of {all} rows: {case:?}", windows.len());
            assert_eq!(misplaced(&client, &case, windows).await, 0, "table {number}: {case:?}\n{divided:?}");
            if case.is_skewed && (case.is_streamed || case.has_key) && case.inside == "true" {
                let mut largest = 0;
                for window in windows {
                    largest = largest.max(count(&client, window).await);
                }
                assert!(
                    largest < all * 45 / 100,
                    "{largest} of {all} rows are in one window: {case:?}\n{divided:?}"
                );
            }
            // Halves of a window hold what it holds.
            if let Some(window) = windows.get(dice.below(windows.len().max(1) as u64) as usize)
                && let Some((first, second)) = divider.halves(&divided.facts, window).await.unwrap()
            {
                let parts = count(&client, &first).await + count(&client, &second).await;
                let whole = count(&client, window).await;
                assert_eq!(whole, parts, "{window:?} and {first:?}, {second:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn keys_are_divided_in_their_own_order_and_not_in_that_of_their_text() {
    let setup = "CREATE TABLE t (k int PRIMARY KEY, c int, pad text);
        INSERT INTO t SELECT i, 7, repeat('x', 60) FROM generate_series(1, 2000) i; ANALYZE t";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let table = load(&client, "t", &[]).await.unwrap();
        let divider = Divider { client: &client, table: &table, is_streamed: false, most_bytes: MOST_BYTES };
        let window = Window { column: "c".into(), step: WindowStep::Rows(100), from: None, to: None };
        let divided = divider.divide(Some(&window), chrono::Utc::now()).await.unwrap();
        assert!((3..=17).contains(&divided.windows.len()), "{:?}", divided.windows);
        for window in &divided.windows {
            // The last one is that of NULLs.
            let rows = count(&client, window).await;
            assert!(rows > 100 || matches!(window, WindowRange::Null { .. }), "{rows} in {window:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_date_from_year_1_makes_no_windows_without_rows() {
    let setup = "CREATE TABLE t (d date PRIMARY KEY);
        INSERT INTO t VALUES ('0001-01-01'), ('9999-12-31'); INSERT INTO t SELECT date '2024-01-01' + i FROM generate_series(1, 300) i; ANALYZE t";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let table = load(&client, "t", &[]).await.unwrap();
        let divider = Divider { client: &client, table: &table, is_streamed: true, most_bytes: 1 << 30 };
        let divided = divider.divide(None, chrono::Utc::now()).await.unwrap();
        assert!(divided.reason.contains("steps of 30 days of d"), "{}", divided.reason);
        assert!((12..=15).contains(&divided.windows.len()), "{:?}", divided.windows);
    })
    .await;
}

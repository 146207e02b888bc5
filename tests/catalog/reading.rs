//! The floor, windows and lookups.

use crate::support::{in_database, load, strings};
use futures_util::TryStreamExt;
use pg2os::{
    config::{Window, WindowStep},
    model::{Lsn, TableSchema, Xid},
    source::{
        copy::{copy_sql, read},
        divide::Divider,
        floor::{snapshot, take_floor, wait_flushed, wait_until_visible},
        lookup::{lookup, lookup_sql},
        window::WindowRange,
    },
};
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::Client;

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_barrier_waits_for_a_transaction_that_was_open_when_the_floor_was_taken() {
    in_database("CREATE TABLE t (id int)", |db| async move {
        let (client, writer) = (db.connect().await, db.connect().await);
        writer.batch_execute("BEGIN; INSERT INTO public.t VALUES (1)").await.unwrap();
        let open: Xid = Xid(text(&writer, "SELECT pg_current_xact_id()::text").await.parse().unwrap());
        let floor = take_floor(&client).await.unwrap();
        assert!(floor.burned > open);
        let waiting = tokio::spawn(async move {
            wait_until_visible(&client, floor.burned).await.unwrap();
            snapshot(&client).await.unwrap()
        });
        tokio::time::sleep(Duration::from_millis(5500)).await;
        assert!(!waiting.is_finished());
        writer.batch_execute("COMMIT").await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
        assert!(read.snapshot.sees(open) && read.snapshot.sees(floor.burned) && read.lsn >= floor.lsn);
        assert!(!read.standby);
    })
    .await;
}

#[tokio::test]
async fn rows_count_only_when_their_wal_is_flushed() {
    in_database("CREATE TABLE t (id int)", |db| async move {
        let (client, writer) = (db.connect().await, db.connect().await);
        // The last record is no commit, and a WAL switch leaves the insert position behind a page header: nobody flushes.
        for wal in ["BEGIN; INSERT INTO public.t VALUES (1)", "COMMIT; SELECT pg_catalog.pg_switch_wal()"] {
            writer.batch_execute(wal).await.unwrap();
            let read = snapshot(&client).await.unwrap();
            client.batch_execute("COMMIT").await.unwrap();
            tokio::time::timeout(Duration::from_secs(5), wait_flushed(&client, &read))
                .await
                .unwrap()
                .unwrap();
            let flushed: Lsn =
                text(&client, "SELECT pg_current_wal_flush_lsn()::text").await.parse().unwrap();
            assert!(flushed >= read.lsn);
        }
    })
    .await;
}

async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let lines: Vec<_> = read(client, sql).await.unwrap().try_collect().await.unwrap();
    lines.iter().map(|l| String::from_utf8(l.to_vec()).unwrap().trim_end().to_owned()).collect()
}

#[tokio::test]
async fn every_row_is_read_by_exactly_one_window() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz, n bigint);
        INSERT INTO t SELECT i, date '2024-01-01' + i, timestamp '2024-01-01' + i * interval '7 hours',
            timestamptz '2024-01-01 05:00+05' + i * interval '5 hours', i * i * 1000 FROM generate_series(1, 300) i;
        INSERT INTO t VALUES (1001, 'infinity', 'infinity', '-infinity', 9223372036854775807),
            (1002, '-infinity', '-infinity', 'infinity', -9223372036854775808), (1003, NULL, NULL, NULL, NULL),
            (1004, '4713-01-01 BC', '4713-01-01 BC', '0044-03-15 12:00 BC', 0),
            (1005, '5874897-12-31', '294276-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00', -1);
        CREATE INDEX ON t (ts);";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let t = load(&client, "t", &[]).await.unwrap();
        let cases = [
            ("d", WindowStep::Days(30), None),
            ("ts", WindowStep::Days(7), None),
            ("tz", WindowStep::Days(1), None),
            ("n", WindowStep::Rows(100_000), None),
            ("d", WindowStep::Days(30), Some("id <= 300")),
            ("tz", WindowStep::Days(1), Some("id <= 300")),
        ];
        for (column, step, filter) in cases {
            let window = Window { column: column.into(), step, from: None, to: None };
            let t = TableSchema { row_filter: filter.map(str::to_owned), ..t.clone() };
            let divider = Divider { client: &client, table: &t, is_streamed: true, most_bytes: 1 << 30 };
            let windows = divider.divide(Some(&window), chrono::Utc::now()).await.unwrap().windows;
            assert!(
                (10..300).contains(&windows.len()),
                "{column}: as many as rows at most, {}",
                windows.len()
            );
            // Many windows take long one by one: the server joins them to the rows instead.
            let arms: Vec<String> = windows.iter().filter_map(WindowRange::predicate).collect();
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for arms in arms.chunks(500) {
                let sum: Vec<String> = arms.iter().map(|p| format!("coalesce(({p})::int, 0)")).collect();
                let sql = format!("COPY (SELECT id, {} FROM public.t) TO STDOUT", sum.join(" + "));
                for row in rows(&client, &sql).await {
                    let (id, count) = row.split_once('\t').unwrap();
                    *seen.entry(id.to_owned()).or_default() += count.parse::<usize>().unwrap();
                }
            }
            assert_eq!(seen.len(), 305);
            assert!(seen.values().all(|n| *n == 1), "{column}: {seen:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_window_is_read_by_copy_with_filter_and_quoted_names() {
    let setup = "CREATE TABLE \"T\" (\"Id\" int PRIMARY KEY, \"a\"\"b\" text); CREATE TABLE child () INHERITS (\"T\");
        INSERT INTO \"T\" VALUES (1, E'x\\ty'), (2, NULL), (3, 'no'); INSERT INTO child VALUES (4, 'child');";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let t = load(&client, "T", &[]).await.unwrap();
        let columns: Vec<&str> = t.columns.iter().map(|c| c.name.as_str()).collect();
        let sql = copy_sql(&t, &columns, Some("\"Id\" < 3"), Some("\"Id\" IS NOT NULL"));
        assert_eq!(rows(&client, &sql).await, ["1\tx\\ty", "2\t\\N"]);
        assert_eq!(
            rows(&client, &copy_sql(&t, &columns, None, None)).await.len(),
            3,
            "children are not its rows"
        );
    })
    .await;
}

#[tokio::test]
async fn rows_are_looked_up_by_key_over_the_keys_index() {
    let setup = "CREATE DOMAIN src AS varchar(20);
        CREATE TABLE t (day date, source src, seq bigint, opt int, body text, PRIMARY KEY (day, source, seq));
        INSERT INTO t SELECT date '2024-01-01' + i % 100, 's' || i % 7, i, nullif(i % 10, 0), repeat('x', 100)
          FROM generate_series(1, 50000) i; ANALYZE t;";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let t = load(&client, "t", &[]).await.unwrap();
        let id = strings(&["day", "source", "seq"]);
        let keys: Vec<Vec<Option<String>>> = (1..=500)
            .map(|i| {
                let day = chrono::NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + chrono::Days::new(i % 100);
                vec![Some(day.to_string()), Some(format!("s{}", i % 7)), Some(i.to_string())]
            })
            .collect();
        let sql = lookup_sql(&t, &["seq"], &id, Some("seq % 2 = 0"), &keys).unwrap();
        let found = lookup(&client, &sql).await.unwrap();
        assert_eq!(found.rows.len(), 250);
        assert!(found.read.snapshot.xmin.0 > 0);
        let begun = std::time::Instant::now();
        lookup(&client, &sql).await.unwrap();
        println!("500 keys of 3 columns: {:?}", begun.elapsed());

        let query = sql.trim_start_matches("COPY (").trim_end_matches(") TO STDOUT");
        let plan: Vec<String> = client
            .query(&format!("EXPLAIN {query}"), &[])
            .await
            .unwrap()
            .iter()
            .map(|r| r.get(0))
            .filter(|line: &String| line.contains("Scan"))
            .collect();
        println!("{}", plan[..3].join("\n"));
        assert!(plan.iter().any(|l| l.contains("Index Scan on t_pkey")), "{plan:?}");
        assert!(!plan.iter().any(|l| l.contains("Seq Scan")), "{plan:?}");

        let nulls =
            [vec![Some("10".into()), None], vec![Some("12".into()), Some("2".into())], vec![None, None]];
        let sql = lookup_sql(&t, &["seq"], &strings(&["seq", "opt"]), None, &nulls).unwrap();
        let mut seqs = lookup(&client, &sql).await.unwrap().rows;
        seqs.sort();
        assert_eq!(seqs, ["10\n", "12\n"]);
        let none = lookup_sql(&t, &["seq"], &id, None, &[]).unwrap();
        assert!(lookup(&client, &none).await.unwrap().rows.is_empty());
    })
    .await;
}

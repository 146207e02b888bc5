//! `verify`: what differs is found, and nothing else, beside a live process and alone; `--repair` makes it right.

use crate::support::{Followed, PATIENCE, World, connect, in_world, rng::Rng};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const SCHEMA: &str = "
CREATE TABLE t (id int, day date NOT NULL, n int, note text, PRIMARY KEY (day, id));
CREATE TABLE hashed (id int PRIMARY KEY, at timestamptz, secret text, n int);
CREATE TABLE routed (id text PRIMARY KEY, tenant text NOT NULL, n int);
ALTER TABLE routed REPLICA IDENTITY FULL;
CREATE TABLE log (id int, n int);
INSERT INTO t SELECT g, '2024-01-01'::date + g % 90, g, 'it''s' FROM generate_series(1, 3000) g;
INSERT INTO hashed SELECT g, CASE WHEN g % 5 > 0 THEN '2024-01-01'::timestamptz + g * interval '1 hour' END, 'x', g
  FROM generate_series(1, 2000) g;
INSERT INTO routed SELECT 'k' || g, 'tenant' || g % 5, g FROM generate_series(1, 1000) g;
INSERT INTO log SELECT g, g FROM generate_series(1, 100) g";

fn tables(world: &World) -> Vec<Followed> {
    vec![
        world
            .followed("t", &["day", "id"])
            .with("where: 'id <> 13'")
            .with("window: { column: day, days: 30 }")
            .holding("SELECT * FROM t WHERE id <> 13"),
        world
            .followed("hashed", &["id"])
            .with("id_form: md5, window: { column: at, days: 7 }")
            .with("columns: { exclude: [secret], rename: { at: '@timestamp' } }"),
        world.followed("routed", &["id"]).with("routing: tenant, settings: { number_of_shards: 3 }"),
        world.followed("log", &["id"]).with("append_only: true, id: [id], id_unique: asserted"),
    ]
}

/// What `verify` says: its exit code, the differences as `kind index/id`, and everything.
async fn verify(world: &World, config: &str, flags: &[&str]) -> (i32, BTreeSet<String>, String) {
    let arguments = [&["verify", "--json"], flags].concat();
    let (code, out) = world.start(config, &arguments).ending(PATIENCE * 4).await;
    let lines = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let named = lines.filter_map(|d| {
        let kind = d["difference"].as_str()?;
        Some(format!("{kind} {}/{}", d["index"].as_str()?, d["id"].as_str()?))
    });
    (code, named.collect(), out)
}

/// Changes rows past id 100 until it is told to stop.
fn write_meanwhile(world: &World) -> (Arc<AtomicBool>, tokio::task::JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (port, name, stopped) = (world.servers.pg_port, world.name.clone(), stop.clone());
    let task = tokio::spawn(async move {
        let client = connect(port, &name).await;
        let (mut rng, mut done) = (Rng::new(7, 0), 0_u64);
        while !stopped.load(Ordering::Relaxed) {
            let (id, n) = (101 + rng.below(2900), rng.below(1000));
            let sql = match rng.below(6) {
                0 => format!("UPDATE t SET n = {n} WHERE id BETWEEN {id} AND {id} + 20"),
                1 => format!("UPDATE t SET day = day + 1 WHERE id = {id}"),
                2 => format!("DELETE FROM t WHERE id = {id}; DELETE FROM hashed WHERE id = {id}"),
                3 => format!(
                    "INSERT INTO t VALUES ({id}, '2024-02-01', {n}, NULL) ON CONFLICT DO NOTHING; \
                     INSERT INTO hashed VALUES ({id}, now(), NULL, {n}) ON CONFLICT DO NOTHING; \
                     INSERT INTO log VALUES ({done} + 1000, {n})"
                ),
                4 => format!("UPDATE hashed SET n = {n}, at = now() WHERE id = {id}"),
                _ => format!(
                    "UPDATE routed SET tenant = 'tenant{}', n = {n} WHERE n > 100 AND id = 'k{id}'",
                    n % 7
                ),
            };
            // A moved row may meet another one.
            done += u64::from(client.batch_execute(&sql).await.is_ok());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        done
    });
    (stop, task)
}

/// Plants documents that are wrong, and returns what `verify` is to say of them.
async fn plant(world: &World) -> BTreeSet<String> {
    let (t, hashed, routed) = (world.index("t"), world.index("hashed"), world.index("routed"));
    let md5 = async |id: u32| world.value(&format!("SELECT md5('{id}')")).await.unwrap();
    let of_t = async |id: u32| {
        world.value(&format!("SELECT day || '|' || id FROM t WHERE id = {id}")).await.unwrap()
    };
    let mut planted = BTreeSet::new();
    let mut note = |kind: &str, index: &str, id: &str| {
        planted.insert(format!("{kind} {index}/{id}"));
    };
    for id in [3, 4] {
        let id = of_t(id).await;
        world.os.call("DELETE", &format!("/{t}/_doc/{}", id.replace('|', "%7C")), Value::Null).await;
        note("missing", &t, &id);
    }
    let stale = of_t(5).await;
    world.os.put_source(&t, &stale, r#"{"id":5,"day":"2024-01-06","n":-5,"note":"it's"}"#.into()).await;
    note("stale", &t, &stale);
    // Its window field is that of another window, and of none.
    let moved = of_t(6).await;
    world.os.put_source(&t, &moved, r#"{"id":6,"day":"2023-01-01","n":6,"note":"it's"}"#.into()).await;
    note("stale", &t, &moved);
    let moved = of_t(7).await;
    world.os.put_source(&t, &moved, r#"{"id":7,"n":7,"note":"it's"}"#.into()).await;
    note("stale", &t, &moved);
    // The row filter leaves its row out; the key of the second is no key.
    for id in [of_t(13).await, "not a key".to_owned(), "2024-01-01|99999".to_owned()] {
        world.os.put_source(&t, &id, r#"{"id":1,"day":"2024-01-05"}"#.into()).await;
        note("extra", &t, &id);
    }
    let id = md5(9).await;
    world.os.call("DELETE", &format!("/{hashed}/_doc/{id}"), Value::Null).await;
    note("missing", &hashed, &id);
    let id = md5(10).await;
    world.os.put_source(&hashed, &id, r#"{"id":10,"n":-10}"#.into()).await;
    note("stale", &hashed, &id);
    let id = md5(999_999).await;
    world.os.put_source(&hashed, &id, r#"{"id":999999,"n":10}"#.into()).await;
    note("extra", &hashed, &id);
    // A copy on another shard than that of its row.
    let copy = json!({"id": "k1", "tenant": "elsewhere", "n": 1});
    world.os.call("PUT", &format!("/{routed}/_doc/k1?routing=elsewhere"), copy).await;
    note("extra", &routed, "k1");
    planted
}

/// The rows of what is planted, which nobody else writes.
async fn is_whole(world: &World, tables: &[Followed]) {
    world.becomes_equal(&tables[..1]).await;
    for (index, sql) in [("hashed", "hashed"), ("routed", "routed"), ("log", "log")] {
        let rows = world.value(&format!("SELECT count(*) FROM {sql}")).await.unwrap();
        assert_eq!(world.os.count(&world.index(index)).await.to_string(), rows, "{index}");
    }
}

#[tokio::test]
async fn planted_differences_are_found_exactly_under_load_and_repaired() {
    in_world(SCHEMA, async |world| {
        let tables = tables(world);
        let config = world.config(&tables, "limits: { late_request_horizon: 1s }");
        let pg2os = world.start(&config, &["run"]);
        for table in ["t", "hashed", "routed", "log"] {
            pg2os.logs(&format!("live table=public.{table}")).await;
        }
        let (stop, writer) = write_meanwhile(world);
        for round in 0..3 {
            let (code, named, out) = verify(world, &config, &[]).await;
            assert_eq!((code, named), (0, BTreeSet::new()), "round {round}: {out}");
        }
        let planted = plant(world).await;
        let (code, named, out) = verify(world, &config, &[]).await;
        assert_eq!((code, &named), (3, &planted), "{out}");
        let (code, named, out) = verify(world, &config, &["--repair"]).await;
        assert_eq!((code, &named), (0, &planted), "{out}");
        let (code, named, out) = verify(world, &config, &[]).await;
        assert_eq!((code, named), (0, BTreeSet::new()), "{out}");
        stop.store(true, Ordering::Relaxed);
        assert!(writer.await.unwrap() > 100);
        pg2os.stop().await;
        world.catch_up(&config).await;
        is_whole(world, &tables).await;
        assert!(world.os.count(&world.index("state")).await > 0);
        let state = world.os.documents(&world.index("state")).await;
        assert!(!state.keys().any(|id| id.contains(":attempt:")), "nothing is left in doubt");
    })
    .await;
}

#[tokio::test]
async fn without_a_live_process_what_was_not_streamed_is_behind_and_the_rest_is_judged() {
    in_world(SCHEMA, async |world| {
        let tables = tables(world);
        let config = world.config(&tables, "limits: { late_request_horizon: 1s }");
        world.catch_up(&config).await;
        world.sql("CREATE TABLE noise AS SELECT 1").await;
        let (code, named, out) = verify(world, &config, &[]).await;
        assert_eq!((code, named), (0, BTreeSet::new()), "{out}");
        assert!(out.contains("no process streams"), "{out}");

        let planted = plant(world).await;
        let (code, named, out) = verify(world, &config, &[]).await;
        assert_eq!((code, &named), (3, &planted), "{out}");

        world.sql("UPDATE hashed SET n = -1 WHERE id < 4").await;
        let of_others: BTreeSet<_> =
            planted.iter().filter(|line| !line.contains("-hashed/")).cloned().collect();
        let (code, named, out) = verify(world, &config, &[]).await;
        assert_eq!((code, &named), (3, &of_others), "{out}");
        assert!(out.contains("\"behind\":6"), "{out}");

        let (code, _, out) = verify(world, &config, &["--repair"]).await;
        assert_eq!(code, 0, "{out}");
        world.catch_up(&config).await;
        let (code, _, out) = verify(world, &config, &["--repair"]).await;
        assert_eq!(code, 0, "{out}");
        is_whole(world, &tables).await;
        let (code, named, out) = verify(world, &config, &[]).await;
        assert_eq!((code, named), (0, BTreeSet::new()), "{out}");
    })
    .await;
}

#[tokio::test]
async fn a_range_and_a_sample_are_parts_of_it() {
    in_world(SCHEMA, async |world| {
        let tables = tables(world);
        let config = world.config(&tables[..2], "");
        world.catch_up(&config).await;
        plant_in_t(world).await;
        let of = |id: &str| format!("missing {}/{id}", world.index("t"));
        let table = ["--table", "public.t"];
        let in_range = async |from: &str, to: &str| {
            let flags = [&table[..], &["--from", from, "--to", to]].concat();
            verify(world, &config, &flags).await
        };
        assert_eq!(in_range("2024-02-01", "2024-03-01").await.1, [of("2024-02-10|40")].into());
        assert_eq!(in_range("2024-02-01", "2024-02-10").await.0, 0);
        let extra = format!("extra {}/2024-03-01|5", world.index("t"));
        assert_eq!(in_range("2024-03-01", "2024-03-02").await.1, [extra].into());

        let (code, _, out) = verify(world, &config, &["--sample", "20"]).await;
        assert!(code == 0 || code == 3, "{out}");
        world
            .os
            .call(
                "POST",
                &format!("/{}/_delete_by_query", world.index("t")),
                json!({"query": {"match_all": {}}}),
            )
            .await;
        let (code, named, out) = verify(world, &config, &["--sample", "50"]).await;
        assert_eq!(code, 3, "{out}");
        assert!((1..=50).contains(&named.len()), "{out}");
    })
    .await;
}

async fn plant_in_t(world: &World) {
    let t = world.index("t");
    world.os.call("DELETE", &format!("/{t}/_doc/2024-02-10%7C40"), Value::Null).await;
    world.os.put_source(&t, "2024-03-01|5", r#"{"id":5,"day":"2024-03-01"}"#.into()).await;
}

#[tokio::test]
async fn a_dead_letter_is_called_one_and_foreign_documents_of_an_adopted_index_are_left_alone() {
    in_world(
        "CREATE TABLE t (id int PRIMARY KEY, n int, f float8); INSERT INTO t VALUES (1, 1, 1), (2, 2000, 2), (3, 3, 3)",
        async |world| {
            let index = world.index("t");
            let mapping = json!({"mappings": {"properties": {"n": {"type": "byte"}}}});
            world.os.call("PUT", &format!("/{index}"), mapping).await;
            world.os.put_source(&index, "foreign", r#"{"n": 1}"#.into()).await;
            let config = world.config(&[world.followed("t", &["id"])], "");
            world.catch_up(&config).await;
            // The same value in other bytes, as another program would write it.
            world.os.put_source(&index, "3", r#"{ "f": 3.0, "n": 3, "id": 3 }"#.into()).await;
            let (code, named, out) = verify(world, &config, &[]).await;
            assert_eq!((code, named), (3, [format!("dead_letter {index}/2")].into()), "{out}");
        },
    )
    .await;
}

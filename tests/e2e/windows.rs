//! Windows: interrupted at any moment, slowed down, split, divided anew; the index becomes the table, and what is done is not
//! done again.

use crate::support::{Followed, PATIENCE, World, in_world, rng::Rng};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const SECONDS: Duration = Duration::from_secs(15);

/// Three tables that are divided in three ways, and how they are followed.
const TABLES: &str = "
CREATE TABLE blocks (k uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int NOT NULL, pad text);
CREATE TABLE days (d date, id int, n int, PRIMARY KEY (d, id));
CREATE TABLE ids (id bigint PRIMARY KEY, n int, ts timestamptz);
INSERT INTO blocks (n, pad) SELECT i, repeat('x', 100) FROM generate_series(1, 6000) i;
INSERT INTO days SELECT date '2024-01-01' + CASE WHEN i % 2 = 0 THEN 77 ELSE i % 300 END, i, i FROM generate_series(1, 6000) i;
INSERT INTO ids SELECT i * 1000, i, '2024-01-01'::timestamptz + i * interval '1 hour' FROM generate_series(1, 6000) i;
INSERT INTO ids VALUES (-5, 0, NULL);
ANALYZE";

fn tables(world: &World) -> [Followed; 3] {
    [
        world.followed("blocks", &["k"]),
        world.followed("days", &["d", "id"]).with("window: { column: d, days: 30 }"),
        world.followed("ids", &["id"]).with("window: { column: ts, days: 30 }"),
    ]
}

/// Slow enough for a test to come between: three tables of about half a megabyte of COPY text.
const SLOW: &str = "backfill: { rate: 250kB, window_bytes: 60kB }";

/// Windows of a table that are recorded as done.
async fn done(world: &World, table: &str) -> usize {
    let documents = world.os.documents(&world.index("state")).await;
    let is_done = |source: &str| {
        let json: serde_json::Value = serde_json::from_str(source).unwrap();
        json["kind"] == "window" && json["table"] == table && json["state"] == "done"
    };
    documents.values().filter(|d| is_done(d.source.get())).count()
}

/// Changes rows of all three tables until told to stop.
async fn write(world: &World, stop: &AtomicBool) {
    let (client, mut rng) = (world.connect().await, Rng::new(6, 1));
    while !stop.load(Ordering::Relaxed) {
        let n = rng.below(6_000);
        let sql = format!(
            "UPDATE blocks SET n = n + 1, pad = pad || 'y' WHERE n = {n}; DELETE FROM blocks WHERE n = {n} + 1;
             INSERT INTO blocks (n) VALUES ({n});
             UPDATE days SET d = d + 31 WHERE id = {n}; DELETE FROM days WHERE id = {n} + 1;
             DELETE FROM ids WHERE id = {n} * 1000; INSERT INTO ids VALUES ({n} * 1000 + 1, {n}, NULL) ON CONFLICT DO NOTHING;
             UPDATE ids SET ts = ts - interval '40 days' WHERE id = ({n} + 2) * 1000"
        );
        client.batch_execute(&sql).await.unwrap();
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

#[tokio::test]
async fn g2_a_fill_that_is_killed_at_random_moments_goes_on_and_the_index_becomes_the_table() {
    in_world(TABLES, async |world| {
        let (tables, stop, mut rng) = (tables(world), AtomicBool::new(false), Rng::new(6, 2));
        let config = world.config(&tables, SLOW);
        let killing = async {
            let (mut went_on, mut kills) = (false, 0);
            while kills < 8 {
                let pg2os = world.start(&config, &["run"]);
                if rng.chance(70) {
                    pg2os.logs(if kills == 0 { "divided: " } else { "streaming from" }).await;
                }
                tokio::time::sleep(Duration::from_millis(rng.below(2_000))).await;
                went_on |= pg2os.log().contains("going on with the windows that are left");
                pg2os.kill();
                kills += 1;
            }
            assert!(went_on, "no process went on with what another had begun");
            world.catch_up(&world.config(&tables, "")).await;
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(killing, write(world, &stop));
        let pg2os = world.start(&config, &["run"]);
        world.becomes_equal(&tables).await;
        let log = pg2os.log();
        assert!(
            !log.contains("divided") && !log.contains("going on"),
            "a finished fill is not repeated:\n{log}"
        );
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn blocks_are_divided_anew_after_a_rewrite_and_columns_after_another_setting() {
    in_world(TABLES, async |world| {
        let tables = tables(world);
        let config = world.config(&tables, SLOW);
        let pg2os = world.start(&config, &["run"]);
        world
            .eventually("a window of each is done", async || {
                done(world, "public.blocks").await > 0 && done(world, "public.days").await > 0
            })
            .await;
        pg2os.kill();
        world.sql("VACUUM FULL blocks").await;
        let config = config.replace("column: d, days: 30", "column: d, days: 7");
        let pg2os = world.start(&config, &["run"]);
        pg2os.logs("it was rewritten (VACUUM FULL, CLUSTER)").await;
        pg2os.logs("`window` was d in steps of 30 days and is d in steps of 7 days now").await;
        world.becomes_equal(&tables).await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_rewritten_while_its_blocks_are_read_is_divided_anew() {
    in_world(TABLES, async |world| {
        let tables = [world.followed("blocks", &["k"])];
        let slower = SLOW.replace("250kB", "50kB");
        let pg2os = world.start(&world.config(&tables, &slower), &["run"]);
        world.eventually("a window is done", async || done(world, "public.blocks").await > 0).await;
        // Rows move to other blocks: those of windows that are done are read again, others would be missed.
        world.sql("DELETE FROM blocks WHERE n % 3 = 0").await;
        world.sql("VACUUM FULL blocks").await;
        pg2os.logs("it was rewritten (VACUUM FULL, CLUSTER)").await;
        world.becomes_equal(&tables).await;
        pg2os.stop().await;
    })
    .await;
}

/// 12 MB of text in 200 kB of blocks: windows take longer than the table's size lets expect.
const COMPRESSED: &str = "CREATE TABLE t (k uuid PRIMARY KEY DEFAULT gen_random_uuid(), pad text);
INSERT INTO t (pad) SELECT repeat(i || 'x ', 4000) FROM generate_series(1, 600) i; ANALYZE";

#[tokio::test]
async fn a_window_that_takes_too_long_is_split_until_none_does() {
    in_world(COMPRESSED, async |world| fills_in_split_windows(world, &["run", "--until-caught-up"]).await)
        .await;
}

#[tokio::test]
async fn a_window_of_a_job_that_takes_too_long_is_split_too() {
    in_world(COMPRESSED, async |world| fills_in_split_windows(world, &["backfill"]).await).await;
}

async fn fills_in_split_windows(world: &World, arguments: &[&str]) {
    let tables = [world.followed("t", &["k"])];
    let slow = "backfill: { rate: 3MB, window_time: 1s }";
    let (code, log) = world.start(&world.config(&tables, slow), arguments).ending(2 * PATIENCE).await;
    assert!(code == 0 && log.contains(" is split"), "{log}");
    world.assert_equal(&tables).await;
}

#[tokio::test]
async fn windows_pause_while_the_slot_holds_back_much_wal_and_say_so() {
    in_world(&format!("{TABLES}; CREATE TABLE other (t text)"), async |world| {
        let tables = tables(world);
        let more = "backfill: { rate: 60kB, window_bytes: 30kB }\nlimits: { retained_wal: 40MB }";
        let pg2os = world.start(&world.config(&tables, more), &["run"]);
        world.eventually("a window is done", async || done(world, "public.blocks").await > 0).await;
        let client = world.connect().await;
        client
            .batch_execute(
                "BEGIN; INSERT INTO other SELECT repeat(md5(i::text), 30) FROM generate_series(1, 25000) i",
            )
            .await
            .unwrap();
        pg2os.logs("windows pause: the slot holds back").await;
        assert!(pg2os.log().contains("over half of limits.retained_wal (40000000)"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let paused = done(world, "public.blocks").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(done(world, "public.blocks").await, paused, "windows are read in a pause");
        client.batch_execute("COMMIT; CHECKPOINT").await.unwrap();
        pg2os.logs("windows go on").await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_window_setting_that_cannot_be_ends_with_one_clear_message() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, d date, s text); CREATE VIEW v AS SELECT 1 AS id";
    in_world(setup, async |world| {
        for (window, words) in [
            ("column: nope", "column `nope` does not exist or is not published; name another"),
            ("column: s", "column `s` is text; take a date, timestamp or integer column"),
            ("column: d, days: 0", "tables[0].window.days: 0 is out of range"),
            ("column: d, rows: 5", "d is a date or timestamp: use `days`"),
            ("column: d, from: 2024-02-01, to: 2024-01-01", "tables[0].window.to: is not after from"),
            ("column: d, from: today, to: 2001-01-01", "is not before `to` (2001-01-01)"),
        ] {
            let followed = world.followed("t", &["id"]).with(&format!("window: {{ {window} }}"));
            let (code, log) = world.start(&world.config(&[followed], ""), &["run"]).ending(SECONDS).await;
            assert!(code == 2 && log.contains(words), "{window}: exit {code}\n{log}");
        }
        let (code, log) =
            world.start(&world.config(&[world.followed("v", &["id"])], ""), &["run"]).ending(SECONDS).await;
        assert!(code == 2 && log.contains("public.v is a view"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn a_statement_timeout_of_the_role_does_not_end_windows() {
    in_world(TABLES, async |world| {
        let sql = format!("ALTER DATABASE {} SET statement_timeout = '300ms'", world.name);
        world.sql(&sql).await;
        let tables = tables(world);
        world.catch_up(&world.config(&tables, "backfill: { rate: 500kB }")).await;
        world.sql(&sql.replace("'300ms'", "0")).await;
        world.assert_equal(&tables).await;
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_says_how_a_table_is_divided_and_why() {
    in_world(TABLES, async |world| {
        let config = world.config(&tables(world), "backfill: { window_bytes: 60kB }");
        let (code, out) = world.start(&config, &["backfill", "--dry-run"]).ending(SECONDS).await;
        assert_eq!(code, 0, "{out}");
        for words in
            ["ranges of its primary key (k)", "ranges of d, as configured", "k [", "ts null", "are split:"]
        {
            assert!(out.contains(words), "lacks {words}:\n{out}");
        }
    })
    .await;
}

//! `backfill --sweep`: deletes are found where nothing was streamed.

use crate::support::{PATIENCE, World, in_world, rng::Rng};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, d date, n int);
INSERT INTO t SELECT i, date '2024-01-01' + i % 200, 0 FROM generate_series(1, 2000) i;
INSERT INTO t VALUES (0, NULL, 0); ANALYZE";
/// Unnoticed without a slot: random rows go, others move to another window, others come.
async fn change(world: &World, rng: &mut Rng) {
    let n = rng.below(10);
    let sql = format!(
        "DELETE FROM t WHERE id % 10 = {n}; UPDATE t SET d = d + 45, n = n + 1 WHERE id % 7 = {n} % 7;
         UPDATE t SET d = NULL WHERE id % 97 = {n}; INSERT INTO t SELECT 5000 + 10 * i + {n}, '2024-03-01', i FROM generate_series(1, 20) i"
    );
    world.sql(&sql).await;
}

async fn backfill(world: &World, config: &str, arguments: &[&str]) -> String {
    let (code, log) = world.start(config, &[&["backfill"], arguments].concat()).ending(PATIENCE).await;
    assert_eq!(code, 0, "{log}");
    log
}

#[tokio::test]
async fn a_sweep_finds_deletes_without_a_stream_and_keeps_what_only_moved() {
    in_world(TABLE, async |world| {
        let window = "window: { column: d, days: 30 }, id_form: md5";
        let (tables, mut rng) =
            ([world.followed("t", &["id"]).with("window: { column: d, days: 30 }")], Rng::new(6, 3));
        let config = world.config(&tables, "");
        backfill(world, &config, &[]).await;
        for _ in 0..2 {
            change(world, &mut rng).await;
            let log = backfill(world, &config, &["--sweep"]).await;
            assert!(log.contains("documents that no window had were looked up"), "{log}");
            world.assert_equal(&tables).await;
        }
        // Documents of which no key can be told are found by the keys of the table.
        let hashed = [world.followed_as("public.t", &["id"], "hashed").with(window)];
        let config = world
            .config(&hashed, "")
            .replace(&format!("name: {}\n", world.name), &format!("name: {}_b\n", world.name));
        backfill(world, &config, &[]).await;
        change(world, &mut rng).await;
        backfill(world, &config, &["--sweep"]).await;
        let rows = world.value("SELECT count(*) FROM t").await.unwrap();
        assert_eq!(world.os.count(&hashed[0].index).await.to_string(), rows);
    })
    .await;
}

#[tokio::test]
async fn a_sweep_of_a_range_leaves_documents_outside_of_it_alone() {
    in_world(TABLE, async |world| {
        let tables = [world.followed("t", &["id"]).with("window: { column: d, days: 30 }")];
        let config = world.config(&tables, "");
        backfill(world, &config, &[]).await;
        // One goes within the range, one outside; one leaves the range, which the range alone would lose.
        world
            .sql("DELETE FROM t WHERE id IN (40, 150); UPDATE t SET d = '2025-01-01', n = 9 WHERE id = 41")
            .await;
        backfill(world, &config, &["--sweep", "--from", "2024-02-01", "--to", "2024-03-01"]).await;
        let index = &tables[0].index;
        assert_eq!(world.os.document(index, "40").await, None);
        assert!(world.os.document(index, "150").await.is_some(), "it is not in the range");
        assert_eq!(world.os.document(index, "41").await.unwrap()["n"], 9);
        backfill(world, &config, &["--sweep"]).await;
        world.assert_equal(&tables).await;
    })
    .await;
}

//! What OpenSearch, and what stands before it, can answer to a bulk request of the program, and that nothing is lost over it
//! (G1). `tests/opensearch/bulk.rs` has every outcome of a single request.

use crate::support::{PATIENCE, World, in_world, process::Pg2os, proxy::Proxy};
use serde_json::{Value, json};
use std::time::Duration;

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, note text); INSERT INTO t SELECT g, 0, 'x' FROM generate_series(1, 2000) g";
const LOUD: &str = "OpenSearch refuses every document for a cause in the target";

async fn proxied(world: &World) -> (Proxy, String) {
    let server = world.servers.os_url.strip_prefix("http://").unwrap().parse().unwrap();
    let proxy = Proxy::start(([127, 0, 0, 1], 0).into(), server).await;
    let config = world.config(&[world.followed("t", &["id"])], "");
    let config = config.replace(&world.servers.os_url, &format!("http://{}", proxy.address()));
    (proxy, config)
}

/// Resident memory in MiB (Linux: proc(5), `VmRSS`).
fn memory(pg2os: &Pg2os) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pg2os.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn g1_a_closed_or_blocked_index_holds_its_lanes_loudly_until_it_is_cured() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        let index = world.index("t");
        let set = async |name: &str, value: Value| {
            world.os.call("PUT", &format!("/{index}/_settings"), json!({ name: value })).await;
        };
        for (n, block) in
            ["index.blocks.write", "index.blocks.read_only", "closed", "index.blocks.read_only_allow_delete"]
                .into_iter()
                .enumerate()
        {
            let loud = pg2os.log().matches(LOUD).count();
            match block {
                "closed" => drop(world.os.call("POST", &format!("/{index}/_close"), Value::Null).await),
                block => set(block, json!(true)).await,
            }
            world.sql(&format!("UPDATE t SET n = {n} + 1; DELETE FROM t WHERE id = {n} + 1")).await;
            // A full disk (429) passes by itself, the others do not.
            let passes = block.ends_with("allow_delete");
            let said = async || {
                let log = pg2os.log();
                if passes { log.contains("did not take a batch") } else { log.matches(LOUD).count() > loud }
            };
            world.eventually(block, said).await;
            match block {
                "closed" => drop(world.os.call("POST", &format!("/{index}/_open"), Value::Null).await),
                block => set(block, Value::Null).await,
            }
            world.becomes_equal(&followed).await;
        }
        pg2os.stop().await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn g1_answers_that_are_none_are_asked_for_again() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let (proxy, config) = proxied(world).await;
        let pg2os = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        for n in 1..=3 {
            proxy.spoil_bulks(10);
            world.sql(&format!("UPDATE t SET n = {n}; DELETE FROM t WHERE id % 7 = {n}; UPDATE t SET id = id + 5000 WHERE id % 50 = {n}")).await;
            world.eventually("all of them came", async || proxy.has_spoiled()).await;
            world.becomes_equal(&followed).await;
        }
        pg2os.stop().await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn g6_memory_stays_flat_while_every_lane_waits_and_nothing_is_lost() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let (proxy, config) = proxied(world).await;
        let pg2os = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        for status in [401, 403, 503, 429] {
            proxy.refuse_bulks(status);
            // More than all queues together may hold.
            let rows = if status == 429 { 16_000 } else { 100 };
            let filled = format!("INSERT INTO t SELECT g, 1, repeat(md5(g::text), 100) FROM generate_series(10000, 10000 + {rows}) g");
            world.sql(&filled).await;
            world.eventually("it says so", async || pg2os.log().contains(&format!("HTTP {status}"))).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let most = memory(&pg2os);
            assert!(most < 100, "{most} MiB");
            world.sql("DELETE FROM t WHERE id >= 10000").await;
            proxy.refuse_bulks(0);
            world.becomes_equal_within(3 * PATIENCE, &followed).await;
        }
        pg2os.stop().await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

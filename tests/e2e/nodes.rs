//! A node of three is stopped with requests in it and goes on when everything has long gone through another one. Only versions
//! that order the changes of one transaction keep what it then executes from being the last word (G3).

use crate::support::{
    Followed, World, eventually, in_world_on,
    process::{Pg2os, signal},
    proxy::Proxy,
    servers::Servers,
};
use serde_json::{Value, json};
use std::time::Duration;

const T: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, note text);
    INSERT INTO t SELECT g, 0, repeat('x', 200) FROM generate_series(1, 6000) g";

/// Each row is changed twice, much else between, so that the first change is in a request when the second one is read.
const TWICE: &str = "BEGIN; UPDATE t SET n = 1 WHERE id % 7 > 0; DELETE FROM t WHERE id % 7 = 0;
    UPDATE t SET n = 2 WHERE id % 5 > 0; DELETE FROM t WHERE id % 5 = 0;
    INSERT INTO t SELECT g, 2, 'again' FROM generate_series(7, 6000, 35) g; COMMIT";

/// The first is never stopped, the second has the primary shard, and the third no shard at all.
const PRIMARY: u8 = 2;
const BYSTANDER: u8 = 3;

/// Three nodes on a busy machine take their time to do without one.
const PATIENCE: Duration = Duration::from_secs(180);

/// The index with its primary shard where it is wanted and its replica on the first node.
async fn prepare(world: &World, index: &str) {
    let two = json!({"persistent": {"cluster.routing.allocation.exclude._name": format!("n{BYSTANDER}")}});
    world.os.call("PUT", "/_cluster/settings", two).await;
    let alone = json!({"settings": {
        "number_of_shards": 1, "number_of_replicas": 0, "index.routing.allocation.require._name": format!("n{PRIMARY}")
    }});
    world.os.call("PUT", &format!("/{index}"), alone).await;
    let two = json!({"index.number_of_replicas": 1, "index.routing.allocation.require._name": null});
    world.os.call("PUT", &format!("/{index}/_settings"), two).await;
    whole(world).await;
}

/// Waits until every node is there and has its shards.
async fn whole(world: &World) {
    let path = "/_cluster/health?wait_for_nodes=3&wait_for_status=green&timeout=60s";
    let health = world.os.call("GET", path, Value::Null).await;
    assert!(health.contains(r#""timed_out":false"#), "{health}");
}

/// Follows `t` through these addresses in small requests, which a stopped node's sockets take whole.
async fn follows(world: &World, t: &Followed, urls: [&str; 2]) -> Pg2os {
    let config = world.config(std::slice::from_ref(t), "bulk: { bytes: 100kB, lanes: 2 }");
    let one = format!("url: '{}'", world.servers.os_url);
    let config = config.replace(&one, &format!("url: ['{}', '{}']", urls[0], urls[1]));
    let pg2os = world.start(&config, &["run"]);
    world.becomes_equal_within(PATIENCE, std::slice::from_ref(t)).await;
    pg2os
}

/// How many actions the copies of the index have refused for their versions so far.
async fn conflicts(world: &World, index: &str) -> u64 {
    let stats = world.os.call("GET", &format!("/{index}/_stats/indexing"), Value::Null).await;
    let stats: Value = serde_json::from_str(&stats).unwrap();
    stats["_all"]["total"]["indexing"]["index_failed"].as_u64().unwrap()
}

/// Number of documents, and the sum of a field, in the copy that a node has.
async fn content(world: &World, index: &str, node: u8) -> (u64, f64) {
    let sum = json!({"size": 0, "track_total_hits": true, "aggs": {"n": {"sum": {"field": "n"}}}});
    let path = format!("/{index}/_search?preference=_only_nodes:n{node}");
    let found: Value = serde_json::from_str(&world.os.call("POST", &path, sum).await).unwrap();
    (found["hits"]["total"]["value"].as_u64().unwrap(), found["aggregations"]["n"]["value"].as_f64().unwrap())
}

#[tokio::test]
async fn g3_requests_that_a_stopped_node_executes_when_it_goes_on_bring_nothing_back() {
    in_world_on(Servers::private_cluster(), T, async |world| {
        let t = world.followed("t", &["id"]);
        prepare(world, &t.index).await;
        let asked = world.servers.node_pid(BYSTANDER);
        let pg2os = follows(world, &t, [&world.servers.node_url(BYSTANDER), &world.servers.os_url]).await;
        signal(asked, "STOP");
        world.sql(TWICE).await;
        eventually("the requests time out", PATIENCE, async || pg2os.log().contains("did not take a batch"))
            .await;
        world.becomes_equal_within(PATIENCE, std::slice::from_ref(&t)).await;
        let before = conflicts(world, &t.index).await;
        signal(asked, "CONT");
        eventually("what was late is executed", PATIENCE, async || conflicts(world, &t.index).await > before)
            .await;
        whole(world).await;
        world.assert_equal(std::slice::from_ref(&t)).await;
        pg2os.stop().await;
    })
    .await;
}

#[tokio::test]
async fn g3_the_primary_shards_node_is_stopped_with_requests_in_it_and_goes_on_as_a_replica() {
    in_world_on(Servers::private_cluster(), T, async |world| {
        let t = world.followed("t", &["id"]);
        prepare(world, &t.index).await;
        let primary = world.servers.node_pid(PRIMARY);
        let asked = world.servers.node_url(BYSTANDER);
        let server = asked.strip_prefix("http://").unwrap().parse().unwrap();
        let network = Proxy::start(([127, 0, 0, 1], 0).into(), server).await;
        let near = format!("http://{}", network.address());
        let pg2os = follows(world, &t, [&near, &world.servers.os_url]).await;
        signal(primary, "STOP");
        world.sql(TWICE).await;
        // They are in the third node, which waits for the second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        network.cut();
        pg2os.logs("did not take a batch").await;
        world.becomes_equal_within(PATIENCE, std::slice::from_ref(&t)).await;
        signal(primary, "CONT");
        whole(world).await;
        world.assert_equal(std::slice::from_ref(&t)).await;
        assert_eq!(content(world, &t.index, 1).await, content(world, &t.index, PRIMARY).await);
        world.sql("UPDATE t SET n = 3 WHERE id % 2 = 0").await;
        world.becomes_equal_within(PATIENCE, std::slice::from_ref(&t)).await;
        pg2os.stop().await;
        assert!(world.dead_letters().await.is_empty());
    })
    .await;
}

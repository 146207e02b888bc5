//! What every scenario has: a cluster, the network between it and pg2os, a process of pg2os, and load.

use crate::{
    cluster::{Cluster, Node},
    load::{Load, schema},
    support::{
        Followed, World, eventually, in_world_on,
        process::Pg2os,
        proxy::Proxy,
        servers::{Servers, script},
    },
};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Short, as nothing but a scenario's own hold makes a request late.
pub(crate) const HORIZON: Duration = Duration::from_secs(1);

/// A resync by a new process waits more than a minute before it sweeps.
const RESYNC: Duration = Duration::from_secs(240);

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Runs a scenario with a cluster of its own, with a table and a permanent slot.
pub(crate) async fn in_cluster(test: impl AsyncFnOnce(&World, &Cluster)) {
    let _turn = ONE_AT_A_TIME.lock().await;
    in_world_on(Servers::patroni(None), &schema(), async |world| {
        let cluster = Cluster::of(&world.servers);
        cluster.keep_slot(&world.slot(), &world.name).await;
        test(world, &cluster).await;
    })
    .await;
}

/// The same with PostgreSQL 18, whose replicas follow the slot by themselves.
pub(crate) async fn in_cluster_with_failover_slots(test: impl AsyncFnOnce(&World, &Cluster)) {
    let _turn = ONE_AT_A_TIME.lock().await;
    let found = script("postgres-complete-get.sh").output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let pgbin = String::from_utf8(found.stdout).unwrap();
    in_world_on(Servers::patroni(Some(pgbin.trim())), &schema(), async |world| {
        let cluster = Cluster::of(&world.servers);
        cluster.configure(json!({"postgresql": {"parameters": {"sync_replication_slots": "on"}}})).await;
        world
            .sql(&format!(
                "SELECT pg_create_logical_replication_slot('{}', 'pgoutput', false, false, true)",
                world.slot()
            ))
            .await;
        test(world, &cluster).await;
    })
    .await;
}

/// What goes before the process: network and configuration.
pub(crate) struct Prepared {
    /// Between pg2os and OpenSearch.
    pub(crate) opensearch: Proxy,
    /// Between pg2os and the nodes, in their order.
    network: Vec<Proxy>,
    tables: [Followed; 1],
    config: String,
}

/// See the module.
pub(crate) struct Scenario<'a> {
    /// The process.
    pub(crate) pg2os: Pg2os,
    /// Between pg2os and OpenSearch.
    pub(crate) opensearch: Proxy,
    network: Vec<Proxy>,
    tables: [Followed; 1],
    config: String,
    load: Option<Load>,
    world: &'a World,
    cluster: &'a Cluster,
}

impl<'a> Scenario<'a> {
    /// pg2os has filled the index and streams.
    pub(crate) async fn start(world: &'a World, cluster: &'a Cluster, horizon: Duration) -> Scenario<'a> {
        let scenario = Self::prepare(world, horizon).await.run(world, cluster);
        scenario.pg2os.logs("the table is filled and live").await;
        // Patroni restarts the replicas for their first copy of a slot that moves.
        cluster.is_whole(&world.slot()).await;
        scenario
    }

    /// Everything but the process.
    pub(crate) async fn prepare(world: &World, horizon: Duration) -> Prepared {
        let port = world.servers.pg_port;
        let mut network = vec![];
        for node in 1..=3 {
            let address = |net: u8| SocketAddr::from((Ipv4Addr::new(127, 0, net, node), port));
            network.push(Proxy::start(address(1), address(0)).await);
        }
        let server = world.servers.os_url.strip_prefix("http://").unwrap();
        let opensearch = Proxy::start(([127, 0, 0, 1], 0).into(), server.parse().unwrap()).await;
        let tables = [world.followed("t", &["id"])];
        let settings = format!(
            "limits: {{ late_request_horizon: {}s }}\nbulk: {{ flush_after: 20ms }}",
            horizon.as_secs()
        );
        let config = world.config(&tables, &settings);
        let config = config.replace(&world.servers.pg_hosts, "127.0.1.1, 127.0.1.2, 127.0.1.3");
        let config = config.replace(&world.servers.os_url, &format!("http://{}", opensearch.address()));
        Prepared { opensearch, network, tables, config }
    }

    /// Starts the load.
    pub(crate) fn load(&mut self, seed: u64) {
        self.load = Some(Load::start(self.world, self.cluster, seed));
    }

    /// The network between pg2os and a node.
    pub(crate) fn network(&self, node: Node) -> &Proxy {
        &self.network[usize::from(node) - 1]
    }

    /// Replicas are cut off: a row that only the leader has is in the index.
    pub(crate) async fn phantoms_arrive(&self, note: &str) {
        let (world, index) = (self.world, &self.tables[0].index);
        let id = 1_000_000;
        world.sql(&format!("INSERT INTO t VALUES ({id}, 1, 'lost {note}')")).await;
        world.sql("UPDATE t SET n = -5 WHERE id < 50; DELETE FROM t WHERE id BETWEEN 50 AND 100").await;
        world
            .eventually("what is going to be lost is in the index", async || {
                // A new index may not answer yet.
                world.os.ask("GET", &format!("/{index}/_doc/{id}"), Value::Null).await.0 == 200
            })
            .await;
    }

    /// Waits until pg2os streams from a leader other than `old`, and says how long that took.
    pub(crate) async fn streams_again(&self, what: &str, old: Node, fault: Instant) {
        let leader = self.cluster.new_leader(old).await;
        let elected = fault.elapsed().as_secs_f32();
        self.cluster.is_streamed_from(&self.world.slot()).await;
        let streaming = fault.elapsed().as_secs_f32();
        eprintln!("{what}: node{leader} leads after {elected:.1} s, pg2os streams after {streaming:.1} s");
    }

    /// The load ends, and the index becomes the table.
    pub(crate) async fn becomes_equal(&mut self) {
        let committed = match self.load.take() {
            Some(load) => load.stop().await,
            None => 0,
        };
        self.becomes_equal_now().await;
        eprintln!("  {committed} transactions; no differences");
    }

    /// The index becomes the table.
    pub(crate) async fn becomes_equal_now(&self) {
        let (world, slot) = (self.world, self.world.slot());
        let end = world.value("pg_current_wal_lsn()").await.unwrap();
        let passed = format!(
            "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{slot}'"
        );
        eventually("the stream has passed everything", RESYNC, async || {
            world.value(&passed).await.as_deref() == Some("true")
        })
        .await;
        world.becomes_equal_within(RESYNC, &self.tables).await;
    }

    /// None of these lines is in the log.
    pub(crate) fn has_not_logged(&self, lines: &[&str]) {
        let log = self.pg2os.log();
        for line in lines {
            assert!(!log.contains(line), "{line:?} in the log:\n{log}");
        }
    }

    /// kill -9 of pg2os; another process begins.
    pub(crate) fn kill_and_start_again(&mut self) {
        let next = self.world.start(&self.config, &["run"]);
        std::mem::replace(&mut self.pg2os, next).kill();
    }

    /// An orderly end of pg2os.
    pub(crate) async fn stop(self) {
        self.pg2os.stop().await;
    }

    /// An orderly end of pg2os alone.
    pub(crate) async fn stop_and_keep(self) -> Prepared {
        let Scenario { pg2os, opensearch, network, tables, config, .. } = self;
        pg2os.stop().await;
        Prepared { opensearch, network, tables, config }
    }
}

impl Prepared {
    /// Starts pg2os.
    pub(crate) fn run<'a>(self, world: &'a World, cluster: &'a Cluster) -> Scenario<'a> {
        let Prepared { opensearch, network, tables, config } = self;
        let pg2os = world.start(&config, &["run"]);
        Scenario { pg2os, opensearch, network, tables, config, load: None, world, cluster }
    }
}

//! Where it happens: pg2os between two servers, a network that can fail on both sides, and whoever starts again what ended.

use crate::{
    load,
    schedule::{Event, Fault, Side},
    support::{
        Followed, World, eventually,
        opensearch::OpenSearch,
        process::{Pg2os, signal, try_signal},
        proxy::Proxy,
        servers::Servers,
    },
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Nothing in the schedule keeps a request longer than this.
const HORIZON: Duration = Duration::from_secs(8);
/// The same where one node of three is stopped.
const CLUSTER_HORIZON: Duration = Duration::from_secs(12);
/// A pause of one node is so much longer than others: the longest ends after the others do without it.
const LONGER: u32 = 3;
/// Enough for a resync with its sweep on a busy machine, while the position does not move.
const RECOVERY: Duration = Duration::from_secs(150);
/// Whoever runs it starts it again after this.
const START_AGAIN: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Field<'a> {
    world: &'a World,
    servers: &'a Servers,
    postgres: Proxy,
    /// One for each node.
    opensearch: Vec<Proxy>,
    tables: Vec<Followed>,
    config: String,
    pg2os: Pg2os,
    /// When it was seen to have ended.
    ended: Option<Instant>,
    processes: u32,
}

/// Both servers run, and nothing is blocked.
pub(crate) async fn heal(servers: &Servers) {
    servers.start_again();
    block(&OpenSearch::new(&servers.os_url), false).await;
}

fn nodes(servers: &Servers) -> std::ops::RangeInclusive<u8> {
    if servers.is_cluster() { 1..=3 } else { 1..=1 }
}

async fn block(opensearch: &OpenSearch, read_only: bool) {
    let settings = json!({"persistent": {"cluster.blocks.read_only": read_only.then_some(true)}});
    opensearch.call("PUT", "/_cluster/settings", settings).await;
}

impl<'a> Field<'a> {
    /// pg2os runs, with a network of its own on both sides.
    pub(crate) async fn start(world: &'a World, servers: &'a Servers) -> Field<'a> {
        let here = ([127, 0, 0, 1], 0).into();
        let postgres = Proxy::start(here, ([127, 0, 0, 1], world.servers.pg_port).into()).await;
        let mut opensearch = vec![];
        for node in nodes(servers) {
            let url = servers.node_url(node);
            let server = url.strip_prefix("http://").unwrap().parse().unwrap();
            opensearch.push(Proxy::start(here, server).await);
        }
        let tables = load::followed(world);
        let horizon = if servers.is_cluster() { CLUSTER_HORIZON } else { HORIZON };
        let settings = format!(
            "{}\nlimits: {{ late_request_horizon: {}s }}",
            crate::tables::SETTINGS,
            horizon.as_secs()
        );
        let config = world.config(&tables, &settings);
        let config = config.replace(
            &format!("port: {}", world.servers.pg_port),
            &format!("port: {}", postgres.address().port()),
        );
        let urls: Vec<String> =
            opensearch.iter().map(|proxy| format!("'http://{}'", proxy.address())).collect();
        let config =
            config.replace(&format!("'{}'", world.servers.os_url), &format!("[{}]", urls.join(", ")));
        let pg2os = world.start(&config, &["run"]);
        Field { world, servers, postgres, opensearch, tables, config, pg2os, ended: None, processes: 1 }
    }

    /// Time passes; pg2os is started again where it gave up.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let begun = Instant::now();
        loop {
            self.supervise();
            if begun.elapsed() >= time {
                return;
            }
            tokio::time::sleep(GLANCE.min(time)).await;
        }
    }

    /// Something that passes may end it with 1, as nobody has to wait for ever at a start; anything else is a defect.
    fn supervise(&mut self) {
        if let Some(status) = self.pg2os.ended() {
            assert_eq!(status.code(), Some(1), "pg2os ended with {status}: {}", self.pg2os.log());
            if self.ended.get_or_insert_with(Instant::now).elapsed() > START_AGAIN {
                self.start_pg2os();
            }
        }
    }

    fn start_pg2os(&mut self) {
        self.pg2os = self.world.start(&self.config, &["run"]);
        self.ended = None;
        self.processes += 1;
    }

    /// Does it to all connections of one side.
    fn network(&self, side: Side, what: impl Fn(&Proxy)) {
        match side {
            Side::Postgres => what(&self.postgres),
            Side::OpenSearch => self.opensearch.iter().for_each(what),
        }
    }

    fn opensearch_pids(&self) -> Vec<u32> {
        if self.servers.is_cluster() {
            nodes(self.servers).map(|node| self.servers.node_pid(node)).collect()
        } else {
            vec![self.servers.opensearch_pid()]
        }
    }

    /// `event` happens, and is over when this returns.
    pub(crate) async fn suffers(&mut self, event: &Event) {
        let lasts = event.lasts;
        match event.fault {
            Fault::KillPg2os => {
                // Dropping it kills it.
                self.start_pg2os();
            }
            Fault::EndPg2os => {
                self.pg2os.terminate();
                let begun = Instant::now();
                while self.pg2os.ended().is_none() {
                    assert!(begun.elapsed() < Duration::from_secs(40), "SIGTERM does not end it");
                    tokio::time::sleep(GLANCE).await;
                }
                self.start_pg2os();
            }
            Fault::PausePg2os => self.pause([self.pg2os.id()], lasts).await,
            Fault::TerminateBackends => {
                let name = &self.world.name;
                let all = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND application_name LIKE 'pg2os%'"
                );
                self.world.sql(&all).await;
            }
            Fault::KillWalsender => {
                if let Some(pid) = self.walsender().await {
                    try_signal(pid, "KILL");
                    self.postgres_is_back().await;
                }
            }
            Fault::PauseWalsender => {
                let pid = self.walsender().await;
                self.pause(pid, lasts).await;
            }
            Fault::KillPostmaster => {
                signal(self.postmaster(), "KILL");
                self.pass(lasts).await;
                self.servers.start_again();
                self.postgres_is_back().await;
            }
            Fault::PausePostmaster => self.pause([self.postmaster()], lasts).await,
            Fault::KillOpenSearch => {
                self.opensearch_pids().into_iter().for_each(|pid| signal(pid, "KILL"));
                self.pass(lasts).await;
                self.servers.start_again();
            }
            Fault::PauseOpenSearch => self.pause(self.opensearch_pids(), lasts).await,
            Fault::KillNode(node) => {
                signal(self.servers.node_pid(node), "KILL");
                self.pass(lasts).await;
                self.servers.start_again();
            }
            Fault::PauseNode(node) => {
                self.pause([self.servers.node_pid(node)], lasts * LONGER).await;
            }
            Fault::Cut(side) => self.network(side, Proxy::cut),
            Fault::CutOften(side) => {
                let begun = Instant::now();
                while begun.elapsed() < lasts {
                    self.network(side, Proxy::cut);
                    self.pass(Duration::from_millis(30)).await;
                }
            }
            Fault::Stall(side) => {
                self.network(side, Proxy::stall);
                self.pass(lasts).await;
                self.network(side, Proxy::go_on);
            }
            Fault::HalfOpen(side) => {
                self.network(side, Proxy::half_open);
                self.pass(lasts).await;
                // Routers forget such connections and say so to whoever uses them.
                self.network(side, Proxy::cut);
            }
            Fault::Slow(side) => {
                self.network(side, |proxy| proxy.slow(Duration::from_millis(50)));
                self.pass(lasts).await;
                self.network(side, |proxy| proxy.slow(Duration::ZERO));
            }
            Fault::Refuse(status) => {
                self.network(Side::OpenSearch, |proxy| proxy.refuse_bulks(status));
                self.pass(lasts).await;
                self.network(Side::OpenSearch, |proxy| proxy.refuse_bulks(0));
            }
            Fault::Block => {
                block(&self.world.os, true).await;
                self.pass(lasts).await;
                block(&self.world.os, false).await;
            }
            Fault::DropSlot => {
                let slot = self.world.slot();
                // The other process takes it at once again, or has not made it yet.
                let drop = format!(
                    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active;
                     SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
                );
                for _ in 0..20 {
                    // It may have been taken between the two.
                    let dropped = self.world.connect().await.batch_execute(&drop).await;
                    if dropped.is_ok() && self.world.of_slot("active").await.is_none() {
                        break;
                    }
                    tokio::time::sleep(GLANCE).await;
                }
            }
        }
    }

    async fn pause(&mut self, pids: impl IntoIterator<Item = u32>, lasts: Duration) {
        // A backend may have ended since it was looked for.
        let stopped: Vec<u32> = pids.into_iter().filter(|pid| try_signal(*pid, "STOP")).collect();
        if !stopped.is_empty() {
            tokio::time::sleep(lasts).await;
            for pid in stopped {
                try_signal(pid, "CONT");
            }
        }
    }

    async fn walsender(&self) -> Option<u32> {
        self.world.of_slot("active_pid").await?.parse().ok()
    }

    fn postmaster(&self) -> u32 {
        let file = self.servers.own_run().join("postgres/data/postmaster.pid");
        std::fs::read_to_string(file).unwrap().lines().next().unwrap().trim().parse().unwrap()
    }

    async fn postgres_is_back(&self) {
        let (port, name) = (self.world.servers.pg_port, &self.world.name);
        eventually("PostgreSQL takes connections", RECOVERY, async || {
            crate::support::try_connect("127.0.0.1", port, name).await.is_ok()
        })
        .await;
    }

    /// All that is broken works again.
    pub(crate) async fn recover(&mut self) {
        self.servers.start_again();
        self.postgres_is_back().await;
        self.supervise();
    }

    /// The stream passes all that was written, every index becomes its table, and the dead letters are those of bad rows.
    pub(crate) async fn becomes_equal(&mut self) {
        let end = self.world.value("pg_current_wal_insert_lsn()").await.unwrap();
        let passed = format!("confirmed_flush_lsn >= '{end}'");
        let (mut moved, mut position) = (Instant::now(), None);
        while self.world.of_slot(&passed).await.as_deref() != Some("true") {
            let now = self.world.of_slot("confirmed_flush_lsn").await;
            if now != position {
                (moved, position) = (Instant::now(), now);
            }
            assert!(moved.elapsed() < RECOVERY, "the stream stays at {position:?} and does not pass {end}");
            self.pass(GLANCE).await;
        }
        self.world.becomes_equal_within(RECOVERY, &self.tables).await;
        self.assert_dead_letters().await;
    }

    async fn assert_dead_letters(&self) {
        let client = self.world.connect().await;
        let rows = client.query("SELECT id::text FROM planted WHERE n > 127", &[]).await.unwrap();
        let planted: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let letters = self.world.dead_letters().await;
        let found: BTreeSet<String> =
            letters.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
        let foreign = letters.iter().find(|letter| letter["index"] != self.world.index("planted"));
        assert!(found == planted && foreign.is_none(), "planted {planted:?}, found {found:?}; {foreign:?}");
    }

    /// pg2os ends in order, and everything is as it was. Returns how many processes of it there were.
    pub(crate) async fn stop(self) -> u32 {
        let Field { world, pg2os, tables, processes, .. } = self;
        pg2os.stop().await;
        world.assert_equal(&tables).await;
        processes
    }
}

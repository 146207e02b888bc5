//! A Patroni cluster of three nodes: what can be done to it, and what it says of itself.

use crate::support::{
    eventually,
    servers::{Servers, run, script},
    try_connect,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};
use tokio_postgres::Client;

/// A failover takes 20 s at least; a busy machine needs a multiple.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// A node that a test has stopped takes connections and does not answer.
const LOGIN: Duration = Duration::from_secs(3);

/// Number of a node, from 1.
pub(crate) type Node = u8;

/// See the module.
#[derive(Clone)]
pub(crate) struct Cluster {
    run: PathBuf,
    pg_port: u16,
    api_port: u16,
    home: String,
    http: reqwest::Client,
}

impl Cluster {
    /// The cluster that is in `servers`.
    pub(crate) fn of(servers: &Servers) -> Cluster {
        let run = servers.own_run().clone();
        let env = fs::read_to_string(run.join("env")).unwrap();
        let value = |name: &str| {
            env.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap().to_owned()
        };
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap();
        let api_port = value("PATRONI_API_PORT").parse().unwrap();
        Cluster { run, pg_port: servers.pg_port, api_port, home: value("PATRONI_HOME"), http }
    }

    fn api(&self, node: Node, path: &str) -> String {
        format!("http://127.0.0.{node}:{}/{path}", self.api_port)
    }

    /// The node that leads by its own words.
    pub(crate) async fn leader(&self) -> Option<Node> {
        for node in 1..=3 {
            let answer = self.http.get(self.api(node, "leader")).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return Some(node);
            }
        }
        None
    }

    /// Waits for a leader other than `old`.
    pub(crate) async fn new_leader(&self, old: Node) -> Node {
        let mut leader = None;
        eventually("there is another leader", PATIENCE, async || {
            leader = self.leader().await.filter(|leader| *leader != old);
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    /// Connects to a node, standby or not.
    pub(crate) async fn connect(&self, node: Node, database: &str) -> Option<Client> {
        let config = format!("host=127.0.0.{node} port={} user=postgres dbname={database}", self.pg_port);
        let connecting = tokio_postgres::connect(&config, tokio_postgres::NoTls);
        let (client, connection) = tokio::time::timeout(LOGIN, connecting).await.ok()?.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// A row count on one node; `None` where it does not answer.
    async fn count(&self, node: Node, sql: &str) -> Option<i64> {
        let client = self.connect(node, "postgres").await?;
        Some(client.query_one(sql, &[]).await.ok()?.get(0))
    }

    /// Changes the cluster's configuration.
    pub(crate) async fn configure(&self, changes: Value) {
        let leader = self.leader().await.unwrap();
        let request = self.http.patch(self.api(leader, "config")).header("content-type", "application/json");
        let answer = request.body(changes.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{changes}");
    }

    /// Makes `slot` a permanent one; returns when it is on every node.
    pub(crate) async fn keep_slot(&self, slot: &str, database: &str) {
        let slots = json!({"slots": {slot: {"type": "logical", "database": database, "plugin": "pgoutput"}}});
        self.configure(slots).await;
        self.is_whole(slot).await;
    }

    /// Waits until all nodes stream and have `slot`, in a copy that may be used after a failover.
    pub(crate) async fn is_whole(&self, slot: &str) {
        let slots =
            format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT temporary");
        let streaming = "SELECT count(*) FROM pg_stat_replication
                          WHERE state = 'streaming' AND application_name LIKE 'node%'";
        eventually("two replicas stream, and the slot is on every node", PATIENCE, async || {
            let Some(leader) = self.leader().await else { return false };
            if self.count(leader, streaming).await != Some(2) {
                return false;
            }
            for node in 1..=3 {
                if self.count(node, &slots).await != Some(1) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    /// Waits until somebody streams from `slot` on the leader.
    pub(crate) async fn is_streamed_from(&self, slot: &str) {
        let active =
            format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
        eventually("the slot is in use on the leader", PATIENCE, async || {
            let Some(leader) = self.leader().await else { return false };
            self.count(leader, &active).await == Some(1)
        })
        .await;
    }

    /// `patronictl switchover`; returns how long the command took.
    pub(crate) async fn switchover(&self, from: Node) -> Duration {
        let to = from % 3 + 1;
        let mut command = Command::new("/usr/bin/python3");
        command.arg(format!("{}/lib/bin/patronictl", self.home));
        command.env("PYTHONPATH", format!("{}/lib", self.home));
        command.arg("-c").arg(self.run.join("node1.yml")).args(["switchover", "--force"]);
        command.args([format!("--leader=node{from}"), format!("--candidate=node{to}")]);
        let begun = Instant::now();
        tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
        begun.elapsed()
    }

    /// Processes of a node: its Patroni, its postmaster, and what that has started.
    fn processes(&self, node: Node) -> (u32, u32, Vec<u32>) {
        let pid = |file: PathBuf| -> u32 {
            fs::read_to_string(file).unwrap().lines().next().unwrap().trim().parse().unwrap()
        };
        let patroni = pid(self.run.join(format!("node{node}.pid")));
        let postmaster = pid(self.run.join(format!("node{node}/data/postmaster.pid")));
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid = entry.unwrap().file_name().to_str()?.parse::<u32>().ok()?;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().any(|line| line == format!("PPid:\t{postmaster}")).then_some(pid)
        });
        (patroni, postmaster, all.collect())
    }

    /// kill -9 of Patroni and postmaster; the server's other processes find out by themselves.
    pub(crate) fn kill(&self, node: Node) {
        let (patroni, postmaster, children) = self.processes(node);
        // Those that a test has stopped would not.
        let stopped = children.into_iter().filter(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("State:\tT"))
        });
        signal("KILL", [patroni, postmaster].into_iter().chain(stopped));
    }

    /// Stops Patroni and PostgreSQL of a node where they stand.
    pub(crate) fn pause(&self, node: Node) {
        let (patroni, postmaster, children) = self.processes(node);
        signal("STOP", [patroni, postmaster].into_iter().chain(children));
    }

    /// Lets them go on.
    pub(crate) fn resume(&self, node: Node) {
        let (patroni, postmaster, children) = self.processes(node);
        signal("CONT", [postmaster, patroni].into_iter().chain(children));
    }

    /// From now on the replicas get nothing from `leader`, though all of them are up.
    pub(crate) async fn cut_replicas_off(&self, leader: Node) {
        let client = self.connect(leader, "postgres").await.unwrap();
        let sql = "SELECT pid FROM pg_stat_replication WHERE application_name LIKE 'node%'";
        let senders = client.query(sql, &[]).await.unwrap();
        assert_eq!(senders.len(), 2);
        signal("STOP", senders.iter().map(|row| row.get::<_, i32>(0).unsigned_abs()));
    }

    /// Starts the Patroni of a node that was killed.
    pub(crate) async fn rejoin(&self, node: Node) {
        let mut command = script("patroni-node.sh");
        command.arg(&self.run).arg(node.to_string());
        tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
    }

    /// Connects to the node that takes writes.
    pub(crate) async fn try_connect(&self, database: &str) -> Result<Client, String> {
        try_connect("127.0.0.1,127.0.0.2,127.0.0.3", self.pg_port, database).await
    }
}

/// Sends a signal to processes; those that have ended meanwhile are none of its business.
fn signal(name: &str, pids: impl IntoIterator<Item = u32>) {
    let pids = pids.into_iter().map(|pid| pid.to_string());
    Command::new("kill").arg(format!("-{name}")).args(pids).output().unwrap();
}

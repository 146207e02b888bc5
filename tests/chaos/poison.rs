//! A document that ends a real node: OpenSearch 2 dies of a StackOverflowError when it reads a `flat_object` 880 deep. Not each
//! time: a stack that has overflowed in one state of the compiler may suffice in another, so that the document may pass in the end.

use crate::support::{eventually, in_world_on, servers::Servers};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

/// The node is started again about six times.
const PATIENCE: Duration = Duration::from_secs(540);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: a node dies and is started again six times; run by make chaos"]
async fn a_document_that_ends_its_node_passes_alone_or_becomes_a_dead_letter() {
    let servers = Arc::new(Servers::private());
    let supervisor = Supervisor::start(servers.clone());
    let schema = "CREATE TABLE t (id int PRIMARY KEY, doc jsonb);
        INSERT INTO t SELECT g, '{\"a\": 1}' FROM generate_series(1, 300) g WHERE g <> 150";
    in_world_on(servers.lend(), schema, async |world| {
        // What is too deep for a flat_object goes into this field, which pg2os itself would not index.
        let mapping = json!({"mappings": {"properties": {"doc__json": {"type": "flat_object"}}}});
        world.os.call("PUT", &format!("/{}", world.index("t")), mapping).await;
        let followed = [world.followed("t", &["id"]).holding("SELECT * FROM t WHERE id <> 150")];
        let pg2os = world.run(&followed);
        world.becomes_equal(&followed).await;
        world
            .sql("UPDATE t SET doc = '{\"a\": 2}'; INSERT INTO t SELECT 150, (repeat('{\"a\":', 880) || 1 || repeat('}', 880))::jsonb")
            .await;
        let index = world.index("t");
        let decided = async || {
            let letters = pg2os.log().matches("error=\"poison\"").count();
            // While the node is down, nothing is.
            let found = reqwest::get(format!("{}/{index}/_doc/150", servers.os_url)).await;
            letters > 0 || found.is_ok_and(|answer| answer.status() == 200)
        };
        eventually("it is in the index or given up", PATIENCE, decided).await;
        eventually("the node is back", PATIENCE, async || {
            reqwest::get(&servers.os_url).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        let letters = world.dead_letters().await;
        let all = [world.followed("t", &["id"])];
        world.becomes_equal_within(PATIENCE, if letters.is_empty() { &all } else { &followed }).await;
        assert!(letters.iter().all(|letter| letter["id"] == "150"), "{letters:?}");
        let deaths = supervisor.deaths.load(Ordering::Acquire);
        eprintln!("the node died {deaths} times; dead letters: {}", letters.len());
        assert!((1..=6).contains(&deaths), "the node died {deaths} times");
        pg2os.stop().await;
    })
    .await;
}

/// Starts the node again whenever it has died; ends with its value.
struct Supervisor {
    stop: Arc<AtomicBool>,
    deaths: Arc<AtomicU32>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Supervisor {
    fn start(servers: Arc<Servers>) -> Supervisor {
        let (stop, deaths) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (stop.clone(), deaths.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", servers.opensearch_pid()));
                if stat.is_ok_and(|stat| !stat.contains(") Z ")) {
                    thread::sleep(Duration::from_millis(200));
                } else {
                    counted.fetch_add(1, Ordering::AcqRel);
                    servers.start_again();
                }
            }
        });
        Supervisor { stop, deaths, thread: Some(thread) }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Its servers are stopped by the test.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

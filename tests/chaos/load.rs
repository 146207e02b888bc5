//! The load: connections that run random transactions whatever happens to their server, one of them large ones and
//! TRUNCATE, and one that plants rows which OpenSearch refuses.

use crate::{
    statements::Statements,
    support::{Followed, World, rng::Rng, try_connect},
    tables,
};
use serde_json::json;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_postgres::Client;

/// Rows that are refused: `n` is a byte in the index. A row never changes from good to bad, so that a refused one has no
/// document.
pub(crate) const PLANTED: &str = "CREATE TABLE planted (id int PRIMARY KEY, n int);
    CREATE TABLE large (id int PRIMARY KEY, n int, note text)";

const CONNECTIONS: u64 = 3;

/// The index of the planted rows.
pub(crate) async fn prepare(world: &World) {
    let mapping = json!({"mappings": {"properties": {"n": {"type": "byte"}}}});
    world.os.call("PUT", &format!("/{}", world.index("planted")), mapping).await;
}

/// All tables as the pipeline follows them.
pub(crate) fn followed(world: &World) -> Vec<Followed> {
    let mut followed = tables::followed(world);
    followed.push(world.followed("large", &["id"]).with("window: { column: id, rows: 20000 }"));
    followed.push(world.followed("planted", &["id"]).holding("SELECT * FROM planted WHERE n < 128"));
    followed
}

/// See the module.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    connections: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    committed: AtomicU64,
    rolled_back: AtomicU64,
    failed: AtomicU64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (committed, rolled_back, failed) =
            (count(&self.committed), count(&self.rolled_back), count(&self.failed));
        write!(f, "{committed} transactions committed, {rolled_back} rolled back, {failed} failed")
    }
}

impl Load {
    /// Starts it.
    pub(crate) fn start(world: &World, seed: u64) -> Load {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let connections = (1..=CONNECTIONS + 2).map(|number| {
            let (port, database) = (world.servers.pg_port, world.name.clone());
            let (stop, counts) = (stop.clone(), counts.clone());
            let mut statements = Statements::new(seed, number);
            let mut rng = Rng::new(seed, number + 100);
            tokio::spawn(async move {
                let mut client = None;
                while !stop.load(Ordering::Relaxed) {
                    let (sql, commits) = match number {
                        ..=CONNECTIONS => statements.transaction(),
                        4 => (large(&mut rng), true),
                        _ => (planted(&mut rng), true),
                    };
                    if number > CONNECTIONS {
                        tokio::time::sleep(Duration::from_millis(rng.below(300))).await;
                    }
                    run(&mut client, port, &database, &sql, commits, &counts).await;
                }
            })
        });
        Load { connections: connections.collect(), stop, counts }
    }

    /// Lets every connection end its transaction.
    pub(crate) async fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        for connection in self.connections {
            connection.await.unwrap();
        }
        self.counts.to_string()
    }
}

/// Runs a transaction once, on a new connection where there is none.
async fn run(
    client: &mut Option<Client>,
    port: u16,
    database: &str,
    sql: &str,
    commits: bool,
    counts: &Counts,
) {
    let Some(connected) = client else {
        *client = try_connect("127.0.0.1", port, database).await.ok();
        tokio::time::sleep(Duration::from_millis(20)).await;
        return;
    };
    let counter = match connected.batch_execute(sql).await {
        Ok(()) if commits => &counts.committed,
        Ok(()) => &counts.rolled_back,
        Err(error) => {
            match error.code().map(|code| code.code().to_owned()) {
                // Two connections want the same key, or each other's rows.
                Some(code) if ["23505", "40P01"].contains(&code.as_str()) => {}
                // The server ends or begins (class 57P), or is gone.
                Some(code) => assert!(code.starts_with("57P") || code.starts_with("08"), "{sql}\n{error:?}"),
                None => assert!(
                    error.is_closed() || error.to_string().contains("communicating"),
                    "{sql}\n{error:?}"
                ),
            }
            if connected.batch_execute("ROLLBACK").await.is_err() {
                *client = None;
            }
            &counts.failed
        }
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A transaction of 1 to 100,000 rows, small ones more often; or a TRUNCATE, alone or with what follows it.
fn large(rng: &mut Rng) -> String {
    let rows = match rng.below(100) {
        0 => 100_000,
        1..5 => 10_000,
        _ => 10_u64.pow(rng.below(4) as u32),
    };
    let (begin, end) = (rng.below(10_000), rows - 1);
    match rng.below(10) {
        0..4 => format!(
            "INSERT INTO large SELECT g, g % 100, 'large ' || g FROM generate_series({begin}, {begin} + {end}) g ON CONFLICT DO NOTHING"
        ),
        4..6 => format!("UPDATE large SET n = n + 1 WHERE id BETWEEN {begin} AND {begin} + {end}"),
        6 => format!("UPDATE large SET id = id + 1000000 WHERE id BETWEEN {begin} AND {begin} + 50
                      AND NOT EXISTS (SELECT FROM large l WHERE l.id = large.id + 1000000)"),
        7..9 => format!("DELETE FROM large WHERE id BETWEEN {begin} AND {begin} + {end}"),
        _ if rng.chance(50) => "TRUNCATE large".to_owned(),
        _ => format!(
            "BEGIN; INSERT INTO large SELECT -g, 0, 'before' FROM generate_series(1, 500) g ON CONFLICT DO NOTHING; TRUNCATE large;
             INSERT INTO large SELECT g, 0, 'after' FROM generate_series({begin}, {begin} + 300) g; COMMIT"
        ),
    }
}

/// A bad row, its cure, or its end; good ones beside them.
fn planted(rng: &mut Rng) -> String {
    let id = rng.below(40);
    match rng.below(6) {
        0..2 => format!("INSERT INTO planted VALUES ({id}, 1000 + {id}) ON CONFLICT DO NOTHING"),
        2 => format!("INSERT INTO planted VALUES ({id}, {}) ON CONFLICT DO NOTHING", rng.below(128)),
        3 => format!("UPDATE planted SET n = {} WHERE id = {id}", rng.below(128)),
        4 => format!("UPDATE planted SET n = n + 1 WHERE id = {id} AND n > 127"),
        _ => format!("DELETE FROM planted WHERE id = {id}"),
    }
}

//! Random changes over several connections, which are made again after every failover. What was lost with a leader is
//! lost: the server that is there says what the rows are.

use crate::{
    cluster::Cluster,
    support::{World, rng::Rng},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// Rows that the table begins with.
pub(crate) const ROWS: u64 = 3000;
const CONNECTIONS: u64 = 3;

/// `big` lies out of line: an update that leaves it alone does not send it, so the row is looked up.
pub(crate) fn schema() -> String {
    format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, n bigint, big text);
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
         INSERT INTO t SELECT g, 0, CASE WHEN g % 4 = 0 THEN repeat(md5(g::text), 90) ELSE 'small' END
           FROM generate_series(1, {ROWS}) g"
    )
}

/// See the module.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    connections: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts.
    pub(crate) fn start(world: &World, cluster: &Cluster, seed: u64) -> Load {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let connections = (1..=CONNECTIONS).map(|number| {
            let (cluster, database) = (cluster.clone(), world.name.clone());
            let (stop, committed) = (stop.clone(), committed.clone());
            tokio::spawn(async move {
                let mut rng = Rng::new(seed, number);
                while !stop.load(Ordering::Relaxed) {
                    // Whoever is in the middle of a failover answers with an error, or not at all.
                    if let Ok(client) = cluster.try_connect(&database).await {
                        write(&client, &mut rng, &stop, &committed).await;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            })
        });
        Load { connections: connections.collect(), stop, committed }
    }

    /// Ends; returns the number of transactions that were committed, or seemed to be.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for connection in self.connections {
            connection.await.unwrap();
        }
        self.committed.load(Ordering::Relaxed)
    }
}

/// Runs transactions until one fails.
async fn write(client: &Client, rng: &mut Rng, stop: &AtomicBool, committed: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let changes = if rng.chance(10) { 50 } else { 1 + rng.below(3) };
        let sql = (0..changes).map(|_| change(rng)).collect::<Vec<_>>().join(";");
        // A server that was stopped keeps its connections open.
        let run = tokio::time::timeout(Duration::from_secs(5), client.batch_execute(&sql));
        if !matches!(run.await, Ok(Ok(()))) {
            return;
        }
        committed.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn change(rng: &mut Rng) -> String {
    let id = 1 + rng.below(ROWS * 5 / 4);
    match rng.below(10) {
        0..3 => format!(
            "INSERT INTO t VALUES ({id}, {}, repeat('x', {})) ON CONFLICT DO NOTHING",
            rng.below(1000),
            rng.below(5) * 1000
        ),
        3..7 => format!("UPDATE t SET n = {} WHERE id = {id}", rng.below(1_000_000)),
        7 => format!(
            "UPDATE t SET id = id + {} WHERE id = {id} AND NOT EXISTS (SELECT FROM t WHERE id = {id} + {0})",
            10 * ROWS
        ),
        _ => format!("DELETE FROM t WHERE id IN ({id}, {})", 10 * ROWS + id),
    }
}

//! Random load: each connection runs transactions of its own sequence of random numbers until it is told to stop.

use super::statements::Statements;
use crate::support::{World, connect};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio_postgres::Client;

/// See the module.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    connections: Vec<tokio::task::JoinHandle<Counts>>,
}

/// What the load did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    committed: u64,
    rolled_back: u64,
    failed: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { committed, rolled_back, failed } = self;
        write!(f, "{committed} transactions committed, {rolled_back} rolled back, {failed} failed")
    }
}

impl Load {
    /// Starts `connections` of them.
    pub(super) fn start(world: &World, seed: u64, connections: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let connections = (1..=connections).map(|number| {
            let (port, database, stop) = (world.servers.pg_port, world.name.clone(), stop.clone());
            tokio::spawn(async move {
                let client = connect(port, &database).await;
                let mut writer =
                    Writer { client, statements: Statements::new(seed, number), counts: Counts::default() };
                while !stop.load(Ordering::Relaxed) {
                    writer.transaction().await;
                }
                writer.counts
            })
        });
        Load { connections: connections.collect(), stop }
    }

    /// Lets every connection end its transaction.
    pub(super) async fn stop(self) -> Counts {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Counts::default();
        for connection in self.connections {
            let counts = connection.await.unwrap();
            all.committed += counts.committed;
            all.rolled_back += counts.rolled_back;
            all.failed += counts.failed;
        }
        all
    }
}

struct Writer {
    client: Client,
    statements: Statements,
    counts: Counts,
}

impl Writer {
    async fn transaction(&mut self) {
        let (sql, commits) = self.statements.transaction();
        match self.client.batch_execute(&sql).await {
            Ok(()) if commits => self.counts.committed += 1,
            Ok(()) => self.counts.rolled_back += 1,
            // Two connections want the same key, or each other's rows; anything else is a mistake in `statements`.
            Err(error) => {
                let code = error.code().unwrap_or_else(|| panic!("{error:?}")).code();
                assert!(["23505", "40P01"].contains(&code), "{sql}\n{error:?}");
                self.client.batch_execute("ROLLBACK").await.unwrap();
                self.counts.failed += 1;
            }
        }
    }
}

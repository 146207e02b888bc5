//! **M9** over the death of a writer beside the live process: what it wrote and did not look at again, another one does.
//!
//! A document that was written at a floor may be of a row that was deleted meanwhile, by a delete that came and was
//! forgotten before it. So a writer looks at the keys again; where it dies before that, its documents are known by their
//! version, which is durable before the first of them.
//!
//! | the writer dies | what the next one finds |
//! |---|---|
//! | before its version is stored | no document of it |
//! | after that, or after some writes | the version, and the lock free: documents with it are looked up by key |
//! | after its deletes, its version still stored | the same again; a lookup of what is right changes nothing |
//! | while it does this for another one | both versions |
//!
//! A writer that lives holds an advisory lock of PostgreSQL, so nobody takes it for dead. One that has lost the lock with its
//! connection can write only what is in its lanes: the next one waits the horizon before it looks.

use super::{beside::Beside, error::PipelineError};
use crate::{
    lanes::TableNo,
    model::Version,
    sink::{AttemptRecord, StateStore, Versions},
    source::advisory,
};
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Instant,
};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// The attempt of this writer, and those that others have left.
pub(super) struct Attempts {
    state: Arc<StateStore>,
    own: Mutex<AttemptRecord>,
    left: Vec<AttemptRecord>,
    begun: Instant,
}

impl Attempts {
    /// Begins an attempt to write `tables`. Its lock lives as long as `primary`'s connection.
    ///
    /// # Errors
    /// One of the servers.
    pub(super) async fn begin(
        primary: &Client,
        state: Arc<StateStore>,
        tables: Vec<String>,
    ) -> Result<Self, PipelineError> {
        let mut left = vec![];
        for attempt in state.attempts().await?.into_iter().map(|stored| stored.record) {
            if advisory::try_lock(primary, attempt.lock).await? {
                left.push(attempt);
            }
        }
        let lock = RandomState::new().hash_one(Instant::now()).cast_signed();
        advisory::try_lock(primary, lock).await?;
        let own = Mutex::new(AttemptRecord { lock, tables, versions: vec![] });
        Ok(Attempts { state, own, left, begun: Instant::now() })
    }

    /// Documents with `version` are about to be written.
    ///
    /// # Errors
    /// It could not be stored.
    pub(super) async fn note(&self, version: Version) -> Result<(), PipelineError> {
        let mut own = self.own.lock().await;
        if !own.versions.contains(&version) {
            own.versions.push(version);
            self.state.write_attempt(&own).await?;
        }
        Ok(())
    }
}

impl Beside {
    /// Ends the attempt, with what others have left: nothing that was written is in doubt any more.
    ///
    /// # Errors
    /// One of the servers; the next writer does it.
    pub(super) async fn finish(&self) -> Result<(), PipelineError> {
        let attempts = &self.attempts;
        for left in &attempts.left {
            let numbers: Option<Vec<TableNo>> =
                left.tables.iter().map(|name| self.tables.find_qualified(name)).collect();
            // Whoever writes all of its tables looks at it.
            let Some(numbers) = numbers else { continue };
            tracing::info!(
                "an earlier command ended before it was done; what it wrote is looked at again, once nothing of it can be executed late"
            );
            tokio::time::sleep_until((attempts.begun + self.config.limits.late_request_horizon).into()).await;
            let client = self.reader().await?;
            for number in numbers {
                let mut listing = Versions::of(&self.client, &self.tables.get(number).target.index).await?;
                while let Some(page) = listing.next_page().await? {
                    let of_it = page.iter().filter(|document| left.versions.contains(&document.version));
                    let ids: Vec<_> =
                        of_it.map(|document| (document.id.as_bytes(), document.routing())).collect();
                    self.rewrite_ids(&client, number, &ids).await?;
                }
            }
            attempts.state.forget_attempt(left).await?;
        }
        let own = attempts.own.lock().await;
        if own.versions.is_empty() { Ok(()) } else { Ok(attempts.state.forget_attempt(&own).await?) }
    }
}

//! The dead letters of a session: made durable before a position moves (G1), resolved by a later success of the same
//! document, and limited, since a wrong mapping should not bury a million rows quietly.

use super::error::PipelineError;
use crate::{
    lanes::{Batch, EntryKind, Target},
    sink::{DeadLetter, DeadLetters, LetterOf, SinkError},
};
use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// See the module.
pub struct Letters {
    store: DeadLetters,
    limit: u64,
    /// Hashes of (index, id) that have a letter.
    open: Mutex<HashSet<u64>>,
}

impl Letters {
    /// The letters of `store`, of which there may be `limit`.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn load(store: DeadLetters, limit: u64) -> Result<Self, SinkError> {
        let letters = store.list(false).await?;
        let open = letters.iter().map(|letter| hash(&letter.index, letter.id.as_bytes())).collect();
        Ok(Letters { store, limit, open: Mutex::new(open) })
    }

    fn open(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for these letters, which are to be written then.
    ///
    /// # Errors
    /// [`PipelineError::DeadLetters`]: the limit is reached; nothing was written.
    pub fn admit(&self, letters: &[DeadLetter]) -> Result<(), PipelineError> {
        let mut open = self.open();
        let hashes: HashSet<u64> = letters.iter().map(|l| hash(&l.index, l.id.as_bytes())).collect();
        let new = hashes.difference(&open).count();
        if new == 0 || (open.len() + new) as u64 <= self.limit {
            open.extend(hashes);
            return Ok(());
        }
        let first = letters.first();
        Err(PipelineError::DeadLetters {
            limit: self.limit,
            reason: first
                .map_or_else(String::new, |l| format!("{}: {}: {}", l.index, l.error_type, l.reason)),
        })
    }

    /// Stores letters that were admitted.
    ///
    /// # Errors
    /// Some may not be stored; to be called again with the same.
    pub async fn write(&self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        self.store.write(letters).await
    }

    /// The batch was answered, and the entries of `buried` alone were refused: whatever succeeded resolves its letter.
    /// A letter that cannot be removed now is resolved by the next success.
    pub async fn resolve<'a>(&self, batch: &Batch, target: impl Fn(u32) -> &'a Target, buried: &[u32]) {
        let resolved: Vec<(u64, LetterOf)> = {
            let open = self.open();
            if open.is_empty() {
                return;
            }
            let done = batch.live(|kind| matches!(kind, EntryKind::Index | EntryKind::Delete));
            let done = done.into_iter().filter(|at| !buried.contains(at));
            done.filter_map(|at| {
                let (entry, index) = (batch.entry(at), &target(at).index);
                let id = batch.id_of(entry);
                let hash = hash(index, id);
                let letter = || LetterOf {
                    index: index.clone(),
                    id: String::from_utf8_lossy(id).into_owned(),
                    version: entry.version,
                };
                open.contains(&hash).then(|| (hash, letter()))
            })
            .collect()
        };
        if resolved.is_empty() {
            return;
        }
        let (hashes, letters): (Vec<_>, Vec<_>) = resolved.into_iter().unzip();
        match self.store.remove(&letters).await {
            Ok(()) => {
                let mut open = self.open();
                hashes.iter().for_each(|hash| {
                    open.remove(hash);
                });
                tracing::info!(letters = letters.len(), "dead letters are resolved by a later success");
            }
            Err(error) => tracing::warn!(%error, "dead letters that are resolved could not be removed"),
        }
    }
}

fn hash(index: &str, id: &[u8]) -> u64 {
    use twox_hash::XxHash3_64;
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(index.as_bytes()), id)
}

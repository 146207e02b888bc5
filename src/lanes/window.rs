//! How the rows of one window are followed until OpenSearch has answered for them.

use crate::model::{Snapshot, Version};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// One reading of a window: the snapshot it sees, the version its rows carry, and the batches its rows are in.
#[derive(Clone, Debug)]
pub struct WindowRows(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    snapshot: Snapshot,
    version: Version,
    batches: AtomicUsize,
    answered: Notify,
}

impl WindowRows {
    /// A reading with `snapshot`, whose rows carry the floor's `version`.
    pub fn new(snapshot: Snapshot, version: Version) -> Self {
        WindowRows(Arc::new(Reading {
            snapshot,
            version,
            batches: AtomicUsize::new(0),
            answered: Notify::new(),
        }))
    }

    /// What the window's rows were read in.
    pub fn snapshot(&self) -> &Snapshot {
        &self.0.snapshot
    }

    /// What the window's rows carry.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Was every batch answered that holds rows of the window?
    pub fn is_answered(&self) -> bool {
        self.0.batches.load(Ordering::Acquire) == 0
    }

    /// Waits until every batch that holds rows of the window was answered. To be called after the last row was queued.
    pub async fn answered(&self) {
        loop {
            // Armed before the test, so that the last answer cannot fall in between.
            let answered = self.0.answered.notified();
            if self.is_answered() {
                return;
            }
            answered.await;
        }
    }

    /// The batch with `windows` takes a row of this window.
    pub(super) fn join(&self, windows: &mut Vec<WindowRows>) {
        if !windows.iter().any(|w| Arc::ptr_eq(&w.0, &self.0)) {
            self.0.batches.fetch_add(1, Ordering::AcqRel);
            windows.push(self.clone());
        }
    }

    /// A batch with rows of this window was answered.
    pub(super) fn leave(&self) {
        self.0.batches.fetch_sub(1, Ordering::AcqRel);
        self.0.answered.notify_waiters();
    }
}

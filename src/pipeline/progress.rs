//! What a session has done so far: counters that progress lines, `status` and tests read.

use crate::sink::Answer;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counters; all of them only grow.
#[derive(Debug, Default)]
pub struct Progress {
    actions: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
    request_micros: AtomicU64,
    conflicts: AtomicU64,
    dead_letters: AtomicU64,
}

impl Progress {
    /// A bulk request was answered.
    pub fn answered(&self, answer: &Answer, actions: usize, bytes: usize, took: Duration) {
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&self.requests, 1);
        add(&self.request_micros, took.as_micros() as u64);
        match answer {
            Answer::AllDone => {
                add(&self.actions, actions as u64);
                add(&self.bytes, bytes as u64);
            }
            Answer::Items(items) => {
                add(&self.actions, (actions - items.len().min(actions)) as u64);
                add(&self.conflicts, items.iter().filter(|(_, o)| matches!(o, crate::sink::Outcome::Conflict { .. })).count() as u64);
            }
            _ => {}
        }
    }

    /// Dead letters were written.
    pub fn buried(&self, letters: u64) {
        self.dead_letters.fetch_add(letters, Ordering::Relaxed);
    }

    /// Actions that were applied.
    pub fn actions(&self) -> u64 {
        self.actions.load(Ordering::Relaxed)
    }

    /// Bytes of bulk bodies that were applied whole.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Dead letters written.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }
}

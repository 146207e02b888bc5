//! What a process remembers from one session to the next. None of it is needed for a session to be right, as any of them
//! may be the first of a process: it spares waiting and reading.

use super::{
    high::{self, Known, Left},
    journal::{Ids, Journal},
};
use crate::{model::Lsn, sink::Checkpoint};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// See the module.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Remembered>);

/// What is remembered.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Until when requests of earlier sessions may be executed late (**M5**).
    pub doubtful_until: Option<Instant>,
    /// The highest position, as the last session knew it (**M7**).
    pub high: Option<Left>,
    /// The ids that were written of late.
    pub journal: Journal,
    /// What is still to be looked up again after a failover that lost commits.
    pub phantoms: Option<Ids>,
}

impl Remembered {
    /// A session with `tables` begins. Returns what is known of the highest position (**M7**), from what is stored,
    /// `raised` and in the checkpoint, and what the process knows better.
    pub fn begin_session(
        &mut self,
        tables: Vec<String>,
        raised: Option<Lsn>,
        checkpoint: Option<&Checkpoint>,
    ) -> Known {
        let high = high::known(raised, checkpoint, self.high);
        self.journal.begin_session(tables, high.at_most);
        if self.high.is_some_and(|own| raised > Some(own.mark.raised)) {
            self.journal.others_wrote(high.at_most);
        }
        high
    }

    /// The server left the known timeline at `fork`: `ids`, which were written past it, are to be looked up again.
    pub fn forked(&mut self, fork: Lsn, ids: Ids) {
        self.journal.forget_above(fork);
        self.phantoms.get_or_insert_default().extend(ids);
    }
}

impl Memory {
    /// Access; not to be held over an await.
    pub fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

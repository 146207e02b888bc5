//! What a process remembers from one session to the next. None of it is needed for a session to be right, as any of them
//! may be the first of a process: it spares waiting and reading.

use super::{
    high::{self, Known, Left},
    journal::{Ids, Journal},
    resume::Resume,
};
use crate::{lanes::Lanes, model::Lsn, sink::Checkpoint};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
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

    /// The session with `lanes` ends, and knows of the highest position what it `left`; no request is executed later than
    /// `horizon` from `now`.
    pub fn end_session(&mut self, lanes: &Lanes, left: Left, horizon: Duration, now: Instant) {
        let in_flight = (!lanes.is_empty()).then(|| now + horizon);
        self.doubtful_until = self.doubtful_until.max(lanes.doubtful_until(now)).max(in_flight);
        self.high = Some(left);
    }

    /// Requests of others may be executed late, until `until`.
    pub fn doubt(&mut self, until: Option<Instant>) {
        self.doubtful_until = self.doubtful_until.max(until);
    }

    /// A session goes on as `resume` says, and all that is durable.
    pub fn resumed(&mut self, resume: &Resume) {
        if let Some(fork) = &resume.fork {
            // What lies above has versions of an epoch that is over.
            self.high = None;
            if let Some(ids) = &fork.ids {
                self.journal.forget_above(fork.at);
                self.phantoms.get_or_insert_default().extend(ids.iter().cloned());
            }
        }
    }
}

impl Memory {
    /// Access; not to be held over an await.
    pub fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

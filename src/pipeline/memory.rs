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

/// What the state index says of positions when a session begins.
#[derive(Clone, Copy, Debug)]
pub struct StoredPositions<'a> {
    /// The highest one that a stream may have written (**M7**).
    pub raised: Option<Lsn>,
    /// The highest one that was written beside the stream, in the last epoch.
    pub beside: Option<Lsn>,
    /// The checkpoint.
    pub checkpoint: Option<&'a Checkpoint>,
    /// Has no other process signed the checkpoint since this one did?
    pub is_own: bool,
}

impl Remembered {
    /// A session with `tables` begins. Returns what is known of the highest position (**M7**), from what is stored, and
    /// what the process knows better.
    pub fn begin_session(&mut self, tables: Vec<String>, stored: &StoredPositions<'_>) -> Known {
        if !stored.is_own {
            // What is remembered is older than what is there.
            (self.high, self.phantoms) = (None, None);
        }
        let high = high::known(stored.raised, stored.beside, stored.checkpoint, self.high);
        self.journal.begin_session(tables, high.at_most);
        if !stored.is_own || self.high.is_some_and(|own| stored.raised > Some(own.mark.raised)) {
            self.journal.others_wrote(high.at_most);
        }
        if let Some(beside) = stored.beside {
            self.journal.others_wrote(beside);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lanes::TableNo, pipeline::position::tests::checkpoint, sink::StoppedHigh};

    const OWN: StoppedHigh = StoppedHigh { exact: Lsn(120), raised: Lsn(900) };

    fn begin(memory: &mut Remembered, beside: Option<u64>, is_own: bool) -> (Lsn, bool) {
        let (raised, checkpoint) = (Some(OWN.raised), &checkpoint(50));
        let beside = beside.map(Lsn);
        let stored = StoredPositions { raised, beside, checkpoint: Some(checkpoint), is_own };
        let known = memory.begin_session(vec!["public.t".into()], &stored);
        (known.at_most, memory.journal.written_above(Lsn(110)).is_some())
    }

    fn memory() -> Remembered {
        let mut memory = Remembered { phantoms: Some(Ids::new()), ..Remembered::default() };
        memory.journal.begin_session(vec!["public.t".into()], Lsn(100));
        memory.journal.write(Lsn(120), std::iter::once((TableNo(0), &b"1"[..], &b""[..])));
        memory.high = Some(Left { timeline: 1, covered: Lsn(120), mark: OWN });
        memory
    }

    #[test]
    fn m7_what_this_process_knows_counts_where_no_other_has_streamed_since() {
        let mut own = memory();
        assert_eq!(begin(&mut own, None, true), (Lsn(120), true));
        assert!(own.phantoms.is_some());
        // Below the mark that this process has raised, another one need not raise it.
        let mut other = memory();
        assert_eq!(begin(&mut other, None, false), (Lsn(900), false));
        assert!(other.phantoms.is_none(), "a repair of another process");
    }

    #[test]
    fn m7_what_was_written_beside_the_stream_counts() {
        assert_eq!(begin(&mut memory(), Some(105), true), (Lsn(120), true));
        assert_eq!(begin(&mut memory(), Some(500), true), (Lsn(500), false));
    }
}

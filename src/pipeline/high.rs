//! **M7**: the highest position whose content may be in the indices, of all processes. Durable before the writes that it
//! covers, so that a timeline that forked below it is known to have left documents of commits that no longer exist.

use super::deliver::pause;
use crate::{
    model::{Epochs, Lsn},
    sink::{Checkpoint, StateStore, StoppedHigh},
    source,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio_postgres::Client;

/// It is raised in steps: a write for every commit would double them. After a crash the mark may lie this much too high.
const STEP: u64 = 16 << 20;

/// The mark as one session knows it. Pure.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    exact: Lsn,
    covered: Lsn,
    raised: Lsn,
    step: u64,
}

impl Mark {
    /// A mark that is raised in steps of `step` bytes, of which `known` is exact as far as this process knows, and nothing
    /// is known to be durable.
    pub fn new(known: Lsn, step: u64) -> Self {
        Mark { exact: known, covered: Lsn::ZERO, raised: Lsn::ZERO, step }
    }

    /// Content up to `lsn` is about to be written, after the mark was raised.
    pub fn cover(&mut self, lsn: Lsn) {
        self.covered = self.covered.max(lsn);
        self.exact = self.exact.max(lsn);
    }

    /// Where to raise the mark, so that it covers `lsn`; `None` where it does.
    pub fn wanted(&self, lsn: Lsn) -> Option<Lsn> {
        (lsn > self.raised).then(|| Lsn(lsn.0 + self.step))
    }

    /// Where to raise it before that is needed, so that nothing waits for it.
    fn wanted_soon(&self) -> Option<Lsn> {
        (self.raised > Lsn::ZERO).then(|| self.wanted(Lsn(self.exact.0 + self.step / 2)))?
    }

    /// It was made durable at `lsn`.
    pub fn raised(&mut self, lsn: Lsn) {
        self.raised = self.raised.max(lsn);
    }

    /// Others write no more. They have raised it to `raised`, and what they wrote lies at or before `end`, the end of the
    /// server's log.
    pub fn others_ended(&mut self, raised: Lsn, end: Lsn) {
        self.raised(raised);
        // But for what was covered before that, or meanwhile.
        self.exact = self.exact.min(end).max(self.covered);
    }

    /// What is known of it now.
    pub fn stopped(&self) -> StoppedHigh {
        StoppedHigh { exact: self.exact, raised: self.raised }
    }

    /// What a session on `timeline` leaves.
    pub fn left(&self, timeline: u32) -> Left {
        Left { timeline, covered: self.covered, mark: self.stopped() }
    }
}

/// See the module.
pub struct HighMark {
    state: Arc<StateStore>,
    epochs: Epochs,
    mark: Mutex<Mark>,
    is_beside: bool,
    raising: tokio::sync::Mutex<()>,
}

impl HighMark {
    /// A mark of which `known` is exact as far as this process knows, and nothing is known to be durable.
    pub fn new(state: Arc<StateStore>, epochs: Epochs, known: Lsn) -> Self {
        let mark = Mutex::new(Mark::new(known, STEP));
        HighMark { state, epochs, mark, is_beside: false, raising: tokio::sync::Mutex::default() }
    }

    /// The mark of those who write beside the stream: exact, as they write long stretches at a time.
    pub fn beside(state: Arc<StateStore>, epochs: Epochs) -> Self {
        let mark = Mutex::new(Mark::new(Lsn::ZERO, 0));
        HighMark { state, epochs, mark, is_beside: true, raising: tokio::sync::Mutex::default() }
    }

    fn mark(&self) -> MutexGuard<'_, Mark> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub fn known(&self) -> Mark {
        *self.mark()
    }

    /// The epochs as they are now: another process may have begun one since.
    pub async fn epochs_now(&self) -> Epochs {
        self.state.epochs_now().await.ok().flatten().unwrap_or_else(|| self.epochs.clone())
    }

    /// Waits until the mark covers `lsn`, for as long as it takes: content up to there is about to be written.
    pub async fn cover(&self, lsn: Lsn) {
        self.mark().cover(lsn);
        self.raise(|mark| mark.wanted(lsn)).await;
    }

    /// Raises the mark before it is needed.
    pub async fn keep_ahead(&self) {
        self.raise(Mark::wanted_soon).await;
    }

    async fn raise(&self, wanted: impl Fn(&Mark) -> Option<Lsn>) {
        if wanted(&self.mark()).is_none() {
            return;
        }
        let _one_at_a_time = self.raising.lock().await;
        let mut attempt = 0;
        loop {
            // The lock is not held while it is written.
            let wanted = wanted(&self.mark());
            let Some(wanted) = wanted else { return };
            let raised = if self.is_beside {
                self.state.raise_high_beside(wanted, &self.epochs).await
            } else {
                self.state.raise_high(wanted, &self.epochs).await
            };
            match raised {
                Ok(()) => self.mark().raised(wanted),
                Err(error) => {
                    tracing::warn!(%error, "the highest position cannot be written, so nothing is sent");
                    attempt += 1;
                    pause(attempt).await;
                }
            }
        }
    }

    /// At `time` others write no more; what they wrote lies at or before the end of the server's log, which is returned. A
    /// process that was killed has left the mark a step too high. `None` where a server does not answer.
    pub async fn learn_what_others_left(&self, time: Option<Instant>, control: &Client) -> Option<Lsn> {
        tokio::time::sleep_until(time?.into()).await;
        let raised = self.state.high().await.ok()?.map_or(Lsn::ZERO, |stored| stored.record.lsn);
        let end = source::position::log_end(control).await.ok()?.insert;
        self.mark().others_ended(raised, end);
        Some(end)
    }
}

/// What is known of the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Nothing above it may be in the indices.
    pub at_most: Lsn,
    /// The source has had it: on a timeline that is still the same, its log goes on from there.
    pub at_least: Lsn,
}

/// What the last session of this process knew when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its timeline.
    pub timeline: u32,
    /// What it had seen of that.
    pub covered: Lsn,
    /// The mark.
    pub mark: StoppedHigh,
}

/// The mark at the start of a session: exact where the one who raised it last says so, which is this process (`own`) or
/// one that stopped in order; else what is stored. Never below what was written `beside` the stream.
pub fn known(
    stored: Option<Lsn>,
    beside: Option<Lsn>,
    checkpoint: Option<&Checkpoint>,
    own: Option<Left>,
) -> Known {
    let stored = stored.unwrap_or(Lsn::ZERO);
    let stopped = checkpoint.and_then(|checkpoint| checkpoint.high);
    let last = [own.map(|left| left.mark), stopped].into_iter().flatten().find(|by| stored <= by.raised);
    let acknowledged = checkpoint.map_or(Lsn::ZERO, |checkpoint| checkpoint.lsn);
    let same = own.filter(|left| checkpoint.is_some_and(|checkpoint| checkpoint.timeline == left.timeline));
    Known {
        at_most: last.map_or(stored, |by| by.exact).max(acknowledged).max(beside.unwrap_or_default()),
        at_least: same.map_or(Lsn::ZERO, |left| left.covered).max(acknowledged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::position::tests::checkpoint;

    #[test]
    fn m7_the_mark_is_exact_where_its_last_writer_says_so() {
        let by = |exact, raised| StoppedHigh { exact: Lsn(exact), raised: Lsn(raised) };
        let left = |high| Some(Checkpoint { high, ..checkpoint(50) });
        for (stored, checkpoint, own, expected) in [
            (None, None, None, 0),
            (None, left(None), None, 50),
            (Some(900), left(None), None, 900),
            (Some(900), left(Some(by(120, 900))), None, 120),
            (Some(901), left(Some(by(120, 900))), None, 901),
            (Some(900), left(None), Some(by(130, 900)), 130),
            (Some(901), left(None), Some(by(130, 900)), 901),
            (Some(900), left(Some(by(10, 900))), None, 50),
        ] {
            let own = own.map(|mark| Left { timeline: 1, covered: Lsn::ZERO, mark });
            let known = |beside| known(stored.map(Lsn), beside, checkpoint.as_ref(), own).at_most;
            assert_eq!(known(None), Lsn(expected), "{stored:?} {own:?}");
            assert_eq!(known(Some(Lsn(125))), Lsn(expected.max(125)), "{stored:?} {own:?}");
        }
    }

    #[test]
    fn what_the_source_has_had_is_of_the_timeline_of_the_checkpoint() {
        let mark = StoppedHigh { exact: Lsn(800), raised: Lsn(900) };
        let left = |timeline| Some(Left { timeline, covered: Lsn(130), mark });
        let here = Checkpoint { high: Some(mark), ..checkpoint(50) };
        for (checkpoint, own, expected) in [
            (None, None, 0),
            (None, left(1), 0),
            (Some(&here), None, 50),
            (Some(&here), left(1), 130),
            (Some(&here), left(2), 50),
        ] {
            assert_eq!(known(Some(Lsn(900)), None, checkpoint, own).at_least, Lsn(expected), "{own:?}");
        }
    }
}

//! **M7**: the highest position whose content may be in the indices, of all processes. Durable before the writes that it
//! covers, so that a timeline that forked below it is known to have left documents of commits that no longer exist.

use super::deliver::pause;
use crate::{
    model::{Epochs, Lsn},
    sink::{Checkpoint, StateStore, StoppedHigh},
    source,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// It is raised in steps: a write for every commit would double them. After a crash the mark may lie this much too high.
const STEP: u64 = 16 << 20;

/// See the module.
pub struct HighMark {
    state: Arc<StateStore>,
    epochs: Epochs,
    exact: AtomicU64,
    covered: AtomicU64,
    raised: AtomicU64,
    raising: Mutex<()>,
}

impl HighMark {
    /// A mark of which `known` is exact as far as this process knows, and nothing is known to be durable.
    pub fn new(state: Arc<StateStore>, epochs: Epochs, known: Lsn) -> Self {
        HighMark {
            state,
            epochs,
            exact: AtomicU64::new(known.0),
            covered: AtomicU64::new(0),
            raised: AtomicU64::new(0),
            raising: Mutex::new(()),
        }
    }

    /// Waits until the mark covers `lsn`, for as long as it takes: content up to there is about to be written.
    pub async fn cover(&self, lsn: Lsn) {
        self.covered.fetch_max(lsn.0, Ordering::AcqRel);
        self.exact.fetch_max(lsn.0, Ordering::AcqRel);
        self.raise_above(lsn).await;
    }

    /// Raises the mark before it is needed, so that nothing waits for it.
    pub async fn keep_ahead(&self) {
        let exact = self.exact.load(Ordering::Acquire);
        if self.raised.load(Ordering::Acquire) != 0 {
            self.raise_above(Lsn(exact + STEP / 2)).await;
        }
    }

    async fn raise_above(&self, lsn: Lsn) {
        if lsn.0 <= self.raised.load(Ordering::Acquire) {
            return;
        }
        let _one_at_a_time = self.raising.lock().await;
        let mut attempt = 0;
        while lsn.0 > self.raised.load(Ordering::Acquire) {
            let wanted = Lsn(lsn.0 + STEP);
            match self.state.raise_high(wanted, &self.epochs).await {
                Ok(()) => {
                    self.raised.fetch_max(wanted.0, Ordering::AcqRel);
                }
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
        self.raised.fetch_max(raised.0, Ordering::AcqRel);
        self.exact.fetch_min(end.0, Ordering::AcqRel);
        // What was covered before that, or meanwhile.
        self.exact.fetch_max(self.covered().0, Ordering::AcqRel);
        Some(end)
    }

    /// What this session has seen of its source, and is durable there.
    pub fn covered(&self) -> Lsn {
        Lsn(self.covered.load(Ordering::Acquire))
    }

    /// What is known of it now.
    pub fn stopped(&self) -> StoppedHigh {
        StoppedHigh {
            exact: Lsn(self.exact.load(Ordering::Acquire)),
            raised: Lsn(self.raised.load(Ordering::Acquire)),
        }
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
/// one that stopped in order; else what is stored.
pub fn known(stored: Option<Lsn>, checkpoint: Option<&Checkpoint>, own: Option<Left>) -> Known {
    let stored = stored.unwrap_or(Lsn::ZERO);
    let stopped = checkpoint.and_then(|checkpoint| checkpoint.high);
    let last = [own.map(|left| left.mark), stopped].into_iter().flatten().find(|by| stored <= by.raised);
    let acknowledged = checkpoint.map_or(Lsn::ZERO, |checkpoint| checkpoint.lsn);
    let same = own.filter(|left| checkpoint.is_some_and(|checkpoint| checkpoint.timeline == left.timeline));
    Known {
        at_most: last.map_or(stored, |by| by.exact).max(acknowledged),
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
            let known = known(stored.map(Lsn), checkpoint.as_ref(), own);
            assert_eq!(known.at_most, Lsn(expected), "{stored:?} {own:?}");
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
            assert_eq!(known(Some(Lsn(900)), checkpoint, own).at_least, Lsn(expected), "{own:?}");
        }
    }
}

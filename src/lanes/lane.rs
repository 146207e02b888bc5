//! The lanes themselves: open batches that the reader thread and the window readers write into and the senders take.

use super::{
    action::{Action, Change, TableNo, Target},
    batch::{Batch, SealedBody},
    doubt::Doubts,
    guard::{Guard, Verdict},
    repeat::Repeats,
    window::WindowRows,
};
use crate::{
    ack::Tracker,
    model::{Version, Xid},
};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How much a lane may hold.
#[derive(Clone, Copy, Debug)]
pub struct LaneLimits {
    /// Number of lanes.
    pub lanes: usize,
    /// Bytes at which a batch is closed.
    pub batch_bytes: usize,
    /// Actions at which a batch is closed.
    pub batch_actions: usize,
    /// Age at which a batch is sent although it is not full.
    pub flush_after: Duration,
    /// Deleted ids that the guards of all lanes may keep together.
    pub guarded_deletes: usize,
    /// Bytes of the deletes of all lanes that may wait to be repeated.
    pub repeat_bytes: usize,
    /// No request is executed later than this after it was sent (`limits.late_request_horizon`).
    pub horizon: Duration,
}

/// Ids of all lanes together that can be in doubt one by one; beyond that all of them are.
const DOUBTFUL_IDS: usize = 200_000;

/// What became of a window's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowPushed {
    /// It is queued, or a newer action of its id is.
    Queued,
    /// It was deleted since the window's snapshot.
    Dropped,
    /// The lane is full: wait for [`Lanes::room`] of it and push again.
    Full(usize),
    /// The window must be read again in a later snapshot.
    ReadAgain,
}

/// What the sender of a lane is to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is moved once per batch")]
pub enum Ready {
    /// Deliver it, then [`Lanes::answered`].
    Batch(Batch),
    /// Ask again when the lane was filled, or at the time.
    Later(Option<Instant>),
}

/// A moment in every lane's queue.
#[derive(Debug)]
pub struct FlushMark(Vec<u64>);

/// All lanes of a session.
#[derive(Debug)]
pub struct Lanes {
    lanes: Box<[Lane]>,
    tracker: Mutex<Tracker>,
    limits: LaneLimits,
}

#[derive(Debug)]
struct Lane {
    state: Mutex<State>,
    /// The open batch got its first action, or became full.
    filled: Notify,
    /// The open batch was taken.
    room: Notify,
    room_sync: Condvar,
}

#[derive(Debug)]
struct State {
    open: Batch,
    opened: Option<Instant>,
    spare: Vec<Batch>,
    /// Batches taken and batches answered so far; one at most is in flight.
    taken: u64,
    answered: u64,
    guard: Guard,
    doubts: Doubts,
    repeats: Repeats,
    /// Is any table still being read in windows?
    guarding: bool,
}

impl Lanes {
    /// Empty lanes, for a stream whose position is followed by `tracker`. Until `doubtful` requests of earlier senders may
    /// be executed late.
    pub fn new(limits: LaneLimits, tracker: Tracker, guarding: bool, doubtful: Option<Instant>) -> Self {
        let lane = || Lane {
            state: Mutex::new(State {
                open: Batch::default(),
                opened: None,
                spare: vec![Batch::default()],
                taken: 0,
                answered: 0,
                guard: Guard::new(limits.guarded_deletes / limits.lanes),
                doubts: Doubts::new(limits.horizon, doubtful, DOUBTFUL_IDS / limits.lanes),
                repeats: Repeats::new(limits.repeat_bytes / limits.lanes),
                guarding,
            }),
            filled: Notify::new(),
            room: Notify::new(),
            room_sync: Condvar::new(),
        };
        Lanes { lanes: (0..limits.lanes).map(|_| lane()).collect(), tracker: Mutex::new(tracker), limits }
    }

    /// Number of lanes.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The tracker of the stream's position.
    pub fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an action of the transaction that is open in the stream.
    ///
    /// # Errors
    /// The number of the lane that is full.
    pub fn push_change(&self, action: &Action<'_>, xid: Xid) -> Result<(), usize> {
        let hash = action.target.hash(action.id);
        let number = self.lane_of(hash);
        let lane = &self.lanes[number];
        let mut state = lane.state();
        if self.is_full(&state.open) {
            return Err(number);
        }
        // A lookup may find nothing, and then counts as a delete.
        if state.guarding && matches!(action.change, Change::Delete | Change::Lookup(_)) {
            state.guard.delete(hash, xid, action.version);
        }
        if state.open.ticket.is_none() {
            state.open.ticket = Some(self.tracker().ticket());
        }
        state.open.push(action, hash);
        self.note_push(lane, &mut state);
        Ok(())
    }

    /// Queues a row of a window, unless the guard says otherwise.
    pub fn push_row(&self, action: &Action<'_>, window: &WindowRows) -> RowPushed {
        let hash = action.target.hash(action.id);
        let number = self.lane_of(hash);
        let lane = &self.lanes[number];
        let mut state = lane.state();
        let pushed = match state.guard.verdict(action.target.table, hash, window) {
            Verdict::ReadAgain => return RowPushed::ReadAgain,
            Verdict::Pass if self.is_full(&state.open) => return RowPushed::Full(number),
            Verdict::Pass => {
                state.open.push(action, hash);
                RowPushed::Queued
            }
            Verdict::Drop => RowPushed::Dropped,
        };
        // Where it was swallowed or dropped as well: until what is above it is answered, a failover can take that back.
        window.join(&mut state.open.windows);
        self.note_push(lane, &mut state);
        pushed
    }

    /// A TRUNCATE of `table` was streamed; see [`Guard::truncate`].
    pub fn guard_truncate(&self, table: TableNo, xid: Xid, version: Version) {
        for lane in &self.lanes {
            let mut state = lane.state();
            if state.guarding {
                state.guard.truncate(table, xid, version);
            }
        }
    }

    /// Lets the guards go of what every open and later window sees.
    pub fn prune_guards(&self, xmin: Xid) {
        for lane in &self.lanes {
            lane.state().guard.prune(xmin);
        }
    }

    /// No window will be read any more in this session: the guards forget and stop.
    pub fn stop_guarding(&self) {
        for lane in &self.lanes {
            let mut state = lane.state();
            state.guarding = false;
            state.guard = Guard::new(0);
        }
    }

    /// Blocks until lane `number` may have room, at most `timeout`; for the reader thread.
    pub fn wait_for_room(&self, number: usize, timeout: Duration) {
        let lane = &self.lanes[number];
        let state = lane.state();
        if self.is_full(&state.open) {
            drop(lane.room_sync.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Waits until lane `number` has room; for window readers.
    pub async fn room(&self, number: usize) {
        let lane = &self.lanes[number];
        loop {
            let room = lane.room.notified();
            if !self.is_full(&lane.state().open) {
                return;
            }
            room.await;
        }
    }

    /// Waits for the next batch of lane `number`; see [`Lanes::take_ready`].
    pub async fn next_batch(&self, number: usize) -> Batch {
        let lane = &self.lanes[number];
        loop {
            let filled = lane.filled.notified();
            match self.take_ready(number, Instant::now()) {
                Ready::Batch(batch) => return batch,
                Ready::Later(None) => filled.await,
                Ready::Later(Some(wake)) => {
                    tokio::select! {
                        () = filled => {}
                        () = tokio::time::sleep_until(wake.into()) => {}
                    }
                }
            }
        }
    }

    /// Takes the open batch of lane `number` if it is full, old enough, or has deletes that are due to be repeated.
    pub fn take_ready(&self, number: usize, now: Instant) -> Ready {
        let lane = &self.lanes[number];
        let mut state = lane.state();
        while state.open.len() < self.limits.batch_actions
            && let Some(repeat) = state.repeats.take_due(now)
        {
            state.open.push_repeat(repeat);
            state.opened.get_or_insert(now);
        }
        let due = state.opened.map(|opened| opened + self.limits.flush_after);
        if due.is_some_and(|due| due <= now || self.is_full(&state.open)) {
            return Ready::Batch(lane.take(&mut state, now));
        }
        Ready::Later([due, state.repeats.next_due()].into_iter().flatten().min())
    }

    /// The outcome of the request of lane `number` with the entries numbered `part` of `batch` is unknown at `now`
    /// (**M5**).
    pub fn doubt(&self, number: usize, batch: &Batch, part: &[u32], now: Instant) {
        let needed_from = batch.taken.unwrap_or(now);
        self.lanes[number].state().doubts.note(batch.indexed(part), now, needed_from);
    }

    /// When what was in doubt somewhere may have no late effect any more; `None` where nothing is.
    pub fn doubtful_until(&self, now: Instant) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.state().doubts.repeat_all_at(now)).max()
    }

    /// Is nothing in doubt, and no delete to be repeated?
    pub fn is_settled(&self, now: Instant) -> bool {
        self.is_empty() && self.doubtful_until(now).is_none() && self.tracker().is_idle()
    }

    /// Were there more deletes in doubt than there is memory for? The stream must begin again at the checkpoint.
    pub fn doubts_overflowed(&self) -> bool {
        self.lanes.iter().any(|lane| lane.state().repeats.overflowed())
    }

    /// A batch of lane `number` was answered: its windows and the stream's position are told, its memory is kept. Its
    /// deletes that are in doubt are kept to be repeated, and hold the position until then.
    pub fn answered(&self, number: usize, mut batch: Batch, body: SealedBody) {
        for window in batch.windows.drain(..) {
            window.leave();
        }
        let (ticket, holds) = (batch.ticket.take(), std::mem::take(&mut batch.holds));
        let mut state = self.lanes[number].state();
        // As of when the batch was taken: a request that could be late then may have been executed after the delete.
        let taken = batch.taken.take().unwrap_or_else(Instant::now);
        let repeats = match state.doubts.repeat_all_at(taken) {
            Some(_) => batch.repeats(&body, |hash| state.doubts.repeat_at(hash, taken)),
            None => vec![],
        };
        batch.recycle(body);
        state.spare.push(batch);
        state.answered += 1;
        let mut tracker = self.tracker();
        let held = ticket.map(|ticket| tracker.answered(ticket)).map(Arc::new);
        let held: Vec<_> = held.into_iter().chain(holds).collect();
        // Whose delete it is is not known any more; the oldest holds the others.
        let oldest = if repeats.is_empty() { None } else { held.iter().min().cloned() };
        for (due, mut repeat) in repeats {
            repeat.hold.clone_from(&oldest);
            state.repeats.push(due, repeat);
        }
        drop(oldest);
        for hold in held.into_iter().filter_map(Arc::into_inner) {
            tracker.release(hold);
        }
    }

    /// Is nothing queued and nothing in flight?
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| {
            let state = lane.state();
            state.open.is_empty() && state.answered == state.taken
        })
    }

    /// What is queued and in flight now, for [`Lanes::is_flushed`].
    pub fn mark(&self) -> FlushMark {
        let mark = |lane: &Lane| {
            let state = lane.state();
            state.taken + u64::from(!state.open.is_empty())
        };
        FlushMark(self.lanes.iter().map(mark).collect())
    }

    /// Is everything answered that was queued or in flight at `mark`?
    pub fn is_flushed(&self, mark: &FlushMark) -> bool {
        self.lanes.iter().zip(&mark.0).all(|(lane, mark)| lane.state().answered >= *mark)
    }

    /// Bytes that are queued, open batches only.
    pub fn queued_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.state().open.bytes()).sum()
    }

    /// The lane of a document.
    pub fn lane_of_id(&self, target: &Target, id: &[u8]) -> usize {
        self.lane_of(target.hash(id))
    }

    fn lane_of(&self, hash: u64) -> usize {
        // The high bits: the batches' tables use the low ones.
        ((hash >> 32) as usize) % self.lanes.len()
    }

    fn is_full(&self, batch: &Batch) -> bool {
        batch.bytes() >= self.limits.batch_bytes || batch.len() >= self.limits.batch_actions
    }

    fn note_push(&self, lane: &Lane, state: &mut State) {
        if state.opened.is_none() {
            state.opened = Some(Instant::now());
            lane.filled.notify_one();
        } else if self.is_full(&state.open) {
            lane.filled.notify_one();
        }
    }
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of another thread ends the process; the state is not used for more than that.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, state: &mut State, now: Instant) -> Batch {
        let spare = state.spare.pop().unwrap_or_default();
        state.opened = None;
        state.taken += 1;
        let mut batch = std::mem::replace(&mut state.open, spare);
        batch.taken = Some(now);
        self.room.notify_waiters();
        self.room_sync.notify_all();
        batch
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;

//! A session of the live process, as `pipeline::session` builds it: reader, lanes, windows, checkpoint.

use crate::{
    env::{Env, HORIZON_TIME, Superseded, note},
    filling::Filling,
    messages,
    postgres::Event,
    truncating::Truncating,
    writer::{STEP, Writer, limits},
};
use pg2os::{
    ack::Tracker,
    lanes::Lanes,
    model::{Lsn, TypeCatalog, Version},
    pipeline::{
        bootstrap::Work,
        high::Mark,
        intake::{Intake, Need},
        memory::Memory,
    },
    sink::{Checkpoint, EpochRecord},
};
use std::{sync::Arc, time::Instant};

/// Why a session ends in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stopped,
    Overflowed,
}

/// Where the stream is.
#[derive(Debug)]
struct Stream {
    /// Number of the commit that is sent.
    commit: usize,
    /// Events of it that were sent; `None` before its BEGIN.
    event: Option<usize>,
    described: bool,
}

pub struct Session {
    pub writer: Writer,
    pub memory: Arc<Memory>,
    intake: Intake,
    stream: Stream,
    need: Option<Need>,
    truncating: Truncating,
    filling: Filling,
    /// When, and at which floor, what was written past a fork is looked up once more.
    pub again: Option<(Instant, Lsn)>,
    pub work: Work,
    pub revision: u64,
    pub epochs: EpochRecord,
    checkpoint: Checkpoint,
    owner: u32,
    /// When no other process can begin a request any more.
    others_done: Option<Instant>,
    ending: Option<End>,
}

/// What a session is opened with.
pub struct Opened {
    pub checkpoint: Checkpoint,
    pub epochs: EpochRecord,
    pub work: Work,
    pub revision: u64,
    pub memory: Arc<Memory>,
    pub others_until: Option<Instant>,
    pub high: Lsn,
    pub held_below: Lsn,
    pub owner: u32,
}

impl Session {
    pub fn new(env: &mut Env, opened: Opened) -> Self {
        let Opened { checkpoint, epochs, work, revision, memory, others_until, high, held_below, owner } =
            opened;
        let from = checkpoint.lsn;
        let doubtful = others_until.max(memory.lock().doubtful_until);
        let doubtful = doubtful.filter(|_| env.rules.repeat_after_start);
        let limits = limits(env.scenario.repeat_bytes);
        let lanes = Arc::new(Lanes::new(limits, Tracker::new(from), true, doubtful));
        let mut intake = Intake::new(
            env.mapping.tables.clone(),
            lanes.clone(),
            epochs.list.clone(),
            TypeCatalog::new(),
            env.pg.next_xid(),
            held_below,
            1000,
        );
        intake.set_numbering(crate::scenarios::numbering(env.configuration));
        let stream = Stream { commit: env.pg.first_from(from.0), event: None, described: false };
        note!(env, "SESSION of process {owner} from {:x}, doubtful {}", from.0, doubtful.is_some());
        Session {
            writer: Writer::new(lanes, epochs.list.clone(), Mark::new(high, STEP), "live"),
            memory,
            intake,
            stream,
            need: None,
            truncating: Truncating::default(),
            filling: Filling::Begin,
            again: None,
            work,
            revision,
            epochs,
            checkpoint,
            owner,
            others_done: others_until.map(|until| until - HORIZON_TIME),
            ending: None,
        }
    }

    /// Takes in what the walsender has next.
    pub fn read(&mut self, env: &mut Env) {
        if self.ending.is_some() {
            return;
        }
        match self.need {
            Some(Need::Truncate { .. }) => return,
            Some(_) => {
                self.need = self.intake.resume();
                return;
            }
            None => {}
        }
        let Some(commit) = env.pg.wal.get(self.stream.commit) else {
            // A keepalive.
            if !self.intake.in_transaction() {
                self.writer.lanes.tracker().passed(env.insert());
            }
            return;
        };
        let Some(sent) = self.stream.event else {
            let begin = messages::begin(commit);
            self.stream.event = Some(0);
            self.message(env, &begin);
            if !std::mem::replace(&mut self.stream.described, true) {
                for relation in messages::relations() {
                    self.message(env, &relation);
                }
            }
            return;
        };
        let Some(event) = commit.events.get(sent).copied() else {
            let end = messages::commit(commit);
            (self.stream.commit, self.stream.event) = (self.stream.commit + 1, None);
            return self.message(env, &end);
        };
        self.stream.event = Some(sent + 1);
        note!(env, "  stream: {:x} {event:?}", commit.start);
        match event {
            Event::Insert(id, row) => self.noted(env, id, Some(env.mapping.map(id, &row).1)),
            Event::Update { old, id, row, .. } => {
                if let Some(old) = old {
                    self.noted(env, old, None);
                }
                self.noted(env, id, Some(env.mapping.map(id, &row).1));
            }
            Event::Delete(id) => self.noted(env, id, None),
            Event::Truncate | Event::Foreign => {}
        }
        self.message(env, &messages::change(&event));
    }

    fn noted(&mut self, env: &Env, id: usize, document: Option<Vec<u8>>) {
        if !env.rules.held_lookup {
            self.writer.events[id] = document;
        }
        if !env.rules.merge {
            self.writer.forget_overrides(id);
        }
    }

    fn message(&mut self, env: &mut Env, message: &[u8]) {
        match self.intake.message(message) {
            Ok(need) => self.need = need,
            Err(error) => env.break_guarantee(format!("the stream cannot go on: {error}")),
        }
        if let Some(Need::Truncate { xid, version, .. }) = self.need {
            let ordinal = if env.rules.truncate_ordinal { version } else { Version(version.0 & !1023) };
            self.truncating.follow(&self.writer.lanes, xid, ordinal);
        }
    }

    /// The handler of requests.
    pub fn truncate(&mut self, env: &mut Env) {
        if self.truncating.step(env, &self.writer, &self.memory) {
            self.need = None;
        }
    }

    /// What was written or acknowledged lies below it.
    pub fn written(&self) -> u64 {
        self.writer.high.stopped().exact.max(self.checkpoint.lsn).0
    }

    /// What the checkpoint holds.
    pub fn durable(&self) -> Lsn {
        self.checkpoint.lsn
    }

    pub fn is_truncating(&self) -> bool {
        !self.truncating.is_done()
    }

    pub fn is_reading_windows(&self) -> bool {
        matches!(self.filling, Filling::Windows(..))
    }

    pub fn is_filling(&self) -> bool {
        self.ending.is_none() && !matches!(self.filling, Filling::Done)
    }

    /// The windows.
    pub fn fill(&mut self, env: &mut Env) -> Result<(), Superseded> {
        if self.ending.is_none() {
            let filling = std::mem::replace(&mut self.filling, Filling::Done);
            self.filling = filling.step(env, self)?;
        }
        Ok(())
    }

    /// See `CheckpointKeeper::write`.
    pub fn keep(&mut self, env: &mut Env) -> Result<(), Superseded> {
        let position = self.position(env);
        if position > self.checkpoint.lsn {
            self.checkpoint.lsn = position;
            env.write_checkpoint(&self.checkpoint, self.owner)?;
        }
        Ok(())
    }

    fn position(&self, env: &Env) -> Lsn {
        let tracker = self.writer.lanes.tracker();
        if !env.rules.contiguous {
            return tracker.received();
        }
        if !self.writer.is_empty() && !env.rules.lookup_order {
            return self.checkpoint.lsn;
        }
        if env.rules.hold { tracker.position() } else { tracker.answered_position() }
    }

    /// See `HighMark::learn_what_others_left`.
    pub fn learn_what_others_left(&mut self, env: &Env) {
        if self.others_done.take_if(|time| *time <= env.time()).is_some() {
            let raised = env.state.high.map_or(Lsn::ZERO, |(_, lsn)| lsn);
            self.writer.high.others_ended(raised, env.insert());
            self.memory.lock().journal.others_wrote_below(env.insert());
        }
    }

    /// A status update: what the checkpoint holds.
    pub fn acknowledge(&self, env: &mut Env) {
        if let Some(slot) = &mut env.pg.slot {
            slot.confirmed = slot.confirmed.max(self.checkpoint.lsn.0);
        }
    }

    /// One step of the senders.
    pub fn deliver(&mut self, env: &mut Env) {
        let memory = self.memory.clone();
        self.writer.step(env, &memory);
    }

    pub fn overflowed(&self) -> bool {
        self.writer.lanes.doubts_overflowed()
    }

    /// Stops reading; what is queued goes out.
    pub fn end(&mut self, end: End) {
        if self.ending.is_none() {
            self.ending = Some(end);
            self.filling = Filling::Done;
        }
    }

    /// Ends in order, when everything is out; then nothing of it is left.
    pub fn leave(&mut self, env: &mut Env) -> Option<Result<End, Superseded>> {
        let end = self.ending?;
        let lanes = &self.writer.lanes;
        if end == End::Overflowed && lanes.doubtful_until(env.time()).is_some() || !self.writer.is_empty() {
            return None;
        }
        let settled = lanes.is_settled(env.time());
        let position = self.position(env);
        let last = Checkpoint {
            lsn: position,
            settled,
            high: Some(self.writer.high.stopped()),
            ..self.checkpoint.clone()
        };
        if env.write_checkpoint(&last, self.owner).is_err() {
            return Some(Err(Superseded));
        }
        note!(
            env,
            "LEFT in order at {:x}, settled {settled}, high {:x}",
            position.0,
            self.writer.high.stopped().exact.0
        );
        self.checkpoint = last;
        self.acknowledge(env);
        self.remember(env);
        Some(Ok(end))
    }

    /// However it ends, the process remembers.
    fn remember(&self, env: &Env) {
        let left = self.writer.high.left(self.checkpoint.timeline);
        self.memory.lock().end_session(&self.writer.lanes, left, HORIZON_TIME, env.time());
    }

    /// It is lost: a connection, or the process with it.
    pub fn abandon(mut self, env: &mut Env, paused: bool) {
        self.remember(env);
        self.writer.abandon(env, paused);
    }

    /// Has everything happened that will?
    pub fn is_done(&self, env: &Env) -> bool {
        self.ending.is_none()
            && self.need.is_none()
            && self.stream.commit >= env.pg.wal.len()
            && self.truncating.is_done()
            && matches!(self.filling, Filling::Done)
            && self.writer.is_empty()
            && self.writer.lanes.is_settled(env.time())
            && self.checkpoint.lsn >= env.insert()
    }
}

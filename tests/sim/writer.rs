//! What writes into the index, in the live process and in a Job: lanes and their senders, in the order of
//! `pipeline::deliver` — lookups, journal, high, request after request, answered.

use crate::{
    env::{Env, note},
    opensearch::{Act, Refusal, refusal, refused},
    postgres::IDS,
};
use pg2os::{
    lanes::{
        Action, Batch, Change, Delivery, EntryKind, LaneLimits, Lanes, Ready, RowPushed, SealedBody,
        WindowRows,
    },
    model::{Epochs, Lsn, ORDINAL_HELD, Snapshot, Version, Xid},
    pipeline::{deliver::content_of, high::Mark, memory::Memory},
    sink::{Answer, Outcome},
};
use std::{collections::VecDeque, sync::Arc};

pub const LANES: usize = 2;
/// The high mark is raised in steps of this.
pub const STEP: u64 = 64;
/// The name of a writer that is not the live process.
pub const JOB: &str = "job";

/// The lanes' sizes: tiny, so that what happens at their ends happens often.
pub fn limits(repeat_bytes: usize) -> LaneLimits {
    LaneLimits {
        lanes: LANES,
        batch_bytes: 1 << 16,
        batch_actions: 4,
        flush_after: std::time::Duration::ZERO,
        guarded_deletes: 4,
        repeat_bytes,
        horizon: crate::env::HORIZON_TIME,
    }
}

/// The events that decide the held actions of a batch where **M4** is off.
type Events = [Option<Vec<u8>>; IDS];

enum Stage {
    Idle,
    Deciding(Batch, Events),
    Sending(Batch, SealedBody, Delivery),
}

struct Sender {
    stage: Stage,
    /// Rows of windows that took the place of what was queued before them, where **M1** is off.
    overrides: Vec<Act>,
    queued_overrides: Vec<Act>,
}

/// A lookup that lost its place, where **M13** is off.
struct Astray {
    act: Act,
    xid: Xid,
    is_decided: bool,
}

pub struct Writer {
    pub lanes: Arc<Lanes>,
    pub epochs: Epochs,
    /// The highest position whose content is written, and how far it was made durable.
    pub high: Mark,
    senders: Vec<Sender>,
    /// Documents of the last events, by id; `None` for a delete.
    pub events: Events,
    astray: Vec<Astray>,
    name: &'static str,
}

impl Writer {
    pub fn new(lanes: Arc<Lanes>, epochs: Epochs, high: Mark, name: &'static str) -> Self {
        let sender = || Sender { stage: Stage::Idle, overrides: vec![], queued_overrides: vec![] };
        Writer {
            lanes,
            epochs,
            high,
            senders: (0..LANES).map(|_| sender()).collect(),
            events: [const { None }; IDS],
            astray: vec![],
            name,
        }
    }

    /// See `HighMark::cover`.
    pub fn cover(&mut self, env: &mut Env, lsn: Lsn) {
        self.high.cover(lsn);
        if let Some(wanted) = self.high.wanted(lsn) {
            if self.name == JOB {
                env.raise_beside(wanted);
            } else {
                env.raise_high(wanted);
            }
            self.high.raised(wanted);
        }
    }

    /// Pushes a row of a window, or a delete that is treated as one.
    pub fn push_row(
        &mut self,
        env: &Env,
        row: &PendingRow,
        version: Version,
        window: &WindowRows,
    ) -> RowPushed {
        let target = &env.mapping.table().target;
        let change = row.document.as_deref().map_or(Change::Delete, Change::Index);
        let (id, plain_id) = (&row.id[..], row.plain.as_deref().unwrap_or(&row.id));
        let action = Action { target, id, plain_id, routing: b"", version, change };
        let pushed = self.lanes.push_row(&action, window);
        if pushed == RowPushed::Queued && !env.rules.merge {
            let lane = self.lanes.lane_of_id(target, &row.id);
            let act = Act { id: row.number, version, document: row.document.clone() };
            self.senders[lane].queued_overrides.push(act);
        }
        pushed
    }

    /// A later event of the ids takes the place of what was queued before.
    pub fn forget_overrides(&mut self, id: usize) {
        for sender in &mut self.senders {
            sender.queued_overrides.retain(|act| act.id != id);
        }
    }

    /// Nothing queued, in flight, or astray.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.astray.is_empty()
    }

    /// One step of one of the senders.
    pub fn step(&mut self, env: &mut Env, memory: &Memory) {
        if !self.astray.is_empty() && env.rng.coin() {
            return self.bring_back_astray(env);
        }
        let lane = env.rng.below(LANES);
        let stage = std::mem::replace(&mut self.senders[lane].stage, Stage::Idle);
        self.senders[lane].stage = match stage {
            Stage::Idle => match self.lanes.take_ready(lane, env.time()) {
                Ready::Later(_) => Stage::Idle,
                Ready::Batch(batch) => {
                    let sender = &mut self.senders[lane];
                    sender.overrides = std::mem::take(&mut sender.queued_overrides);
                    self.decide(env, memory, batch, self.events.clone())
                }
            },
            Stage::Deciding(batch, events) => self.decide(env, memory, batch, events),
            Stage::Sending(batch, body, delivery) => self.send(env, lane, batch, body, delivery),
        };
    }

    fn decide(&mut self, env: &mut Env, memory: &Memory, mut batch: Batch, events: Events) -> Stage {
        let Some(looked_up) = self.look_up(env, &mut batch, &events) else {
            return Stage::Deciding(batch, events);
        };
        let highest = content_of(&batch, looked_up, &self.epochs);
        if batch.is_streamed() {
            memory.lock().journal.write(highest, batch.ids());
        }
        self.cover(env, highest);
        let body = batch.seal();
        let delivery = Delivery::new(batch.live(|kind| matches!(kind, EntryKind::Index | EntryKind::Delete)));
        Stage::Sending(batch, body, delivery)
    }

    /// See `Lookups::resolve`; `None` where a transaction is not visible yet.
    fn look_up(&mut self, env: &mut Env, batch: &mut Batch, events: &Events) -> Option<Lsn> {
        let entries = batch.live(|kind| kind == EntryKind::Lookup);
        if entries.is_empty() {
            return Some(Lsn::ZERO);
        }
        let xids: Vec<Xid> = entries.iter().map(|at| batch.lookup(batch.entry(*at)).xid).collect();
        if env.rules.lookup_order && !sees_all(env, &env.pg.snapshot(), &xids) {
            return None;
        }
        let mapping = env.mapping.clone();
        for at in entries {
            let entry = batch.entry(at);
            let key = &batch.lookup(entry).values[0];
            let id: usize = key.as_ref().unwrap().parse().unwrap();
            if !env.rules.lookup_order {
                let act = Act { id, version: entry.version, document: None };
                let xid = batch.lookup(entry).xid;
                self.astray.push(Astray { act, xid, is_decided: false });
                continue;
            }
            let held = entry.version.0 & u64::from(ORDINAL_HELD) == u64::from(ORDINAL_HELD);
            let document = if held && !env.rules.held_lookup {
                events[id].clone()
            } else {
                env.pg.visible[id].map(|row| mapping.map(id, &row).1)
            };
            note!(env, "  {}: looked up id {id}", self.name);
            batch.resolve(at, &mapping.table().target, document.as_deref());
        }
        Some(env.insert())
    }

    /// Decides a lookup that has lost its place, or sends it, whatever went before it.
    fn bring_back_astray(&mut self, env: &mut Env) {
        let at = env.rng.below(self.astray.len());
        if self.astray[at].is_decided {
            let act = self.astray.swap_remove(at).act;
            let _ = env.execute(&act, "astray");
        } else if sees_all(env, &env.pg.snapshot(), &[self.astray[at].xid]) {
            let Astray { act, is_decided, .. } = &mut self.astray[at];
            act.document = env.pg.visible[act.id].map(|row| env.mapping.map(act.id, &row).1);
            *is_decided = true;
        }
    }

    fn send(
        &mut self,
        env: &mut Env,
        lane: usize,
        batch: Batch,
        body: SealedBody,
        mut delivery: Delivery,
    ) -> Stage {
        let Some(part) = delivery.part() else {
            self.lanes.answered(lane, batch, body);
            return Stage::Idle;
        };
        let acts = self.request(env, lane, &batch, &body, part);
        let answer = request(env, &acts, self.name);
        if matches!(answer, Answer::Unknown(_)) && env.rules.repeat {
            self.lanes.doubt(lane, &batch, part, env.time());
        }
        let highest = env.state.epochs.list.version(env.insert(), ORDINAL_HELD).unwrap();
        delivery.on_answer(answer, highest);
        for burial in delivery.take_buried() {
            env.break_guarantee(format!(
                "G1: a good document was given up: {} {}",
                burial.kind, burial.reason
            ));
        }
        Stage::Sending(batch, body, delivery)
    }

    /// The actions of a request as OpenSearch reads them.
    fn request(&self, env: &Env, lane: usize, batch: &Batch, body: &SealedBody, part: &[u32]) -> Vec<Act> {
        let mut acts = env.mapping.actions(&batch.request(body, part));
        for act in &mut acts {
            if let Some(by) = self.senders[lane].overrides.iter().rfind(|by| by.id == act.id) {
                *act = by.clone();
            }
            if !env.rules.ordinal && act.version.0 & 1023 != u64::from(ORDINAL_HELD) {
                act.version = Version(act.version.0 & !1023);
            }
        }
        acts
    }

    /// The session ends: what is in flight may be executed late, and where the process was only paused, what is queued
    /// as well.
    pub fn abandon(&mut self, env: &mut Env, paused: bool) {
        for lane in 0..LANES {
            let before = env.now + crate::env::HORIZON;
            if let Stage::Sending(batch, body, delivery) =
                std::mem::replace(&mut self.senders[lane].stage, Stage::Idle)
                && let Some(part) = delivery.part()
            {
                for act in self.request(env, lane, &batch, &body, part) {
                    if env.rng.coin() {
                        env.os.delay(act, before);
                    }
                }
            }
            // What lies above the durable mark would have to raise it first, and finds that the slot is taken.
            if paused
                && let Ready::Batch(mut batch) = self.lanes.take_ready(lane, env.time())
                && content_of(&batch, Lsn::ZERO, &self.epochs) <= self.high.stopped().raised
            {
                let body = batch.seal();
                let part = batch.live(|kind| matches!(kind, EntryKind::Index | EntryKind::Delete));
                for act in env.mapping.actions(&batch.request(&body, &part)) {
                    if env.rng.coin() {
                        env.os.delay(act, before + crate::env::TAKEOVER);
                    }
                }
            }
        }
    }
}

fn sees_all(env: &Env, snapshot: &Snapshot, xids: &[Xid]) -> bool {
    !env.rules.lookup_sees || xids.iter().all(|xid| snapshot.sees(*xid))
}

/// Sends one request.
fn request(env: &mut Env, acts: &[Act], who: &str) -> Answer {
    let faults = env.scenario.faults;
    if !env.quiet && env.rng.per_mille(faults.unknown) {
        for act in acts {
            if env.rng.coin() {
                let _ = env.execute(act, "no answer");
            } else {
                note!(env, "    {who}: no answer, not executed yet: id {} {}", act.id, env.show(act.version));
                let before = env.now + crate::env::HORIZON;
                env.os.delay(act.clone(), before);
            }
        }
        return Answer::Unknown("connection cut".into());
    }
    let mut some_refused = false;
    if !env.quiet && env.rng.per_mille(faults.refused) {
        match refusal(&mut env.rng, acts.len()) {
            Refusal::Whole(answer) => return answer,
            Refusal::Some => some_refused = true,
        }
    }
    let mut items = vec![];
    for (position, act) in acts.iter().enumerate() {
        if some_refused && env.rng.coin() {
            items.push((position, refused(&mut env.rng)));
        } else if let Err(current) = env.execute(act, who) {
            items.push((position, Outcome::Conflict { current: Some(current.0) }));
        }
    }
    if items.is_empty() { Answer::AllDone } else { Answer::Items(items) }
}

/// A row on its way into the lanes.
#[derive(Clone, Debug)]
pub struct PendingRow {
    pub number: usize,
    pub id: Vec<u8>,
    /// `None` where only the document is known.
    pub plain: Option<Vec<u8>>,
    pub document: Option<Vec<u8>>,
}

/// The rows of one reading, pushed one by one.
#[derive(Debug)]
pub struct Reading {
    pub window: WindowRows,
    pub version: Version,
    pub rows: VecDeque<PendingRow>,
}

/// How far a reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    GoesOn,
    /// Everything is queued.
    Queued,
    /// To be read again in a later snapshot.
    ReadAgain,
}

impl Reading {
    /// Rows of version `version`, read in `snapshot`.
    pub fn new(env: &Env, snapshot: Snapshot, version: Version) -> Self {
        // M2 off: every delete that was streamed counts. The guard's test of what the snapshot sees would hide that.
        let window = if env.rules.guard_above {
            WindowRows::new(snapshot, version)
        } else {
            WindowRows::new("1:1:".parse().unwrap(), Version(0))
        };
        Reading { window, version, rows: VecDeque::new() }
    }

    pub fn push(&mut self, env: &mut Env, writer: &mut Writer) -> Progress {
        let Some(row) = self.rows.front() else { return Progress::Queued };
        match writer.push_row(env, row, self.version, &self.window) {
            RowPushed::Full(_) => return Progress::GoesOn,
            RowPushed::ReadAgain => {
                note!(env, "  {}: ReadAgain", writer.name);
                return Progress::ReadAgain;
            }
            pushed @ (RowPushed::Queued | RowPushed::Dropped) => {
                note!(env, "  {}: row of id {} {pushed:?}", writer.name, row.number);
                self.rows.pop_front();
            }
        }
        Progress::GoesOn
    }
}

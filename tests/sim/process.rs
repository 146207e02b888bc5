//! A process of pg2os: session after session, with what it remembers; `pipeline::opening` step by step.

use crate::{
    env::{Env, HORIZON_TIME, Superseded, TAKEOVER_TIME, note},
    postgres::Slot,
    session::{End, Opened, Session},
};
use pg2os::{
    lanes::TableNo,
    model::Lsn,
    pipeline::{
        bootstrap::Work,
        memory::{Memory, StoredPositions},
        position::{self, Start},
        resume::{self, Resume},
    },
    sink::{Checkpoint, EpochRecord},
    source::{replication::SystemIdentity, slot::SlotState},
};
use std::{sync::Arc, time::Instant};

/// Numbers of the publications.
const PUBLICATIONS: [u32; 1] = [9];

/// What was decided, and is being made durable.
struct Plan {
    resume: Resume,
    epochs: EpochRecord,
    work: Work,
    revision: u64,
    checkpoint: Checkpoint,
    others_until: Option<Instant>,
    held_below: Lsn,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Tables,
    Epochs,
    Slot,
    Checkpoint,
    Start,
}

enum Phase {
    Closed,
    Opening(Box<Plan>),
    Open(Box<Session>),
}

pub struct Process {
    number: u32,
    memory: Arc<Memory>,
    phase: Phase,
}

impl Process {
    pub fn new(number: u32) -> Self {
        Process { number, memory: Arc::default(), phase: Phase::Closed }
    }

    pub fn session(&self) -> Option<&Session> {
        if let Phase::Open(session) = &self.phase { Some(session) } else { None }
    }

    /// One step of one of its tasks.
    pub fn step(&mut self, env: &mut Env) {
        let result = match &mut self.phase {
            Phase::Closed => {
                self.look(env);
                return;
            }
            Phase::Opening(_) => self.open(env),
            Phase::Open(session) => step(env, session),
        };
        match result {
            Ok(None) => {}
            Ok(Some(end)) => {
                self.phase = Phase::Closed;
                if end == End::Stopped {
                    *self = self.next();
                }
            }
            Err(Superseded) => self.lose_session(env),
        }
    }

    /// The session ends, the process stays.
    pub fn lose_session(&mut self, env: &mut Env) {
        note!(env, "SESSION LOST");
        self.close(env, false);
    }

    fn close(&mut self, env: &mut Env, paused: bool) {
        if let Phase::Open(session) = std::mem::replace(&mut self.phase, Phase::Closed) {
            session.abandon(env, paused);
        }
    }

    /// kill -9, or a pause so long that another takes over.
    pub fn crash(&mut self, env: &mut Env) {
        note!(env, "CRASH");
        self.close(env, env.scenario.pause);
        *self = self.next();
    }

    /// The one that is started in its place: instances have numbers of their own.
    fn next(&self) -> Process {
        Process::new(self.number + 2)
    }

    /// Another instance takes the slot; this one may have been paused, and goes on to send what is queued.
    pub fn be_taken_over(&mut self, env: &mut Env) {
        note!(env, "TAKEOVER");
        self.close(env, env.scenario.pause);
    }

    pub fn stop(&mut self, env: &mut Env) {
        if let Phase::Open(session) = &mut self.phase {
            note!(env, "STOP");
            session.end(End::Stopped);
        }
    }

    /// Looks at both servers and decides where to start.
    fn look(&mut self, env: &mut Env) {
        let slot = env.pg.slot.map(slot_state);
        let stored = env.state.checkpoint.as_ref().map(|(_, stored)| stored);
        let own = self.number.to_string();
        let is_takeover = position::is_takeover(stored, slot.is_some(), |owner| owner == own);
        let is_own = stored.is_none_or(|stored| stored.owner == own);
        let stored = stored.map(|stored| &stored.record);
        let server = SystemIdentity {
            system_id: "7".into(),
            timeline: env.pg.timeline,
            flush: env.insert(),
            database: "shop".into(),
        };
        let raised = env.state.high.map(|(_, lsn)| lsn);
        let mut memory = self.memory.lock();
        let beside =
            env.state.beside.filter(|(version, _)| version.epoch() == env.state.epochs.list.last().number);
        let beside = beside.map(|(_, lsn)| lsn);
        let beside = beside.filter(|_| env.rules.high_beside);
        let is_own = is_own || !env.rules.high_own;
        let positions = StoredPositions { raised, beside, checkpoint: stored, is_own };
        let mut known = memory.begin_session(vec!["public.t".into()], &positions);
        if !env.rules.timeline_began {
            known.at_least = Lsn::ZERO;
        }
        if !env.rules.high {
            known.at_most = stored.map_or(Lsn::ZERO, |stored| stored.lsn);
        }
        let start =
            position::start(stored, "s", slot.as_ref(), &server, &env.pg.history, known, &PUBLICATIONS);
        let mut epochs = env.state.epochs.clone();
        let work = Work {
            table: TableNo(0),
            record: env.state.table.clone(),
            window: None,
            append_only: false,
            is_empty: false,
        };
        let floors = work.record.floor.iter().map(|floor| (TableNo(0), *floor));
        let list = epochs.list.clone();
        let resume = resume::resume(&start, &mut epochs, &memory, known, floors).unwrap();
        if !env.rules.epoch {
            epochs.list = list;
        }
        drop(memory);
        let fingerprint = format!("configuration {}", env.configuration);
        let held_below = resume::held_below(stored, &fingerprint, resume.high);
        let held_below = if env.rules.fingerprint { held_below } else { Lsn::ZERO };
        let checkpoint = Checkpoint {
            slot: "s".into(),
            system_identifier: server.system_id,
            database: server.database,
            timeline: server.timeline,
            timeline_began: if env.rules.timeline_began {
                position::began(server.timeline, &env.pg.history)
            } else {
                Lsn::ZERO
            },
            publications: PUBLICATIONS.into(),
            fingerprint,
            held_below,
            lsn: resume.from.unwrap_or_default(),
            high: None,
            settled: false,
        };
        let start = match start {
            Start::Gap(gap) => gap.to_string(),
            start => format!("{start:?}"),
        };
        note!(
            env,
            "OPENING by process {}: {start}; {known:?}; {resume:?}; repair {:?}",
            self.number,
            epochs.repair.as_ref().map(|repair| repair.by_ids)
        );
        self.phase = Phase::Opening(Box::new(Plan {
            resume,
            epochs,
            work,
            revision: env.state.revision,
            checkpoint,
            others_until: is_takeover.then(|| env.time() + TAKEOVER_TIME + HORIZON_TIME),
            held_below,
            stage: Stage::Tables,
        }));
    }

    /// Makes one part of the plan durable; the last one is the session.
    fn open(&mut self, env: &mut Env) -> Result<Option<End>, Superseded> {
        let Phase::Opening(plan) = &mut self.phase else { return Ok(None) };
        plan.stage = match plan.stage {
            Stage::Tables => {
                let after_gap = plan.resume.restart.of(plan.work.table);
                if after_gap.is_some_and(|after_gap| plan.work.void(after_gap)) {
                    env.write_table(&plan.work.record, &mut plan.revision)?;
                }
                Stage::Epochs
            }
            Stage::Epochs => {
                if plan.resume.epochs_changed {
                    env.state.epochs = plan.epochs.clone();
                    note!(env, "  epochs {:x?}", plan.epochs);
                }
                self.memory.lock().resumed(&plan.resume);
                Stage::Slot
            }
            Stage::Slot => {
                if plan.resume.from.is_none() {
                    plan.checkpoint.lsn = acquire(env);
                }
                Stage::Checkpoint
            }
            Stage::Checkpoint => {
                let until = plan.others_until.filter(|_| env.rules.repeat_after_no_start);
                self.memory.lock().doubt(until);
                env.write_checkpoint(&plan.checkpoint, self.number)?;
                Stage::Start
            }
            Stage::Start => {
                if env.rng.per_mille(env.scenario.no_start) {
                    return Err(Superseded);
                }
                let Phase::Opening(plan) = std::mem::replace(&mut self.phase, Phase::Closed) else {
                    return Ok(None);
                };
                let opened = Opened {
                    checkpoint: plan.checkpoint,
                    epochs: plan.epochs,
                    work: plan.work,
                    revision: plan.revision,
                    memory: self.memory.clone(),
                    others_until: plan.others_until,
                    high: plan.resume.high,
                    held_below: plan.held_below,
                    owner: self.number,
                };
                self.phase = Phase::Open(Box::new(Session::new(env, opened)));
                return Ok(None);
            }
        };
        Ok(None)
    }
}

/// One step of one task of a session.
fn step(env: &mut Env, session: &mut Session) -> Result<Option<End>, Superseded> {
    match env.rng.below(8) {
        0 | 1 => session.read(env),
        2 if session.is_truncating() => session.truncate(env),
        3 | 4 if session.is_filling() => session.fill(env)?,
        2..=5 => session.deliver(env),
        6 => session.keep(env)?,
        _ => {
            session.acknowledge(env);
            session.learn_what_others_left(env);
            if session.overflowed() {
                note!(env, "OVERFLOWED");
                session.end(End::Overflowed);
            }
            if let Some(left) = session.leave(env) {
                return left.map(Some);
            }
        }
    }
    Ok(None)
}

/// Makes the slot, or moves the one that is there to now: what commits later is streamed, visible or not.
fn acquire(env: &mut Env) -> Lsn {
    let now = env.insert();
    match &mut env.pg.slot {
        Some(slot) => slot.confirmed = slot.confirmed.max(now.0),
        None => env.pg.slot = Some(Slot { created: now.0, confirmed: now.0 }),
    }
    env.streamed_from = now.0;
    note!(env, "  slot at {:x}", now.0);
    now
}

fn slot_state(slot: Slot) -> SlotState {
    SlotState {
        plugin: Some("pgoutput".into()),
        database: Some("shop".into()),
        active: false,
        active_pid: None,
        restart_lsn: Some(Lsn(slot.created)),
        confirmed_flush_lsn: Some(Lsn(slot.confirmed)),
        wal_status: Some("reserved".into()),
        safe_wal_size: None,
        temporary: false,
        two_phase: false,
        invalidation: None,
    }
}

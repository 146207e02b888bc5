//! A backfill Job in another process, beside the live one, as `pipeline::oneshot` does it (**M9**).

use crate::{
    env::{Env, note},
    postgres::{IDS, Table},
    writer::{JOB, PendingRow, Progress, Reading, Writer, limits},
};
use pg2os::{
    ack::Tracker,
    lanes::Lanes,
    model::{Lsn, Snapshot, Version, Xid},
    pipeline::{high::Mark, memory::Memory},
    sink::TableState,
};
use std::sync::Arc;

enum Stage {
    Note,
    Floor,
    Burned(Lsn, Xid),
    Read,
    Write(Reading),
    Horizon,
    FloorAgain,
    BurnedAgain(Lsn, Xid),
    /// The keys of the window were read again; what is missing there may have moved to another one.
    Missing(Version, Vec<usize>),
    Delete(Reading),
    Done,
}

pub struct Job {
    writer: Writer,
    memory: Memory,
    version: Version,
    window: usize,
    written: Vec<usize>,
    stage: Stage,
}

impl Job {
    pub fn new(env: &Env) -> Self {
        let lanes = Lanes::new(limits(env.scenario.repeat_bytes), Tracker::new(Lsn::ZERO), false, None);
        Job {
            writer: Writer::new(Arc::new(lanes), env.state.epochs.list.clone(), Mark::new(Lsn::ZERO, 0), JOB),
            memory: Memory::default(),
            version: Version(0),
            window: 0,
            written: vec![],
            stage: Stage::Note,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done) && self.writer.is_empty()
    }

    pub fn step(&mut self, env: &mut Env) {
        if self.is_done() {
            // The process has ended, and repeats nothing any more.
            return;
        }
        if env.rng.coin() {
            return self.writer.step(env, &self.memory);
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Note => {
                // What it leaves must be swept by the process that fills the table for the stream.
                let mut record = env.state.table.clone();
                if record.state == TableState::New && !std::mem::replace(&mut record.sweep, true) {
                    let mut revision = env.state.revision;
                    let _ = env.write_table(&record, &mut revision);
                }
                Stage::Floor
            }
            Stage::Floor => Stage::Burned(env.insert(), env.pg.burn()),
            Stage::Burned(floor, xid) if env.pg.xmin() <= xid.0 => Stage::Burned(floor, xid),
            Stage::Burned(floor, _) => {
                self.version = self.writer.epochs.floor_version(floor).unwrap();
                note!(env, "  job: floor {}", env.show(self.version));
                Stage::Read
            }
            Stage::Read => self.read(env),
            Stage::Write(mut reading) => {
                if reading.push(env, &mut self.writer) == Progress::Queued && reading.window.is_answered() {
                    if env.rules.reread { Stage::Horizon } else { self.next() }
                } else {
                    Stage::Write(reading)
                }
            }
            Stage::Horizon => {
                let in_doubt = self.writer.lanes.doubtful_until(env.time()).is_some();
                if in_doubt && env.rules.reread_horizon { Stage::Horizon } else { Stage::FloorAgain }
            }
            Stage::FloorAgain => Stage::BurnedAgain(env.insert(), env.pg.burn()),
            Stage::BurnedAgain(floor, xid) if env.pg.xmin() <= xid.0 => Stage::BurnedAgain(floor, xid),
            Stage::BurnedAgain(floor, _) => {
                let version = self.writer.epochs.floor_version(floor).unwrap();
                let in_window = self.in_window(&env.pg.visible);
                Stage::Missing(
                    version,
                    self.written.iter().copied().filter(|id| !in_window.contains(id)).collect(),
                )
            }
            Stage::Missing(version, mut missing) => {
                let lsn = env.insert();
                self.writer.cover(env, lsn);
                missing.retain(|id| env.pg.visible[*id].is_none());
                note!(env, "  job: gone {missing:?}");
                let mut reading = Reading::new(env, Snapshot::of_everything(), version);
                reading.rows = missing.iter().map(|id| pending(env, *id, &[None; IDS])).collect();
                Stage::Delete(reading)
            }
            Stage::Delete(mut reading) => {
                if reading.push(env, &mut self.writer) == Progress::Queued && reading.window.is_answered() {
                    self.next()
                } else {
                    Stage::Delete(reading)
                }
            }
            Stage::Done => Stage::Done,
        };
    }

    fn in_window(&self, table: &Table) -> Vec<usize> {
        let is_in = |id: &usize| table[*id].is_some_and(|row| usize::from(row.w) == self.window);
        (0..IDS).filter(is_in).collect()
    }

    fn read(&mut self, env: &mut Env) -> Stage {
        let lsn = env.insert();
        self.writer.cover(env, lsn);
        self.written = self.in_window(&env.pg.visible);
        note!(env, "  job: window {} read {:?}", self.window, env.pg.visible);
        let mut reading = Reading::new(env, env.pg.snapshot(), self.version);
        reading.rows = self.written.iter().map(|id| pending(env, *id, &env.pg.visible)).collect();
        Stage::Write(reading)
    }

    fn next(&mut self) -> Stage {
        self.window += 1;
        if self.window == 2 { Stage::Done } else { Stage::Read }
    }
}

fn pending(env: &Env, number: usize, table: &Table) -> PendingRow {
    let document = table[number].map(|row| env.mapping.map(number, &row).1);
    let (id, plain) = (env.mapping.ids[number].clone(), Some(env.mapping.plain[number].clone()));
    PendingRow { number, id, plain, document }
}

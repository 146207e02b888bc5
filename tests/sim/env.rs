//! What every process of a schedule shares: chance, time, the two servers and the durable state.

use crate::{
    opensearch::{Act, Mapping, OpenSearch},
    postgres::Postgres,
    rng::Rng,
    rules::Rules,
    scenarios::Scenario,
};
use pg2os::{
    model::{Epochs, Lsn, Version},
    sink::{Checkpoint, EpochRecord, Floor, Stored, TableRecord, TableState},
};
use std::time::{Duration, Instant};

/// No request is executed later than this after it was sent, in ticks.
pub const HORIZON: u64 = 2;
/// An instance that lost the slot starts no request later, in ticks.
pub const TAKEOVER: u64 = 1;
const TICK: Duration = Duration::from_secs(1);
pub const HORIZON_TIME: Duration = Duration::from_secs(HORIZON);
pub const TAKEOVER_TIME: Duration = Duration::from_secs(TAKEOVER);

/// The state index.
#[derive(Debug)]
pub struct State {
    pub checkpoint: Option<(Version, Stored<Checkpoint>)>,
    pub high: Option<(Version, Lsn)>,
    /// That of Jobs.
    pub beside: Option<(Version, Lsn)>,
    pub epochs: EpochRecord,
    pub table: TableRecord,
    /// Counts the writes of `table`: it is changed only from the revision that was seen last.
    pub revision: u64,
    /// Floors of the windows that are done.
    pub windows: [Option<Floor>; 2],
}

/// A state document that somebody else has changed meanwhile.
pub struct Superseded;

pub struct Env {
    pub rules: Rules,
    pub scenario: Scenario,
    pub rng: Rng,
    pub now: u64,
    base: Instant,
    pub mapping: Mapping,
    pub pg: Postgres,
    pub os: OpenSearch,
    pub state: State,
    /// Faults have ended.
    pub quiet: bool,
    pub failed_over: bool,
    /// A table's floor became durable in this step.
    pub floor_taken: bool,
    /// From here on the stream has brought everything.
    pub streamed_from: u64,
    /// Which of two configurations the next process has.
    pub configuration: u8,
    /// The first guarantee that was broken.
    pub broken: Option<String>,
    pub trace: Option<Vec<String>>,
}

/// Notes a line of the trace, which is made only where it is wanted.
macro_rules! note {
    ($env:expr, $($text:tt)*) => {
        if $env.trace.is_some() {
            let line = format!($($text)*);
            $env.trace.get_or_insert_default().push(line);
        }
    };
}
pub(crate) use note;

impl Env {
    pub fn new(rules: Rules, scenario: Scenario, mapping: Mapping, seed: u64, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let pg = Postgres::new(&mut rng);
        let state = State {
            checkpoint: None,
            high: None,
            beside: None,
            epochs: EpochRecord::default(),
            table: TableRecord {
                table: "public.t".into(),
                index: "t".into(),
                index_uuid: String::new(),
                index_history: None,
                state: TableState::New,
                digest: String::new(),
                sweep: false,
                floor: None,
                relfilenode: None,
            },
            revision: 0,
            windows: [None; 2],
        };
        Env {
            rules,
            scenario,
            rng,
            now: 0,
            // Ages are measured by the real clock, which is so always behind: a batch is never too young.
            base: Instant::now() + Duration::from_secs(86_400),
            mapping,
            pg,
            os: OpenSearch::default(),
            state,
            quiet: false,
            failed_over: false,
            floor_taken: false,
            streamed_from: 0,
            configuration: 0,
            broken: None,
            trace: trace.then(Vec::new),
        }
    }

    pub fn time(&self) -> Instant {
        self.base + TICK * self.now as u32
    }

    pub fn insert(&self) -> Lsn {
        Lsn(self.pg.insert)
    }

    pub fn break_guarantee(&mut self, what: String) {
        note!(self, "BROKEN {what}");
        self.broken.get_or_insert(what);
    }

    /// Executes an action in OpenSearch; what it does is noted, and **G3** watched over.
    pub fn execute(&mut self, act: &Act, who: &str) -> Result<(), Version> {
        let before = self.os.documents[act.id].clone();
        let result = self.os.execute(act);
        note!(
            self,
            "    {who}: id {} {} {} {}",
            act.id,
            self.show(act.version),
            act.document.as_deref().map_or("deleted".into(), String::from_utf8_lossy),
            if result.is_err() { "409" } else { "" }
        );
        if let (Ok(()), Some(new), Some(before)) = (result, &act.document, before) {
            self.watch_backwards(act, state_of(new), state_of(&before.source));
        }
        result
    }

    /// **G3**: once the stream has passed what a document shows, it never shows an older state again.
    fn watch_backwards(&mut self, act: &Act, new: u32, old: u32) {
        if new >= old || self.failed_over {
            return;
        }
        let passed = self.pg.commit_of(act.id, old).unwrap_or(0);
        let position = self.state.epochs.list.position(act.version).unwrap_or_default();
        if position.0 > passed && old > 0 {
            self.break_guarantee(format!("G3: id {} went back from state {old} to {new}", act.id));
        }
    }

    pub fn show(&self, version: Version) -> String {
        let position = self.state.epochs.list.position(version).unwrap_or_default();
        format!("{}:{:x}.{}", version.epoch(), position.0, version.0 & 1023)
    }

    /// Writes at the version of a position; false where a higher one is there.
    fn may_put(current: Option<Version>, lsn: Lsn, epochs: &Epochs) -> Option<Version> {
        let version = epochs.version(lsn, 0).unwrap();
        current.is_none_or(|current| current <= version).then_some(version)
    }

    pub fn write_checkpoint(&mut self, checkpoint: &Checkpoint, owner: u32) -> Result<(), Superseded> {
        let current = self.state.checkpoint.as_ref().map(|(version, _)| *version);
        let version = Self::may_put(current, checkpoint.lsn, &self.state.epochs.list).ok_or(Superseded)?;
        note!(self, "  checkpoint {:x} of timeline {}", checkpoint.lsn.0, checkpoint.timeline);
        let time = chrono::DateTime::UNIX_EPOCH;
        let stored = Stored { record: checkpoint.clone(), owner: owner.to_string(), time };
        self.state.checkpoint = Some((version, stored));
        self.watch_checkpoint(checkpoint.lsn.0);
        Ok(())
    }

    pub fn raise_high(&mut self, lsn: Lsn) {
        let current = self.state.high.map(|(version, _)| version);
        if let Some(version) = Self::may_put(current, lsn, &self.state.epochs.list) {
            self.state.high = Some((version, lsn));
        }
    }

    pub fn raise_beside(&mut self, lsn: Lsn) {
        let current = self.state.beside.map(|(version, _)| version);
        if let Some(version) = Self::may_put(current, lsn, &self.state.epochs.list) {
            self.state.beside = Some((version, lsn));
        }
    }

    pub fn write_table(&mut self, record: &TableRecord, revision: &mut u64) -> Result<(), Superseded> {
        if *revision != self.state.revision {
            return Err(Superseded);
        }
        self.state.table = record.clone();
        self.state.revision += 1;
        *revision = self.state.revision;
        note!(
            self,
            "  table {:?} floor {:x?} sweep {}",
            record.state,
            record.floor.map(|f| f.lsn.0),
            record.sweep
        );
        Ok(())
    }

    /// **G1**: what a commit before the checkpoint made of an id is in the index, unless a later one has changed it.
    fn watch_checkpoint(&mut self, lsn: u64) {
        if self.state.epochs.repair.is_some() {
            return;
        }
        for id in 0..crate::postgres::IDS {
            let mut commits = self.pg.wal.iter().filter(|c| c.start >= self.streamed_from);
            let Some(last) = commits.rfind(|commit| commit.overlay[id].is_some()) else { continue };
            let (start, state) = (last.start, last.overlay[id].flatten());
            // A Job may have brought a deleted row back, and will take it away again.
            if start >= lsn || (state.is_none() && self.scenario.job) {
                continue;
            }
            let expected = state.map(|row| self.mapping.map(id, &row).1);
            let found = self.os.documents[id].as_ref().map(|document| &document.source);
            if found != expected.as_ref() {
                self.break_guarantee(format!(
                    "G1: the checkpoint {lsn:x} passed commit {start:x} of id {id}"
                ));
                return;
            }
        }
    }
}

/// The state counter in a document; 0 where it has none.
pub fn state_of(document: &[u8]) -> u32 {
    let text = std::str::from_utf8(document).unwrap();
    let digits = text.split_once("\"a\":").map_or("", |(_, tail)| tail);
    digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap_or(0)
}

//! A PostgreSQL of one table and three ids: transactions that commit in another order than they began and are streamed
//! before they are visible, snapshots, a slot, and failovers that lose the tail of the log and use its positions again.

use crate::rng::Rng;
use pg2os::{
    model::{Lsn, Snapshot, Xid},
    source::replication::TimelineSwitch,
};

pub const IDS: usize = 3;

/// A row but for its id. `a` grows with every change of any row; `t` stands for a value that may be stored out of line;
/// `w` is the window that the row is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub a: u32,
    pub t: u32,
    pub w: u8,
}

pub type Table = [Option<Row>; IDS];
/// What a transaction leaves of each id it changed.
pub type Overlay = [Option<Option<Row>>; IDS];

#[derive(Clone, Copy, Debug)]
pub enum Event {
    Insert(usize, Row),
    /// `old` where the key changed; `unchanged` where `t` is not sent.
    Update {
        old: Option<usize>,
        id: usize,
        row: Row,
        unchanged: bool,
    },
    Delete(usize),
    Truncate,
    /// A change of a table that is not configured.
    Foreign,
}

#[derive(Debug)]
struct Transaction {
    xid: u64,
    events: Vec<Event>,
    overlay: Overlay,
    committed: bool,
}

/// A commit record and what it commits.
#[derive(Debug)]
pub struct Commit {
    pub start: u64,
    pub end: u64,
    pub xid: u64,
    pub events: Vec<Event>,
    pub overlay: Overlay,
}

#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub created: u64,
    pub confirmed: u64,
}

/// What kinds of changes there are.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Many changes in one transaction.
    pub big: bool,
    pub toast: bool,
    /// One in so many is a TRUNCATE; 0 is none.
    pub truncate: usize,
    /// Transactions that are open beside each other, at most.
    pub open: usize,
}

#[derive(Debug)]
pub struct Postgres {
    transactions: Vec<Transaction>,
    pub wal: Vec<Commit>,
    base: Table,
    pub visible: Table,
    pub insert: u64,
    /// Ends of records: where a timeline can fork.
    ends: Vec<u64>,
    next_xid: u64,
    completed: u64,
    sequence: u32,
    pub timeline: u32,
    pub history: Vec<TimelineSwitch>,
    pub slot: Option<Slot>,
}

const FIRST: u64 = 0x1000;

impl Postgres {
    pub fn new(rng: &mut Rng) -> Self {
        let mut pg = Postgres {
            transactions: vec![],
            wal: vec![],
            base: [None; IDS],
            visible: [None; IDS],
            insert: FIRST,
            ends: vec![FIRST],
            next_xid: (1 << 32) + 100,
            completed: (1 << 32) + 99,
            sequence: 1,
            timeline: 1,
            history: vec![],
            slot: None,
        };
        for id in 0..IDS {
            if rng.coin() {
                pg.base[id] = Some(pg.new_row(rng));
            }
        }
        pg.visible = pg.base;
        pg
    }

    fn new_row(&mut self, rng: &mut Rng) -> Row {
        self.sequence += 1;
        Row { a: self.sequence, t: self.sequence, w: rng.below(2) as u8 }
    }

    /// Appends a record; returns its start.
    fn record(&mut self, bytes: u64) -> u64 {
        let start = self.insert;
        self.insert += bytes;
        self.ends.push(self.insert);
        start
    }

    pub fn next_xid(&self) -> Xid {
        Xid(self.next_xid)
    }

    pub fn burn(&mut self) -> Xid {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.completed = self.completed.max(xid);
        Xid(xid)
    }

    /// What a statement that begins now sees.
    pub fn snapshot(&self) -> Snapshot {
        let xmax = self.completed + 1;
        let running = self.transactions.iter().map(|t| t.xid);
        let xmin = running.clone().min().unwrap_or(xmax).min(xmax);
        let list: Vec<String> = running.filter(|xid| *xid < xmax).map(|xid| xid.to_string()).collect();
        format!("{xmin}:{xmax}:{}", list.join(",")).parse().unwrap()
    }

    pub fn xmin(&self) -> u64 {
        let xmax = self.completed + 1;
        self.transactions.iter().map(|t| t.xid).min().unwrap_or(xmax).min(xmax)
    }

    /// One step of somebody's work.
    pub fn step(&mut self, rng: &mut Rng, work: &Workload) {
        match rng.below(8) {
            0 | 1 if self.transactions.len() < work.open => {
                let xid = self.next_xid;
                self.next_xid += 1;
                let overlay = [None; IDS];
                self.transactions.push(Transaction { xid, events: vec![], overlay, committed: false });
            }
            2..=4 => {
                if let Some(i) = self.pick(rng, false) {
                    let most = if work.big { 9 } else { 4 };
                    let count = if work.big { 1 + rng.below(5) } else { 1 };
                    for _ in 0..count {
                        if self.transactions[i].events.len() < most {
                            self.change(i, rng, work);
                        }
                    }
                }
            }
            5 => {
                if let Some(i) = self.pick(rng, false) {
                    self.commit(i);
                }
            }
            6 => {
                if let Some(i) = self.pick(rng, true) {
                    self.end(i);
                }
            }
            _ => {
                if rng.below(4) == 0 {
                    self.record(8);
                } else if rng.below(6) == 0
                    && let Some(i) = self.pick(rng, false)
                {
                    self.end(i);
                }
            }
        }
    }

    fn pick(&self, rng: &mut Rng, committed: bool) -> Option<usize> {
        let all: Vec<usize> =
            (0..self.transactions.len()).filter(|i| self.transactions[*i].committed == committed).collect();
        if all.is_empty() { None } else { Some(all[rng.below(all.len())]) }
    }

    fn is_locked(&self, id: usize, by_other_than: usize) -> bool {
        self.transactions.iter().enumerate().any(|(i, t)| i != by_other_than && t.overlay[id].is_some())
    }

    fn change(&mut self, i: usize, rng: &mut Rng, work: &Workload) {
        if work.truncate > 0 && rng.below(work.truncate) == 0 {
            if !(0..IDS).any(|id| self.is_locked(id, i)) {
                self.transactions[i].events.push(Event::Truncate);
                self.transactions[i].overlay = [Some(None); IDS];
                self.record(8);
            }
            return;
        }
        if rng.below(16) == 0 {
            self.transactions[i].events.push(Event::Foreign);
            self.record(8);
            return;
        }
        let id = rng.below(IDS);
        if self.is_locked(id, i) {
            return;
        }
        let state = |pg: &Postgres, id: usize| pg.transactions[i].overlay[id].unwrap_or(pg.visible[id]);
        let mut row = self.new_row(rng);
        let event = match state(self, id) {
            None => Event::Insert(id, row),
            Some(old) => match rng.below(5) {
                0 | 1 => Event::Delete(id),
                2 if work.toast => {
                    row.t = old.t;
                    Event::Update { old: None, id, row, unchanged: true }
                }
                3 => {
                    let to = rng.below(IDS);
                    if to == id || self.is_locked(to, i) || state(self, to).is_some() {
                        return;
                    }
                    let unchanged = work.toast && rng.coin();
                    if unchanged {
                        row.t = old.t;
                    }
                    Event::Update { old: Some(id), id: to, row, unchanged }
                }
                _ => Event::Update { old: None, id, row, unchanged: false },
            },
        };
        let overlay = &mut self.transactions[i].overlay;
        match event {
            Event::Insert(id, row) => overlay[id] = Some(Some(row)),
            Event::Update { old, id, row, .. } => {
                if let Some(old) = old {
                    overlay[old] = Some(None);
                }
                overlay[id] = Some(Some(row));
            }
            Event::Delete(id) => overlay[id] = Some(None),
            Event::Truncate | Event::Foreign => {}
        }
        self.transactions[i].events.push(event);
        self.record(8);
    }

    fn commit(&mut self, i: usize) {
        if self.transactions[i].events.is_empty() {
            return self.end(i);
        }
        let start = self.record(24);
        let t = &mut self.transactions[i];
        t.committed = true;
        let (events, overlay) = (t.events.clone(), t.overlay);
        self.wal.push(Commit { start, end: self.insert, xid: t.xid, events, overlay });
    }

    /// The transaction is not running any more; what it committed becomes visible.
    fn end(&mut self, i: usize) {
        let t = self.transactions.remove(i);
        self.completed = self.completed.max(t.xid);
        if t.committed {
            apply(&mut self.visible, &t.overlay);
        }
    }

    /// Everybody ends, one way or the other.
    pub fn finish(&mut self, rng: &mut Rng) {
        while !self.transactions.is_empty() {
            if !self.transactions[0].committed && rng.coin() {
                self.commit(0);
            }
            if !self.transactions.is_empty() {
                self.end(0);
            }
        }
    }

    /// Asynchronous: a standby that lacks the last records becomes the primary, and reuses their positions and
    /// transaction ids. Its copy of the slot is behind, or missing.
    pub fn fail_over(&mut self, rng: &mut Rng, slot_may_be_lost: bool, not_below: Option<u64>) -> u64 {
        let at = self.end_for_fork(rng, not_below);
        self.timeline += 1;
        self.fork(rng, at, slot_may_be_lost);
        at
    }

    /// A standby that never heard of this timeline becomes the primary, and gives its own the same number.
    pub fn fail_over_to_twin(&mut self, rng: &mut Rng) -> Option<u64> {
        let began = self.history.last()?.switched_at.0;
        let before: Vec<u64> = self.ends.iter().rev().copied().filter(|end| *end < began).take(8).collect();
        let at = *before.get(rng.below(before.len().max(1)))?;
        self.fork(rng, at, false);
        Some(at)
    }

    fn end_for_fork(&self, rng: &mut Rng, not_below: Option<u64>) -> u64 {
        let lost = match not_below {
            Some(lowest) => self.ends.iter().rev().skip(1).take_while(|end| **end >= lowest).count(),
            None => {
                let known = if rng.below(3) == 0 { 24 } else { 8 };
                rng.below(self.ends.len().min(known))
            }
        };
        self.ends[self.ends.len() - 1 - lost]
    }

    fn fork(&mut self, rng: &mut Rng, at: u64, slot_may_be_lost: bool) {
        let left =
            self.history.iter().find(|switch| switch.switched_at.0 >= at).map(|switch| switch.timeline);
        let left = left.unwrap_or(self.timeline - 1);
        self.history.retain(|switch| switch.switched_at.0 < at);
        self.history.push(TimelineSwitch { timeline: left, switched_at: Lsn(at) });
        self.ends.retain(|end| *end <= at);
        self.wal.retain(|commit| commit.end <= at);
        self.transactions.clear();
        self.visible = self.base;
        for commit in &self.wal {
            apply(&mut self.visible, &commit.overlay);
        }
        self.insert = at;
        // The end-of-recovery record.
        self.record(16);
        let last = self.wal.iter().map(|commit| commit.xid).max().unwrap_or((1 << 32) + 99);
        self.completed = last.max(self.completed.saturating_sub(rng.below(3) as u64));
        self.next_xid = self.completed + 1;
        if slot_may_be_lost && rng.below(8) == 0 {
            self.slot = None;
        }
        self.slot = self.slot.filter(|slot| slot.created <= at).map(|slot| Slot {
            confirmed: slot.confirmed.min(at).saturating_sub(8 * rng.below(4) as u64).max(slot.created),
            ..slot
        });
    }

    /// Number of the first commit that a stream from `position` gets.
    pub fn first_from(&self, position: u64) -> usize {
        let position = position.max(self.slot.map_or(0, |slot| slot.confirmed));
        self.wal.iter().position(|commit| commit.start >= position).unwrap_or(self.wal.len())
    }

    /// Where the state `a` of some row was committed.
    pub fn commit_of(&self, id: usize, a: u32) -> Option<u64> {
        let is = |commit: &&Commit| matches!(commit.overlay[id], Some(Some(row)) if row.a == a);
        self.wal.iter().find(is).map(|commit| commit.start)
    }
}

fn apply(table: &mut Table, overlay: &Overlay) {
    for (row, change) in table.iter_mut().zip(overlay) {
        if let Some(change) = change {
            *row = *change;
        }
    }
}

//! Following a TRUNCATE, as `pipeline::requests` does: flush, list, delete, and once more after a doubt (**M5**, **M11**).

use crate::{
    env::{Env, note},
    writer::{PendingRow, Writer},
};
use pg2os::{
    ack::Hold,
    lanes::{Action, Change, FlushMark, Lanes, TableNo},
    model::{Lsn, Version, Xid},
    pipeline::memory::Memory,
};
use std::{collections::VecDeque, time::Instant};

/// A TRUNCATE that is to be followed once more.
struct Again {
    due: Instant,
    xid: Xid,
    version: Version,
    hold: Hold,
}

enum Stage {
    Flush(FlushMark),
    /// When it is to be done once more, and what is left to delete.
    Delete(Option<Instant>, VecDeque<PendingRow>),
    /// Of a repetition.
    Answered(FlushMark),
}

struct Current {
    xid: Xid,
    version: Version,
    stage: Stage,
    /// Of a repetition.
    hold: Option<Hold>,
}

#[derive(Default)]
pub struct Truncating {
    asked: Option<(Xid, Version)>,
    current: Option<Current>,
    again: VecDeque<Again>,
}

impl Truncating {
    /// The reader asks for it, and waits.
    pub fn follow(&mut self, _: &Lanes, xid: Xid, version: Version) {
        self.asked = Some((xid, version));
    }

    pub fn is_done(&self) -> bool {
        self.asked.is_none() && self.current.is_none() && self.again.is_empty()
    }

    /// One step; true when the reader may go on.
    pub fn step(&mut self, env: &mut Env, writer: &Writer, memory: &Memory) -> bool {
        let lanes = &writer.lanes;
        let Some(mut current) = self.current.take() else {
            self.begin(env, lanes);
            return false;
        };
        let (xid, version) = (current.xid, current.version);
        match current.stage {
            Stage::Flush(mark) if !lanes.is_flushed(&mark) => current.stage = Stage::Flush(mark),
            Stage::Flush(_) => {
                let due = lanes.doubtful_until(env.time()).filter(|_| env.rules.truncate_repeat);
                let committed = writer.epochs.position(version).map_or(Lsn::ZERO, Lsn::past_first_byte);
                memory.lock().journal.whole(TableNo(0), committed);
                if env.rules.refresh {
                    env.os.refresh();
                }
                let table = env.mapping.table();
                let listed = env.os.list().into_iter().filter(|(_, v)| table.is_truncated(*v, version));
                let rows: VecDeque<_> = listed.map(|(id, _)| by_document_id(env, id)).collect();
                note!(env, "  TRUNCATE at {} deletes {}", env.show(version), rows.len());
                current.stage = Stage::Delete(due, rows);
            }
            Stage::Delete(due, mut rows) => {
                if let Some(row) = rows.front() {
                    let target = &env.mapping.table().target;
                    let (id, change) = (&row.id[..], Change::Delete);
                    let action = Action { target, id, plain_id: id, routing: b"", version, change };
                    if lanes.push_change(&action, xid).is_ok() {
                        rows.pop_front();
                    }
                    current.stage = Stage::Delete(due, rows);
                } else if current.hold.is_some() {
                    current.stage = Stage::Answered(lanes.mark());
                } else {
                    self.again.extend(due.map(|due| once_more(lanes, due, xid, version)));
                    return true;
                }
            }
            Stage::Answered(mark) if !lanes.is_flushed(&mark) => current.stage = Stage::Answered(mark),
            Stage::Answered(_) => {
                if let Some(hold) = current.hold {
                    lanes.tracker().release(hold);
                }
                return false;
            }
        }
        self.current = Some(current);
        false
    }

    fn begin(&mut self, env: &Env, lanes: &Lanes) {
        let stage = Stage::Flush(lanes.mark());
        if let Some((xid, version)) = self.asked.take() {
            self.current = Some(Current { xid, version, stage, hold: None });
        } else if self.again.front().is_some_and(|again| again.due <= env.time())
            && let Some(Again { xid, version, hold, .. }) = self.again.pop_front()
        {
            self.current = Some(Current { xid, version, stage, hold: Some(hold) });
        }
    }
}

/// See `RequestHandler::once_more`.
fn once_more(lanes: &Lanes, due: Instant, xid: Xid, version: Version) -> Again {
    let mut tracker = lanes.tracker();
    let ticket = tracker.ticket();
    Again { due, xid, version, hold: tracker.answered(ticket) }
}

/// A listed document is known by its id alone.
pub fn by_document_id(env: &Env, number: usize) -> PendingRow {
    let id = env.mapping.ids[number].clone();
    PendingRow { number, id, plain: None, document: None }
}

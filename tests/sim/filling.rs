//! Reading windows, repairing after a fork, and sweeping, in the order of `pipeline::bootstrap` and `pipeline::phantoms`.

use crate::{
    env::{Env, Superseded, note},
    postgres::IDS,
    session::Session,
    truncating::by_document_id,
    writer::{PendingRow, Progress, Reading},
};
use pg2os::{
    lanes::TableNo,
    model::{Lsn, Snapshot, Version, Xid},
    pipeline::snapshots::{Open, OpenSnapshots, Opening},
    sink::{EpochRecord, TableState},
};
use std::collections::VecDeque;

const TABLE: TableNo = TableNo(0);

pub enum Filling {
    Begin,
    Floor,
    Burned(Lsn, Xid),
    /// What was written past a fork is looked up again.
    Phantoms(Repair),
    /// The table's floor becomes durable.
    Table(Lsn),
    Windows(OpenSnapshots, [Window; 2]),
    /// **M6**
    Sweep,
    Sweeping(Reading),
    Live,
    /// … and once more.
    PhantomsAgain(Option<Repair>),
    Repaired,
    Done,
}

/// Ids to be looked up, two in a query.
pub struct Repair {
    floor: Lsn,
    chunks: VecDeque<Vec<usize>>,
    reading: Option<Reading>,
}

pub enum Window {
    Waiting,
    Opening(Opening),
    Reading(Reading, Open),
    Answered,
    Done,
}

impl Filling {
    /// One step of it.
    pub fn step(self, env: &mut Env, session: &mut Session) -> Result<Filling, Superseded> {
        Ok(match self {
            Filling::Begin => {
                let phantoms = session.memory.lock().phantoms.is_some();
                let is_live = session.work.record.state == TableState::Live;
                if is_live && !phantoms { Filling::Live } else { Filling::Floor }
            }
            Filling::Floor => {
                let floor = env.insert();
                let xid = if env.rules.barrier { env.pg.burn() } else { env.pg.snapshot().xmax };
                note!(env, "  floor {:x} burned {}", floor.0, xid.0);
                if env.rules.high_floor {
                    session.writer.cover(env, floor);
                }
                Filling::Burned(floor, xid)
            }
            Filling::Burned(floor, xid) => {
                let xmin = env.pg.xmin() + u64::from(!env.rules.barrier);
                if xmin <= xid.0 {
                    return Ok(Filling::Burned(floor, xid));
                }
                let until = session.writer.lanes.doubtful_until(env.time());
                session.again = until.map(|until| (until, floor));
                Filling::Phantoms(Repair { floor, chunks: chunks(env, session), reading: None })
            }
            Filling::Phantoms(mut repair) => {
                if !repair.step(env, session) {
                    return Ok(Filling::Phantoms(repair));
                }
                Filling::Table(repair.floor)
            }
            Filling::Table(floor) => begin_table(env, session, floor)?,
            Filling::Windows(open, windows) => windows_step(env, session, open, windows),
            Filling::Sweep => sweep(env, session),
            Filling::Sweeping(mut reading) => {
                if reading.push(env, &mut session.writer) == Progress::Queued && reading.window.is_answered()
                {
                    session.work.record.sweep = false;
                    note!(env, "  swept");
                    return Ok(Filling::Live);
                }
                Filling::Sweeping(reading)
            }
            Filling::Live => {
                if session.work.record.state != TableState::Live {
                    session.work.record.state = TableState::Live;
                    let record = session.work.record.clone();
                    env.write_table(&record, &mut session.revision)?;
                }
                Filling::PhantomsAgain(None)
            }
            Filling::PhantomsAgain(None) => match session.again {
                Some((until, floor)) if session.memory.lock().phantoms.is_some() => {
                    let repair = Repair { floor, chunks: chunks(env, session), reading: None };
                    Filling::PhantomsAgain(Some(repair).filter(|_| until <= env.time()))
                }
                _ => Filling::Repaired,
            },
            Filling::PhantomsAgain(Some(mut repair)) => {
                if !repair.step(env, session) {
                    return Ok(Filling::PhantomsAgain(Some(repair)));
                }
                Filling::Repaired
            }
            Filling::Repaired => {
                session.writer.lanes.stop_guarding();
                if session.epochs.repair.is_some() {
                    session.epochs = EpochRecord { list: session.epochs.list.clone(), repair: None };
                    env.state.epochs = session.epochs.clone();
                    session.memory.lock().phantoms = None;
                    note!(env, "  the gap is repaired");
                }
                Filling::Done
            }
            Filling::Done => Filling::Done,
        })
    }
}

/// The ids to be looked up again.
fn chunks(env: &Env, session: &Session) -> VecDeque<Vec<usize>> {
    let ids = session.memory.lock().phantoms.clone().unwrap_or_default();
    let number = |plain: &[u8]| env.mapping.plain.iter().position(|known| known == plain);
    // The id of a document that was swept may be no key: nothing is found of it, and nothing is there to be deleted.
    let numbers: Vec<usize> = ids.iter().filter_map(|(_, plain, _)| number(plain)).collect();
    numbers.chunks(2).map(<[usize]>::to_vec).collect()
}

impl Repair {
    /// See `phantoms::look_up`; true when all is answered.
    fn step(&mut self, env: &mut Env, session: &mut Session) -> bool {
        let Some(reading) = &mut self.reading else {
            let Some(chunk) = self.chunks.front() else { return true };
            let version = session.writer.epochs.floor_version(self.floor).unwrap();
            let mut reading = Reading::new(env, env.pg.snapshot(), version);
            reading.rows = chunk.iter().map(|id| row(env, *id)).collect();
            note!(env, "  phantoms {chunk:?} read {:?}", env.pg.visible);
            let lsn = env.insert();
            let written = chunk.iter().map(|id| (TABLE, &env.mapping.plain[*id][..], &b""[..]));
            session.memory.lock().journal.write(lsn, written);
            session.writer.cover(env, lsn);
            self.reading = Some(reading);
            return false;
        };
        match reading.push(env, &mut session.writer) {
            Progress::ReadAgain => self.reading = None,
            Progress::Queued if reading.window.is_answered() => {
                self.chunks.pop_front();
                self.reading = None;
            }
            Progress::GoesOn | Progress::Queued => {}
        }
        false
    }
}

fn row(env: &Env, number: usize) -> PendingRow {
    let document = env.pg.visible[number].map(|row| env.mapping.map(number, &row).1);
    let (id, plain) = (env.mapping.ids[number].clone(), Some(env.mapping.plain[number].clone()));
    PendingRow { number, id, plain, document }
}

fn begin_table(env: &mut Env, session: &mut Session, floor: Lsn) -> Result<Filling, Superseded> {
    if session.work.record.state == TableState::Live {
        return Ok(Filling::Live);
    }
    if session.work.begin(floor, &session.writer.epochs) {
        let record = session.work.record.clone();
        env.write_table(&record, &mut session.revision)?;
        env.floor_taken = true;
    }
    let window = |number: usize| {
        let is_done = env.state.windows[number] == session.work.record.floor;
        if is_done { Window::Done } else { Window::Waiting }
    };
    Ok(Filling::Windows(OpenSnapshots::default(), [window(0), window(1)]))
}

fn windows_step(
    env: &mut Env,
    session: &mut Session,
    open: OpenSnapshots,
    mut windows: [Window; 2],
) -> Filling {
    if windows.iter().all(|window| matches!(window, Window::Done)) {
        return if session.work.record.sweep { Filling::Sweep } else { Filling::Live };
    }
    let number = env.rng.below(2);
    let window = std::mem::replace(&mut windows[number], Window::Waiting);
    windows[number] = window_step(env, session, &open, number, window);
    Filling::Windows(open, windows)
}

/// See `Shared::read_window`.
fn window_step(
    env: &mut Env,
    session: &mut Session,
    open: &OpenSnapshots,
    number: usize,
    window: Window,
) -> Window {
    let writer = &mut session.writer;
    match window {
        Window::Waiting => Window::Opening(open.opening()),
        Window::Opening(opening) => {
            if !env.rules.guard_unseen {
                // What was streamed before is not guarded against.
                writer.lanes.prune_guards(Xid(u64::MAX));
            }
            let snapshot = env.pg.snapshot();
            let open = opening.opened(snapshot.xmin).expect("snapshots of a primary do not go back");
            let floor = session.work.record.floor.expect("a floor");
            let version = writer.epochs.floor_version(floor.lsn).unwrap();
            let mut reading = Reading::new(env, snapshot, version);
            let of_window = |id: &usize| env.pg.visible[*id].is_some_and(|row| usize::from(row.w) == number);
            reading.rows = (0..IDS).filter(of_window).map(|id| row(env, id)).collect();
            note!(env, "  window {number} read {:?} at {}", env.pg.visible, env.show(version));
            let lsn = env.insert();
            session.memory.lock().journal.whole(TABLE, lsn);
            writer.cover(env, lsn);
            Window::Reading(reading, open)
        }
        Window::Reading(mut reading, open) => match reading.push(env, writer) {
            Progress::ReadAgain => Window::Waiting,
            Progress::Queued if reading.window.is_answered() => {
                if let Some(xmin) = open.close() {
                    writer.lanes.prune_guards(xmin);
                }
                Window::Answered
            }
            Progress::GoesOn | Progress::Queued => Window::Reading(reading, open),
        },
        Window::Answered => {
            env.state.windows[number] = session.work.record.floor;
            note!(env, "  window {number} done");
            Window::Done
        }
        Window::Done => Window::Done,
    }
}

/// See `Bootstrap::sweep`.
fn sweep(env: &mut Env, session: &mut Session) -> Filling {
    let lanes = &session.writer.lanes;
    let floor = session.work.record.floor.expect("a floor");
    if session.durable() < floor.lsn || env.rules.sweep_horizon && lanes.doubtful_until(env.time()).is_some()
    {
        return Filling::Sweep;
    }
    let version: Version = session.writer.epochs.floor_version(floor.lsn).unwrap();
    let mut sweeping = Reading::new(env, Snapshot::of_everything(), version);
    if env.rules.refresh {
        env.os.refresh();
    }
    let table = env.mapping.table();
    let listed = env.os.list().into_iter().filter(|(_, v)| table.is_swept(*v, version));
    sweeping.rows = listed.map(|(id, _)| by_document_id(env, id)).collect();
    note!(env, "  sweep below {} deletes {}", env.show(version), sweeping.rows.len());
    Filling::Sweeping(sweeping)
}

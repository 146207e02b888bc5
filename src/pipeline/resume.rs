//! What has to be done before a stream starts, so that what is in the indices becomes right again. Pure.
//!
//! Durable in this order: the tables that are to be read again, the epochs with the pending repair, the slot, the
//! checkpoint. A process that ends in between finds the same gap again.

use super::{
    high::Known,
    journal::Ids,
    memory::Remembered,
    position::{Gap, Start},
};
use crate::{
    lanes::TableNo,
    model::{Lsn, VersionError},
    sink::{Checkpoint, EpochRecord, Floor, Repair},
};
use std::collections::BTreeSet;

/// Which tables are to be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// None.
    Nothing,
    /// These.
    Tables(BTreeSet<TableNo>),
    /// All. Without a gap, those that have not begun need nothing.
    All {
        /// May the indices hold what is gone, even where no window was read yet?
        after_gap: bool,
    },
}

impl Restart {
    /// Is `table` to be read again? Then tells whether after a gap.
    pub fn of(&self, table: TableNo) -> Option<bool> {
        match self {
            Restart::All { after_gap } => Some(*after_gap),
            Restart::Tables(tables) if tables.contains(&table) => Some(true),
            Restart::Tables(_) | Restart::Nothing => None,
        }
    }
}

/// The server has left the timeline of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Where.
    pub at: Lsn,
    /// What was written past it, where all of it is known and the stream can go on: to be looked up again.
    pub ids: Option<Ids>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Where the stream goes on; `None` where the slot must be made or moved first.
    pub from: Option<Lsn>,
    /// Tables to be read again.
    pub restart: Restart,
    /// Did the epochs or the repair change?
    pub epochs_changed: bool,
    /// A fork that took commits back.
    pub fork: Option<Fork>,
    /// **M7**: nothing above it may be in the indices that could be taken for content of the timeline that is streamed.
    pub high: Lsn,
}

/// **M12**: commits below it may have been given other ordinals by an earlier process, and get the held one until the
/// checkpoint has passed them, however many processes that takes.
pub fn held_below(stored: Option<&Checkpoint>, fingerprint: &str, high: Lsn) -> Lsn {
    let Some(stored) = stored else { return Lsn::ZERO };
    let changed = if stored.fingerprint == fingerprint { Lsn::ZERO } else { high };
    stored.held_below.max(changed)
}

/// Decides; notes in `epochs` what is to be repaired. `memory` is told once that is durable, with
/// [`Remembered::resumed`]: until then another try must find the same. `floors` are those of the tables that have one.
///
/// # Errors
/// No epoch is left.
pub fn resume(
    start: &Start,
    epochs: &mut EpochRecord,
    memory: &Remembered,
    known: Known,
    floors: impl Iterator<Item = (TableNo, Floor)>,
) -> Result<Resume, VersionError> {
    let mut resume = Resume {
        from: None,
        restart: Restart::Nothing,
        epochs_changed: false,
        fork: None,
        high: known.at_most,
    };
    let gap = match start {
        Start::Continue(lsn) => {
            resume.from = Some(*lsn);
            // Only the process that found the fork knows the ids.
            let unknown = epochs.repair.as_mut().filter(|repair| repair.by_ids && memory.phantoms.is_none());
            if let Some(repair) = unknown {
                repair.by_ids = false;
                resume.epochs_changed = true;
                resume.restart = Restart::All { after_gap: true };
            }
            return Ok(resume);
        }
        Start::Gap(gap) => gap,
        Start::Fresh | Start::Adopt | Start::Foreign(_) | Start::Replaced => {
            // Without a stream since then, nothing that was read before counts.
            resume.restart = Restart::All { after_gap: false };
            return Ok(resume);
        }
    };
    resume.restart = Restart::All { after_gap: true };
    let lsn = match gap {
        Gap::Forked { at, from, .. } => {
            // LSNs of the two timelines are not comparable past the fork.
            epochs.list.begin(*at)?;
            resume.high = *at;
            let written = from.and_then(|_| memory.journal.written_above(*at));
            let ids = written.map(|written| {
                resume.from = *from;
                // A floor past the fork would stand above commits that are still to come.
                let past = floors.filter(|(_, floor)| floor.lsn >= *at).map(|(table, _)| table);
                resume.restart = Restart::Tables(written.whole.into_iter().chain(past).collect());
                written.ids
            });
            resume.fork = Some(Fork { at: *at, ids });
            *at
        }
        Gap::SlotMissing { checkpoint, .. }
        | Gap::SlotLost { checkpoint, .. }
        | Gap::SlotAhead { checkpoint, .. }
        | Gap::PublicationMade { checkpoint } => *checkpoint,
    };
    resume.epochs_changed = true;
    epochs.repair = Some(Repair { reason: gap.to_string(), lsn, by_ids: resume.from.is_some() });
    Ok(resume)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::position::tests::checkpoint;

    const T: TableNo = TableNo(0);
    const KNOWN: Known = Known { at_most: Lsn(80), at_least: Lsn(48) };

    fn forked(from: Option<u64>) -> Start {
        let (at, high, from) = (Lsn(64), Lsn(80), from.map(Lsn));
        Start::Gap(Gap::Forked { then: 1, now: 2, at, high, from })
    }

    fn memory() -> Remembered {
        let mut memory = Remembered::default();
        memory.journal.begin_session(vec!["public.t".into()], Lsn(8));
        memory.journal.write(Lsn(72), std::iter::once((T, &b"1"[..], &b""[..])));
        memory
    }

    fn floor(lsn: u64) -> Floor {
        Floor { lsn: Lsn(lsn), epoch: 1, slot_start: Lsn(8) }
    }

    #[test]
    fn m7_a_fork_within_the_journal_is_repaired_by_ids_and_voids_the_floors_past_it() {
        let (mut epochs, mut memory) = (EpochRecord::default(), memory());
        let floors = [(T, floor(56)), (TableNo(1), floor(64)), (TableNo(2), floor(72))];
        let found = resume(&forked(Some(48)), &mut epochs, &memory, KNOWN, floors.into_iter()).unwrap();
        assert_eq!(found.restart, Restart::Tables(BTreeSet::from([TableNo(1), TableNo(2)])));
        assert_eq!((found.from, found.high, found.epochs_changed), (Some(Lsn(48)), Lsn(64), true));
        assert_eq!((epochs.list.last().base, epochs.repair.unwrap().by_ids), (64, true));
        let again =
            resume(&forked(Some(48)), &mut EpochRecord::default(), &memory, KNOWN, floors.into_iter());
        assert_eq!(again.unwrap(), found, "nothing is forgotten before it is durable");
        memory.resumed(&found);
        assert_eq!(memory.phantoms.as_ref().map(BTreeSet::len), Some(1));
        assert_eq!(memory.journal.written_above(Lsn(64)).unwrap().ids.len(), 0);
    }

    #[test]
    fn a_fork_that_the_journal_does_not_reach_or_the_slot_is_past_means_reading_everything_again() {
        for (start, memory) in [(forked(Some(48)), Remembered::default()), (forked(None), memory())] {
            let mut epochs = EpochRecord::default();
            let found = resume(&start, &mut epochs, &memory, KNOWN, std::iter::empty()).unwrap();
            assert_eq!((found.from, found.restart), (None, Restart::All { after_gap: true }));
            assert_eq!(found.fork, Some(Fork { at: Lsn(64), ids: None }));
            assert!(!epochs.repair.unwrap().by_ids);
        }
    }

    #[test]
    fn a_repair_by_ids_that_another_process_began_means_reading_everything_again() {
        let repair = |by_ids| Some(Repair { reason: String::new(), lsn: Lsn(64), by_ids });
        let go_on = Start::Continue(Lsn(48));
        let mut epochs = EpochRecord { repair: repair(true), ..EpochRecord::default() };
        let own = Remembered { phantoms: Some(Ids::new()), ..Remembered::default() };
        let found = resume(&go_on, &mut epochs, &own, KNOWN, std::iter::empty()).unwrap();
        assert_eq!((found.restart, found.epochs_changed), (Restart::Nothing, false));
        let other = Remembered::default();
        let found = resume(&go_on, &mut epochs, &other, KNOWN, std::iter::empty()).unwrap();
        assert_eq!((found.from, found.restart), (Some(Lsn(48)), Restart::All { after_gap: true }));
        assert_eq!((found.epochs_changed, epochs.repair), (true, repair(false)));
    }

    #[test]
    fn m12_commits_stay_held_however_many_processes_begin_before_they_are_passed() {
        let stored = |fingerprint: &str, held| Checkpoint {
            fingerprint: fingerprint.into(),
            held_below: Lsn(held),
            ..checkpoint(50)
        };
        for (stored, expected) in [
            (None, 0),
            (Some(stored("new", 0)), 0),
            (Some(stored("old", 0)), 90),
            (Some(stored("new", 70)), 70),
            (Some(stored("old", 95)), 95),
        ] {
            assert_eq!(held_below(stored.as_ref(), "new", Lsn(90)), Lsn(expected), "{stored:?}");
        }
    }
}

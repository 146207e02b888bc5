//! The journal of ids: what this process wrote for the last stretch of WAL, so that after a failover that lost commits
//! only their ids are looked up again, and not every table. Bounded memory; no I/O.

use crate::{lanes::TableNo, model::Lsn};
use std::collections::{BTreeSet, VecDeque};

/// The stretch of WAL that is kept.
const KEPT_WAL: u64 = 64 << 20;
/// The memory that is taken for it.
const KEPT_BYTES: usize = 8 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Journal {
    tables: Vec<String>,
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Everything that was written of commits above this is here; `None` before the first session.
    reaches: Option<Lsn>,
    whole: Vec<(TableNo, Lsn)>,
}

/// The ids of one batch.
#[derive(Debug)]
struct Chunk {
    highest: Lsn,
    /// Table number (2 bytes), lengths (4 bytes each) and bytes of plain id and routing; and so on.
    ids: Box<[u8]>,
}

/// Tables, plain ids and routings.
pub type Ids = BTreeSet<(TableNo, Box<[u8]>, Box<[u8]>)>;

/// What was written past a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Tables that are not known by their ids: a window of them was read past it, or they were emptied.
    pub whole: BTreeSet<TableNo>,
    /// Documents of the others, at least those that were written past it.
    pub ids: Ids,
}

impl Journal {
    /// A session with `tables`, numbered in this order, begins, and earlier processes have written nothing above `high`.
    pub fn begin_session(&mut self, tables: Vec<String>, high: Lsn) {
        if self.tables != tables {
            *self = Journal { tables, reaches: Some(high), ..Journal::default() };
        }
    }

    /// Somebody else wrote content of commits up to `high`.
    pub fn others_wrote(&mut self, high: Lsn) {
        self.reaches = self.reaches.max(Some(high));
    }

    /// What somebody else wrote lies at or before `end`, the end of the log.
    pub fn others_wrote_below(&mut self, end: Lsn) {
        self.reaches = self.reaches.map(|reaches| reaches.min(end));
    }

    /// Actions for `documents`, of commits up to `highest`, are about to be sent.
    pub fn write<'a>(
        &mut self,
        highest: Lsn,
        documents: impl Iterator<Item = (TableNo, &'a [u8], &'a [u8])>,
    ) {
        let mut packed = vec![];
        for (table, id, routing) in documents {
            packed.extend_from_slice(&table.0.to_le_bytes());
            packed.extend_from_slice(&(id.len() as u32).to_le_bytes());
            packed.extend_from_slice(&(routing.len() as u32).to_le_bytes());
            packed.extend_from_slice(id);
            packed.extend_from_slice(routing);
        }
        self.bytes += packed.len();
        self.chunks.push_back(Chunk { highest, ids: packed.into_boxed_slice() });
        let too_old = highest.0.saturating_sub(KEPT_WAL);
        while let Some(first) = self.chunks.front()
            && (self.bytes > KEPT_BYTES || first.highest.0 < too_old)
        {
            self.bytes -= first.ids.len();
            self.reaches = self.reaches.max(Some(first.highest));
            self.chunks.pop_front();
        }
    }

    /// A window of `table` was read, in a snapshot of which everything lies at or before `lsn`; or it was emptied by a
    /// TRUNCATE that committed there.
    pub fn whole(&mut self, table: TableNo, lsn: Lsn) {
        match self.whole.iter_mut().find(|(known, _)| *known == table) {
            Some((_, known)) => *known = (*known).max(lsn),
            None => self.whole.push((table, lsn)),
        }
    }

    /// What was written of commits above `fork`; `None` where the journal does not reach back to it.
    pub fn written_above(&self, fork: Lsn) -> Option<Written> {
        if self.reaches.is_none_or(|reaches| reaches > fork) {
            return None;
        }
        let whole = self.whole.iter().filter(|(_, lsn)| *lsn > fork).map(|(table, _)| *table).collect();
        let mut written = Written { whole, ids: Ids::new() };
        for chunk in self.chunks.iter().filter(|chunk| chunk.highest > fork) {
            let mut rest = &chunk.ids[..];
            while let Some((head, after)) = rest.split_first_chunk::<10>() {
                let [t0, t1, i0, i1, i2, i3, r0, r1, r2, r3] = *head;
                let (id, after) = after.split_at(u32::from_le_bytes([i0, i1, i2, i3]) as usize);
                let (routing, after) = after.split_at(u32::from_le_bytes([r0, r1, r2, r3]) as usize);
                let table = TableNo(u16::from_le_bytes([t0, t1]));
                if !written.whole.contains(&table) {
                    written.ids.insert((table, id.into(), routing.into()));
                }
                rest = after;
            }
        }
        Some(written)
    }

    /// What is on the new timeline is comparable again from here.
    pub fn forget_above(&mut self, fork: Lsn) {
        self.chunks.retain(|chunk| chunk.highest <= fork);
        self.bytes = self.chunks.iter().map(|chunk| chunk.ids.len()).sum();
        self.whole.retain(|(_, lsn)| *lsn <= fork);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TableNo = TableNo(0);

    fn journal(high: u64) -> Journal {
        let mut journal = Journal::default();
        journal.begin_session(vec!["public.t".into()], Lsn(high));
        journal
    }

    fn ids(written: &Written) -> Vec<&[u8]> {
        written.ids.iter().map(|(_, id, _)| &**id).collect()
    }

    #[test]
    fn what_was_written_past_a_fork_is_known_again() {
        let mut journal = journal(100);
        journal.write(Lsn(110), [(T, &b"a"[..], &b"r"[..]), (T, b"b", b"")].into_iter());
        journal.write(Lsn(120), [(TableNo(1), &b""[..], &b""[..]), (T, b"b", b"")].into_iter());
        let written = journal.written_above(Lsn(110)).unwrap();
        assert_eq!(ids(&written), [&b"b"[..], b""]);
        assert_eq!(ids(&journal.written_above(Lsn(100)).unwrap()), [&b"a"[..], b"b", b""]);
        journal.whole(T, Lsn(115));
        let written = journal.written_above(Lsn(110)).unwrap();
        assert_eq!(ids(&written), [b""], "of a table that is read again no id need be looked up");
        assert_eq!(written.whole, BTreeSet::from([T]));
        assert_eq!(journal.written_above(Lsn(115)).unwrap().whole, BTreeSet::new());
        assert_eq!(journal.written_above(Lsn(120)), Some(Written::default()));
        journal.forget_above(Lsn(110));
        assert_eq!(journal.written_above(Lsn(110)), Some(Written::default()));
    }

    #[test]
    fn what_an_earlier_process_wrote_past_the_fork_is_not_known() {
        assert_eq!(Journal::default().written_above(Lsn(1)), None);
        let mut journal = journal(100);
        assert_eq!(journal.written_above(Lsn(99)), None);
        journal.others_wrote(Lsn(150));
        assert_eq!(journal.written_above(Lsn(149)), None);
        assert!(journal.written_above(Lsn(150)).is_some());
        journal.others_wrote_below(Lsn(120));
        assert!(journal.written_above(Lsn(120)).is_some() && journal.written_above(Lsn(119)).is_none());
        journal.begin_session(vec!["public.other".into()], Lsn(170));
        assert_eq!(journal.written_above(Lsn(160)), None, "the numbers of tables mean others");
    }

    #[test]
    fn memory_and_stretch_are_bounded_and_what_is_let_go_is_not_claimed() {
        let mut journal = journal(0);
        let id = [b'x'; 1000];
        for n in 1..=20_000_u64 {
            journal.write(Lsn(n), std::iter::once((T, &id[..], &b""[..])));
        }
        assert!(journal.bytes <= KEPT_BYTES);
        let reaches = journal.reaches.unwrap();
        assert!(reaches > Lsn(1000) && journal.written_above(reaches).is_some());
        assert_eq!(journal.written_above(Lsn(reaches.0 - 1)), None);
        journal.write(Lsn(KEPT_WAL * 2), std::iter::once((T, &id[..], &b""[..])));
        assert_eq!(journal.chunks.len(), 1);
    }
}

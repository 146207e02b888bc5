//! The guard: streamed deletes that a window's snapshot does not see must not be undone by the window's rows.
//!
//! OpenSearch forgets the versions of deleted documents, so the order of a window's row and a streamed delete of its
//! id is kept here. **M3**: deletes are kept until every open or later window's snapshot sees their transaction.
//! **M2**: only deletes above the window's version count. One guard per lane, locked together with the lane's queue:
//! testing and queueing a row are one step.

use super::{action::TableNo, batch::IdHash, window::WindowRows};
use crate::model::{Version, Xid};
use std::{collections::HashMap, hash::BuildHasherDefault};

/// What is to happen to a window's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be queued.
    Pass,
    /// It was deleted since; the row is dropped.
    Drop,
    /// The guard does not know any more: the window must be read again, in a snapshot that sees the deletes.
    ReadAgain,
}

/// See the module.
#[derive(Debug)]
pub struct Guard {
    deletes: HashMap<u64, (Xid, Version), BuildHasherDefault<IdHash>>,
    truncates: Vec<(TableNo, Xid, Version)>,
    /// Deletes up to this transaction were let go because there was no room.
    lost: Option<Xid>,
    capacity: usize,
}

impl Guard {
    /// A guard for at most `capacity` deleted ids (about 40 bytes each).
    pub fn new(capacity: usize) -> Self {
        Guard { deletes: HashMap::default(), truncates: vec![], lost: None, capacity }
    }

    /// A delete of the id with `hash` was streamed.
    pub fn delete(&mut self, hash: u64, xid: Xid, version: Version) {
        if self.deletes.len() >= self.capacity && !self.deletes.contains_key(&hash) {
            let newest = self.deletes.values().map(|(xid, _)| *xid).chain([xid]).max();
            self.lost = self.lost.max(newest);
            self.deletes.clear();
            return;
        }
        let kept = self.deletes.entry(hash).or_insert((xid, version));
        if version >= kept.1 {
            *kept = (xid, version);
        }
    }

    /// A TRUNCATE of `table` was streamed: a delete of every id.
    pub fn truncate(&mut self, table: TableNo, xid: Xid, version: Version) {
        self.truncates.push((table, xid, version));
    }

    /// May a row of `window` be queued?
    pub fn verdict(&self, table: TableNo, hash: u64, window: &WindowRows) -> Verdict {
        let unseen = |xid: Xid, version: Version| version > window.version() && !window.snapshot().sees(xid);
        let truncated = |(t, xid, version): &(TableNo, Xid, Version)| *t == table && unseen(*xid, *version);
        // A snapshot sees everything that was let go only if all of it had ended before.
        if self.lost.is_some_and(|lost| window.snapshot().xmin <= lost)
            || self.truncates.iter().any(truncated)
        {
            return Verdict::ReadAgain;
        }
        match self.deletes.get(&hash) {
            Some((xid, version)) if unseen(*xid, *version) => Verdict::Drop,
            _ => Verdict::Pass,
        }
    }

    /// Lets go what every open and later window sees: transactions below `xmin`.
    pub fn prune(&mut self, xmin: Xid) {
        self.deletes.retain(|_, (xid, _)| *xid >= xmin);
        self.truncates.retain(|(_, xid, _)| *xid >= xmin);
        if self.lost.is_some_and(|lost| lost < xmin) {
            self.lost = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: TableNo = TableNo(0);

    fn window(snapshot: &str, version: u64) -> WindowRows {
        WindowRows::new(snapshot.parse().unwrap(), Version(version))
    }

    #[test]
    fn m3_a_row_whose_delete_the_snapshot_does_not_see_is_dropped() {
        let mut guard = Guard::new(10);
        guard.delete(1, Xid(105), Version(50));
        assert_eq!(guard.verdict(TABLE, 1, &window("100:110:105", 40)), Verdict::Drop);
        assert_eq!(
            guard.verdict(TABLE, 1, &window("100:110:104", 40)),
            Verdict::Pass,
            "the snapshot sees it"
        );
        assert_eq!(guard.verdict(TABLE, 2, &window("100:110:105", 40)), Verdict::Pass, "another id");
    }

    #[test]
    fn m2_a_delete_below_the_windows_version_does_not_count() {
        let mut guard = Guard::new(10);
        guard.delete(1, Xid(105), Version(50));
        assert_eq!(guard.verdict(TABLE, 1, &window("100:110:105", 50)), Verdict::Pass);
    }

    #[test]
    fn a_truncate_makes_the_windows_of_its_table_read_again() {
        let mut guard = Guard::new(10);
        guard.truncate(TABLE, Xid(105), Version(50));
        let blind = window("100:110:105", 40);
        assert_eq!(guard.verdict(TABLE, 9, &blind), Verdict::ReadAgain);
        assert_eq!(guard.verdict(TableNo(1), 9, &blind), Verdict::Pass);
        assert_eq!(guard.verdict(TABLE, 9, &window("106:110:", 40)), Verdict::Pass);
    }

    #[test]
    fn a_full_guard_makes_windows_read_again_until_they_see_what_was_let_go() {
        let mut guard = Guard::new(2);
        for (hash, xid) in [(1, 107), (2, 105), (3, 106)] {
            guard.delete(hash, Xid(xid), Version(50));
        }
        assert_eq!(guard.deletes.len(), 0);
        assert_eq!(guard.verdict(TABLE, 9, &window("107:110:108", 40)), Verdict::ReadAgain);
        assert_eq!(guard.verdict(TABLE, 9, &window("108:110:", 40)), Verdict::Pass);
        guard.prune(Xid(108));
        assert_eq!(guard.verdict(TABLE, 9, &window("100:110:", 40)), Verdict::Pass);
    }

    #[test]
    fn what_every_window_sees_is_let_go() {
        let mut guard = Guard::new(10);
        guard.delete(1, Xid(5), Version(50));
        guard.delete(2, Xid(6), Version(50));
        guard.prune(Xid(6));
        assert_eq!(guard.deletes.len(), 1);
    }
}

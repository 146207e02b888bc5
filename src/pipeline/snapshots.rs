//! Which snapshots windows are read in at the moment, and so what the guards may forget (**M3**).

use crate::model::Xid;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The snapshots of the windows that are open: the guards keep what one of them, or a later one, does not see (**M3**). Its
/// clones are one.
#[derive(Clone, Debug, Default)]
pub struct OpenSnapshots(Arc<Mutex<Snapshots>>);

#[derive(Debug, Default)]
struct Snapshots {
    /// Windows whose snapshot is being taken: it may see less than the ones that are known.
    opening: usize,
    open: Vec<Xid>,
    last_closed: Option<Xid>,
    /// What lies below it the guards may have forgotten.
    forgotten: Xid,
}

impl Snapshots {
    /// Every open and later window sees the transactions below it.
    fn seen_by_all(&self) -> Option<Xid> {
        if self.opening > 0 {
            return None;
        }
        self.open.iter().min().copied().or(self.last_closed)
    }
}

impl OpenSnapshots {
    fn lock(&self) -> MutexGuard<'_, Snapshots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A window's snapshot is about to be taken.
    pub fn opening(&self) -> Opening {
        self.lock().opening += 1;
        Opening { snapshots: self.clone(), taken: false }
    }
}

/// A window whose snapshot is being taken.
#[derive(Debug)]
pub struct Opening {
    snapshots: OpenSnapshots,
    taken: bool,
}

impl Opening {
    /// It was taken, and everything below `xmin` is visible in it. `None` where it sees less than the guards remember, as
    /// another standby may that is further behind: then it must not be read in.
    pub fn opened(mut self, xmin: Xid) -> Option<Open> {
        let mut snapshots = self.snapshots.lock();
        if xmin < snapshots.forgotten {
            return None;
        }
        snapshots.opening -= 1;
        snapshots.open.push(xmin);
        drop(snapshots);
        self.taken = true;
        Some(Open { snapshots: self.snapshots.clone(), xmin, closed: false })
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.taken {
            self.snapshots.lock().opening -= 1;
        }
    }
}

/// An open window's snapshot.
#[derive(Debug)]
pub struct Open {
    snapshots: OpenSnapshots,
    xmin: Xid,
    closed: bool,
}

impl Open {
    /// Closes it; tells which transactions the guards may forget.
    pub fn close(mut self) -> Option<Xid> {
        self.forget();
        let mut snapshots = self.snapshots.lock();
        let seen = snapshots.seen_by_all();
        snapshots.forgotten = snapshots.forgotten.max(seen.unwrap_or_default());
        seen
    }

    fn forget(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut snapshots = self.snapshots.lock();
        if let Some(at) = snapshots.open.iter().position(|xmin| *xmin == self.xmin) {
            snapshots.open.swap_remove(at);
        }
        snapshots.last_closed = snapshots.last_closed.max(Some(self.xmin));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guards_may_forget_only_what_every_open_and_later_window_sees() {
        let open = OpenSnapshots::default();
        let a = open.opening().opened(Xid(10)).unwrap();
        let b = open.opening().opened(Xid(20)).unwrap();
        let c = open.opening();
        assert_eq!(b.close(), None, "a snapshot that is being taken may see less");
        let c = c.opened(Xid(25)).unwrap();
        assert_eq!(c.close(), Some(Xid(10)));
        assert_eq!(a.close(), Some(Xid(25)));
    }

    #[test]
    fn an_interrupted_window_leaves_nothing_behind() {
        let open = OpenSnapshots::default();
        drop(open.opening());
        drop(open.opening().opened(Xid(5)));
        assert_eq!(open.opening().opened(Xid(30)).unwrap().close(), Some(Xid(30)));
    }

    #[test]
    fn a_snapshot_of_another_standby_that_sees_less_than_was_forgotten_is_not_read_in() {
        let open = OpenSnapshots::default();
        assert_eq!(open.opening().opened(Xid(20)).unwrap().close(), Some(Xid(20)));
        assert!(open.opening().opened(Xid(19)).is_none());
        assert_eq!(
            open.opening().opened(Xid(20)).unwrap().close(),
            Some(Xid(20)),
            "and leaves nothing behind"
        );
    }
}

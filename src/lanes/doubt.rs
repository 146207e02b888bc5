//! Doubts: which deletes must be sent once more (**M5**).
//!
//! A request whose outcome is unknown may be executed late, until the horizon has passed. OpenSearch may have forgotten a
//! delete of the same id by then, and the late index action would bring the row back. So a delete that is answered while
//! its id is in doubt is repeated when the doubt has ended. One per lane; no clock, no I/O.

use super::batch::IdHash;
use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    time::{Duration, Instant},
};

/// See the module.
#[derive(Debug)]
pub struct Doubts {
    horizon: Duration,
    /// Every id is in doubt until then: after taking the slot from another process, or for want of memory.
    all: Option<Instant>,
    ids: HashMap<u64, Instant, BuildHasherDefault<IdHash>>,
    capacity: usize,
}

impl Doubts {
    /// No request is executed later than `horizon` after it was sent; all ids are in doubt until `all`. Remembers
    /// `capacity` ids (about 32 bytes each).
    pub fn new(horizon: Duration, all: Option<Instant>, capacity: usize) -> Self {
        Doubts { horizon, all, ids: HashMap::default(), capacity }
    }

    /// Index actions of the ids with `hashes` were in a request whose outcome is unknown at `now`. It will be asked for
    /// nothing that has ended by `needed_from`.
    pub fn note(&mut self, hashes: impl Iterator<Item = u64>, now: Instant, needed_from: Instant) {
        let until = now + self.horizon;
        for hash in hashes {
            if self.ids.len() >= self.capacity && !self.ids.contains_key(&hash) {
                self.prune(needed_from);
            }
            if self.ids.len() >= self.capacity && !self.ids.contains_key(&hash) {
                self.ids.clear();
                self.all = self.all.max(Some(until));
                return;
            }
            self.ids.insert(hash, until);
        }
    }

    /// When a delete of the id with `hash` that was sent at `sent` must be repeated; `None` where it need not.
    pub fn repeat_at(&self, hash: u64, sent: Instant) -> Option<Instant> {
        self.ids.get(&hash).copied().max(self.all).filter(|until| *until > sent)
    }

    /// When a delete of every id, such as a TRUNCATE, must be repeated.
    pub fn repeat_all_at(&self, now: Instant) -> Option<Instant> {
        self.ids.values().copied().max().max(self.all).filter(|until| *until > now)
    }

    fn prune(&mut self, ended_by: Instant) {
        self.ids.retain(|_, until| *until > ended_by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: Duration = Duration::from_secs(120);

    #[test]
    fn m5_a_delete_of_an_id_in_doubt_is_repeated_when_the_doubt_ends() {
        let now = Instant::now();
        let mut doubts = Doubts::new(HORIZON, None, 10);
        assert_eq!(doubts.repeat_at(1, now), None);
        doubts.note([1].into_iter(), now, now);
        assert_eq!(doubts.repeat_at(1, now), Some(now + HORIZON));
        assert_eq!(doubts.repeat_at(2, now), None);
        assert_eq!(doubts.repeat_all_at(now), Some(now + HORIZON));
        assert_eq!(doubts.repeat_at(1, now + HORIZON), None);
        assert_eq!(doubts.repeat_all_at(now + HORIZON), None);
    }

    #[test]
    fn m5_every_delete_is_in_doubt_for_a_while_after_taking_the_slot() {
        let now = Instant::now();
        let all = now + Duration::from_secs(180);
        let mut doubts = Doubts::new(HORIZON, Some(all), 10);
        doubts.note([1].into_iter(), now, now);
        assert_eq!(doubts.repeat_at(7, now), Some(all));
        assert_eq!(doubts.repeat_at(1, now), Some(all));
        assert_eq!(doubts.repeat_at(7, all), None);
    }

    #[test]
    fn where_the_memory_ends_every_id_is_in_doubt() {
        let now = Instant::now();
        let mut doubts = Doubts::new(HORIZON, None, 2);
        doubts.note([1, 2].into_iter(), now, now);
        doubts.note([2].into_iter(), now, now);
        assert_eq!(doubts.repeat_at(9, now), None);
        let later = now + HORIZON;
        doubts.note([3].into_iter(), later, later);
        assert_eq!(doubts.repeat_at(9, later), None, "what has ended makes room");
        doubts.note([4, 5].into_iter(), later, later);
        assert_eq!(doubts.repeat_at(9, later), Some(later + HORIZON));
    }
}

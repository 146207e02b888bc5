//! Ordinals: the place of a change among the changes of its transaction, the same in every replay.
//!
//! The first 128 changes are numbered directly. Later ones are counted per bucket of a fixed hash of (table oid, plain
//! id), from 128 up, held at [`ORDINAL_HELD`]: an action that reaches it is decided by lookup (**M4**).

use crate::model::{ORDINAL_HELD, ORDINAL_TRUNCATE};
use std::collections::HashMap;
use twox_hash::XxHash3_64;

/// How changes are numbered. The versions in an index depend on it: another one needs **M12**.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// Changes of a transaction that have their index as ordinal.
    pub direct: u16,
    /// Counters of the later ones, as a power of two.
    pub bucket_bits: u32,
    /// How far each of them counts before its ids are held.
    pub counted: u16,
}

impl Default for Numbering {
    fn default() -> Self {
        Numbering { direct: DIRECT, bucket_bits: 18, counted: ORDINAL_HELD - DIRECT }
    }
}

const DIRECT: u16 = 128;

/// What a change message is numbered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Among the first 128: this index.
    Direct(u16),
    /// Later: a count per bucket.
    Counted,
    /// After a TRUNCATE past the first 128 (**M11**), or in a transaction that is held (**M12**).
    Held,
}

/// Counters of one transaction at a time. A quarter of a megabyte, once a transaction of more than 128 changes has been
/// seen: every row goes to another place in it, so that a cache should hold it.
#[derive(Debug, Default)]
pub struct Ordinals {
    numbering: Numbering,
    next: u16,
    held: bool,
    counted: bool,
    buckets: Vec<u8>,
    /// Counts of the buckets that are full.
    crowded: HashMap<usize, u16>,
}

impl Ordinals {
    /// Counters for another numbering than the default.
    pub fn of(numbering: Numbering) -> Self {
        Ordinals { numbering, ..Ordinals::default() }
    }

    /// A transaction begins; all its changes are `held` where an earlier run may have numbered them otherwise (**M12**).
    pub fn begin(&mut self, held: bool) {
        self.next = 0;
        self.held = held;
        if std::mem::take(&mut self.counted) {
            self.buckets.fill(0);
            self.crowded.clear();
        }
    }

    /// The place of the next I, U, D or T message; also to be called for tables that are not configured.
    pub fn next_change(&mut self) -> Place {
        if self.held {
            return Place::Held;
        }
        if self.next < self.numbering.direct {
            self.next += 1;
            return Place::Direct(self.next - 1);
        }
        Place::Counted
    }

    /// The ordinal of an action of a row change: each id of the change, old and new, has its own.
    pub fn of_row(&mut self, place: Place, table_oid: u32, plain_id: &[u8]) -> u16 {
        match place {
            Place::Direct(index) => index,
            Place::Held => ORDINAL_HELD,
            Place::Counted => {
                self.counted = true;
                let hash = XxHash3_64::oneshot_with_seed(u64::from(table_oid), plain_id);
                let count = self.count(hash);
                if count > self.numbering.counted { ORDINAL_HELD } else { self.numbering.direct + count - 1 }
            }
        }
    }

    /// Counts a change in the bucket of `hash`, from 1 on.
    fn count(&mut self, hash: u64) -> u16 {
        if self.buckets.is_empty() {
            self.buckets = vec![0; 1 << self.numbering.bucket_bits];
        }
        let bucket = hash as usize & (self.buckets.len() - 1);
        let count = &mut self.buckets[bucket];
        if *count < u8::MAX {
            *count += 1;
            return u16::from(*count);
        }
        let count = self.crowded.entry(bucket).or_insert(u16::from(u8::MAX));
        *count = count.saturating_add(1);
        *count
    }

    /// The ordinal of a TRUNCATE; past the direct ones all later changes of the transaction are held.
    pub fn of_truncate(&mut self, place: Place) -> u16 {
        match place {
            Place::Direct(index) => index,
            Place::Counted | Place::Held => {
                self.held = true;
                ORDINAL_TRUNCATE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn replay(ordinals: &mut Ordinals, ids: &[u8]) -> Vec<u16> {
        ordinals.begin(false);
        ids.iter()
            .map(|id| {
                let place = ordinals.next_change();
                ordinals.of_row(place, 7, &[*id])
            })
            .collect()
    }

    proptest! {
        #[test]
        fn ordinals_grow_per_id_until_held_and_repeat_in_a_replay(ids in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut ordinals = Ordinals::default();
            let first = replay(&mut ordinals, &ids);
            replay(&mut ordinals, &[1; 500]);
            prop_assert_eq!(&replay(&mut ordinals, &ids), &first);
            let mut last = HashMap::new();
            for (id, ordinal) in ids.iter().zip(&first) {
                let before = last.insert(*id, *ordinal);
                prop_assert!(before.is_none_or(|b| b < *ordinal || (b == ORDINAL_HELD && *ordinal == ORDINAL_HELD)));
            }
        }
    }

    #[test]
    fn an_id_that_changes_too_often_is_held() {
        let all = replay(&mut Ordinals::default(), &[3; 1200]);
        assert_eq!((all[127], all[128], all[1022], all[1023], all[1199]), (127, 128, 1022, 1023, 1023));
    }

    #[test]
    fn after_a_late_truncate_everything_is_held() {
        let mut ordinals = Ordinals::default();
        ordinals.begin(false);
        let place = ordinals.next_change();
        assert_eq!(ordinals.of_truncate(place), 0);
        for _ in 1..DIRECT {
            ordinals.next_change();
        }
        let place = ordinals.next_change();
        assert_eq!(ordinals.of_truncate(place), ORDINAL_TRUNCATE);
        let place = ordinals.next_change();
        assert_eq!(ordinals.of_row(place, 1, b"a"), ORDINAL_HELD);
        ordinals.begin(false);
        assert_eq!(ordinals.next_change(), Place::Direct(0));
    }

    #[test]
    fn the_hash_is_fixed_for_ever() {
        // Versions in an index depend on it: another hash would need M12.
        assert_eq!(
            XxHash3_64::oneshot_with_seed(16_384, b"42") as usize % (1 << Numbering::default().bucket_bits),
            FIXED_BUCKET
        );
    }
    const FIXED_BUCKET: usize = 25_206;
}

//! Document versions: epoch, distance from the epoch's base, ordinal (design rules of `docs/architecture.md`, "Versions").

use super::Lsn;
use serde::{Deserialize, Serialize};

/// The external version of one bulk action, 63 bits: epoch (10) | (commit LSN − base) / 8 (43) | ordinal (10).
///
/// OpenSearch accepts `0 ..= 2^63 - 1` with `version_type=external_gte` (OpenSearch docs: "Index document", `version_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// Bits of the ordinal, the place of a change among the changes of its transaction.
const ORDINAL_BITS: u32 = 10;
/// Bits of the distance of the commit from the epoch's base, in units of 8 bytes (commit records are 8-aligned).
const DISTANCE_BITS: u32 = 43;
/// The largest ordinal. **M4**: an action that has it is decided by a lookup of the current row.
pub const ORDINAL_HELD: u16 = (1 << ORDINAL_BITS) - 1;
/// The ordinal of a TRUNCATE past the directly numbered changes of its transaction (**M11**).
pub const ORDINAL_TRUNCATE: u16 = ORDINAL_HELD - 1;
const EPOCH_MAX: u16 = (1 << 10) - 1;

impl Version {
    /// The epoch this version was made in.
    pub fn epoch(self) -> u16 {
        (self.0 >> (DISTANCE_BITS + ORDINAL_BITS)) as u16
    }

    /// The version just below this one: what rows read at a floor carry.
    pub fn below(self) -> Version {
        Version(self.0.saturating_sub(1))
    }
}

/// One stretch of comparable LSNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number from 1; it is the highest part of every version.
    pub number: u16,
    /// LSN that counts as 0 in this epoch.
    pub base: u64,
}

/// The epochs of a pipeline, oldest first; the list only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epochs(Vec<Epoch>);

/// No version can be given to a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The position lies before every epoch.
    #[error(
        "no epoch begins at or before {0}: the list of epochs in the state index does not belong to this server"
    )]
    NoEpoch(Lsn),
    /// The position is too far from its epoch's base for 43 bits.
    #[error(
        "{lsn} is more than 2^46 bytes after the base {base} of its epoch; restart pg2os, it begins a new epoch"
    )]
    TooFar {
        /// The position.
        lsn: Lsn,
        /// Base of the epoch it falls into.
        base: Lsn,
    },
    /// All 1023 epochs are used.
    #[error("all {EPOCH_MAX} epochs are used up: rebuild the indices under a new pipeline name")]
    Exhausted,
}

impl Default for Epochs {
    fn default() -> Self {
        Epochs(vec![Epoch { number: 1, base: 0 }])
    }
}

impl Epochs {
    /// A list that begins with epoch `number`: above every version of an index whose state was lost.
    ///
    /// # Errors
    /// There is no such epoch.
    pub fn beginning_with(number: u16) -> Result<Self, VersionError> {
        let epochs = Epochs(vec![Epoch { number, base: 0 }]);
        if epochs.is_valid() { Ok(epochs) } else { Err(VersionError::Exhausted) }
    }

    /// The last epoch, which new commits fall into.
    pub fn last(&self) -> Epoch {
        self.0[self.0.len() - 1]
    }

    /// Is the list well formed (not empty, numbers from 1 up and growing)? Stored lists are checked before use.
    pub fn is_valid(&self) -> bool {
        self.0.first().is_some_and(|e| e.number >= 1)
            && self.0.last().is_some_and(|e| e.number <= EPOCH_MAX)
            && self.0.windows(2).all(|w| w[0].number < w[1].number)
    }

    /// Begins an epoch at `base`. It must be durable before its first use.
    pub fn begin(&mut self, base: Lsn) -> Result<(), VersionError> {
        let number = self.last().number + 1;
        if number > EPOCH_MAX {
            return Err(VersionError::Exhausted);
        }
        self.0.push(Epoch { number, base: base.0 & !7 });
        Ok(())
    }

    /// Should a new epoch begin, because half of the distance that fits has been used at `lsn`?
    pub fn is_worn_at(&self, lsn: Lsn) -> bool {
        lsn.since(Lsn(self.last().base)) >> 3 >= 1 << (DISTANCE_BITS - 1)
    }

    /// The version of a change: the last epoch whose base is at or below the commit.
    pub fn version(&self, commit: Lsn, ordinal: u16) -> Result<Version, VersionError> {
        debug_assert!(ordinal <= ORDINAL_HELD);
        let epoch = self.0.iter().rev().find(|e| e.base <= commit.0).ok_or(VersionError::NoEpoch(commit))?;
        let distance = (commit.0 - epoch.base) >> 3;
        if distance >> DISTANCE_BITS != 0 {
            return Err(VersionError::TooFar { lsn: commit, base: Lsn(epoch.base) });
        }
        Ok(Version(
            u64::from(epoch.number) << (DISTANCE_BITS + ORDINAL_BITS)
                | distance << ORDINAL_BITS
                | u64::from(ordinal),
        ))
    }

    /// The commit that `version` belongs to; `None` where it is of no epoch in the list. What lies just below a floor at the
    /// beginning of an epoch belongs to that beginning.
    pub fn position(&self, version: Version) -> Option<Lsn> {
        let at = self.0.iter().position(|e| e.number == version.epoch())?;
        let distance = version.0 >> ORDINAL_BITS & ((1 << DISTANCE_BITS) - 1);
        let end = self.0.get(at + 1).map_or(u64::MAX, |next| next.base);
        Some(Lsn((self.0[at].base + (distance << 3)).min(end)))
    }

    /// The version of rows read at floor `f`: below every change that a window snapshot may not see.
    pub fn floor_version(&self, floor: Lsn) -> Result<Version, VersionError> {
        Ok(self.version(floor, 0)?.below())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn versions_order_as_commit_then_ordinal(
            a in 0u64..1 << 45, b in 0u64..1 << 45, same: bool, i in 0u16..1024, j in 0u16..1024
        ) {
            let e = Epochs::default();
            let (a, b) = (a & !7, if same { a } else { b } & !7);
            let (x, y) = (e.version(Lsn(a), i).unwrap(), e.version(Lsn(b), j).unwrap());
            prop_assert_eq!(x.cmp(&y), (a, i).cmp(&(b, j)));
        }

        #[test]
        fn a_floor_lies_below_every_commit_from_it_on(f in 8u64..1 << 40, d in 0u64..1 << 40) {
            let e = Epochs::default();
            prop_assert!(e.floor_version(Lsn(f)).unwrap() < e.version(Lsn(f + d), 0).unwrap());
        }
    }

    #[test]
    fn a_later_epoch_wins_over_every_earlier_version() {
        let mut e = Epochs::default();
        let old = e.version(Lsn(1 << 40), ORDINAL_HELD).unwrap();
        e.begin(Lsn(800)).unwrap();
        assert!(e.version(Lsn(800), 0).unwrap() > old);
        assert_eq!(e.version(Lsn(792), 0).unwrap().epoch(), 1);
        assert_eq!(e.version(Lsn(800), 0).unwrap().epoch(), 2);
        assert!(e.is_valid());
    }

    #[test]
    fn a_version_below_the_beginning_of_an_epoch_has_its_position() {
        let mut e = Epochs::default();
        e.begin(Lsn(800)).unwrap();
        assert_eq!(e.position(e.floor_version(Lsn(800)).unwrap()), Some(Lsn(800)));
        assert_eq!(e.position(e.floor_version(Lsn(816)).unwrap()), Some(Lsn(808)));
        assert_eq!(e.position(e.version(Lsn(792), 5).unwrap()), Some(Lsn(792)));
    }

    #[test]
    fn a_distance_over_43_bits_is_an_error_and_never_wraps() {
        let e = Epochs::default();
        assert!(e.version(Lsn((1 << 46) - 8), ORDINAL_HELD).unwrap().0 < 2 << 53);
        assert_eq!(e.version(Lsn(1 << 46), 0), Err(VersionError::TooFar { lsn: Lsn(1 << 46), base: Lsn(0) }));
    }

    #[test]
    fn the_highest_version_fits_63_bits_and_the_epochs_end() {
        let mut e = Epochs::default();
        for _ in 1..EPOCH_MAX {
            e.begin(Lsn(0)).unwrap();
        }
        assert!(e.version(Lsn((1 << 46) - 8), ORDINAL_HELD).unwrap().0 <= i64::MAX as u64);
        assert_eq!(e.begin(Lsn(0)), Err(VersionError::Exhausted));
    }
}

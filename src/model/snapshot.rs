//! Transaction ids and what a snapshot sees.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A full (64-bit) transaction id, PostgreSQL's `xid8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Xid(pub u64);

impl Xid {
    /// Widens the 32-bit id of a BEGIN message: the full id nearest to `near`, a full id seen lately.
    ///
    /// PostgreSQL keeps all running transactions within 2^31 of each other (docs: "Preventing Transaction ID
    /// Wraparound Failures"), so the nearest one is the right one.
    pub fn widen(xid: u32, near: Xid) -> Xid {
        let delta = xid.wrapping_sub(near.0 as u32) as i32;
        Xid(near.0.saturating_add_signed(i64::from(delta)))
    }
}

/// What one snapshot sees, as `pg_current_snapshot()` prints it (`xmin:xmax:xip,…`; docs: "Transaction ID and Snapshot
/// Information Functions").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below it has ended.
    pub xmin: Xid,
    /// No transaction at or above it had ended.
    pub xmax: Xid,
    in_progress: Vec<Xid>,
}

impl Snapshot {
    /// A snapshot that sees every transaction: for actions that do not come from a read.
    pub fn of_everything() -> Self {
        Snapshot { xmin: Xid(u64::MAX), xmax: Xid(u64::MAX), in_progress: vec![] }
    }

    /// What is certain of a snapshot that a standby printed: there `pg_current_snapshot()` leaves out which transactions are
    /// in progress (seen on 15.18: `725:728:` with 725 open), so of those at or above `xmin` nothing is known.
    #[must_use]
    pub fn on_standby(self) -> Self {
        Snapshot { xmax: self.xmin, in_progress: vec![], ..self }
    }

    /// Does the snapshot see the effects of transaction `xid`, given that it committed? (`pg_visible_in_snapshot`)
    pub fn sees(&self, xid: Xid) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }
}

/// The text is not a `pg_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server sent `{0}` as a snapshot, which is not xmin:xmax:xip")]
pub struct InvalidSnapshot(String);

impl FromStr for Snapshot {
    type Err = InvalidSnapshot;

    fn from_str(text: &str) -> Result<Self, InvalidSnapshot> {
        let parse = || {
            let mut parts = text.split(':');
            let xmin = Xid(parts.next()?.parse().ok()?);
            let xmax = Xid(parts.next()?.parse().ok()?);
            let list = parts.next()?;
            let mut in_progress: Vec<Xid> = Vec::new();
            for xid in list.split(',').filter(|x| !x.is_empty()) {
                in_progress.push(Xid(xid.parse().ok()?));
            }
            in_progress.sort_unstable();
            (parts.next().is_none() && xmin <= xmax).then_some(Snapshot { xmin, xmax, in_progress })
        };
        parse().ok_or_else(|| InvalidSnapshot(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_ended_before_it() {
        let s: Snapshot = "725:728:725,727".parse().unwrap();
        let seen: Vec<u64> = (723..730).filter(|x| s.sees(Xid(*x))).collect();
        assert_eq!(seen, [723, 724, 726]);
    }

    #[test]
    fn a_transaction_waiting_for_a_standby_is_not_seen_although_xmin_equals_xmax() {
        let s: Snapshot = "725:725:".parse().unwrap();
        assert!(!s.sees(Xid(725)));
        assert!(s.sees(Xid(724)));
    }

    #[test]
    fn of_a_standbys_snapshot_only_what_lies_below_xmin_is_certain() {
        let s: Snapshot = "725:728:".parse().unwrap();
        let s = s.on_standby();
        assert!(s.sees(Xid(724)) && !s.sees(Xid(725)) && !s.sees(Xid(727)));
    }

    #[test]
    fn text_that_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "2:1:", "1:2:x", "1:2:3:4", "-1:2:"] {
            assert!(text.parse::<Snapshot>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_short_id_is_widened_to_the_nearest_full_one() {
        let near = Xid(5 << 32 | 10);
        assert_eq!(Xid::widen(12, near), Xid(5 << 32 | 12));
        assert_eq!(Xid::widen(u32::MAX, near), Xid((5 << 32) - 1));
        assert_eq!(Xid::widen(8, Xid((5 << 32) - 1)), Xid(5 << 32 | 8));
    }
}

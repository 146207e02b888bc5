//! Where a stream starts, and whether it may (**G4**): checkpoint, slot and server compared before every START. Pure.

use super::high::Known;
use crate::{
    model::Lsn,
    sink::{Checkpoint, Stored},
    source::{
        replication::{SystemIdentity, TimelineSwitch},
        slot::SlotState,
    },
};

/// What is to be done before START.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing was streamed yet, and there is no slot: make it, after the publication.
    Fresh,
    /// Nothing was streamed yet, but the slot is there: advance it to now, after the publication exists, since a slot
    /// that is older than its publication fails for ever.
    Adopt,
    /// Go on from the checkpoint.
    Continue(Lsn),
    /// Changes may be missing: repair or stop.
    Gap(Gap),
    /// The checkpoint belongs to another source: stop, always.
    Foreign(String),
    /// The server is a primary that a failover has replaced: wait until it knows.
    Replaced,
}

/// A gap, with the positions on both sides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// The slot is gone.
    #[error(
        "slot {slot} is missing, though the indices hold everything up to {checkpoint}: changes since then are lost to the stream"
    )]
    SlotMissing {
        /// Slot.
        slot: String,
        /// Checkpoint.
        checkpoint: Lsn,
    },
    /// The server has removed WAL that the slot needs.
    #[error("slot {slot} is lost ({why}), and the indices hold everything up to {checkpoint} only")]
    SlotLost {
        /// Slot.
        slot: String,
        /// What the server says.
        why: String,
        /// Checkpoint.
        checkpoint: Lsn,
    },
    /// The slot was re-created or moved by somebody else. PostgreSQL would skip over it without a word.
    #[error(
        "slot {slot} stands at {confirmed}, past the checkpoint {checkpoint}: it was re-created or advanced, and the changes in between would never come"
    )]
    SlotAhead {
        /// Slot.
        slot: String,
        /// `confirmed_flush_lsn`.
        confirmed: Lsn,
        /// Checkpoint.
        checkpoint: Lsn,
    },
    /// A publication was dropped and made again, or was lost in a failover: changes in between are not in the stream.
    #[error(
        "a publication is not the one that was streamed from: it was dropped and made again, and the indices hold everything up to {checkpoint} only"
    )]
    PublicationMade {
        /// Checkpoint.
        checkpoint: Lsn,
    },
    /// The timeline of the checkpoint was left behind by a failover.
    #[error(
        "the server is on timeline {now}, whose history left timeline {then} at {at}; the indices may hold changes of {then} up to {high}, and those past {at} no longer exist"
    )]
    Forked {
        /// Timeline of the checkpoint.
        then: u32,
        /// Timeline of the server.
        now: u32,
        /// Where the new one begins; 0/0 where the history does not say.
        at: Lsn,
        /// The highest position whose content may be in the indices.
        high: Lsn,
        /// Where the stream can go on once the documents past `at` are repaired; `None` where the slot cannot.
        from: Option<Lsn>,
    },
}

/// Why the checkpoint cannot be of this server and database; `None` where it can.
pub fn foreign(checkpoint: &Checkpoint, server: &SystemIdentity) -> Option<String> {
    (checkpoint.system_identifier != server.system_id || checkpoint.database != server.database).then(|| {
        format!(
            "the indices were filled from database {} of cluster {}, but this is database {} of cluster {}: it may be \
             another server, or two pipelines with one name; give this one its own `name` and state, or, if the source \
             was replaced on purpose, run `pg2os resync --accept-source`",
            checkpoint.database, checkpoint.system_identifier, server.database, server.system_id
        )
    })
}

/// Is the server a primary that a failover has replaced, and that has not noticed? The checkpoint is of a later timeline.
pub fn is_replaced(checkpoint: &Checkpoint, server: &SystemIdentity) -> bool {
    checkpoint.timeline > server.timeline
}

/// May requests of a process that streamed before this one still be executed late? `is_own` knows this one's signature. Not where this process itself
/// wrote the checkpoint last, nor after one that left with nothing in doubt.
pub fn is_takeover(
    checkpoint: Option<&Stored<Checkpoint>>,
    slot_exists: bool,
    is_own: impl Fn(&str) -> bool,
) -> bool {
    checkpoint.map_or(slot_exists, |stored| !stored.record.settled && !is_own(&stored.owner))
}

/// Where `timeline` began, as the history of a later one, or its own, says; 0/0 for the first.
pub fn began(timeline: u32, history: &[TimelineSwitch]) -> Lsn {
    history.iter().rfind(|switch| switch.timeline < timeline).map_or(Lsn::ZERO, |switch| switch.switched_at)
}

/// Where the server's history left that of the checkpoint, at the earliest; 0/0 where that is not known, `None` where it is
/// still the same. The source has had everything up to `had`.
fn fork(
    checkpoint: &Checkpoint,
    server: &SystemIdentity,
    history: &[TimelineSwitch],
    had: Lsn,
) -> Option<Lsn> {
    let mut left = None;
    if checkpoint.timeline != server.timeline {
        let switch = history.iter().find(|switch| switch.timeline == checkpoint.timeline);
        let Some(switch) = switch else { return Some(Lsn::ZERO) };
        left = Some(switch.switched_at);
    }
    // Standbys that were promoted one after the other, and never heard of each other, give their timelines one number.
    let (known, found) = (checkpoint.timeline_began, began(checkpoint.timeline, history));
    if known != found && known.min(found) > Lsn::ZERO {
        return Some(known.min(found));
    }
    // They may even begin at one position. Or the server has lost the end of its log.
    if left.is_none() && had > server.flush {
        return Some(found);
    }
    left
}

/// Decides how to start. `history` is the history of the server's timeline, empty for the first and where it is not known;
/// `high` is the highest position whose content may be in the indices (**M7**); `publications` are the numbers
/// of all that there are: one that was made again has another.
pub fn start(
    checkpoint: Option<&Checkpoint>,
    slot_name: &str,
    slot: Option<&SlotState>,
    server: &SystemIdentity,
    history: &[TimelineSwitch],
    high: Known,
    publications: &[u32],
) -> Start {
    let Some(checkpoint) = checkpoint else {
        return match slot {
            Some(slot) if !slot.is_lost() => Start::Adopt,
            // A lost slot that nothing depends on is made anew as well.
            Some(_) | None => Start::Fresh,
        };
    };
    if let Some(why) = foreign(checkpoint, server) {
        return Start::Foreign(why);
    }
    if is_replaced(checkpoint, server) {
        return Start::Replaced;
    }
    let lsn = checkpoint.lsn;
    let known = &checkpoint.publications[..];
    let other_publication = known.iter().any(|oid| !publications.contains(oid));
    if let Some(at) = fork(checkpoint, server, history, high.at_least)
        && at < high.at_most
    {
        let from = lsn.min(at);
        let goes_on = |slot: &&SlotState| {
            let confirmed = slot.confirmed_flush_lsn.is_some_and(|confirmed| confirmed <= from);
            confirmed && !slot.is_lost() && !other_publication
        };
        return Start::Gap(Gap::Forked {
            then: checkpoint.timeline,
            now: server.timeline,
            at,
            high: high.at_most,
            from: slot.filter(goes_on).map(|_| from),
        });
    }
    let name = slot_name.to_owned();
    match slot {
        None => Start::Gap(Gap::SlotMissing { slot: name, checkpoint: lsn }),
        Some(slot) if slot.is_lost() => {
            let why = slot.invalidation.clone().unwrap_or_else(|| "wal_removed".to_owned());
            Start::Gap(Gap::SlotLost { slot: name, why, checkpoint: lsn })
        }
        Some(slot) => match slot.confirmed_flush_lsn {
            Some(confirmed) if confirmed > lsn => {
                Start::Gap(Gap::SlotAhead { slot: name, confirmed, checkpoint: lsn })
            }
            _ if other_publication => Start::Gap(Gap::PublicationMade { checkpoint: lsn }),
            _ => Start::Continue(lsn),
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::pipeline) fn checkpoint(lsn: u64) -> Checkpoint {
        Checkpoint {
            slot: "s".into(),
            system_identifier: "7".into(),
            database: "shop".into(),
            timeline: 1,
            timeline_began: Lsn::ZERO,
            publications: vec![9],
            fingerprint: String::new(),
            held_below: Lsn::ZERO,
            lsn: Lsn(lsn),
            high: None,
            settled: false,
        }
    }

    fn slot(confirmed: u64) -> SlotState {
        SlotState::healthy("shop", Lsn(confirmed))
    }

    fn exactly(lsn: u64) -> Known {
        Known { at_most: Lsn(lsn), at_least: Lsn(lsn) }
    }

    fn server(timeline: u32) -> SystemIdentity {
        SystemIdentity { system_id: "7".into(), timeline, flush: Lsn(100), database: "shop".into() }
    }

    #[test]
    fn a_stream_goes_on_from_its_checkpoint_and_never_from_the_slot_alone() {
        assert_eq!(
            start(Some(&checkpoint(50)), "s", Some(&slot(40)), &server(1), &[], exactly(60), &[9]),
            Start::Continue(Lsn(50))
        );
        assert_eq!(
            start(Some(&checkpoint(50)), "s", Some(&slot(50)), &server(1), &[], exactly(60), &[9]),
            Start::Continue(Lsn(50))
        );
    }

    #[test]
    fn m5_only_the_requests_of_another_process_that_left_in_doubt_can_be_late() {
        let stored = |owner: &str, settled| Stored {
            record: Checkpoint { settled, ..checkpoint(50) },
            owner: owner.into(),
            time: chrono::DateTime::UNIX_EPOCH,
        };
        let is_own = |owner: &str| owner == "own";
        assert!(is_takeover(Some(&stored("other", false)), true, is_own));
        assert!(!is_takeover(Some(&stored("other", true)), true, is_own));
        assert!(!is_takeover(Some(&stored("own", false)), true, is_own));
        assert!(!is_takeover(None, false, is_own));
        assert!(is_takeover(None, true, is_own), "the checkpoint is lost, but somebody may have streamed");
    }

    #[test]
    fn without_a_checkpoint_the_slot_is_made_or_adopted() {
        assert_eq!(start(None, "s", None, &server(1), &[], exactly(0), &[9]), Start::Fresh);
        assert_eq!(start(None, "s", Some(&slot(5)), &server(1), &[], exactly(0), &[9]), Start::Adopt);
    }

    #[test]
    fn g4_every_gap_is_seen_with_both_positions() {
        let lost = SlotState { wal_status: Some("lost".into()), ..slot(40) };
        let history = [TimelineSwitch { timeline: 1, switched_at: Lsn(45) }];
        for (slot, server, expected) in [
            (None, server(1), "slot s is missing, though the indices hold everything up to 0/32"),
            (Some(lost), server(1), "slot s is lost (wal_removed)"),
            (Some(slot(51)), server(1), "slot s stands at 0/33, past the checkpoint 0/32"),
            (Some(slot(40)), server(2), "timeline 2, whose history left timeline 1 at 0/2D"),
        ] {
            let found =
                start(Some(&checkpoint(50)), "s", slot.as_ref(), &server, &history, exactly(50), &[9]);
            let Start::Gap(gap) = found else { panic!("{found:?}") };
            assert!(gap.to_string().contains(expected), "{gap}");
        }
    }

    #[test]
    fn a_failover_that_lost_nothing_is_no_gap() {
        let history = [TimelineSwitch { timeline: 1, switched_at: Lsn(60) }];
        let start = |high, slot: Option<SlotState>| {
            start(Some(&checkpoint(50)), "s", slot.as_ref(), &server(2), &history, exactly(high), &[9])
        };
        assert_eq!(start(60, Some(slot(40))), Start::Continue(Lsn(50)));
        let forked = |from| Start::Gap(Gap::Forked { then: 1, now: 2, at: Lsn(60), high: Lsn(61), from });
        assert_eq!(start(61, Some(slot(40))), forked(Some(Lsn(50))));
        assert_eq!(start(61, Some(slot(51))), forked(None), "the slot is past it");
        assert_eq!(start(61, None), forked(None));
        assert!(matches!(start(60, None), Start::Gap(Gap::SlotMissing { .. })), "other gaps still count");
    }

    #[test]
    fn a_primary_that_a_failover_has_replaced_is_not_streamed_from() {
        let later = Checkpoint { timeline: 2, ..checkpoint(50) };
        assert_eq!(
            start(Some(&later), "s", Some(&slot(40)), &server(1), &[], exactly(50), &[9]),
            Start::Replaced
        );
    }

    #[test]
    fn g4_a_publication_that_was_made_again_is_a_gap() {
        let start = |publications, high| {
            let history = [TimelineSwitch { timeline: 1, switched_at: Lsn(60) }];
            start(
                Some(&checkpoint(50)),
                "s",
                Some(&slot(40)),
                &server(2),
                &history,
                exactly(high),
                publications,
            )
        };
        let made = Start::Gap(Gap::PublicationMade { checkpoint: Lsn(50) });
        assert_eq!(
            (start(&[9, 10], 60), start(&[10], 60), start(&[], 60)),
            (Start::Continue(Lsn(50)), made.clone(), made)
        );
        let Start::Gap(Gap::Forked { from, .. }) = start(&[10], 61) else { panic!() };
        assert_eq!(from, None, "a failover that lost the publication cannot be streamed over");
        let older = Checkpoint { publications: vec![], ..checkpoint(50) };
        let start = super::start(Some(&older), "s", Some(&slot(40)), &server(1), &[], exactly(50), &[9]);
        assert_eq!(start, Start::Continue(Lsn(50)), "an older program did not store them");
    }

    #[test]
    fn g4_two_timelines_with_one_number_are_told_by_where_they_began() {
        let switch = |timeline, at| TimelineSwitch { timeline, switched_at: Lsn(at) };
        let fork = |known, now, history: &[TimelineSwitch]| {
            let checkpoint = Checkpoint { timeline: 2, timeline_began: Lsn(known), ..checkpoint(50) };
            fork(&checkpoint, &server(now), history, Lsn(100))
        };
        for (known, now, history, expected) in [
            (40, 2, vec![switch(1, 40)], None),
            (40, 2, vec![switch(1, 30)], Some(30)),
            (40, 2, vec![switch(1, 45)], Some(40)),
            (40, 3, vec![switch(1, 40), switch(2, 60)], Some(60)),
            (40, 3, vec![switch(1, 30), switch(2, 60)], Some(30)),
            (40, 3, vec![switch(1, 30)], Some(0)),
            // A checkpoint of an older program, or a history that the server does not have.
            (0, 2, vec![switch(1, 40)], None),
            (40, 2, vec![], None),
        ] {
            assert_eq!(fork(known, now, &history), expected.map(Lsn), "{known} {now} {history:?}");
        }
        let same = Checkpoint { timeline: 2, timeline_began: Lsn(40), ..checkpoint(50) };
        let had = |had| super::fork(&same, &server(2), &[switch(1, 40)], Lsn(had));
        assert_eq!((had(100), had(101)), (None, Some(Lsn(40))), "its log ends at 100");
        assert_eq!(began(1, &[]), Lsn::ZERO);
        assert_eq!(began(3, &[switch(1, 40), switch(2, 60)]), Lsn(60));
    }

    #[test]
    fn g4_another_cluster_or_database_always_stops() {
        for server in [
            SystemIdentity { system_id: "8".into(), ..server(1) },
            SystemIdentity { database: "other".into(), ..server(1) },
        ] {
            assert!(matches!(
                start(Some(&checkpoint(50)), "s", Some(&slot(40)), &server, &[], exactly(50), &[9]),
                Start::Foreign(_)
            ));
        }
    }
}

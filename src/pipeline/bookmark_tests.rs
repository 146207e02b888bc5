//! The bookmark's decisions, as tables.

use super::*;
use proptest::prelude::*;

fn bookmark(keep: u64, seconds: u64) -> Bookmark {
    Bookmark { slot: "b".into(), keep, keep_time: Duration::from_secs(seconds) }
}

fn slot(confirmed: u64) -> SlotState {
    SlotState::healthy("shop", Lsn(confirmed))
}

#[test]
fn the_bookmark_follows_by_bytes_or_by_time_whichever_is_reached_first() {
    let begun = Instant::now();
    // 100 bytes a second, for two minutes.
    let after = |keep, keep_time, seconds: u64| {
        let (bookmark, mut past) = (bookmark(keep, keep_time), Past::default());
        let mut target = Lsn::ZERO;
        for second in 0..=seconds {
            let (now, checkpoint) = (begun + Duration::from_secs(second), Lsn(1000 + 100 * second));
            past.note(checkpoint, now, bookmark.keep_time);
            target = past.target(checkpoint, now, &bookmark);
        }
        target.0
    };
    assert_eq!(after(500, 600, 120), 12_500, "by bytes");
    // As of 64 seconds before, or at most a part of them more.
    let by_time = after(1 << 30, 64, 120);
    assert!((1000 + 100 * 53..=1000 + 100 * 56).contains(&by_time), "by time: {by_time}");
    assert_eq!(after(1 << 30, 600, 120), 0, "neither is reached");
    assert_eq!(after(0, 600, 120), 13_000, "nothing is kept");
    assert_eq!(after(1 << 30, 0, 120), 13_000, "nothing is kept");
}

proptest! {
    #[test]
    fn the_bookmark_never_passes_the_checkpoint_nor_what_is_to_be_kept(
        steps in prop::collection::vec((0u64..200, 0u64..1000), 1..80), keep in 0u64..5000, keep_time in 0u64..100,
    ) {
        let (bookmark, mut past, begun) = (bookmark(keep, keep_time), Past::default(), Instant::now());
        let (mut second, mut lsn, mut history) = (0, 0, vec![]);
        for (seconds, bytes) in steps {
            (second, lsn) = (second + seconds, lsn + bytes);
            let now = begun + Duration::from_secs(second);
            past.note(Lsn(lsn), now, bookmark.keep_time);
            history.push((second, lsn));
            let target = past.target(Lsn(lsn), now, &bookmark).0;
            prop_assert!(target <= lsn);
            // What is past both limits goes; what is within both stays.
            let then = history.iter().rfind(|(at, _)| at + keep_time <= second).map_or(0, |(_, lsn)| *lsn);
            prop_assert!(target >= lsn.saturating_sub(keep));
            prop_assert!(target <= lsn.saturating_sub(keep).max(then));
            prop_assert!(past.0.len() <= PARTS as usize + 2);
        }
    }
}

#[test]
fn a_bookmark_that_is_gone_is_made_again_and_one_of_others_is_left_alone() {
    let at = |slot: &SlotState| step(Some(slot), "shop", Lsn(50));
    assert_eq!(step(None, "shop", Lsn(50)), Step::Make { lost: false });
    assert_eq!(at(&slot(40)), Step::Advance(Lsn(50)));
    assert_eq!(at(&slot(50)), Step::Keep);
    assert_eq!(at(&slot(60)), Step::Keep, "never back");
    assert_eq!(at(&SlotState { active: true, ..slot(40) }), Step::Keep);
    assert_eq!(at(&SlotState { wal_status: Some("lost".into()), ..slot(40) }), Step::Make { lost: true });
    for other in [
        SlotState { database: Some("other".into()), ..slot(40) },
        SlotState { plugin: Some("test_decoding".into()), ..slot(40) },
        SlotState { plugin: None, database: None, ..slot(40) },
        SlotState { temporary: true, ..slot(40) },
    ] {
        assert_eq!(at(&other), Step::Foreign);
    }
}

#[test]
fn positions_outside_what_is_kept_are_refused_with_the_range_that_is_there() {
    let kept = kept("b", Some(&slot(0x40)), "shop", Some(Lsn(0x70)), Lsn(0x80)).unwrap();
    let check = |from, to: Option<u64>| kept.check(Lsn(from), to.map(Lsn));
    for (from, to) in [(0x40, None), (0x80, None), (0x50, Some(0x60)), (0x50, Some(0x80))] {
        assert_eq!(check(from, to), Ok(()), "{from} {to:?}");
    }
    for (from, to, said) in [
        (0x3f, None, "before what is kept"),
        (0x81, None, "--from-lsn 0/81 lies past the end of the log"),
        (0x50, Some(0x50), "does not lie past --from-lsn"),
        (0x50, Some(0x81), "--to-lsn 0/81 lies past the end of the log"),
    ] {
        let refusal = check(from, to).unwrap_err();
        assert!(refusal.contains(said) && refusal.contains("kept from 0/40 to 0/80"), "{refusal}");
    }
}

#[test]
fn where_no_history_is_kept_it_is_said_why() {
    let lost = SlotState { wal_status: Some("lost".into()), ..slot(0x40) };
    for (found, checkpoint, said) in [
        (None, None, "nothing was streamed yet"),
        (None, Some(0x80), "no bookmark slot b"),
        (Some(lost), Some(0x80), "removed the WAL"),
        (Some(slot(0x81)), Some(0x80), "past the checkpoint"),
        (Some(SlotState { database: None, ..slot(1) }), Some(0x80), "no logical slot of this database"),
    ] {
        let why = kept("b", found.as_ref(), "shop", checkpoint.map(Lsn), Lsn(0x90)).unwrap_err();
        assert!(why.contains(said), "{why}");
    }
}

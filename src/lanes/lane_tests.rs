use super::*;
use crate::{lanes::Target, model::Lsn};

fn lanes(batch_bytes: usize) -> Lanes {
    let limits = LaneLimits {
        lanes: 1,
        batch_bytes,
        batch_actions: 1000,
        flush_after: Duration::from_millis(5),
        guarded_deletes: 100,
        repeat_bytes: 10_000,
        horizon: Duration::from_millis(50),
    };
    Lanes::new(limits, Tracker::new(Lsn(1)), true, None)
}

fn row<'a>(target: &'a Target, id: &'a [u8], version: u64, change: Change<'a>) -> Action<'a> {
    Action { target, id, plain_id: id, routing: b"", version: Version(version), change }
}

#[tokio::test]
async fn a_position_moves_when_the_batch_with_its_action_is_answered() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 9, Change::Delete), Xid(7)).unwrap();
    lanes.tracker().commit(Lsn(50));
    let mut batch = lanes.next_batch(0).await;
    assert_eq!(lanes.tracker().position(), Lsn(1));
    assert!(!lanes.is_empty());
    let body = batch.seal();
    lanes.answered(0, batch, body);
    assert_eq!(lanes.tracker().position(), Lsn(50));
    assert!(lanes.is_empty());
}

#[tokio::test]
async fn a_full_lane_refuses_until_its_batch_is_taken() {
    let (lanes, target) = (lanes(100), Target::new(TableNo(0), "t"));
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 9, Change::Index(&[b'x'; 200])), Xid(7)).unwrap();
    assert_eq!(lanes.push_change(&row(&target, b"2", 9, Change::Delete), Xid(7)), Err(0));
    let _batch = lanes.next_batch(0).await;
    lanes.room(0).await;
    lanes.push_change(&row(&target, b"2", 9, Change::Delete), Xid(7)).unwrap();
}

#[tokio::test]
async fn a_window_is_answered_when_all_its_batches_are() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    let window = WindowRows::new("10:10:".parse().unwrap(), Version(5));
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"gone", 9, Change::Delete), Xid(12)).unwrap();
    assert_eq!(lanes.push_row(&row(&target, b"gone", 5, Change::Index(b"{}")), &window), RowPushed::Dropped);
    assert_eq!(lanes.push_row(&row(&target, b"1", 5, Change::Index(b"{}")), &window), RowPushed::Queued);
    let mut batch = lanes.next_batch(0).await;
    assert!(tokio::time::timeout(Duration::from_millis(20), window.answered()).await.is_err());
    let body = batch.seal();
    lanes.answered(0, batch, body);
    window.answered().await;
}

async fn answer(lanes: &Lanes) -> String {
    let mut batch = lanes.next_batch(0).await;
    let body = batch.seal();
    let part = batch.live(|_| true);
    let sent = String::from_utf8(batch.request(&body, &part).to_vec()).unwrap();
    lanes.answered(0, batch, body);
    sent
}

#[tokio::test]
async fn m5_a_delete_in_doubt_is_sent_once_more_and_holds_the_position_until_then() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 9, Change::Index(b"{}")), Xid(7)).unwrap();
    lanes.push_change(&row(&target, b"2", 9, Change::Index(b"{}")), Xid(7)).unwrap();
    lanes.tracker().commit(Lsn(50));
    let mut batch = lanes.next_batch(0).await;
    let body = batch.seal();
    lanes.doubt(0, &batch, &[0], Instant::now());
    lanes.answered(0, batch, body);
    assert_eq!(lanes.tracker().position(), Lsn(50), "an index action needs no repetition");

    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 20, Change::Delete), Xid(8)).unwrap();
    lanes.push_change(&row(&target, b"2", 20, Change::Delete), Xid(8)).unwrap();
    lanes.tracker().commit(Lsn(60));
    let first = answer(&lanes).await;
    assert_eq!(lanes.tracker().position(), Lsn(50));
    assert_eq!(lanes.tracker().answered_position(), Lsn(60));
    assert!(lanes.is_empty() && !lanes.is_settled(Instant::now()));
    let second = answer(&lanes).await;
    assert!(first.starts_with(&second) && second.lines().count() == 1, "{second}");
    assert_eq!(lanes.tracker().position(), Lsn(60));
    assert!(lanes.is_settled(Instant::now()));
}

#[tokio::test]
async fn m5_a_repeated_delete_gives_way_to_what_came_since() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 9, Change::Delete), Xid(7)).unwrap();
    lanes.tracker().commit(Lsn(50));
    let mut batch = lanes.next_batch(0).await;
    let body = batch.seal();
    lanes.lanes[0].state().doubts.note([target.hash(b"1")].into_iter(), Instant::now(), Instant::now());
    lanes.answered(0, batch, body);
    tokio::time::sleep(Duration::from_millis(60)).await;
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 20, Change::Index(b"{}")), Xid(8)).unwrap();
    lanes.tracker().commit(Lsn(60));
    let sent = answer(&lanes).await;
    assert!(sent.contains("index") && !sent.contains("delete"), "{sent}");
    assert_eq!(lanes.tracker().position(), Lsn(60));
}

#[tokio::test]
async fn m5_more_deletes_in_doubt_than_memory_are_told() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    lanes.lanes[0].state().doubts =
        Doubts::new(Duration::ZERO, Some(Instant::now() + Duration::from_secs(9)), 9);
    lanes.tracker().begin();
    for id in 0..200 {
        let id = format!("{id}");
        lanes.push_change(&row(&target, id.as_bytes(), 9, Change::Delete), Xid(7)).unwrap();
    }
    lanes.tracker().commit(Lsn(50));
    answer(&lanes).await;
    assert!(lanes.doubts_overflowed());
    assert_eq!(lanes.tracker().position(), Lsn(1), "what found no room holds the position");
}

#[tokio::test]
async fn a_window_waits_for_the_actions_that_swallowed_its_rows_or_dropped_them() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    let window = || WindowRows::new("10:10:".parse().unwrap(), Version(5));
    for change in [Change::Index(b"{}"), Change::Delete] {
        let (queued, taken) = (window(), window());
        lanes.tracker().begin();
        lanes.push_change(&row(&target, b"1", 9, change), Xid(12)).unwrap();
        lanes.push_row(&row(&target, b"1", 5, Change::Index(b"{}")), &queued);
        let mut batch = lanes.next_batch(0).await;
        assert!(!queued.is_answered());
        // The open batch is sent for the window's sake once the other is answered, even where nothing is in it.
        lanes.push_row(&row(&target, b"1", 5, Change::Index(b"{}")), &taken);
        let body = batch.seal();
        lanes.answered(0, batch, body);
        assert!(queued.is_answered() && !taken.is_answered());
        answer(&lanes).await;
        assert!(taken.is_answered());
    }
}

#[test]
fn m5_a_delete_is_in_doubt_as_of_when_it_was_sent() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    let sent = Instant::now() + HOUR;
    lanes.lanes[0].state().doubts.note([target.hash(b"1")].into_iter(), sent, sent);
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 9, Change::Delete), Xid(7)).unwrap();
    lanes.tracker().commit(Lsn(50));
    let answer = |now| match lanes.take_ready(0, now) {
        Ready::Batch(mut batch) => {
            let body = batch.seal();
            lanes.answered(0, batch, body);
        }
        Ready::Later(_) => panic!("nothing to send"),
    };
    answer(sent);
    assert_eq!(lanes.tracker().position(), Lsn(1), "whenever it is answered");
    // It gathers company first, as every action does.
    assert!(matches!(lanes.take_ready(0, sent + HOUR), Ready::Later(Some(_))));
    answer(sent + 2 * HOUR);
    assert_eq!(lanes.tracker().position(), Lsn(50));
}

#[test]
fn m5_a_doubt_that_ended_while_a_delete_was_on_its_way_does_not_make_room() {
    let now = Instant::now();
    let mut doubts = Doubts::new(Duration::from_secs(2), None, 1);
    doubts.note([1].into_iter(), now, now);
    let (sent, later) = (now + Duration::from_secs(1), now + Duration::from_secs(3));
    doubts.note([2].into_iter(), later, sent);
    assert!(doubts.repeat_at(1, sent).is_some());
}

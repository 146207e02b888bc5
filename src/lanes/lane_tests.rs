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
    lanes.doubt(0, &batch, &[0]);
    lanes.answered(0, batch, body);
    assert_eq!(lanes.tracker().position(), Lsn(50), "an index action needs no repetition");

    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 20, Change::Delete), Xid(8)).unwrap();
    lanes.push_change(&row(&target, b"2", 20, Change::Delete), Xid(8)).unwrap();
    lanes.tracker().commit(Lsn(60));
    let first = answer(&lanes).await;
    assert_eq!(lanes.tracker().position(), Lsn(50));
    assert_eq!(lanes.tracker().answered_position(), Lsn(60));
    assert!(lanes.is_empty() && !lanes.is_settled());
    let second = answer(&lanes).await;
    assert!(first.starts_with(&second) && second.lines().count() == 1, "{second}");
    assert_eq!(lanes.tracker().position(), Lsn(60));
    assert!(lanes.is_settled());
}

#[tokio::test]
async fn m5_a_repeated_delete_gives_way_to_what_came_since() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 9, Change::Delete), Xid(7)).unwrap();
    lanes.tracker().commit(Lsn(50));
    let mut batch = lanes.next_batch(0).await;
    let body = batch.seal();
    lanes.lanes[0].state().doubts.note([target.hash(b"1")].into_iter(), Instant::now());
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
async fn a_window_waits_for_the_action_that_swallowed_its_row() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    let window = WindowRows::new("10:10:".parse().unwrap(), Version(5));
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 9, Change::Index(b"{}")), Xid(12)).unwrap();
    assert_eq!(lanes.push_row(&row(&target, b"1", 5, Change::Index(b"{}")), &window), RowPushed::Queued);
    assert!(tokio::time::timeout(Duration::from_millis(20), window.answered()).await.is_err());
    answer(&lanes).await;
    window.answered().await;
}

#[tokio::test]
async fn m5_a_delete_is_in_doubt_as_of_when_it_was_sent() {
    let (lanes, target) = (lanes(1 << 20), Target::new(TableNo(0), "t"));
    lanes.lanes[0].state().doubts.note([target.hash(b"1")].into_iter(), Instant::now());
    lanes.tracker().begin();
    lanes.push_change(&row(&target, b"1", 9, Change::Delete), Xid(7)).unwrap();
    lanes.tracker().commit(Lsn(50));
    let mut batch = lanes.next_batch(0).await;
    let body = batch.seal();
    tokio::time::sleep(Duration::from_millis(80)).await;
    lanes.answered(0, batch, body);
    assert_eq!(lanes.tracker().position(), Lsn(1), "the doubt ended while it was on its way");
    answer(&lanes).await;
    assert_eq!(lanes.tracker().position(), Lsn(50));
}

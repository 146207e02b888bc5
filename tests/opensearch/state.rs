//! State documents.

use crate::Corner;
use pg2os::{
    model::{Epochs, Lsn},
    sink::{
        Checkpoint, Class, EpochRecord, Floor, Repair, SinkError, StateStore, StoppedHigh, TableRecord,
        TableState, WindowRecord, WindowState,
    },
};
use serde_json::{Value, json};

fn checkpoint(lsn: u64) -> Checkpoint {
    Checkpoint {
        slot: "pg2os".to_owned(),
        system_identifier: "7512345678901234567".to_owned(),
        database: "d".to_owned(),
        timeline: 1,
        timeline_began: Lsn(0),
        publications: vec![],
        fingerprint: "f".to_owned(),
        held_below: Lsn::ZERO,
        lsn: Lsn(lsn),
        high: None,
        settled: false,
    }
}

fn table(state: TableState) -> TableRecord {
    TableRecord {
        index_history: None,
        table: "public.events".to_owned(),
        index: "events".to_owned(),
        index_uuid: "u".to_owned(),
        state,
        digest: "d".to_owned(),
        sweep: false,
        floor: None,
        relfilenode: Some(16_384),
    }
}

fn window(number: u64, floor: u64) -> WindowRecord {
    WindowRecord {
        table: "public.events".to_owned(),
        number,
        label: "2024-01-01 … 2024-01-31".to_owned(),
        predicate: "true".to_owned(),
        state: WindowState::Done,
        rows: 7,
        floor: Floor { lsn: Lsn(floor), epoch: 1, slot_start: Lsn(floor - 8) },
    }
}

async fn store(corner: &Corner, pipeline: &str) -> StateStore {
    StateStore::open(&corner.client, &corner.index("state"), pipeline).await.unwrap()
}

#[tokio::test]
async fn a_late_checkpoint_does_not_move_it_back() {
    let corner = Corner::new("checkpoint");
    let (mine, theirs) = (store(&corner, "p").await, store(&corner, "p").await);
    let mut epochs = Epochs::default();
    assert_eq!(mine.checkpoint().await.unwrap(), None);
    mine.write_checkpoint(&checkpoint(800), &epochs).await.unwrap();
    mine.write_checkpoint(&checkpoint(800), &epochs).await.unwrap();
    let high = Some(StoppedHigh { exact: Lsn(1608), raised: Lsn(3200) });
    theirs.write_checkpoint(&Checkpoint { high, ..checkpoint(1600) }, &epochs).await.unwrap();
    let error = mine.write_checkpoint(&checkpoint(808), &epochs).await.unwrap_err();
    assert!(matches!(&error, SinkError::Superseded { owner, .. } if owner == theirs.owner()), "{error:?}");
    let stored = mine.checkpoint().await.unwrap().unwrap();
    assert_eq!((stored.record.lsn, stored.record.high), (Lsn(1600), high));
    assert_eq!(stored.owner, theirs.owner());
    assert_ne!(mine.owner(), theirs.owner());
    assert!((chrono::Utc::now() - stored.time).num_seconds() < 60);
    // A later epoch is above every position of the earlier one.
    epochs.begin(Lsn(400)).unwrap();
    mine.write_checkpoint(&checkpoint(400), &epochs).await.unwrap();
    assert_eq!(mine.checkpoint().await.unwrap().unwrap().record.lsn, Lsn(400));
    // Another pipeline has its own.
    assert_eq!(store(&corner, "q").await.checkpoint().await.unwrap(), None);
    corner.clean().await;
}

#[tokio::test]
async fn high_only_rises() {
    let corner = Corner::new("high");
    let store = store(&corner, "p").await;
    let epochs = Epochs::default();
    for (raised, high) in [(800, 800), (400, 800), (1600, 1600)] {
        store.raise_high(Lsn(raised), &epochs).await.unwrap();
        assert_eq!(store.high().await.unwrap().unwrap().record.lsn, Lsn(high));
    }
    corner.clean().await;
}

#[tokio::test]
async fn epochs_are_changed_only_from_the_revision_that_was_seen() {
    let corner = Corner::new("epochs");
    let (mine, theirs) = (store(&corner, "p").await, store(&corner, "p").await);
    let mut record = EpochRecord::default();
    mine.write_epochs(&record).await.unwrap();
    // Not seen yet by the other one.
    let error = theirs.write_epochs(&record).await.unwrap_err();
    assert!(matches!(error, SinkError::Superseded { .. }), "{error:?}");
    assert_eq!(theirs.epochs().await.unwrap().unwrap().record, record);
    record.list.begin(Lsn(800)).unwrap();
    record.repair = Some(Repair { reason: "fork".to_owned(), lsn: Lsn(800), by_ids: true });
    theirs.write_epochs(&record).await.unwrap();
    let error = mine.write_epochs(&EpochRecord::default()).await.unwrap_err();
    assert!(matches!(&error, SinkError::Superseded { owner, .. } if owner == theirs.owner()), "{error:?}");
    // A refusal does not count as having seen it.
    assert!(mine.write_epochs(&EpochRecord::default()).await.is_err());
    assert_eq!(mine.epochs().await.unwrap().unwrap().record, record);
    record.repair = None;
    mine.write_epochs(&record).await.unwrap();
    mine.write_epochs(&record).await.unwrap();
    corner.clean().await;
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_can_be_made_again() {
    let corner = Corner::new("again");
    let store = store(&corner, "p").await;
    store.write_table(&table(TableState::New)).await.unwrap();
    // The server has executed a write of this process that it does not know of.
    let path = format!("/{}/_doc/p:table:public.events", corner.index("state"));
    let mut document = corner.ask("GET", &path, Value::Null).await["_source"].take();
    document["state"] = "windows".into();
    corner.ask("PUT", &path, document.clone()).await;
    store.write_table(&table(TableState::Live)).await.unwrap();
    assert_eq!(store.table("public.events").await.unwrap().unwrap().record, table(TableState::Live));
    // One of another process stays.
    document["owner"] = "other:1:0".into();
    corner.ask("PUT", &path, document).await;
    let error = store.write_table(&table(TableState::Live)).await.unwrap_err();
    assert!(matches!(&error, SinkError::Superseded { owner, .. } if owner == "other:1:0"), "{error:?}");
    corner.clean().await;
}

#[tokio::test]
async fn tables_and_thousands_of_windows_are_loaded() {
    let corner = Corner::new("windows");
    let (store, other) = (store(&corner, "p").await, store(&corner, "q").await);
    let epochs = Epochs::default();
    assert_eq!(store.windows("public.events").await.unwrap(), []);
    assert_eq!(store.tables().await.unwrap(), []);
    let write = async |number| store.write_window(&window(number, 800), &epochs).await;
    for numbers in (0..2500).collect::<Vec<u64>>().chunks(50) {
        futures_util::future::try_join_all(numbers.iter().map(|&n| write(n))).await.unwrap();
    }
    other.write_window(&window(0, 1600), &epochs).await.unwrap();
    store.write_window(&WindowRecord { table: "x".to_owned(), ..window(0, 800) }, &epochs).await.unwrap();
    // A later attempt replaces it, a late write of an earlier one does not.
    store.write_window(&WindowRecord { rows: 9, ..window(3, 1600) }, &epochs).await.unwrap();
    store.write_window(&window(3, 800), &epochs).await.unwrap();
    let mut windows: Vec<_> =
        store.windows("public.events").await.unwrap().into_iter().map(|stored| stored.record).collect();
    windows.sort_by_key(|window| window.number);
    assert_eq!(windows.len(), 2500);
    assert_eq!((windows[3].rows, windows[3].floor.lsn), (9, Lsn(1600)));
    assert_eq!(windows[4], window(4, 800));

    store.write_table(&table(TableState::Windows)).await.unwrap();
    let reader = StateStore::open(&corner.client, &corner.index("state"), "p").await.unwrap();
    assert_eq!(reader.tables().await.unwrap()[0].record, table(TableState::Windows));
    // Listing counts as having seen.
    reader.write_table(&table(TableState::Live)).await.unwrap();
    assert_eq!(reader.table("public.none").await.unwrap(), None);
    corner.clean().await;
}

#[tokio::test]
async fn long_names_have_ids_too() {
    let corner = Corner::new("long");
    let store = store(&corner, "p").await;
    let long = TableRecord { table: "ü".repeat(300), ..table(TableState::New) };
    store.write_table(&long).await.unwrap();
    assert_eq!(store.table(&long.table).await.unwrap().unwrap().record, long);
    assert_eq!(store.tables().await.unwrap().len(), 1);
    corner.clean().await;
}

#[tokio::test]
async fn documents_of_a_newer_program_and_broken_ones_are_refused() {
    let corner = Corner::new("newer");
    let store = store(&corner, "p").await;
    store.write_checkpoint(&checkpoint(800), &Epochs::default()).await.unwrap();
    let path = format!("/{}/_doc/p:checkpoint", corner.index("state"));
    let good = corner.ask("GET", &path, Value::Null).await["_source"].take();
    let mut newer = good.clone();
    newer["format"] = 2.into();
    corner.ask("PUT", &path, newer).await;
    let error = store.checkpoint().await.unwrap_err();
    assert!(matches!(error, SinkError::NewerFormat { format: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("newer pg2os") && error.class() == Class::Fatal, "{error}");
    let mut broken = good;
    broken["lsn"] = "x".into();
    corner.ask("PUT", &path, broken).await;
    let error = store.checkpoint().await.unwrap_err();
    assert!(error.to_string().contains("p:checkpoint") && error.class() == Class::Fatal, "{error}");
    corner.clean().await;
}

#[tokio::test]
async fn a_state_index_that_is_gone_is_no_empty_state() {
    let corner = Corner::new("gone");
    let store = store(&corner, "p").await;
    corner.ask("DELETE", &format!("/{}-000001", corner.index("state")), Value::Null).await;
    assert!(store.checkpoint().await.is_err());
    assert!(store.tables().await.is_err());
    let epochs = Epochs::default();
    assert!(store.write_checkpoint(&checkpoint(800), &epochs).await.is_err());
    assert!(corner.client.find_index(&corner.index("state")).await.unwrap().is_none());
    // Nor is one that came into being by somebody's write.
    let foreign = corner.index("foreign");
    corner.ask("PUT", &format!("/{foreign}/_doc/1"), json!({"kind": "x", "pipeline": "p"})).await;
    let error = StateStore::open(&corner.client, &foreign, "p").await.err().unwrap();
    assert!(error.to_string().contains("not made by pg2os"), "{error}");
    corner.clean().await;
}

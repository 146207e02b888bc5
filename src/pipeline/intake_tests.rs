//! The intake over bytes of the protocol: what each message leaves in the lanes.

use super::*;
use crate::{
    ack::Tracker,
    lanes::{EntryKind, LaneLimits, Target},
    map::TableSpec,
    model::{Column, ColumnType, ReplicaIdentity, TableName, TableSchema},
};
use std::time::Duration;

/// One table `public.t (id int4 key, v text)` and one lane.
struct World {
    tables: Arc<Tables>,
    intake: Intake,
    lanes: Arc<Lanes>,
}

fn world(batch_bytes: usize) -> World {
    world_of(batch_bytes, TableSpec { id: vec!["id".into()], ..TableSpec::default() }, false, Lsn::ZERO)
}

fn world_read_above(batch_bytes: usize, read_above: Lsn) -> World {
    world_of(batch_bytes, TableSpec { id: vec!["id".into()], ..TableSpec::default() }, false, read_above)
}

fn world_of(batch_bytes: usize, spec: TableSpec, append_only: bool, read_above: Lsn) -> World {
    let columns = [("id", 23), ("v", 25)].map(|(name, oid)| (name.to_owned(), ColumnType::scalar(oid, -1)));
    let schema = TableSchema {
        oid: 7,
        name: TableName { schema: "public".into(), name: "t".into() },
        columns: columns
            .iter()
            .map(|(name, column_type)| Column {
                name: name.clone(),
                column_type: column_type.clone(),
                sql_type: "text".into(),
                not_null: true,
            })
            .collect(),
        primary_key: vec!["id".into()],
        identity: ReplicaIdentity::Columns(vec!["id".into()]),
        row_filter: None,
        partitioned: false,
        deferrable_id: false,
        estimated_rows: 0,
    };
    let mut tables = Tables::default();
    let target = Target::new(tables.next(), "t");
    let mut table = Table::new(target, schema, spec, OnTruncate::Delete).unwrap();
    table.append_only = append_only;
    table.read_above = read_above;
    tables.push(table);
    let tables = Arc::new(tables);
    let limits = LaneLimits {
        lanes: 1,
        batch_bytes,
        batch_actions: 100_000,
        flush_after: Duration::ZERO,
        guarded_deletes: 100,
        repeat_bytes: 0,
        horizon: Duration::ZERO,
    };
    let lanes = Arc::new(Lanes::new(limits, Tracker::new(Lsn(1)), false, None));
    let intake = Intake::new(
        tables.clone(),
        lanes.clone(),
        Epochs::default(),
        TypeCatalog::new(),
        Xid(1 << 32 | 100),
        Lsn::ZERO,
        1000,
    );
    World { tables, intake, lanes }
}

impl World {
    fn feed(&mut self, messages: &[Vec<u8>]) {
        for message in messages {
            assert_eq!(self.intake.message(message).unwrap(), None);
        }
    }

    /// Kind, id and ordinal of what is queued.
    async fn queued(&self) -> Vec<(EntryKind, String, u64)> {
        let batch = self.lanes.next_batch(0).await;
        let entries = batch.live(|_| true).into_iter().map(|at| batch.entry(at));
        entries
            .map(|e| (e.kind, String::from_utf8(batch.id_of(e).to_vec()).unwrap(), e.version.0 & 1023))
            .collect()
    }
}

fn begin() -> Vec<u8> {
    let mut m = vec![b'B'];
    m.extend(0x1000_u64.to_be_bytes());
    m.extend(0_u64.to_be_bytes());
    m.extend(101_u32.to_be_bytes());
    m
}

fn commit() -> Vec<u8> {
    let mut m = vec![b'C', 0];
    m.extend(0x1000_u64.to_be_bytes());
    m.extend(0x1030_u64.to_be_bytes());
    m.extend(0_u64.to_be_bytes());
    m
}

fn relation(oid: u32, name: &str) -> Vec<u8> {
    let mut m = vec![b'R'];
    m.extend(oid.to_be_bytes());
    m.extend(format!("public\0{name}\0d\0\x02").as_bytes());
    m.extend(b"\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\0\x19\xff\xff\xff\xff");
    m
}

fn tuple(values: &[Option<&str>]) -> Vec<u8> {
    let mut m = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        match value {
            None => m.push(b'n'),
            Some("\u{1}") => m.push(b'u'),
            Some(text) => {
                m.push(b't');
                m.extend((text.len() as u32).to_be_bytes());
                m.extend(text.as_bytes());
            }
        }
    }
    m
}

/// Stands for an unchanged TOAST value.
const UNCHANGED: Option<&str> = Some("\u{1}");

fn change(kind: u8, old: Option<&[Option<&str>]>, new: Option<&[Option<&str>]>) -> Vec<u8> {
    let mut m = vec![kind];
    m.extend(7_u32.to_be_bytes());
    if let Some(old) = old {
        m.push(b'K');
        m.extend(tuple(old));
    }
    if let Some(new) = new {
        m.push(b'N');
        m.extend(tuple(new));
    }
    m
}

#[tokio::test]
async fn changes_become_actions_numbered_in_their_transaction() {
    let mut w = world(1 << 20);
    w.feed(&[
        begin(),
        relation(7, "t"),
        change(b'I', None, Some(&[Some("1"), Some("a")])),
        change(b'U', None, Some(&[Some("2"), UNCHANGED])),
        change(b'D', Some(&[Some("3"), None]), None),
        commit(),
    ]);
    assert_eq!(
        w.queued().await,
        [
            (EntryKind::Index, "1".into(), 0),
            (EntryKind::Lookup, "2".into(), 1),
            (EntryKind::Delete, "3".into(), 2)
        ]
    );
    assert_eq!(w.lanes.tracker().position(), Lsn(1), "nothing is answered yet");
}

#[tokio::test]
async fn a_changed_key_is_a_delete_and_an_index_and_an_equal_old_key_is_not() {
    let mut w = world(1 << 20);
    w.feed(&[
        begin(),
        relation(7, "t"),
        change(b'U', Some(&[Some("1"), None]), Some(&[Some("10"), Some("a")])),
        change(b'U', Some(&[Some("2"), None]), Some(&[Some("2"), Some("b")])),
        // The key was not sent again: it is the old one.
        change(b'U', Some(&[Some("4"), None]), Some(&[UNCHANGED, Some("c")])),
        commit(),
    ]);
    assert_eq!(
        w.queued().await,
        [
            (EntryKind::Delete, "1".into(), 0),
            (EntryKind::Index, "10".into(), 0),
            (EntryKind::Index, "2".into(), 1),
            (EntryKind::Index, "4".into(), 2)
        ]
    );
}

/// `v` routes, and both columns are in the replica identity.
fn routed(batch_bytes: usize) -> (World, Vec<u8>) {
    let routing = Some("v".into());
    let spec = TableSpec { id: vec!["id".into()], routing, ..TableSpec::default() };
    let mut relation = relation(7, "t");
    let flags = relation.iter().rposition(|b| *b == b'v').unwrap() - 1;
    relation[flags] = 1;
    (world_of(batch_bytes, spec, false, Lsn::ZERO), relation)
}

#[tokio::test]
async fn a_routing_that_changes_moves_the_document_and_the_index_outranks_the_delete() {
    let (mut w, relation) = routed(1 << 20);
    w.feed(&[
        begin(),
        relation,
        change(b'U', Some(&[Some("1"), Some("a")]), Some(&[Some("1"), Some("b")])),
        change(b'U', Some(&[Some("2"), Some("a")]), Some(&[Some("2"), None])),
        change(b'U', Some(&[Some("3"), Some("a")]), Some(&[UNCHANGED, UNCHANGED])),
        change(b'U', Some(&[Some("4"), Some("a")]), Some(&[Some("5"), Some("b")])),
        change(b'D', Some(&[Some("6"), Some("c")]), None),
        commit(),
    ]);
    let batch = w.lanes.next_batch(0).await;
    let entries = batch.live(|_| true).into_iter().map(|at| batch.entry(at));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let found: Vec<_> = entries
        .map(|e| (e.kind, text(batch.id_of(e)), text(batch.routing_of(e)), e.version.0 & 1023))
        .collect();
    let expected = [
        (EntryKind::Delete, "1", "a", 0),
        (EntryKind::Index, "1", "b", 1),
        (EntryKind::Delete, "2", "a", 2),
        (EntryKind::Index, "2", "", 3),
        (EntryKind::Index, "3", "a", 4),
        (EntryKind::Delete, "4", "a", 5),
        (EntryKind::Index, "5", "b", 5),
        (EntryKind::Delete, "6", "c", 6),
    ];
    let expected = expected.map(|(kind, id, routing, n)| (kind, id.to_owned(), routing.to_owned(), n));
    assert_eq!(found, expected);
}

#[test]
fn a_routing_column_outside_the_replica_identity_stops_the_stream_with_its_cure() {
    let (mut w, _) = routed(1 << 20);
    let error = w.intake.message(&relation(7, "t")).unwrap_err().to_string();
    assert!(error.contains("REPLICA IDENTITY") && error.contains("\"v\""), "{error}");
}

#[tokio::test]
async fn of_an_append_only_table_inserts_alone_count() {
    let spec = TableSpec { id: vec!["v".into()], ..TableSpec::default() };
    let mut w = world_of(1 << 20, spec, true, Lsn::ZERO);
    w.feed(&[
        begin(),
        relation(7, "t"),
        change(b'U', Some(&[Some("1"), None]), Some(&[Some("2"), Some("x")])),
        change(b'D', Some(&[Some("1"), None]), None),
        change(b'I', None, Some(&[Some("3"), Some("y")])),
    ]);
    assert_eq!(w.queued().await, [(EntryKind::Index, "y".into(), 2)]);
}

#[test]
fn an_old_row_without_its_key_stops_the_stream_and_deletes_nothing() {
    for lost in [
        change(b'D', Some(&[None, None]), None),
        change(b'U', Some(&[None, Some("a")]), Some(&[Some("1"), Some("b")])),
    ] {
        let mut w = world(1 << 20);
        w.feed(&[begin(), relation(7, "t")]);
        let error = w.intake.message(&lost).unwrap_err().to_string();
        assert!(error.contains("column \"id\"") && error.contains("REPLICA IDENTITY FULL"), "{error}");
        assert!(w.lanes.is_empty());
    }
}

#[tokio::test]
async fn m4_an_id_changed_too_often_in_one_transaction_is_looked_up() {
    let mut w = world(1 << 24);
    w.feed(&[begin(), relation(7, "t")]);
    for n in 0..1100 {
        w.feed(&[change(b'U', None, Some(&[Some("1"), Some(&n.to_string())]))]);
    }
    w.feed(&[change(b'D', Some(&[Some("1"), None]), None)]);
    assert_eq!(w.queued().await, [(EntryKind::Lookup, "1".into(), 1023)]);
}

#[tokio::test]
async fn tables_that_are_not_configured_count_in_the_ordinals_and_leave_nothing() {
    let mut w = world(1 << 20);
    let mut foreign = change(b'I', None, Some(&[Some("9"), Some("x")]));
    foreign[1..5].copy_from_slice(&8_u32.to_be_bytes());
    let insert = change(b'I', None, Some(&[Some("1"), Some("a")]));
    w.feed(&[begin(), relation(8, "other"), relation(7, "t"), foreign, insert, commit()]);
    assert_eq!(w.queued().await, [(EntryKind::Index, "1".into(), 1)]);
}

#[tokio::test]
async fn a_document_that_is_too_large_is_refused_and_keeps_its_place() {
    let mut w = world(1 << 20);
    let long = "x".repeat(2000);
    w.feed(&[begin(), relation(7, "t"), change(b'I', None, Some(&[Some("1"), Some(&long)])), commit()]);
    assert_eq!(w.queued().await, [(EntryKind::Refused, "1".into(), 0)]);
}

#[tokio::test]
async fn a_full_lane_keeps_the_actions_of_the_message_waiting_in_order() {
    let mut w = world(1);
    w.feed(&[begin(), relation(7, "t"), change(b'I', None, Some(&[Some("1"), Some("a")]))]);
    let key_change = change(b'U', Some(&[Some("1"), None]), Some(&[Some("2"), Some("b")]));
    assert_eq!(w.intake.message(&key_change).unwrap(), Some(Need::Room(0)));
    assert_eq!(w.intake.resume(), Some(Need::Room(0)));
    assert_eq!(w.queued().await.len(), 1);
    assert_eq!(w.intake.resume(), Some(Need::Room(0)), "one of two has found room");
    assert_eq!(w.queued().await, [(EntryKind::Delete, "1".into(), 1)]);
    assert_eq!(w.intake.resume(), None);
    assert_eq!(w.queued().await, [(EntryKind::Index, "2".into(), 1)]);
}

#[test]
fn a_truncate_is_handed_over_with_its_version() {
    let mut w = world(1 << 20);
    w.feed(&[begin(), relation(7, "t")]);
    let mut truncate = vec![b'T'];
    truncate.extend(1_u32.to_be_bytes());
    truncate.push(0);
    truncate.extend(7_u32.to_be_bytes());
    let version = Epochs::default().version(Lsn(0x1000), 0).unwrap();
    let need = Need::Truncate { tables: vec![TableNo(0)], xid: Xid(1 << 32 | 101), version };
    assert_eq!(w.intake.message(&truncate).unwrap(), Some(need));
    assert_eq!(w.tables.get(TableNo(0)).truncates(), [Xid(1 << 32 | 101)]);
}

#[test]
fn types_that_are_not_known_are_asked_for_before_the_relation_counts() {
    let mut w = world(1 << 20);
    let mut enumerated = relation(7, "t");
    let at = enumerated.len() - 8;
    enumerated[at..at + 4].copy_from_slice(&90_000_u32.to_be_bytes());
    w.feed(&[begin()]);
    assert_eq!(w.intake.message(&enumerated).unwrap(), Some(Need::Types(vec![90_000])));
    // The catalog had text there: the index must have the field of what it is now.
    let columns = [("id", 23), ("v", 90_000)].map(|(name, oid)| (name.into(), ColumnType::scalar(oid, -1)));
    let need = Need::Columns(TableNo(0), columns.to_vec());
    assert_eq!(w.intake.types_loaded(TypeCatalog::new()).unwrap(), Some(need));
    w.feed(&[change(b'I', None, Some(&[Some("1"), Some("red")]))]);
}

#[tokio::test]
async fn a_table_is_the_same_under_another_name() {
    let mut w = world(1 << 20);
    w.feed(&[begin(), relation(7, "renamed"), change(b'I', None, Some(&[Some("1"), Some("a")]))]);
    // Another one, which had the name before.
    let mut earlier = change(b'I', None, Some(&[Some("2"), Some("b")]));
    earlier[1..5].copy_from_slice(&6_u32.to_be_bytes());
    w.feed(&[relation(6, "t"), earlier]);
    let ids: Vec<String> = w.queued().await.into_iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids, ["1", "2"]);
}

#[test]
fn a_definition_without_the_id_matters_only_above_the_floor_of_the_windows_to_come() {
    let mut other = relation(7, "t");
    let name = other.windows(3).position(|w| w == b"id\0").unwrap();
    other[name..name + 2].copy_from_slice(b"xx");
    for (read_above, ignored) in [(0, false), (0x1000, false), (0x1001, true)] {
        let mut w = world_read_above(1 << 20, Lsn(read_above));
        w.feed(&[begin()]);
        let described = w.intake.message(&other);
        if ignored {
            assert_eq!(described.unwrap(), None);
            w.feed(&[change(b'I', None, Some(&[Some("1"), Some("a")]))]);
            assert_eq!(w.intake.counts().changes, 0);
        } else {
            assert!(matches!(described, Err(IntakeError::IdColumn { no: TableNo(0), .. })), "{described:?}");
        }
    }
}

#[test]
fn an_id_outside_the_replica_identity_stops_the_stream_with_its_cure() {
    let mut w = world(1 << 20);
    let mut keyless = relation(7, "t");
    let flags = keyless.iter().position(|b| *b == 1).unwrap();
    keyless[flags] = 0;
    let error = w.intake.message(&keyless).unwrap_err().to_string();
    assert!(error.contains("REPLICA IDENTITY") && error.contains("\"public\".\"t\""), "{error}");
}

#[test]
fn messages_out_of_order_are_typed_errors() {
    for messages in [
        vec![commit()],
        vec![begin(), begin()],
        vec![relation(7, "t"), change(b'I', None, Some(&[Some("1"), None]))],
        vec![begin(), change(b'I', None, Some(&[Some("1"), None]))],
        vec![vec![b'Z']],
        vec![vec![]],
    ] {
        let mut w = world(1 << 20);
        let results: Vec<_> = messages.iter().map(|m| w.intake.message(m)).collect();
        assert!(results.last().unwrap().is_err(), "{messages:?}");
    }
}

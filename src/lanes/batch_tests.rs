use super::*;
use crate::model::Xid;
use proptest::prelude::*;

fn action<'a>(target: &'a Target, id: &'a str, version: u64, change: Change<'a>) -> Action<'a> {
    Action { target, id: id.as_bytes(), plain_id: id.as_bytes(), version: Version(version), change }
}

fn push(batch: &mut Batch, action: &Action<'_>) -> Pushed {
    let hash = action.target.hash(action.id);
    batch.push(action, hash)
}

fn text(batch: &mut Batch) -> String {
    let body = batch.seal();
    let part = batch.live(|k| matches!(k, EntryKind::Index | EntryKind::Delete));
    String::from_utf8(batch.request(&body, &part).to_vec()).unwrap()
}

#[test]
fn a_body_has_action_lines_and_documents() {
    let target = Target::new(TableNo(0), "events");
    let mut batch = Batch::default();
    push(&mut batch, &action(&target, "a\"b", 7, Change::Index(b"{\"x\":1}")));
    push(&mut batch, &action(&target, "c", 8, Change::Delete));
    assert_eq!(
        text(&mut batch),
        "{\"index\":{\"_index\":\"events\",\"_id\":\"a\\\"b\",\"version\":7,\"version_type\":\"external_gte\"}}\n{\"x\":1}\n\
         {\"delete\":{\"_index\":\"events\",\"_id\":\"c\",\"version\":8,\"version_type\":\"external_gte\"}}\n"
    );
}

#[test]
fn m1_a_window_row_at_the_floor_does_not_swallow_a_streamed_change() {
    let target = Target::new(TableNo(0), "t");
    let mut batch = Batch::default();
    push(&mut batch, &action(&target, "1", 9, Change::Index(b"{\"new\":1}")));
    assert_eq!(push(&mut batch, &action(&target, "1", 8, Change::Index(b"{\"old\":1}"))), Pushed::Swallowed);
    assert_eq!(push(&mut batch, &action(&target, "1", 9, Change::Delete)), Pushed::Kept);
    let text = text(&mut batch);
    assert!(text.starts_with("{\"delete\"") && text.lines().count() == 1, "{text}");
}

#[test]
fn equal_ids_of_two_tables_are_two_documents() {
    let (a, b) = (Target::new(TableNo(0), "a"), Target::new(TableNo(1), "b"));
    let mut batch = Batch::default();
    push(&mut batch, &action(&a, "1", 1, Change::Delete));
    push(&mut batch, &action(&b, "1", 1, Change::Delete));
    assert_eq!(batch.len(), 2);
}

#[test]
fn m13_a_lookup_keeps_the_place_of_its_id() {
    let target = Target::new(TableNo(0), "t");
    let mut batch = Batch::default();
    let key = LookupKey { values: vec![Some("1".into())], xid: Xid(5) };
    push(&mut batch, &action(&target, "1", 3, Change::Index(b"{}")));
    push(&mut batch, &action(&target, "1", 4, Change::Lookup(key.clone())));
    push(&mut batch, &action(&target, "2", 4, Change::Lookup(key)));
    push(&mut batch, &action(&target, "2", 5, Change::Delete));
    let waiting = batch.live(|k| k == EntryKind::Lookup);
    assert_eq!(waiting.len(), 1);
    batch.resolve(waiting[0], &target, Some(b"{\"now\":1}"));
    let text = text(&mut batch);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("\"_id\":\"1\",\"version\":4") && text.contains("{\"now\":1}"));
}

#[test]
fn a_recycled_batch_is_empty_and_keeps_its_memory() {
    let target = Target::new(TableNo(0), "t");
    let mut batch = Batch::default();
    push(&mut batch, &action(&target, "1", 3, Change::Index(&[b'x'; 5000])));
    let body = batch.seal();
    batch.recycle(body);
    assert!(batch.is_empty() && batch.live == 0 && batch.body.capacity() >= 5000);
}

proptest! {
    #[test]
    fn m1_the_highest_version_of_each_id_stays_and_of_equal_ones_the_last(
        pushes in proptest::collection::vec((0u8..4, 0u64..6, any::<bool>()), 0..40)
    ) {
        let target = Target::new(TableNo(0), "t");
        let mut batch = Batch::default();
        let mut expected: HashMap<u8, (u64, usize)> = HashMap::new();
        for (n, (id, version, delete)) in pushes.iter().enumerate() {
            let (id_text, document) = (id.to_string(), format!("{{\"n\":{n}}}"));
            let change = if *delete { Change::Delete } else { Change::Index(document.as_bytes()) };
            push(&mut batch, &action(&target, &id_text, *version, change));
            let slot = expected.entry(*id).or_insert((*version, n));
            if *version >= slot.0 { *slot = (*version, n); }
        }
        prop_assert_eq!(batch.len(), expected.len());
        let text = text(&mut batch);
        for (id, (version, n)) in expected {
            let head = format!("\"_id\":\"{id}\",\"version\":{version},");
            prop_assert!(text.contains(&head), "{} in {}", head, text);
            if !pushes[n].2 {
                let document = format!("{{\"n\":{n}}}\n");
                prop_assert!(text.contains(&document));
            }
        }
    }
}

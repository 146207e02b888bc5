//! Every event of a table, and what it means.

use super::*;
use crate::model::Origin;

fn spec() -> TableSpec {
    TableSpec {
        id: vec!["id".into()],
        exclude: vec!["secret".into()],
        rename: vec![("b".into(), "b_field".into())],
        ..TableSpec::default()
    }
}

fn attribute(number: i16, name: &str, type_oid: u32) -> Attribute {
    let sql_type = format!("type {type_oid}");
    Attribute { number, name: name.into(), type_oid, sql_type, published: true, labels: vec![] }
}

fn storage(oid: u32, file: u32) -> Storage {
    let origin = Origin { changed_by: 500, born_in: Some(500), joined_at: 1 };
    Storage { oid, name: format!("public.p{oid}"), file, links: vec![500], origin }
}

/// A partitioned table with partitions 11 and 12.
fn shape() -> TableShape {
    TableShape {
        oid: 10,
        attributes: vec![
            attribute(1, "id", 23),
            attribute(2, "a", 25),
            attribute(4, "b", 1043),
            attribute(5, "secret", 25),
        ],
        primary_key: vec![1],
        storage: vec![storage(11, 110), storage(12, 120)],
        publications: vec!["1/2/11111".into()],
        filter: None,
        horizon: Xid(1000),
    }
}

/// A single table of its own.
fn plain() -> TableShape {
    TableShape { storage: vec![storage(10, 100)], ..shape() }
}

fn changed(change: impl FnOnce(&mut TableShape)) -> TableShape {
    let mut now = TableShape { horizon: Xid(2000), ..shape() };
    change(&mut now);
    now
}

/// The verdict where every question is answered by `answer`.
fn verdict_where(now: &TableShape, answer: bool) -> Verdict {
    let asked = questions(&shape(), now, &spec(), &[]);
    judge(&shape(), now, &spec(), if answer { &asked } else { &[] }, &[])
}

fn repair_of(now: &TableShape, answer: bool) -> Vec<String> {
    let verdict = verdict_where(now, answer);
    assert!(verdict.lost.is_empty(), "{verdict:?}");
    verdict.repair
}

#[test]
fn what_does_not_touch_documents_needs_nothing() {
    type Change = fn(&mut TableShape);
    let harmless: [(&str, Change); 8] = [
        ("nothing", |_| {}),
        ("ALTER TYPE varchar(10) TO varchar(20), or to text", |s| s.attributes[2].type_oid = 25),
        ("ALTER TYPE that changes the modifier only", |s| s.attributes[1].sql_type = "other".into()),
        ("a column that is left out is dropped", |s| drop(s.attributes.pop())),
        ("it changes its type", |s| s.attributes[3].type_oid = 23),
        ("a label is added to an enum", |s| s.attributes[1].labels.push((7, "new".into()))),
        ("another publication has it too", |s| s.publications.push("9/9/11111".into())),
        ("a partition changes its name", |s| s.storage[0].name = "public.other".into()),
    ];
    for (event, change) in harmless {
        let now = changed(change);
        assert_eq!(questions(&shape(), &now, &spec(), &[]), [], "{event}");
        assert_eq!(verdict_where(&now, true), Verdict::default(), "{event}");
    }
}

#[test]
fn a_new_column_is_harmless_unless_old_rows_have_a_value_in_it() {
    let now = changed(|s| s.attributes.push(attribute(6, "c", 23)));
    assert_eq!(questions(&shape(), &now, &spec(), &[]), [Question::FilledByDefault("c".into())]);
    let harmless = Verdict { new_columns: vec!["c".into()], ..Verdict::default() };
    assert_eq!(verdict_where(&now, false), harmless);
    assert_eq!(repair_of(&now, true), ["column c was added with a value for the rows that were there"]);
    // VACUUM FULL wrote the default into the rows, and forgot that it was one.
    let vacuumed = changed(|s| {
        s.attributes.push(attribute(6, "c", 23));
        s.storage[0].file = 111;
    });
    assert_eq!(repair_of(&vacuumed, false).len(), 1);
}

#[test]
fn a_new_column_that_makes_no_field_is_of_no_interest() {
    for attribute in [attribute(6, "secret", 23), Attribute { published: false, ..attribute(6, "c", 23) }] {
        let mut before = shape();
        before.attributes.pop();
        let mut now = before.clone();
        now.attributes.push(attribute);
        assert_eq!(questions(&before, &now, &spec(), &[]), []);
        assert_eq!(judge(&before, &now, &spec(), &[], &[]), Verdict::default());
    }
}

#[test]
fn columns_that_old_documents_show_otherwise_are_repaired() {
    type Change = fn(&mut TableShape);
    let events: [(Change, &str); 8] = [
        (|s| drop(s.attributes.remove(1)), "column a was dropped"),
        (|s| s.attributes[1].name = "z".into(), "column a is called z now"),
        // Out of the renaming of the configuration, and out of what is left out.
        (|s| s.attributes[2].name = "z".into(), "column b is called z now"),
        (|s| s.attributes[3].name = "open".into(), "column secret is called open now"),
        (|s| s.attributes[1].type_oid = 23, "column a is type 25 now, not type 25"),
        (|s| s.attributes[1].published = false, "column a is not published any more"),
        (|s| s.filter = Some("(a > 1)".into()), "the publication has another row filter for it"),
        (|s| s.primary_key = vec![1, 2], "it has another primary key"),
    ];
    for (change, reason) in events {
        assert_eq!(repair_of(&changed(change), false), [reason]);
    }
    let mut before = shape();
    before.attributes[1].published = false;
    let verdict = judge(&before, &changed(|_| {}), &spec(), &[], &[]);
    assert_eq!(verdict.repair, ["column a is published now"]);
}

#[test]
fn another_primary_key_does_not_matter_where_the_id_is_configured() {
    let spec = TableSpec { id: vec!["a".into()], ..spec() };
    let now = changed(|s| s.primary_key = vec![1, 2]);
    assert_eq!(judge(&shape(), &now, &spec, &[], &[]), Verdict::default());
}

#[test]
fn an_enum_value_that_gets_another_name_is_repaired() {
    let with = |text: &str| changed(|s| s.attributes[1].labels = vec![(1, "x".into()), (2, text.into())]);
    let verdict = judge(&with("y"), &with("z"), &spec(), &[], &[]);
    assert_eq!(verdict.repair, ["the value y of the enum of column a has another name"]);
}

#[test]
fn a_partition_counts_if_it_came_or_went_with_rows() {
    let attached = changed(|s| s.storage.push(storage(13, 130)));
    assert_eq!(questions(&shape(), &attached, &spec(), &[]), [Question::JoinedWithRows(storage(13, 130))]);
    assert_eq!(verdict_where(&attached, false), Verdict::default());
    assert_eq!(repair_of(&attached, true), ["partition public.p13 was attached with rows in it"]);
    let detached = changed(|s| drop(s.storage.remove(0)));
    assert_eq!(repair_of(&detached, false), ["partition public.p11 was detached or dropped"]);
    let back = changed(|s| s.storage[0].links = vec![900]);
    assert_eq!(repair_of(&back, false), ["partition public.p11 was detached and attached again"]);
}

#[test]
fn a_new_file_is_harmless_where_old_rows_are_still_there() {
    let truncated = changed(|s| s.storage[1].file = 121);
    let question = Question::Replaced { relation: storage(12, 121), since: Xid(1000) };
    assert_eq!(questions(&shape(), &truncated, &spec(), &[]), [question]);
    assert_eq!(verdict_where(&truncated, false), Verdict::default(), "VACUUM FULL");
    let reason = repair_of(&truncated, true);
    assert!(reason.len() == 1 && reason[0].contains("public.p12 were removed or written anew"), "{reason:?}");
    let mut rewritten = plain();
    rewritten.storage[0].file = 101;
    let asked = questions(&plain(), &rewritten, &spec(), &[]);
    let verdict = judge(&plain(), &rewritten, &spec(), &asked, &[]);
    assert_eq!(verdict.repair, ["its rows were written anew (ALTER TABLE)"]);
}

#[test]
fn a_truncate_that_the_stream_brought_explains_its_new_files_and_no_others() {
    // The stream's ids are 64 bits wide, those of the catalog 32.
    let truncate = Xid(3 << 32 | 777);
    let by_truncate = |file| {
        let mut relation = storage(12, file);
        relation.origin.changed_by = 777;
        relation
    };
    let now = changed(|s| s.storage[1] = by_truncate(121));
    let asked = questions(&shape(), &now, &spec(), &[]);
    assert_eq!(judge(&shape(), &now, &spec(), &asked, &[Xid(5), truncate]), Verdict::default());
    assert_eq!(judge(&shape(), &now, &spec(), &asked, &[Xid(5)]).repair.len(), 1);
    // Afterwards partition 11 was truncated alone.
    let now = changed(|s| {
        s.storage[0].file = 111;
        s.storage[1] = by_truncate(121);
    });
    let asked = questions(&shape(), &now, &spec(), &[]);
    let verdict = judge(&shape(), &now, &spec(), &asked, &[truncate]);
    assert!(verdict.repair.len() == 1 && verdict.repair[0].contains("public.p11"), "{verdict:?}");
}

#[test]
fn changes_that_did_not_come_are_told_apart_from_documents_that_disagree() {
    let made_anew = changed(|s| s.oid = 99);
    assert_eq!(questions(&shape(), &made_anew, &spec(), &[]), []);
    for now in [
        made_anew,
        changed(|s| s.publications.clear()),
        changed(|s| s.publications = vec!["1/3/11111".into()]),
        changed(|s| s.publications = vec!["1/2/11001".into()]),
    ] {
        let verdict = verdict_where(&now, true);
        assert!(verdict.lost.len() == 1 && verdict.repair.is_empty(), "{verdict:?}");
    }
}

//! A plain id gives its key back, so two keys never have the same one; a document id is one that OpenSearch takes.

use super::{document::built_in, input::Input};
use pg2os::{
    config::IdForm,
    map::{IdBuffers, TablePlan, TableSpec, key_of_plain},
    model::{Cell, Row},
};

/// OpenSearch refuses longer ids.
const LONGEST: usize = 512;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let count = 1 + input.below(5);
    let md5 = input.byte() & 1 == 1;
    if input.byte() & 1 == 0 {
        key_of_plain(input.0, count);
        return;
    }
    let key: Vec<Option<Vec<u8>>> = (0..count).map(|_| input.cell()).collect();
    let (mut bytes, mut cells) = (vec![], vec![]);
    for value in &key {
        let start = bytes.len() as u32;
        bytes.extend(value.iter().flatten());
        cells.push(match value {
            Some(_) => Cell::Text { start, end: bytes.len() as u32 },
            None => Cell::Null,
        });
    }
    let names: Vec<String> = (0..count).map(|i| format!("k{i}")).collect();
    let columns: Vec<_> = names.iter().map(|name| (name.clone(), built_in(25))).collect();
    let id_form = if md5 { IdForm::Md5 } else { IdForm::Plain };
    let spec = TableSpec { id: names, id_form, ..TableSpec::default() };
    let plan = TablePlan::new(&spec, 1, &columns).unwrap();
    let mut ids = IdBuffers::default();
    plan.write_id(&Row { bytes: &bytes, cells: &cells }, &mut ids).unwrap();

    // Of one column, which is NOT NULL as a key, the text is the id.
    let is_clear = count > 1 || key[0].as_deref().is_some_and(|value| value != b"\\N");
    if is_clear {
        let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
        let key = key.into_iter().map(|value| value.map(text)).collect();
        assert_eq!(key_of_plain(&ids.plain, count), Some(key));
    }
    let is_text = std::str::from_utf8(&ids.plain).is_ok();
    assert!((1..=LONGEST).contains(&ids.id.len()));
    if !md5 && is_text && (1..=LONGEST).contains(&ids.plain.len()) {
        assert_eq!(ids.id, ids.plain);
    } else {
        assert_eq!(ids.id.len(), if md5 { 32 } else { 64 });
    }
}

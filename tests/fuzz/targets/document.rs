//! Single values through the program's own way from row to document, for every type it knows.

use super::input::Input;
use pg2os::{
    map::{Refusal, TablePlan, TableSpec, is_built_in, resolve},
    model::{Cell, ColumnType, Row, Structure, TypeCatalog},
};
use serde_json::value::RawValue;
use std::{cell::RefCell, collections::HashMap, sync::LazyLock};

/// Oids below it are those of the server's own types (PostgreSQL docs: "System Catalog Initial Data", OID assignment).
const FIRST_NORMAL_OID: u32 = 16_384;

/// A type that the catalog tells: one whose oid, for the input, is `oid`.
fn of(oid: u32, structure: Structure) -> ColumnType {
    ColumnType { oid, modifier: -1, structure }
}

/// Every type of the type table and its array, the server's ranges and multiranges, and what a database can define with
/// them.
pub(super) static TYPES: LazyLock<Vec<ColumnType>> = LazyLock::new(|| {
    let mut types: Vec<_> = (1..FIRST_NORMAL_OID).filter(|oid| is_built_in(*oid)).map(built_in).collect();
    for (range, multirange, bound) in RANGES {
        types.push(of(range, Structure::Range(Box::new(built_in(bound)))));
        types.push(of(multirange, Structure::Multirange(Box::new(built_in(bound)))));
    }
    let [an_enum, unknown] = [60_000, 60_001].map(|oid| ColumnType::scalar(oid, -1));
    let extension = |oid, name: &str| of(oid, Structure::Extension(name.to_owned()));
    let [hstore, citext] = [extension(60_002, "hstore"), extension(60_003, "citext")];
    let vector = extension(60_004, "vector");
    let attribute = |name: &str, part: &ColumnType| (name.to_owned(), part.clone());
    let inner = of(
        60_005,
        Structure::Composite(vec![attribute("x", &built_in(701)), attribute("y", &built_in(114))]),
    );
    let numrange = of(3906, Structure::Range(Box::new(built_in(1700))));
    let parts =
        [built_in(23), built_in(25), built_in(3802), built_in(1009), inner.clone(), numrange, hstore.clone()];
    let names = ["n", "t\"", "j", "l", "c", "r", "h"];
    let outer =
        of(60_006, Structure::Composite(names.iter().zip(&parts).map(|(n, p)| attribute(n, p)).collect()));
    let boxes = of(1020, Structure::Array { element: Box::new(built_in(603)), delimiter: b';' });
    types.extend(
        [&an_enum, &hstore, &citext, &inner, &outer].map(|t| ColumnType::array(t.oid + 100, -1, t.clone())),
    );
    let text_range = of(60_007, Structure::Range(Box::new(built_in(25))));
    let of_composites = of(60_008, Structure::Range(Box::new(inner.clone())));
    let nothing = of(60_009, Structure::Composite(vec![]));
    let single = of(60_010, Structure::Composite(vec![attribute("only", &built_in(25))]));
    types.extend([
        an_enum,
        unknown,
        hstore,
        citext,
        vector,
        inner,
        outer,
        boxes,
        text_range,
        of_composites,
        nothing,
        single,
    ]);
    types
});

/// The server's ranges, their multiranges and the types of their bounds.
pub(super) const RANGES: [(u32, u32, u32); 6] = [
    (3904, 4451, 23),
    (3926, 4536, 20),
    (3906, 4532, 1700),
    (3908, 4533, 1114),
    (3910, 4534, 1184),
    (3912, 4535, 1082),
];

/// The built-in type with this oid.
pub(super) fn built_in(oid: u32) -> ColumnType {
    resolve(oid, -1, &TypeCatalog::new())
}

/// The type whose oid the next two bytes are, or any other of `types`. (By oid, so that the kept corpus means the same when
/// the table grows.)
pub(super) fn choose<'a>(types: &[&'a ColumnType], input: &mut Input<'_>) -> &'a ColumnType {
    let oid = input.below(65_536);
    types.iter().find(|t| t.oid as usize == oid).unwrap_or(&types[oid % types.len()])
}

/// Are the values json, or made of json?
pub(super) fn holds_json(column_type: &ColumnType) -> bool {
    match &column_type.structure {
        Structure::Scalar => [114, 3802].contains(&column_type.oid),
        Structure::Extension(_) => false,
        Structure::Array { element: part, .. } | Structure::Range(part) | Structure::Multirange(part) => {
            holds_json(part)
        }
        Structure::Composite(attributes) => attributes.iter().any(|(_, part)| holds_json(part)),
    }
}

/// What became of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The JSON of its field.
    Value(Vec<u8>),
    /// The JSON of the field's sibling `NAME__json`.
    Sibling(Vec<u8>),
    /// JSON has no form for it.
    LeftOut,
    /// The row has no document.
    Refused,
}

thread_local! {
    /// By the oid of the value's type.
    static PLANS: RefCell<HashMap<u32, TablePlan>> = RefCell::default();
}

fn plan(column_type: &ColumnType) -> TablePlan {
    let spec = TableSpec::default();
    let columns = [("v".to_owned(), column_type.clone()), ("end".to_owned(), built_in(25))];
    TablePlan::new(&spec, 1, &columns).unwrap()
}

/// Writes the document of a row with `text` as a value of `column_type`, followed by another column.
///
/// Asserts what holds for every value: the document is one line, and the value stays inside its field.
pub(super) fn field(column_type: &ColumnType, text: &[u8]) -> Field {
    let bytes = [text, b"x"].concat();
    let end = text.len() as u32;
    let cells = [Cell::Text { start: 0, end }, Cell::Text { start: end, end: end + 1 }];
    let mut out = vec![];
    let row = Row { bytes: &bytes, cells: &cells };
    let written = PLANS.with_borrow_mut(|plans| {
        let plan = plans.entry(column_type.oid).or_insert_with(|| plan(column_type));
        plan.write_document(&row, &mut out)
    });
    let omitted = match written {
        Ok(omitted) => omitted,
        Err(Refusal::TooDeep { .. }) => return Field::Refused,
    };
    assert!(!out.contains(&b'\n'), "{} is more than one line", text_of(&out));
    let inside = |key: &[u8]| Some(out.strip_prefix(key)?.strip_suffix(b",\"end\":\"x\"}")?.to_vec());
    let field = match (inside(b"{\"v\":"), inside(b"{\"v__json\":")) {
        (Some(json), None) => Field::Value(json),
        (None, Some(json)) => Field::Sibling(json),
        _ => {
            assert_eq!(text_of(&out), r#"{"end":"x"}"#);
            Field::LeftOut
        }
    };
    // What is left out of an array, a range or a composite value is counted, too.
    assert!(omitted > 0 || field != Field::LeftOut, "{} is not counted", text_of(text));
    assert!(omitted <= u32::from(field == Field::LeftOut) || column_type.structure != Structure::Scalar);
    field
}

/// Is it JSON (RFC 8259)? Any nesting and any number; half a surrogate pair is, too.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

/// Asserts that a field is JSON; bytes that are not UTF-8 may stay what they are.
pub(super) fn assert_json(column_type: &ColumnType, text: &[u8]) -> Field {
    let field = field(column_type, text);
    if let Field::Value(json) | Field::Sibling(json) = &field {
        assert!(
            is_json(text_of(json).as_bytes()),
            "{} of type {} becomes {}, which is no JSON",
            text_of(text),
            column_type.oid,
            text_of(json)
        );
        assert!(std::str::from_utf8(text).is_err() || std::str::from_utf8(json).is_ok());
    }
    field
}

/// The JSON string of `text`, as for a column of type text.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    match field(&built_in(25), text) {
        Field::Value(json) if is_string_of(&json, text) => json,
        other => panic!("{} becomes {other:?}", text_of(text)),
    }
}

/// The same JSON string, whatever escapes are used in it?
pub(super) fn is_string_of(json: &[u8], text: &[u8]) -> bool {
    match std::str::from_utf8(text) {
        Ok(text) => serde_json::from_slice::<String>(json).is_ok_and(|read| read == text),
        Err(_) => json.starts_with(b"\"") && json.ends_with(b"\""),
    }
}

/// For messages.
pub(super) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

//! Composite values and hstore against a second reading of their text (PostgreSQL docs: "Composite Types", Composite Type
//! Input and Output Syntax; "hstore", External Representation), whose parts are written as values of their types.

use super::{
    document::{Field, TYPES, assert_json, choose, field, is_json, string, text_of},
    input::Input,
};
use pg2os::model::{ColumnType, Structure};
use serde_json::{Map, Value};

type Part = Option<Vec<u8>>;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let is_hstore = |t: &ColumnType| t.structure == Structure::Extension("hstore".to_owned());
    let types: Vec<&ColumnType> =
        TYPES.iter().filter(|t| matches!(t.structure, Structure::Composite(_)) || is_hstore(t)).collect();
    let chosen = choose(&types, &mut input);
    let is_printed = input.byte() & 1 == 1;
    match &chosen.structure {
        Structure::Composite(attributes) if is_printed => {
            let parts: Vec<Part> = attributes.iter().map(|_| input.cell()).collect();
            let text = print(&parts);
            assert_eq!(read(&text, parts.len()).as_ref(), Some(&parts), "{}", text_of(&text));
            check(chosen, attributes, &text);
        }
        Structure::Composite(attributes) => check(chosen, attributes, input.0),
        _ if is_printed => hstore(chosen, &mut input),
        _ => drop(assert_json(chosen, input.0)),
    }
}

fn check(composite: &ColumnType, attributes: &[(String, ColumnType)], text: &[u8]) {
    let expected = match read(text, attributes.len()) {
        Some(parts) => object(&parts, attributes),
        None => Some([b"{\"value\":", &string(text)[..], b"}"].concat()),
    };
    match (field(composite, text), expected) {
        (Field::Value(json) | Field::Sibling(json), Some(expected)) => {
            assert_eq!(text_of(&json), text_of(&expected), "{}", text_of(text));
        }
        // The levels of the composite value count, too.
        (Field::Refused, expected) => assert!(expected.is_none_or(|json| json.len() > 900)),
        // json that is none (no server lets it through) has no depth to agree on.
        (Field::Value(json) | Field::Sibling(json), None) => {
            assert!(!is_json(&json), "{} is refused as a part", text_of(text));
        }
        (Field::LeftOut, _) => panic!("{} is left out", text_of(text)),
    }
}

/// `None` where a part is refused, and with it the row.
fn object(parts: &[Part], attributes: &[(String, ColumnType)]) -> Option<Vec<u8>> {
    let mut members = vec![];
    for (part, (name, column_type)) in parts.iter().zip(attributes) {
        let Some(text) = part else { continue };
        match field(column_type, text) {
            // Only the whole value has a sibling field.
            Field::Value(json) | Field::Sibling(json) => {
                members.push([&string(name.as_bytes())[..], b":", &json].concat());
            }
            Field::LeftOut => {}
            Field::Refused => return None,
        }
    }
    Some([b"{", members.join(&b","[..]).as_slice(), b"}"].concat())
}

/// Reads a composite value of `count` attributes. `()` is that of none, and of one that is NULL.
fn read(text: &[u8], count: usize) -> Option<Vec<Part>> {
    let text = text.strip_prefix(b"(")?;
    if text == b")" && count == 0 {
        return Some(vec![]);
    }
    let (mut parts, mut part, mut is_null, mut in_quotes, mut at) = (vec![], vec![], true, false, 0);
    loop {
        let byte = *text.get(at)?;
        at += 1;
        match byte {
            b',' | b')' if !in_quotes => {
                parts.push((!is_null).then_some(std::mem::take(&mut part)));
                is_null = true;
                if byte == b')' {
                    return (at == text.len() && parts.len() == count).then_some(parts);
                }
                continue;
            }
            b'\\' => {
                part.push(*text.get(at)?);
                at += 1;
            }
            b'"' if in_quotes && text.get(at) == Some(&b'"') => {
                part.push(b'"');
                at += 1;
            }
            b'"' => in_quotes = !in_quotes,
            byte => part.push(byte),
        }
        is_null = false;
    }
}

/// What `record_out` does.
fn print(parts: &[Part]) -> Vec<u8> {
    let part = |part: &Part| {
        let Some(text) = part else { return vec![] };
        let needs_quotes =
            text.is_empty() || text.iter().any(|b| b.is_ascii_whitespace() || b"\"\\(),".contains(b));
        if !needs_quotes {
            return text.clone();
        }
        let doubled = text.iter().flat_map(|b| match b {
            b'"' | b'\\' => vec![*b, *b],
            b => vec![*b],
        });
        [b"\"".to_vec(), doubled.collect(), b"\"".to_vec()].concat()
    };
    let parts: Vec<Vec<u8>> = parts.iter().map(part).collect();
    [b"(", parts.join(&b","[..]).as_slice(), b")"].concat()
}

/// What `hstore_out` prints comes back as an object of strings and nulls.
fn hstore(column_type: &ColumnType, input: &mut Input<'_>) {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut expected = Map::new();
    for _ in 0..input.below(4) {
        let key = String::from_utf8_lossy(&input.text()).into_owned();
        let value = input.cell().map(|value| String::from_utf8_lossy(&value).into_owned());
        expected.insert(key, value.map_or(Value::Null, Value::String));
    }
    let entries: Vec<String> = expected
        .iter()
        .map(|(key, value)| format!("{}=>{}", quoted(key), value.as_str().map_or("NULL".to_owned(), quoted)))
        .collect();
    let text = entries.join(", ");
    match field(column_type, text.as_bytes()) {
        Field::Value(json) | Field::Sibling(json) => {
            assert_eq!(serde_json::from_slice::<Value>(&json).ok(), Some(Value::Object(expected)), "{text}");
        }
        other => panic!("{text} becomes {other:?}"),
    }
}

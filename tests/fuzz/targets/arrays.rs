//! Arrays against a second reading of their text (PostgreSQL docs: "Arrays", Array Input and Output Syntax), whose elements
//! are written as values of the element's type.

use super::{
    document::{Field, TYPES, choose, field, is_json, string, text_of},
    input::Input,
};
use pg2os::model::{ColumnType, Structure};

/// PostgreSQL's arrays have at most six dimensions (MAXDIM).
const DIMENSIONS: usize = 6;

/// Deeper documents are refused.
const DEEPEST: usize = 900;

/// An array or an element of it.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    Array(Vec<Item>),
    Null,
    Text(Vec<u8>),
}

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let arrays: Vec<&ColumnType> = TYPES.iter().filter(|t| t.element().is_some()).collect();
    let array = choose(&arrays, &mut input);
    let Structure::Array { element, delimiter } = &array.structure else { unreachable!() };
    if input.byte() & 1 == 0 {
        check(array, element, *delimiter, input.0);
    } else {
        let depth = 1 + input.below(DIMENSIONS);
        let item = generate(&mut input, depth);
        let text = print(&item, *delimiter);
        assert_eq!(read(&text, *delimiter).as_ref(), Some(&item), "{}", text_of(&text));
        check(array, element, *delimiter, &text);
    }
}

fn check(array: &ColumnType, element: &ColumnType, delimiter: u8, text: &[u8]) {
    let expected = match read(text, delimiter) {
        Some(item) => json(&item, element),
        None => Some(string(text)),
    };
    match (field(array, text), expected) {
        (Field::Value(json), Some(expected)) => {
            assert_eq!(text_of(&json), text_of(&expected), "{}", text_of(text));
        }
        // The array's own levels count, too.
        (Field::Refused, Some(expected)) => assert!(expected.len() > DEEPEST),
        (Field::Refused, None) => {}
        // json that is none (no server lets it through) has no depth to agree on.
        (Field::Value(json), None) => assert!(!is_json(&json), "{} is refused as an element", text_of(text)),
        (found, _) => panic!("{found:?} for {}", text_of(text)),
    }
}

/// `None` where an element is refused, and with it the row.
fn json(item: &Item, element: &ColumnType) -> Option<Vec<u8>> {
    match item {
        Item::Null => Some(b"null".to_vec()),
        Item::Text(text) => match field(element, text) {
            // In an array there is no flat_object and so no sibling.
            Field::Value(json) | Field::Sibling(json) => Some(json),
            Field::LeftOut => Some(b"null".to_vec()),
            Field::Refused => None,
        },
        Item::Array(items) => {
            let items: Option<Vec<Vec<u8>>> = items.iter().map(|item| json(item, element)).collect();
            Some([b"[", items?.join(&b","[..]).as_slice(), b"]"].concat())
        }
    }
}

/// Reads an array as `array_out` prints it; `None` where it is none.
fn read(text: &[u8], delimiter: u8) -> Option<Item> {
    let text = match text.first()? {
        b'[' => &text[text.iter().position(|b| *b == b'=')? + 1..],
        _ => text,
    };
    let (item, rest) = array(text, delimiter, 1)?;
    rest.is_empty().then_some(item)
}

fn array(text: &[u8], delimiter: u8, depth: usize) -> Option<(Item, &[u8])> {
    let mut rest = text.strip_prefix(b"{")?;
    if depth > DIMENSIONS {
        return None;
    }
    let mut items = vec![];
    if let Some(rest) = rest.strip_prefix(b"}") {
        return Some((Item::Array(items), rest));
    }
    loop {
        let (item, after) = match rest.first()? {
            b'{' => array(rest, delimiter, depth + 1)?,
            b'"' => quoted(&rest[1..])?,
            _ => plain(rest, delimiter)?,
        };
        items.push(item);
        match after.split_first()? {
            (b'}', after) => return Some((Item::Array(items), after)),
            (byte, after) if *byte == delimiter => rest = after,
            _ => return None,
        }
    }
}

fn quoted(text: &[u8]) -> Option<(Item, &[u8])> {
    let (mut value, mut at) = (vec![], 0);
    loop {
        match text.get(at)? {
            b'"' => return Some((Item::Text(value), &text[at + 1..])),
            b'\\' => {
                value.push(*text.get(at + 1)?);
                at += 2;
            }
            byte => {
                value.push(*byte);
                at += 1;
            }
        }
    }
}

fn plain(text: &[u8], delimiter: u8) -> Option<(Item, &[u8])> {
    let end = text.iter().position(|b| *b == delimiter || b"}{\"\\".contains(b))?;
    let (word, rest) = text.split_at(end);
    match word {
        b"" => None,
        b"NULL" => Some((Item::Null, rest)),
        word => Some((Item::Text(word.to_vec()), rest)),
    }
}

fn generate(input: &mut Input<'_>, depth: usize) -> Item {
    let length = input.below(5);
    let items = (0..length).map(|_| match (depth, input.byte() % 8) {
        (_, 0) => Item::Null,
        (2.., 1..=4) => generate(input, depth - 1),
        _ => Item::Text(input.text()),
    });
    Item::Array(items.collect())
}

/// What `array_out` does.
fn print(item: &Item, delimiter: u8) -> Vec<u8> {
    match item {
        Item::Null => b"NULL".to_vec(),
        Item::Text(text) => {
            let needs_quotes = text.is_empty()
                || text.eq_ignore_ascii_case(b"NULL")
                || text.iter().any(|b| b.is_ascii_whitespace() || *b == delimiter || b"{}\"\\".contains(b));
            if !needs_quotes {
                return text.clone();
            }
            let mut out = b"\"".to_vec();
            for &byte in text {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.push(b'"');
            out
        }
        Item::Array(items) => {
            let items: Vec<Vec<u8>> = items.iter().map(|item| print(item, delimiter)).collect();
            [b"{", items.join(&delimiter).as_slice(), b"}"].concat()
        }
    }
}

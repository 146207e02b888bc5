//! Ranges and multiranges against a second reading of their text (PostgreSQL docs: "Range Types", Range Input/Output), whose
//! bounds are written as values of the bounds' type.

use super::{
    document::{Field, RANGES, TYPES, assert_json, built_in, field, string, text_of},
    input::Input,
};
use pg2os::model::ColumnType;

type Bound = Option<Vec<u8>>;

#[derive(Debug, PartialEq, Eq)]
struct Range {
    lower_included: bool,
    lower: Bound,
    upper: Bound,
    upper_included: bool,
}

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let (range, multirange, bound) = RANGES[input.below(RANGES.len())];
    let [range, multirange] = [range, multirange].map(|oid| TYPES.iter().find(|t| t.oid == oid).unwrap());
    let bound = built_in(bound);
    match input.byte() % 4 {
        0 => one(range, &bound, input.0),
        1 => many(multirange, &bound, input.0),
        2 => {
            let range_value = generate(&mut input);
            let text = print(&range_value);
            assert_eq!(read(&text), Some((range_value, &b""[..])), "{}", text_of(&text));
            one(range, &bound, &text);
        }
        _ => {
            let ranges: Vec<Vec<u8>> = (0..input.below(4)).map(|_| print(&generate(&mut input))).collect();
            let text = [b"{", ranges.join(&b","[..]).as_slice(), b"}"].concat();
            assert_eq!(read_many(&text).map(|r| r.len()), Some(ranges.len()), "{}", text_of(&text));
            many(multirange, &bound, &text);
        }
    }
}

fn one(range: &ColumnType, bound: &ColumnType, text: &[u8]) {
    let expected = match (text, read(text)) {
        (b"empty", _) => Field::LeftOut,
        (_, Some((read, b""))) => Field::Value(json(&read, bound)),
        _ => Field::Value(string(text)),
    };
    assert_eq!(assert_json(range, text), expected, "{}", text_of(text));
}

fn many(multirange: &ColumnType, bound: &ColumnType, text: &[u8]) {
    let expected = match read_many(text) {
        Some(ranges) => {
            let ranges: Vec<Vec<u8>> = ranges.iter().map(|range| json(range, bound)).collect();
            [b"[", ranges.join(&b","[..]).as_slice(), b"]"].concat()
        }
        None => string(text),
    };
    assert_eq!(assert_json(multirange, text), Field::Value(expected), "{}", text_of(text));
}

fn json(range: &Range, bound: &ColumnType) -> Vec<u8> {
    let lower_key = if range.lower_included { "gte" } else { "gt" };
    let upper_key = if range.upper_included { "lte" } else { "lt" };
    let entry = |key: &str, value: &Bound| match field(bound, value.as_ref()?) {
        Field::Value(json) => Some([format!("\"{key}\":").as_bytes(), &json].concat()),
        _ => None,
    };
    let entries: Vec<Vec<u8>> =
        [entry(lower_key, &range.lower), entry(upper_key, &range.upper)].into_iter().flatten().collect();
    [b"{", entries.join(&b","[..]).as_slice(), b"}"].concat()
}

/// Reads a range and returns what follows it.
fn read(text: &[u8]) -> Option<(Range, &[u8])> {
    let lower_included = *text.first()? == b'[';
    if !lower_included && text[0] != b'(' {
        return None;
    }
    let (lower, end) = bound(text, 1)?;
    if text[end] != b',' {
        return None;
    }
    let (upper, end) = bound(text, end + 1)?;
    let upper_included = text[end] == b']';
    if !upper_included && text[end] != b')' {
        return None;
    }
    Some((Range { lower_included, lower, upper, upper_included }, &text[end + 1..]))
}

/// The bound that begins at `at`, and where the delimiter after it stands.
fn bound(text: &[u8], mut at: usize) -> Option<(Bound, usize)> {
    let begin = at;
    let (mut value, mut in_quotes) = (vec![], false);
    loop {
        let byte = *text.get(at)?;
        if !in_quotes && b",)]".contains(&byte) {
            // Nothing at all is no bound; quotes with nothing inside are an empty text.
            return Some(((at > begin).then_some(value), at));
        }
        if byte == b'\\' {
            value.push(*text.get(at + 1)?);
            at += 1;
        } else if byte == b'"' && in_quotes && text.get(at + 1) == Some(&b'"') {
            value.push(b'"');
            at += 1;
        } else if byte == b'"' {
            in_quotes = !in_quotes;
        } else {
            value.push(byte);
        }
        at += 1;
    }
}

fn read_many(text: &[u8]) -> Option<Vec<Range>> {
    let mut rest = text.strip_prefix(b"{")?;
    let mut ranges = vec![];
    if rest == b"}" {
        return Some(ranges);
    }
    loop {
        let (range, after) = read(rest)?;
        ranges.push(range);
        match after.split_first()? {
            (b'}', b"") => return Some(ranges),
            (b',', after) => rest = after,
            _ => return None,
        }
    }
}

fn generate(input: &mut Input<'_>) -> Range {
    let kind = input.byte();
    Range {
        lower_included: kind & 1 == 1,
        lower: input.cell(),
        upper: input.cell(),
        upper_included: kind & 2 == 2,
    }
}

/// What `range_out` does.
fn print(range: &Range) -> Vec<u8> {
    let bound = |value: &Bound| {
        let Some(value) = value else { return vec![] };
        let needs_quotes =
            value.is_empty() || value.iter().any(|b| b.is_ascii_whitespace() || b"\"\\()[],".contains(b));
        if !needs_quotes {
            return value.clone();
        }
        let doubled = value.iter().flat_map(|b| match b {
            b'"' | b'\\' => vec![*b, *b],
            b => vec![*b],
        });
        [b"\"".to_vec(), doubled.collect(), b"\"".to_vec()].concat()
    };
    let open: &[u8] = if range.lower_included { b"[" } else { b"(" };
    let close: &[u8] = if range.upper_included { b"]" } else { b")" };
    [open, &bound(&range.lower), b",", &bound(&range.upper), close].concat()
}

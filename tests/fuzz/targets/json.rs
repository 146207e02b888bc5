//! json and jsonb keep their meaning, and go where an index can take them.

use super::{
    document::{Field, built_in, field, is_json, text_of},
    input::Input,
};
use serde_json::Value;

/// OpenSearch's parser ends at 1,000; a flat_object is not used deeper than this.
const DEEPEST: usize = 900;
const DEEPEST_FLAT: usize = 100;
/// Shorter values have no leaf that is too long for a flat_object.
const SHORT: usize = 31_000;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let oid = [114, 3802][input.below(2)];
    if input.byte() & 1 == 0 {
        check(oid, input.0);
    } else {
        let mut text = vec![];
        generate(&mut input, 8, &mut text);
        assert!(is_json(&text), "{}", text_of(&text));
        check(oid, &text);
    }
}

fn check(oid: u32, text: &[u8]) {
    let field = field(&built_in(oid), text);
    if !is_json(text) {
        return;
    }
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    let (json, is_flat) = match field {
        Field::Refused => return assert!(depth(text) >= DEEPEST, "{}", text_of(text)),
        Field::LeftOut => panic!("{} is left out", text_of(text)),
        Field::Sibling(json) => (json, false),
        Field::Value(json) => (json, true),
    };
    assert!(is_json(&json), "{} becomes {}", text_of(text), text_of(&json));
    // Not that of the text: a member whose key comes again is not there.
    let depth = depth(&json);
    assert!(
        depth <= DEEPEST && is_flat == (depth <= DEEPEST_FLAT) || text.len() > SHORT,
        "{}",
        text_of(text)
    );
    assert!(json.starts_with(b"{") && json.len() <= text.len() + b"{\"value\":}".len());
    // serde_json reads no half surrogate pairs and no numbers beyond a double, and nests 128 deep; of duplicate keys it
    // takes the last.
    let read = |json| serde_json::from_slice::<Value>(json);
    if let (Ok(value), Ok(found)) = (read(text), read(&json))
        && !has_long_number(text)
    {
        let expected = if is_object { value } else { serde_json::json!({"value": value}) };
        assert_eq!(found, expected, "{}", text_of(text));
    }
}

/// Deepest nesting of valid JSON.
fn depth(text: &[u8]) -> usize {
    let (mut open, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !in_string => open -= 1,
            _ => {}
        }
    }
    deepest
}

/// Numbers over 1,000 characters are refused by every field of OpenSearch, so they may become strings.
fn has_long_number(text: &[u8]) -> bool {
    text.split(|b| !b"0123456789+-.eE".contains(b)).any(|run| run.len() > 1000)
}

/// Appends any JSON value with blanks between its tokens.
fn generate(input: &mut Input<'_>, depth: usize, out: &mut Vec<u8>) {
    blank(input, out);
    match input.byte() % 12 {
        0 => out.extend(b"null"),
        1 => out.extend(b"true"),
        2 => {
            // Nested as deep as the limits of the program, and a bit deeper.
            let levels = [1, 99, 100, 101, 126, 600, 898, 899, 900, 901, 1200][input.below(11)];
            out.extend(b"[".repeat(levels));
            string(input, out);
            out.extend(b"]".repeat(levels));
        }
        3 => out.extend(input.number().to_string().as_bytes()),
        4 => out.extend(format!("-0.{}e-{}", input.number(), input.byte()).as_bytes()),
        5..=8 if depth > 0 && !input.is_over() => {
            out.push(b'{');
            for i in 0..input.below(4) {
                if i > 0 {
                    out.push(b',');
                }
                blank(input, out);
                string(input, out);
                blank(input, out);
                out.push(b':');
                generate(input, depth - 1, out);
            }
            out.push(b'}');
        }
        9..=10 if depth > 0 && !input.is_over() => {
            out.push(b'[');
            for i in 0..input.below(4) {
                if i > 0 {
                    out.push(b',');
                }
                generate(input, depth - 1, out);
            }
            out.push(b']');
        }
        _ => string(input, out),
    }
    blank(input, out);
}

fn blank(input: &mut Input<'_>, out: &mut Vec<u8>) {
    let blanks: [&[u8]; 8] = [b"", b"", b"", b"", b" ", b"\n", b"\r\n", b"\t "];
    out.extend(blanks[input.below(8)]);
}

fn string(input: &mut Input<'_>, out: &mut Vec<u8>) {
    const ESCAPES: [&str; 8] =
        [r#"\""#, r"\\", r"\/", r"\n", r"\u0000", r"\ud83d\ude00", r"\ud800", r"\u00e9"];
    out.push(b'"');
    for byte in input.text() {
        match byte {
            0..8 => out.extend(ESCAPES[usize::from(byte)].as_bytes()),
            b'"' | b'\\' | ..b' ' | 127.. => out.extend("é".as_bytes()),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

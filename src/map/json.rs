//! json and jsonb values: copied without decoding their strings, measured on the way.

use super::document::LONGEST_NUMBER;

/// What was seen of a value while it was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Deepest nesting; 0 for a scalar.
    pub(super) depth: usize,
    /// Bytes of the longest key, string or other scalar.
    longest: usize,
    /// Not more leaves than these.
    leaves: usize,
}

/// A flat_object 600 to 700 deep ends a node with a StackOverflowError; far below it the path terms get useless.
const FLAT_DEPTH: usize = 100;
/// A flat_object leaf is indexed as one term of path and value, and terms end at 32,766 bytes.
const FLAT_LEAF: usize = 32_000;
/// Every leaf repeats its path: 60 KB of json with a long key above many leaves (80 MB of terms) end a node of 512 MB.
const FLAT_TOTAL: usize = 8 << 20;
/// Deeper values are refused: the JSON parser of OpenSearch ends at 1,000.
pub(super) const MAX_DEPTH: usize = 900;

impl Shape {
    /// May `value`, without blanks, be indexed as flat_object under `name`?
    pub(super) fn is_flat(self, name: &str, value: &[u8]) -> bool {
        if self.depth > FLAT_DEPTH {
            return false;
        }
        let most = name.len() + (self.depth + 1) * (self.longest + 1);
        if most <= FLAT_LEAF && most * self.leaves <= FLAT_TOTAL {
            return true;
        }
        let (longest, total) = flattened(name, value);
        longest <= FLAT_LEAF && total <= FLAT_TOTAL
    }
}

/// Appends `text` without the blanks between its tokens; a root that is no object is wrapped as `{"value": …}`, a number
/// that no field takes becomes a string.
pub(super) fn write_object(text: &[u8], out: &mut Vec<u8>) -> Shape {
    let is_object = text.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if !is_object {
        out.extend_from_slice(b"{\"value\":");
    }
    let has_line_break = memchr::memchr(b'\n', text).is_some();
    // Tokens without a blank between them are copied at once.
    let mut run = 0..0;
    let mut shape = scan(text, |at, token| {
        let is_string = token[0] == b'"';
        let is_copied = if is_string { !has_line_break } else { token.len() <= LONGEST_NUMBER };
        if at == run.end && is_copied {
            run.end += token.len();
            return;
        }
        out.extend_from_slice(&text[run.clone()]);
        run = at + token.len()..at + token.len();
        if is_copied {
            run.start = at;
        } else if is_string {
            escape_line_breaks(token, out);
        } else {
            out.push(b'"');
            out.extend_from_slice(token);
            out.push(b'"');
        }
    });
    out.extend_from_slice(&text[run]);
    if !is_object {
        out.push(b'}');
        shape.depth += 1;
        shape.longest = shape.longest.max(b"value".len());
    }
    shape
}

/// Appends a string. JSON has no line break in one, but not every json was checked by the server (a cast WITHOUT FUNCTION
/// makes it of any text), and it would end the line of the bulk request.
fn escape_line_breaks(string: &[u8], out: &mut Vec<u8>) {
    let mut rest = string;
    while let Some(at) = memchr::memchr(b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\\n");
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// The shape of JSON that was already written.
pub(super) fn measure(value: &[u8]) -> Shape {
    scan(value, |_, _| ())
}

/// Calls `each` with the place of every token and the token: a bracket, comma or colon, a string with its quotes, or
/// another scalar; never empty.
pub(super) fn scan<'a>(text: &'a [u8], mut each: impl FnMut(usize, &'a [u8])) -> Shape {
    let (mut shape, mut depth) = (Shape { leaves: 1, ..Shape::default() }, 0_usize);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let length = match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {
                at += 1;
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                shape.depth = shape.depth.max(depth);
                1
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                1
            }
            b',' => {
                shape.leaves += 1;
                1
            }
            b':' => 1,
            scalar => {
                let after = &text[at + 1..];
                let length = if scalar == b'"' { string_end(after) } else { scalar_end(after) } + 1;
                shape.longest = shape.longest.max(length);
                length
            }
        };
        each(at, &text[at..at + length]);
        at += length;
    }
    shape
}

/// Length of what belongs to a string behind its opening quote, the closing one included.
fn string_end(inside: &[u8]) -> usize {
    // Most keys and many values are too short for a search by blocks.
    let short = &inside[..inside.len().min(16)];
    let mut at = match short.iter().position(|b| matches!(b, b'"' | b'\\')) {
        Some(end) if short[end] == b'"' => return end + 1,
        Some(backslash) => backslash,
        None => short.len(),
    };
    while let Some(found) = memchr::memchr2(b'"', b'\\', &inside[at..]) {
        if inside[at + found] == b'"' {
            return at + found + 1;
        }
        at = (at + found + 2).min(inside.len());
    }
    inside.len()
}

/// Length of what belongs to a number or word behind its first byte.
fn scalar_end(inside: &[u8]) -> usize {
    let ends =
        |b: &u8| matches!(b, b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"') || b.is_ascii_whitespace();
    inside.iter().position(ends).unwrap_or(inside.len())
}

/// Bytes of the longest term that the leaves of `value` become under `name`, and of all of them: each has its whole path,
/// counted as it stands in the text.
fn flattened(name: &str, value: &[u8]) -> (usize, usize) {
    // Path length of each open object or array; arrays add nothing to a path.
    let mut stack = vec![];
    let (mut path, mut scalar) = (name.len(), None);
    let (mut longest, mut total) = (0_usize, 0_usize);
    scan(value, |_, token| match token[0] {
        b'{' | b'[' => stack.push(path),
        b':' => {
            path = stack.last().copied().unwrap_or_default() + scalar.take().unwrap_or_default() + 1;
            longest = longest.max(path);
        }
        b',' | b'}' | b']' => {
            if let Some(scalar) = scalar.take() {
                longest = longest.max(path + scalar);
                total += path + scalar;
            }
            if token[0] != b',' {
                path = stack.pop().unwrap_or_default();
            }
        }
        _ => scalar = Some(token.len()),
    });
    (longest, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn written(text: &str) -> (String, Shape) {
        let mut out = vec![];
        let shape = write_object(text.as_bytes(), &mut out);
        (String::from_utf8(out).unwrap(), shape)
    }

    #[test]
    fn an_object_is_compacted_and_anything_else_is_wrapped() {
        assert_eq!(written(r#"{"a": 1, "b": [1, {"c": " x \" "}]}"#).0, r#"{"a":1,"b":[1,{"c":" x \" "}]}"#);
        assert_eq!(written(" [1, 2]").0, r#"{"value":[1,2]}"#);
        assert_eq!(written("null").0, r#"{"value":null}"#);
        assert_eq!(written("\"a\\\\\"").0, r#"{"value":"a\\"}"#);
        assert_eq!(written("{\n \"a\" :\t1 }").0, r#"{"a":1}"#);
        assert_eq!(written("{\"a\":\"b\nc\n\"}").0, r#"{"a":"b\nc\n"}"#);
    }

    #[test]
    fn depth_counts_objects_and_arrays_and_the_wrapping() {
        assert_eq!(written("{}").1.depth, 1);
        assert_eq!(written(r#"{"a": [{}, "[[["]}"#).1.depth, 3);
        assert_eq!(written("[[1]]").1.depth, 3);
    }

    #[test]
    fn what_a_flat_object_cannot_take_is_told() {
        let flat = |text: &str| {
            let (json, shape) = written(text);
            shape.is_flat("payload", json.as_bytes())
        };
        assert!(flat(&format!("{}1{}", "[".repeat(99), "]".repeat(99))));
        assert!(!flat(&format!("{}1{}", "[".repeat(100), "]".repeat(100))));
        let long = "x".repeat(31_900);
        assert!(flat(&format!(r#"{{"a": "{long}", "b": "{long}"}}"#)));
        assert!(!flat(&format!(r#"{{"a": {{"{}": "{long}"}}}}"#, "k".repeat(200))));
        assert!(!flat(&format!(r#"{{"{}": {{}}}}"#, "k".repeat(32_100))));
        let numbers = |count| vec!["1"; count].join(",");
        assert!(flat(&format!(r#"{{"{}": [{}]}}"#, "k".repeat(10_000), numbers(800))));
        assert!(!flat(&format!(r#"{{"{}": [{}]}}"#, "k".repeat(10_000), numbers(900))), "8 MiB of paths");
        assert!(flat(&format!(r#"{{"a": [{}]}}"#, numbers(500_000))));
    }

    #[test]
    fn a_number_that_no_field_takes_is_a_string() {
        let long = "1".repeat(1001);
        assert_eq!(written(&format!("[{long} , 1e5]")).0, format!(r#"{{"value":["{long}",1e5]}}"#));
        assert_eq!(written(&format!("{{\"a\":{}}}", &long[1..])).0, format!("{{\"a\":{}}}", &long[1..]));
    }

    proptest! {
        #[test]
        fn a_value_survives(value in "[ -~é]{0,12}".prop_map(Value::from).prop_recursive(4, 24, 4, |inner| prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c\"\\\\ ]{0,3}", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ])) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let expected = if value.is_object() { value } else { serde_json::json!({"value": value}) };
            prop_assert_eq!(written(&pretty).0, expected.to_string());
        }

        #[test]
        fn text_that_is_no_json_never_panics(text in "[{}\\[\\]\",:\\\\a ]{0,20}") {
            let (json, shape) = written(&text);
            let _ = shape.is_flat("p", json.as_bytes());
            flattened("p", text.as_bytes());
        }
    }
}

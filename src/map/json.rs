//! json and jsonb values: copied without decoding their strings, measured on the way.

/// What was seen of a value while it was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Deepest nesting; 0 for a scalar.
    pub(super) depth: usize,
}

/// A flat_object 600 to 700 deep ends a node with a StackOverflowError; far below it the path terms get useless.
const FLAT_DEPTH: usize = 100;
/// A flat_object leaf is indexed as one term of path and value, and terms end at 32,766 bytes.
const FLAT_LEAF: usize = 32_000;
/// Deeper values are refused: the JSON parser of OpenSearch ends at 1,000.
pub(super) const MAX_DEPTH: usize = 900;

impl Shape {
    /// May the value, `length` bytes long, be indexed as flat_object under `name`?
    pub(super) fn is_flat(self, name: &str, value: &[u8]) -> bool {
        self.depth <= FLAT_DEPTH
            && (name.len() + value.len() <= FLAT_LEAF || longest_leaf(value) + name.len() <= FLAT_LEAF)
    }
}

/// Appends `text` without the blanks between its tokens; a root that is no object is wrapped as `{"value": …}`.
pub(super) fn write_object(text: &[u8], out: &mut Vec<u8>) -> Shape {
    let is_object = text.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if !is_object {
        out.extend_from_slice(b"{\"value\":");
    }
    let mut shape = compact(text, out);
    if !is_object {
        out.push(b'}');
        shape.depth += 1;
    }
    shape
}

fn compact(text: &[u8], out: &mut Vec<u8>) -> Shape {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'"' => {
                let end = string_end(after);
                out.extend_from_slice(&rest[..=end]);
                rest = &rest[end + 1..];
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
                out.push(byte);
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                out.push(byte);
            }
            b' ' | b'\n' | b'\r' | b'\t' => {}
            _ => out.push(byte),
        }
        rest = after;
    }
    Shape { depth: deepest }
}

/// Index of the closing quote, counted from the opening one (so that `&rest[..=end]` is the whole string).
fn string_end(inside: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &inside[at..]) {
        if inside[at + found] == b'"' {
            return at + found + 1;
        }
        at = (at + found + 2).min(inside.len());
    }
    inside.len()
}

/// Bytes of the longest path and value together, the key strings and separators counted as they stand in the text.
fn longest_leaf(value: &[u8]) -> usize {
    // Path length at each open level; arrays add nothing to the path.
    let mut stack: Vec<usize> = vec![];
    let (mut path, mut longest, mut scalar) = (0usize, 0usize, 0usize);
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        let mut next = after;
        match byte {
            b'"' => {
                let end = string_end(after);
                next = &rest[end + 1..];
                let is_key = next.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':');
                if is_key {
                    path = stack.last().copied().unwrap_or(0) + end;
                } else {
                    longest = longest.max(path + end);
                }
            }
            b'{' | b'[' => stack.push(path),
            b'}' | b']' => {
                longest = longest.max(path + scalar);
                scalar = 0;
                path = stack.pop().unwrap_or(0);
            }
            b',' => {
                longest = longest.max(path + scalar);
                scalar = 0;
            }
            b':' => scalar = 0,
            _ => scalar += 1,
        }
        rest = next;
    }
    longest.max(path + scalar)
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
    }

    #[test]
    fn depth_counts_objects_and_arrays_and_the_wrapping() {
        assert_eq!(written("{}").1.depth, 1);
        assert_eq!(written(r#"{"a": [{}, "[[["]}"#).1.depth, 3);
        assert_eq!(written("[[1]]").1.depth, 3);
    }

    #[test]
    fn what_a_flat_object_cannot_take_is_told() {
        let flat = |text: &str| written(text).1.is_flat("payload", text.as_bytes());
        assert!(flat(&format!("{}1{}", "[".repeat(99), "]".repeat(99))));
        assert!(!flat(&format!("{}1{}", "[".repeat(100), "]".repeat(100))));
        let long = "x".repeat(31_900);
        assert!(flat(&format!(r#"{{"a": "{long}", "b": "{long}"}}"#)));
        assert!(!flat(&format!(r#"{{"a": {{"{}": "{long}"}}}}"#, "k".repeat(200))));
        assert!(!flat(&format!(r#"{{"a": {}}}"#, "1".repeat(32_100))));
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
            let (_, shape) = written(&text);
            let _ = shape.is_flat("p", text.as_bytes());
            longest_leaf(text.as_bytes());
        }
    }
}

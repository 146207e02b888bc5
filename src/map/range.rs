//! Ranges and multiranges (PostgreSQL docs: "Range Types", Range Input/Output) as objects of their bounds.

use super::{
    document::{close_object, write_member},
    quoted,
    text::write_string,
    types::Encoding,
};

/// Appends the JSON of a range such as `[1,10)`, `(,"2024-01-31 12:00:00"]`; false, with nothing appended, where it is
/// empty. Text that is no range stays a string.
pub(super) fn write_range(text: &[u8], bound: &Encoding, out: &mut Vec<u8>, omitted: &mut u32) -> bool {
    if text == b"empty" {
        return false;
    }
    let (start, before) = (out.len(), *omitted);
    if one_range(text, bound, out, omitted).is_none_or(|rest| !rest.is_empty()) {
        out.truncate(start);
        *omitted = before;
        write_string(text, out);
    }
    true
}

/// Appends the JSON array of a multirange such as `{[1,3),[5,7)}`.
pub(super) fn write_multirange(text: &[u8], bound: &Encoding, out: &mut Vec<u8>, omitted: &mut u32) {
    let (start, before) = (out.len(), *omitted);
    if ranges(text, bound, out, omitted).is_none() {
        out.truncate(start);
        *omitted = before;
        write_string(text, out);
    }
}

fn ranges(text: &[u8], bound: &Encoding, out: &mut Vec<u8>, omitted: &mut u32) -> Option<()> {
    let mut rest = text.strip_prefix(b"{")?.strip_suffix(b"}")?;
    out.push(b'[');
    while !rest.is_empty() {
        rest = one_range(rest, bound, out, omitted)?;
        if !rest.is_empty() {
            rest = rest.strip_prefix(b",").filter(|after| !after.is_empty())?;
            out.push(b',');
        }
    }
    out.push(b']');
    Some(())
}

/// Appends one range and returns what follows it. A bound without text is infinite and has no member.
fn one_range<'a>(text: &'a [u8], bound: &Encoding, out: &mut Vec<u8>, omitted: &mut u32) -> Option<&'a [u8]> {
    let (&open, rest) = text.split_first()?;
    let lower_key: &[u8] = match open {
        b'[' => b",\"gte\":",
        b'(' => b",\"gt\":",
        _ => return None,
    };
    let (lower, rest) = quoted::read(rest, quoted::IN_RANGE)?;
    let (upper, rest) = quoted::read(rest.strip_prefix(b",")?, quoted::IN_RANGE)?;
    let (&close, rest) = rest.split_first()?;
    let upper_key: &[u8] = match close {
        b']' => b",\"lte\":",
        b')' => b",\"lt\":",
        _ => return None,
    };
    let start = out.len();
    for (key, value) in [(lower_key, lower), (upper_key, upper)] {
        if let Some(value) = value {
            write_member(key, bound, &value, out, omitted);
        }
    }
    close_object(start, out);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(text: &str, element: &Encoding) -> Option<String> {
        let mut out = vec![];
        let written = write_range(text.as_bytes(), element, &mut out, &mut 0);
        assert_eq!(written, !out.is_empty());
        written.then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_range_is_an_object_of_its_bounds() {
        use Encoding::{Date, Integer, Numeric, Text, TimestampUtc};
        for (text, element, expected) in [
            ("[1,10)", Integer, r#"{"gte":1,"lt":10}"#),
            ("(,5]", Integer, r#"{"lte":5}"#),
            ("[5,)", Integer, r#"{"gte":5}"#),
            ("(,)", Integer, "{}"),
            ("(1.5,NaN]", Numeric, r#"{"gt":1.5}"#),
            ("[2024-01-01,infinity)", Date, r#"{"gte":"2024-01-01","lt":"9999-12-31"}"#),
            (
                "[\"2024-01-01 00:00:00+00\",\"2024-02-01 00:00:00+00\")",
                TimestampUtc,
                r#"{"gte":"2024-01-01T00:00:00Z","lt":"2024-02-01T00:00:00Z"}"#,
            ),
            (r#"["a""b\\","z,")"#, Text, r#"{"gte":"a\"b\\","lt":"z,"}"#),
            (r#"["",b)"#, Text, r#"{"gte":"","lt":"b"}"#),
        ] {
            assert_eq!(json(text, &element).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(json("empty", &Integer), None);
    }

    #[test]
    fn text_that_is_no_range_stays_text() {
        for text in ["", "[", "[1", "[1,2", "[1,2)x", "1,2", "[1;2)", "[\"1,2)"] {
            assert_eq!(json(text, &Encoding::Integer), Some(serde_json::to_string(text).unwrap()), "{text}");
        }
    }

    #[test]
    fn a_multirange_is_an_array_of_ranges() {
        for (text, expected) in [
            ("{}", "[]"),
            ("{[1,3),[5,7)}", r#"[{"gte":1,"lt":3},{"gte":5,"lt":7}]"#),
            ("{[1,3)", "\"{[1,3)\""),
            ("{[1,3),}", "\"{[1,3),}\""),
        ] {
            let mut out = vec![];
            write_multirange(text.as_bytes(), &Encoding::Integer, &mut out, &mut 0);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_valid_json(text in "[\\[\\](){},\"\\\\a1 ]{0,16}") {
            let mut out = vec![];
            if write_range(text.as_bytes(), &Encoding::Text, &mut out, &mut 0) {
                serde_json::from_slice::<serde_json::Value>(&out).unwrap();
            }
            out.clear();
            write_multirange(text.as_bytes(), &Encoding::Text, &mut out, &mut 0);
            serde_json::from_slice::<serde_json::Value>(&out).unwrap();
        }
    }
}

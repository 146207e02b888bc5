//! PostgreSQL's array text (docs: "Arrays", Array Input and Output Syntax) as JSON arrays.

use super::{
    document::{write_number, write_value},
    text::write_string,
    types::Encoding,
};

/// PostgreSQL's MAXDIM.
const MAX_DIMENSIONS: usize = 6;

/// Appends the JSON of an array such as `{1,NULL,{2}}` or `[2:3]={"a","b,\"c"}`.
///
/// Nested braces are nested arrays; a custom lower bound is not kept. Text that is no array stays a string.
pub(super) fn write_array(
    text: &[u8],
    element: &Encoding,
    delimiter: u8,
    out: &mut Vec<u8>,
    omitted: &mut u32,
) {
    let (start, before) = (out.len(), *omitted);
    if try_write(text, element, delimiter, out, omitted).is_none() {
        out.truncate(start);
        *omitted = before;
        write_string(text, out);
    }
}

/// What may come next inside an array.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Item,
    ItemOrEnd,
    DelimiterOrEnd,
}

fn try_write(
    text: &[u8],
    element: &Encoding,
    delimiter: u8,
    out: &mut Vec<u8>,
    omitted: &mut u32,
) -> Option<()> {
    let mut rest = match text.first()? {
        b'[' => &text[memchr::memchr(b'=', text)? + 1..],
        _ => text,
    };
    let (mut depth, mut next) = (0, Next::Item);
    let mut unescaped = Vec::new();
    loop {
        let (&byte, after) = rest.split_first()?;
        let current = std::mem::replace(&mut rest, after);
        match byte {
            b'}' if next != Next::Item => {
                depth -= 1;
                out.push(b']');
                if depth == 0 {
                    return rest.is_empty().then_some(());
                }
                next = Next::DelimiterOrEnd;
            }
            _ if next == Next::DelimiterOrEnd => {
                if byte != delimiter {
                    return None;
                }
                out.push(b',');
                next = Next::Item;
            }
            b'{' if depth < MAX_DIMENSIONS => {
                depth += 1;
                out.push(b'[');
                next = Next::ItemOrEnd;
            }
            _ if depth == 0 => return None,
            b'"' => {
                let (item, tail) = unquote(after, &mut unescaped)?;
                rest = tail;
                write_element(item, element, out, omitted);
                next = Next::DelimiterOrEnd;
            }
            _ => {
                let is_end = |b: &u8| *b == delimiter || matches!(b, b'{' | b'}' | b'"' | b'\\');
                let length = current.iter().position(is_end).filter(|length| *length > 0)?;
                let (item, tail) = current.split_at(length);
                rest = tail;
                if item == b"NULL" {
                    out.extend_from_slice(b"null");
                } else {
                    write_element(item, element, out, omitted);
                }
                next = Next::DelimiterOrEnd;
            }
        }
    }
}

/// An element that has no JSON (NaN) keeps its place as null.
fn write_element(text: &[u8], element: &Encoding, out: &mut Vec<u8>, omitted: &mut u32) {
    if !write_value(element, text, out, omitted) {
        out.extend_from_slice(b"null");
        *omitted += 1;
    }
}

/// Appends the pgvector text `[1,-2.5,1e-05]`, which is JSON as it is.
pub(super) fn write_vector(text: &[u8], out: &mut Vec<u8>) {
    let Some(inside) = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")) else {
        return write_string(text, out);
    };
    for (i, number) in inside.split(|b| *b == b',').enumerate() {
        out.push(if i == 0 { b'[' } else { b',' });
        write_number(number, out);
    }
    out.push(b']');
}

/// What stands before the closing quote, its backslashes undone in `scratch`, and what follows the quote.
pub(super) fn unquote<'v, 't: 'v>(text: &'t [u8], scratch: &'v mut Vec<u8>) -> Option<(&'v [u8], &'t [u8])> {
    let mut at = memchr::memchr2(b'"', b'\\', text)?;
    if text[at] == b'"' {
        return Some((&text[..at], &text[at + 1..]));
    }
    scratch.clear();
    let mut rest = text;
    while rest[at] != b'"' {
        scratch.extend_from_slice(&rest[..at]);
        scratch.push(*rest.get(at + 1)?);
        rest = &rest[at + 2..];
        at = memchr::memchr2(b'"', b'\\', rest)?;
    }
    scratch.extend_from_slice(&rest[..at]);
    Some((scratch, &rest[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str, element: Encoding) -> String {
        let delimiter = if text.contains(';') { b';' } else { b',' };
        let (mut out, mut omitted) = (vec![], 0);
        write_array(text.as_bytes(), &element, delimiter, &mut out, &mut omitted);
        assert_eq!(omitted, u32::from(text.contains("NaN")));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn arrays_become_json_arrays() {
        for (text, element, expected) in [
            ("{}", Encoding::Integer, "[]"),
            ("{1,NULL,3}", Encoding::Integer, "[1,null,3]"),
            ("{{1,2},{3,4}}", Encoding::Integer, "[[1,2],[3,4]]"),
            ("[2:3]={7,8}", Encoding::Integer, "[7,8]"),
            (r#"{a,"b,\"c\\","",NULL,"NULL"}"#, Encoding::Text, r#"["a","b,\"c\\","",null,"NULL"]"#),
            ("{t,f}", Encoding::Boolean, "[true,false]"),
            ("{NaN,1.5}", Encoding::Float, "[null,1.5]"),
            (r#"{"2024-01-31 12:34:56+00"}"#, Encoding::TimestampUtc, r#"["2024-01-31T12:34:56Z"]"#),
            (r#"{"{\"a\": [1, 2]}",3}"#, Encoding::Json, r#"[{"a":[1,2]},{"value":3}]"#),
            ("{é}", Encoding::Text, "[\"é\"]"),
            ("{(1,1),(0,0);(2,2),(1,1)}", Encoding::Text, r#"["(1,1),(0,0)","(2,2),(1,1)"]"#),
        ] {
            assert_eq!(json(text, element), expected, "{text}");
        }
    }

    #[test]
    fn a_vector_is_an_array_of_numbers() {
        for (text, expected) in
            [("[1,-2.5,1e-05]", "[1,-2.5,1e-05]"), ("[1,x]", r#"[1,"x"]"#), ("1,2", r#""1,2""#)]
        {
            let mut out = vec![];
            write_vector(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn text_that_is_no_array_stays_text() {
        for text in [
            "",
            "x",
            "{",
            "{1",
            "{1}}",
            "{\"a}",
            "}",
            "[1:2]",
            "{1}x",
            "1,2",
            "{,}",
            "{1,}",
            "{{1}{2}}",
            "{\"a\"\"b\"}",
            "{1\"2\"}",
            "{{{{{{{1}}}}}}}",
        ] {
            let expected = serde_json::to_string(text).unwrap();
            assert_eq!(json(text, Encoding::Integer), expected, "{text}");
        }
    }
}

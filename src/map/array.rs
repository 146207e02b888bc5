//! PostgreSQL's array text (docs: "Arrays", Array Input and Output Syntax) as JSON arrays.

use super::document::write_value;
use super::types::Encoding;

/// Appends the JSON of an array such as `{1,NULL,{2}}` or `[2:3]={"a","b,\"c"}`.
///
/// Nested braces are nested arrays; a custom lower bound is not kept. Text that is no array stays a string.
pub(super) fn write_array(text: &[u8], element: &Encoding, out: &mut Vec<u8>) {
    let start = out.len();
    if try_write(text, element, out).is_none() {
        out.truncate(start);
        super::text::write_string(text, out);
    }
}

fn try_write(text: &[u8], element: &Encoding, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = match text.first()? {
        b'[' => &text[memchr::memchr(b'=', text)? + 1..],
        _ => text,
    };
    let mut depth = 0usize;
    let mut unescaped = Vec::new();
    loop {
        let (&byte, after) = rest.split_first()?;
        let current = std::mem::replace(&mut rest, after);
        match byte {
            b'{' => {
                depth += 1;
                out.push(b'[');
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                out.push(b']');
                if depth == 0 {
                    return rest.is_empty().then_some(());
                }
            }
            b',' if depth > 0 => out.push(b','),
            b'"' if depth > 0 => {
                unescaped.clear();
                rest = quoted(rest, &mut unescaped)?;
                write_element(&unescaped, element, out);
            }
            _ if depth > 0 => {
                let length = current.iter().position(|b| matches!(b, b',' | b'}'))?;
                let (item, tail) = current.split_at(length);
                rest = tail;
                if item == b"NULL" {
                    out.extend_from_slice(b"null");
                } else {
                    write_element(item, element, out);
                }
            }
            _ => return None,
        }
    }
}

/// An element that has no JSON (NaN) keeps its place as null.
fn write_element(text: &[u8], element: &Encoding, out: &mut Vec<u8>) {
    if !write_value(element, text, out) {
        out.extend_from_slice(b"null");
    }
}

/// Unescapes up to the closing quote and returns what follows it.
fn quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        out.extend_from_slice(&rest[..at]);
        if rest[at] == b'"' {
            return Some(&rest[at + 1..]);
        }
        out.push(*rest.get(at + 1)?);
        rest = &rest[at + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str, element: Encoding) -> String {
        let mut out = vec![];
        write_array(text.as_bytes(), &element, &mut out);
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
        ] {
            assert_eq!(json(text, element), expected, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_array_stays_text() {
        for text in ["", "x", "{", "{1", "{1}}", "{\"a}", "}", "[1:2]", "{1}x", "1,2"] {
            let expected = serde_json::to_string(text).unwrap();
            assert_eq!(json(text, Encoding::Integer), expected, "{text}");
        }
    }
}

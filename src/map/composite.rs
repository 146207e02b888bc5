//! Composite values (PostgreSQL docs: "Composite Types") and hstore (docs: "hstore") as JSON objects.

use super::{
    array,
    document::{close_object, write_member},
    quoted,
    text::write_string,
    types::Encoding,
};

/// Appends the JSON of a composite value such as `(1,"a, ""b""",)`: a member per attribute, NULL left out.
///
/// Text that has not the attributes, because the type was altered meanwhile, stays whole as `{"value": …}`.
pub(super) fn write_composite(
    text: &[u8],
    attributes: &[(Box<[u8]>, Encoding)],
    out: &mut Vec<u8>,
    omitted: &mut u32,
) {
    let (start, before) = (out.len(), *omitted);
    if try_composite(text, attributes, out, omitted).is_none() {
        *omitted = before;
        write_whole(text, start, out);
    }
}

fn try_composite(
    text: &[u8],
    attributes: &[(Box<[u8]>, Encoding)],
    out: &mut Vec<u8>,
    omitted: &mut u32,
) -> Option<()> {
    let mut rest = text.strip_prefix(b"(")?;
    let start = out.len();
    for (i, (key, encoding)) in attributes.iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix(b",")?;
        }
        let (value, after) = quoted::read(rest, quoted::IN_COMPOSITE)?;
        rest = after;
        if let Some(value) = value {
            write_member(key, encoding, &value, out, omitted);
        }
    }
    close_object(start, out);
    (rest == b")").then_some(())
}

/// Appends the JSON of hstore text such as `"a"=>"1", "b"=>NULL`.
pub(super) fn write_hstore(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if try_hstore(text, out).is_none() {
        write_whole(text, start, out);
    }
}

fn try_hstore(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let mut rest = text;
    let mut unescaped = vec![];
    while !rest.is_empty() {
        out.push(b',');
        rest = string(rest, &mut unescaped, out)?.strip_prefix(b"=>")?;
        out.push(b':');
        rest = match rest.strip_prefix(b"NULL") {
            Some(after) => {
                out.extend_from_slice(b"null");
                after
            }
            None => string(rest, &mut unescaped, out)?,
        };
        if !rest.is_empty() {
            rest = rest.strip_prefix(b", ").filter(|rest| !rest.is_empty())?;
        }
    }
    close_object(start, out);
    Some(())
}

/// Appends a quoted string with backslashes in it, and returns what follows.
fn string<'a>(text: &'a [u8], unescaped: &mut Vec<u8>, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (inside, rest) = array::unquote(text.strip_prefix(b"\"")?, unescaped)?;
    write_string(inside, out);
    Some(rest)
}

fn write_whole(text: &[u8], start: usize, out: &mut Vec<u8>) {
    out.truncate(start);
    out.extend_from_slice(b"{\"value\":");
    write_string(text, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::types::member_key;
    use proptest::prelude::*;

    fn composite(text: &str) -> (String, u32) {
        let inner = vec![(member_key("x", ""), Encoding::Float), (member_key("y", ""), Encoding::Json)];
        let list = Encoding::Array { element: Box::new(Encoding::Composite(inner.clone())), delimiter: b',' };
        let attributes = [
            (member_key("n", ""), Encoding::Integer),
            (member_key("t\"", ""), Encoding::Text),
            (member_key("c", ""), Encoding::Composite(inner)),
            (member_key("l", ""), list),
        ];
        let (mut out, mut omitted) = (vec![], 0);
        write_composite(text.as_bytes(), &attributes, &mut out, &mut omitted);
        (String::from_utf8(out).unwrap(), omitted)
    }

    #[test]
    fn a_composite_is_an_object_without_its_nulls() {
        for (text, expected, omitted) in [
            ("(,,,)", "{}", 0),
            (r#"(1,"a ""b"", \\ (c)",,)"#, r#"{"n":1,"t\"":"a \"b\", \\ (c)"}"#, 0),
            (r#"(,"",,)"#, r#"{"t\"":""}"#, 0),
            (r#"(,,"(1.5,""{""""a"""": 1}"")",)"#, r#"{"c":{"x":1.5,"y":{"a":1}}}"#, 0),
            (r#"(2,,"(NaN,)",)"#, r#"{"n":2,"c":{}}"#, 1),
            (r#"(,,,"{""(1,)"",NULL,""(,2)""}")"#, r#"{"l":[{"x":1},null,{"y":{"value":2}}]}"#, 0),
        ] {
            assert_eq!(composite(text), (expected.to_owned(), omitted), "{text}");
        }
    }

    #[test]
    fn text_of_another_definition_stays_whole() {
        for text in ["", "(1,2)", "(1,a,,,)", "(1,a,,", "1,a,,", "(NaN,\"a)", "(,,\"(NaN,)\",,)"] {
            let expected = serde_json::json!({"value": text}).to_string();
            assert_eq!(composite(text), (expected, 0), "{text}");
        }
    }

    #[test]
    fn hstore_is_an_object_of_strings_and_nulls() {
        for (text, expected) in [
            ("", "{}"),
            (r#""a"=>"1", "b"=>NULL, "NULL"=>"NULL""#, r#"{"a":"1","b":null,"NULL":"NULL"}"#),
            (r#""\"k\\"=>"=>, é""#, r#"{"\"k\\":"=>, é"}"#),
            (r#"""=>"""#, r#"{"":""}"#),
            (r#""a"=>"1","#, r#"{"value":"\"a\"=>\"1\","}"#),
            (r#""a"=>"1", "#, r#"{"value":"\"a\"=>\"1\", "}"#),
            ("x", r#"{"value":"x"}"#),
        ] {
            let mut out = vec![];
            write_hstore(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_valid_object(text in "[(){}\",\\\\a1=> NUL]{0,24}") {
            let mut out = composite(&text).0.into_bytes();
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).unwrap().is_object());
            out.clear();
            write_hstore(text.as_bytes(), &mut out);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).unwrap().is_object());
        }
    }
}

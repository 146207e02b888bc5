//! Rows to documents: one JSON object per row, a field per column, NULL left out.

use super::{
    array, composite, duplicates, json, overrides, range,
    text::write_string,
    time::{self, Kind},
    types::{Encoding, member_key},
};
use crate::model::{Row, Value};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

/// JSON numbers of more characters are refused by every numeric field, and inside json too.
pub(super) const LONGEST_NUMBER: usize = 1000;

/// One field of a document: which column it comes from and how it is written.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// Index of the column in the row.
    pub column: usize,
    /// Name of the field.
    pub name: String,
    /// `,"name":`, rendered once.
    key: Box<[u8]>,
    /// `,"name__json":` for what a flat_object cannot take.
    json_key: Option<Box<[u8]>>,
    /// Can a value be of any depth?
    nested: bool,
    encoding: Encoding,
}

impl Field {
    /// The field called `name` from column number `column`, written as `encoding`.
    pub(super) fn new(column: usize, name: &str, encoding: Encoding) -> Self {
        Field {
            column,
            name: name.to_owned(),
            key: member_key(name, ""),
            json_key: encoding.is_object().then(|| member_key(name, "__json")),
            nested: encoding.is_nested(),
            encoding,
        }
    }
}

/// The row has no document that OpenSearch could take; it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A value is nested too deep for OpenSearch's parser.
    #[error("field {field} is nested {depth} deep; OpenSearch takes at most {}", json::MAX_DEPTH)]
    TooDeep {
        /// The field.
        field: String,
        /// Its depth.
        depth: usize,
    },
}

/// Appends the document of `row` and returns how many values were left out because JSON has no form for them.
///
/// # Errors
/// A [`Refusal`]; `out` then holds the part written so far.
pub(super) fn write_document(fields: &[Field], row: &Row<'_>, out: &mut Vec<u8>) -> Result<u32, Refusal> {
    let start = out.len();
    let mut omitted = 0;
    for field in fields {
        let Value::Text(text) = row.value(field.column) else { continue };
        if field.nested {
            write_nested(field, text, out, &mut omitted)?;
        } else {
            write_member(&field.key, &field.encoding, text, out, &mut omitted);
        }
    }
    close_object(start, out);
    Ok(omitted)
}

/// Every key begins with a comma; the first one becomes the opening brace of what begins at `start`.
pub(super) fn close_object(start: usize, out: &mut Vec<u8>) {
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

/// Appends a key, `,"name":`, and a value; neither, but counted, where JSON has no form for it.
pub(super) fn write_member(
    key: &[u8],
    encoding: &Encoding,
    text: &[u8],
    out: &mut Vec<u8>,
    omitted: &mut u32,
) {
    let before = out.len();
    out.extend_from_slice(key);
    if !write_value(encoding, text, out, omitted) {
        out.truncate(before);
        *omitted += 1;
    }
}

fn write_nested(field: &Field, text: &[u8], out: &mut Vec<u8>, omitted: &mut u32) -> Result<(), Refusal> {
    let before = out.len();
    out.extend_from_slice(&field.key);
    let start = out.len();
    let shape = match field.encoding {
        // Measured while it is copied.
        Encoding::Jsonb => json::write_object(text, out),
        _ if write_value(&field.encoding, text, out, omitted) => json::measure(&out[start..]),
        _ => {
            out.truncate(before);
            *omitted += 1;
            return Ok(());
        }
    };
    if shape.depth > json::MAX_DEPTH {
        return Err(Refusal::TooDeep { field: field.name.clone(), depth: shape.depth });
    }
    if let Some(json_key) = &field.json_key
        && !shape.is_flat(&field.name, &out[start..])
    {
        out.splice(before..start, json_key.iter().copied());
    }
    Ok(())
}

/// Appends the JSON of one value; false, with nothing appended, where JSON has no form for it.
pub(super) fn write_value(encoding: &Encoding, text: &[u8], out: &mut Vec<u8>, omitted: &mut u32) -> bool {
    match encoding {
        Encoding::Text => write_string(text, out),
        Encoding::Integer => write_number(text, out),
        Encoding::Float | Encoding::Numeric if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") => {
            return false;
        }
        Encoding::Numeric if text.len() > LONGEST_NUMBER => write_string(text, out),
        Encoding::Float | Encoding::Numeric => write_number(text, out),
        Encoding::Boolean => match text {
            b"t" => out.extend_from_slice(b"true"),
            b"f" => out.extend_from_slice(b"false"),
            _ => write_string(text, out),
        },
        Encoding::Date => time::write_time(Kind::Date, text, out),
        Encoding::Timestamp => time::write_time(Kind::Timestamp, text, out),
        Encoding::TimestampUtc => time::write_time(Kind::TimestampUtc, text, out),
        Encoding::Json => {
            let start = out.len();
            json::write_object(text, out);
            duplicates::remove(start, out);
        }
        Encoding::Jsonb => {
            json::write_object(text, out);
        }
        Encoding::Hstore => composite::write_hstore(text, out),
        Encoding::Composite(attributes) => composite::write_composite(text, attributes, out, omitted),
        Encoding::Vector => array::write_vector(text, out),
        Encoding::Bytes => write_bytes(text, out),
        Encoding::GeoPoint => overrides::write_geo_point(text, out),
        Encoding::Spark(value) => value.write(text, out),
        Encoding::Range(bound) => return range::write_range(text, bound, out, omitted),
        Encoding::Multirange(bound) => range::write_multirange(text, bound, out, omitted),
        Encoding::Array { element, delimiter } => {
            array::write_array(text, element, *delimiter, out, omitted);
        }
    }
    true
}

/// The bytes of a bytea's hexadecimal text (`bytea_output=hex`).
pub(super) fn bytes_of_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let hex = text.strip_prefix(b"\\x").filter(|hex| hex.len() % 2 == 0)?;
    hex.chunks_exact(2).map(|p| Some(digit(p[0])? << 4 | digit(p[1])?)).collect()
}

/// A bytea as base64.
pub(super) fn write_bytes(text: &[u8], out: &mut Vec<u8>) {
    match bytes_of_hex(text) {
        Some(bytes) => write_base64(&bytes, out),
        None => write_string(text, out),
    }
}

/// Bytes as a string of base64.
pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    write_string(BASE64.encode(bytes).as_bytes(), out);
}

/// PostgreSQL's number text is JSON as it is; anything else must not break the line and stays a string.
pub(super) fn write_number(text: &[u8], out: &mut Vec<u8>) {
    if is_number(text) {
        out.extend_from_slice(text);
    } else {
        write_string(text, out);
    }
}

/// A JSON number (RFC 8259, section 6) as PostgreSQL prints it, with a small `e`?
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(unsigned);
    if whole == 0 || whole > 1 && unsigned.starts_with(b"0") {
        return false;
    }
    let mut rest = &unsigned[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        rest = &fraction[length..];
        if length == 0 {
            return false;
        }
    }
    let Some(exponent) = rest.strip_prefix(b"e") else { return rest.is_empty() };
    let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
    !exponent.is_empty() && digits(exponent) == exponent.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        map::types,
        model::{Cell, ColumnType, Structure},
    };

    fn typed(columns: &[(&str, ColumnType, Option<&str>)]) -> Result<(String, u32), Refusal> {
        let (mut bytes, mut cells, mut fields) = (vec![], vec![], vec![]);
        for (i, (name, column_type, value)) in columns.iter().enumerate() {
            fields.push(Field::new(i, name, types::encoding(column_type)));
            cells.push(value.map_or(Cell::Null, |v| {
                let start = bytes.len() as u32;
                bytes.extend_from_slice(v.as_bytes());
                Cell::Text { start, end: bytes.len() as u32 }
            }));
        }
        let mut out = vec![];
        let omitted = write_document(&fields, &Row { bytes: &bytes, cells: &cells }, &mut out)?;
        Ok((String::from_utf8(out).unwrap(), omitted))
    }

    fn document(columns: &[(&str, u32, Option<&str>)]) -> Result<(String, u32), Refusal> {
        let resolve = |oid| types::resolve(oid, -1, &Default::default());
        let columns: Vec<_> =
            columns.iter().map(|(name, oid, value)| (*name, resolve(*oid), *value)).collect();
        typed(&columns)
    }

    fn of(structure: Structure) -> ColumnType {
        ColumnType { oid: 80_000, modifier: -1, structure }
    }

    #[test]
    fn a_row_is_an_object_with_a_field_per_column_and_no_nulls() {
        let (json, omitted) = document(&[
            ("id", 20, Some("9007199254740993")),
            ("na\"me", 25, Some("O'Hara\n")),
            ("gone", 25, None),
            ("ok", 16, Some("t")),
            ("price", 1700, Some("12.50")),
            ("at", 1184, Some("2024-01-31 12:34:56.5+00")),
            ("tags", 1009, Some("{a,NULL}")),
            ("uid", 2950, Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ])
        .unwrap();
        assert_eq!(
            json,
            r#"{"id":9007199254740993,"na\"me":"O'Hara\n","ok":true,"price":12.50,"at":"2024-01-31T12:34:56.5Z","tags":["a",null],"uid":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}"#
        );
        assert_eq!(omitted, 0);
    }

    #[test]
    fn a_row_of_nulls_is_an_empty_object() {
        assert_eq!(document(&[("a", 25, None)]).unwrap().0, "{}");
    }

    #[test]
    fn values_without_json_are_left_out_and_counted() {
        let (json, omitted) =
            document(&[("a", 701, Some("NaN")), ("b", 700, Some("-Infinity")), ("c", 701, Some("-0"))])
                .unwrap();
        assert_eq!((json.as_str(), omitted), (r#"{"c":-0}"#, 2));
    }

    #[test]
    fn bytes_are_base64_and_ranges_are_objects() {
        let range = of(Structure::Range(Box::new(ColumnType::scalar(23, -1))));
        let multirange = of(Structure::Multirange(Box::new(ColumnType::scalar(23, -1))));
        let bytes = || ColumnType::scalar(17, -1);
        let (json, omitted) = typed(&[
            ("b", bytes(), Some("\\x68c3a9")),
            ("e", bytes(), Some("\\x")),
            ("odd", bytes(), Some("\\x6")),
            ("r", range.clone(), Some("[1,5)")),
            ("none", range.clone(), Some("empty")),
            ("m", multirange, Some("{[1,2)}")),
            ("rs", ColumnType::array(1, -1, range), Some(r#"{"[1,3)",empty}"#)),
        ])
        .unwrap();
        assert_eq!(
            json,
            r#"{"b":"aMOp","e":"","odd":"\\x6","r":{"gte":1,"lt":5},"m":[{"gte":1,"lt":2}],"rs":[{"gte":1,"lt":3},null]}"#
        );
        assert_eq!(omitted, 2);
    }

    #[test]
    fn a_very_long_numeric_is_a_string() {
        let digits = "9".repeat(1001);
        assert_eq!(document(&[("n", 1700, Some(&digits))]).unwrap().0, format!("{{\"n\":\"{digits}\"}}"));
    }

    #[test]
    fn text_that_is_no_number_cannot_break_the_line() {
        assert_eq!(document(&[("n", 23, Some("1}\n{"))]).unwrap().0, r#"{"n":"1}\n{"}"#);
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "--1", "1-2", "1..2", "+1", "1 ", "1e5e5"] {
            assert_eq!(document(&[("n", 701, Some(text))]).unwrap().0, format!("{{\"n\":\"{text}\"}}"));
        }
    }

    #[test]
    fn json_that_a_flat_object_cannot_take_goes_into_its_sibling() {
        let deep = format!("{}1{}", "[".repeat(150), "]".repeat(150));
        let (json, _) = document(&[("p", 3802, Some(r#"{"a": 1}"#)), ("q", 3802, Some(&deep))]).unwrap();
        assert_eq!(json, format!("{{\"p\":{{\"a\":1}},\"q__json\":{{\"value\":{deep}}}}}"));
        let long = "x".repeat(33_000);
        let composite = of(Structure::Composite(vec![("a".into(), ColumnType::scalar(25, -1))]));
        let (json, _) = typed(&[("c", composite, Some(&format!("({long})")))]).unwrap();
        assert_eq!(json, format!("{{\"c__json\":{{\"a\":\"{long}\"}}}}"));
    }

    #[test]
    fn of_duplicate_keys_in_json_the_last_counts() {
        let twice = r#"{"a": 1, "a": {"b": 2}}"#;
        assert_eq!(document(&[("j", 114, Some(twice))]).unwrap().0, r#"{"j":{"a":{"b":2}}}"#);
        assert_eq!(document(&[("j", 199, Some("{}"))]).unwrap().0, r#"{"j":[]}"#);
    }

    #[test]
    fn json_deeper_than_the_parser_takes_is_refused() {
        let deep = format!("{}1{}", "[".repeat(900), "]".repeat(900));
        assert_eq!(
            document(&[("q", 3802, Some(&deep))]),
            Err(Refusal::TooDeep { field: "q".into(), depth: 901 })
        );
        let array = format!("{{\"{deep}\"}}");
        assert_eq!(
            document(&[("q", 3807, Some(&array))]),
            Err(Refusal::TooDeep { field: "q".into(), depth: 902 })
        );
    }
}

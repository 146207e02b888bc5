//! What `mapping` says about a field of a new index: a type's name, or a whole field mapping (OpenSearch docs: "Supported
//! field types"). A type may ask for another form of the value than the default one.

use super::types::{self, Encoding};
use crate::model::{ColumnType, Structure};
use serde_json::{Value, json};

/// `pg_type.oid` of `point`.
const POINT: u32 = 600;

/// The field mapping of an override. A type that is given by its name alone and does not take every value of its
/// columns leaves those it refuses unsearched, instead of refusing their documents.
pub(super) fn mapping(given: &Value) -> Value {
    match given {
        Value::String(name) if matches!(name.as_str(), "date_nanos" | "geo_point") => {
            json!({"type": name, "ignore_malformed": true})
        }
        Value::String(name) => json!({"type": name}),
        whole => whole.clone(),
    }
}

/// The type that an override gives; a mapping with `properties` alone is an object.
fn field_type(given: &Value) -> &str {
    given.as_str().or_else(|| given["type"].as_str()).unwrap_or("object")
}

/// Does the override ask for `[longitude, latitude]`? A `point` is printed as `(x,y)`, which a geo_point refuses.
pub fn is_geo_point(given: &Value) -> bool {
    field_type(given) == "geo_point"
}

/// The encoding of a column whose field is a geo_point.
pub(super) fn geo_point(column_type: &ColumnType) -> Encoding {
    match &column_type.structure {
        Structure::Array { element, delimiter } => {
            Encoding::Array { element: Box::new(geo_point(element)), delimiter: *delimiter }
        }
        _ if column_type.oid == POINT => Encoding::GeoPoint,
        _ => types::encoding(column_type),
    }
}

/// Why an override would refuse every document, if it would.
pub(super) fn misfit(column_type: &ColumnType, given: &Value) -> Option<&'static str> {
    let field_type = field_type(given);
    let takes_objects = matches!(field_type, "object" | "nested" | "flat_object" | "geo_point" | "geo_shape")
        || field_type.ends_with("_range");
    match types::encoding(column_type) {
        encoding if encoding.is_object() && !takes_objects => {
            Some("the column gives objects, which this type refuses")
        }
        Encoding::Range(_) | Encoding::Multirange(_) | Encoding::Array { .. } => None,
        encoding if encoding.is_object() => None,
        _ if matches!(field_type, "flat_object" | "nested") => Some(
            "this type takes objects only, which the column does not give: make the column jsonb, or leave it out",
        ),
        _ => None,
    }
}

/// Appends a `point`, printed as `(x,y)`, as `[x,y]`; one that JSON has no numbers for stays a string.
pub(super) fn write_geo_point(text: &[u8], out: &mut Vec<u8>) {
    let inside = text.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")"));
    let is_number = |part: &[u8]| {
        part.last().is_some_and(u8::is_ascii_digit)
            && part.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e'))
    };
    match inside.filter(|inside| inside.split(|b| *b == b',').map(is_number).eq([true, true])) {
        Some(inside) => {
            out.push(b'[');
            out.extend_from_slice(inside);
            out.push(b']');
        }
        None => super::text::write_string(text, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_mapping_and_a_mapping_is_taken_as_it_is() {
        let ignoring = |name: &str| json!({"type": name, "ignore_malformed": true});
        assert_eq!(mapping(&json!("keyword")), json!({"type": "keyword"}));
        assert_eq!(mapping(&json!("date_nanos")), ignoring("date_nanos"));
        assert_eq!(mapping(&json!("geo_point")), ignoring("geo_point"));
        let whole = json!({"type": "geo_point", "ignore_malformed": false});
        assert_eq!(mapping(&whole), whole);
        assert!(is_geo_point(&whole) && !is_geo_point(&json!({"properties": {}})));
    }

    #[test]
    fn a_point_is_longitude_and_latitude_and_anything_else_stays_text() {
        let json = |text: &str| {
            let mut out = vec![];
            write_geo_point(text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(json("(13.4,52.5)"), "[13.4,52.5]");
        assert_eq!(json("(-1e-05,1e+300)"), "[-1e-05,1e+300]");
        for text in ["(NaN,1)", "(1,Infinity)", "(1,2,3)", "(1)", "1,2", "(,)", ""] {
            assert_eq!(json(text), format!("\"{text}\""));
        }
    }

    #[test]
    fn an_override_that_would_refuse_every_document_is_named() {
        let of = |oid: u32, given: Value| misfit(&types::resolve(oid, -1, &Default::default()), &given);
        for (oid, given) in
            [(25, json!("flat_object")), (3802, json!("keyword")), (114, json!({"type": "text"}))]
        {
            assert!(of(oid, given).is_some(), "{oid}");
        }
        for (oid, given) in [
            (3802, json!("object")),
            (3802, json!({"properties": {"a": {"type": "long"}}})),
            (25, json!("keyword")),
            (3904, json!("integer_range")),
            (600, json!("geo_point")),
            (1022, json!({"type": "knn_vector", "dimension": 2})),
        ] {
            assert_eq!(of(oid, given), None, "{oid}");
        }
    }
}

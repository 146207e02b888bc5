//! The one table of types: what JSON a PostgreSQL type becomes, and how a new index maps its field.
//!
//! A type is one row of [`TYPES`]. A type without a row goes through as PostgreSQL's text, mapped as keyword.

use super::spark::SparkValue;
use crate::model::{ColumnType, TypeCatalog};
use serde_json::{Value, json};

/// How the text of a value becomes JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// The digits as they are.
    Integer,
    /// The digits as they are; NaN and the infinities are left out.
    Float,
    /// As `Float`; over 1,000 characters a string.
    Numeric,
    /// `t` and `f` as `true` and `false`.
    Boolean,
    /// A string.
    Text,
    /// ISO 8601 date.
    Date,
    /// ISO 8601 date and time without zone.
    Timestamp,
    /// ISO 8601 date and time with `Z`.
    TimestampUtc,
    /// An object as it is, anything else as `{"value": …}`.
    Json,
    /// Base64 of the bytes.
    Bytes,
    /// An object of the bounds.
    Range(&'static Encoding),
    /// An array of such objects.
    MultiRange(&'static Encoding),
    /// `(x,y)` of a point as `[x,y]`.
    GeoPoint,
    /// A JSON array of the element's encoding.
    Array(Box<Encoding>),
    /// What a PySpark job writes.
    Spark(Box<SparkValue>),
}

/// One built-in type.
pub(super) struct TypeRow {
    /// `pg_type.oid`.
    pub oid: u32,
    /// `pg_type.typarray`.
    pub array_oid: u32,
    /// The JSON of its values.
    pub encoding: Encoding,
    /// Field mapping of a new index from the type modifier (OpenSearch docs: "Supported field types").
    pub mapping: fn(i32) -> Value,
}

const fn row(oid: u32, array_oid: u32, encoding: Encoding, mapping: fn(i32) -> Value) -> TypeRow {
    TypeRow { oid, array_oid, encoding, mapping }
}

/// The built-in types that are more than their text (oids: PostgreSQL's `pg_type.dat`).
pub(super) static TYPES: &[TypeRow] = &[
    // smallint
    row(21, 1005, Encoding::Integer, |_| number("short")),
    // integer
    row(23, 1007, Encoding::Integer, |_| number("integer")),
    // bigint
    row(20, 1016, Encoding::Integer, |_| number("long")),
    // oid
    row(26, 1028, Encoding::Integer, |_| number("long")),
    // real
    row(700, 1021, Encoding::Float, |_| number("float")),
    // double precision
    row(701, 1022, Encoding::Float, |_| number("double")),
    // numeric
    row(1700, 1231, Encoding::Numeric, numeric),
    // boolean
    row(16, 1000, Encoding::Boolean, |_| json!({"type": "boolean"})),
    // text
    row(25, 1009, Encoding::Text, |_| text()),
    // character varying
    row(1043, 1015, Encoding::Text, |_| text()),
    // character
    row(1042, 1014, Encoding::Text, |_| text()),
    // name
    row(19, 1003, Encoding::Text, |_| text()),
    // uuid
    row(2950, 2951, Encoding::Text, |_| keyword()),
    // date
    row(1082, 1182, Encoding::Date, |_| json!({"type": "date"})),
    // timestamp without time zone
    row(1114, 1115, Encoding::Timestamp, |_| json!({"type": "date"})),
    // timestamp with time zone
    row(1184, 1185, Encoding::TimestampUtc, |_| json!({"type": "date"})),
    // bytea
    row(17, 1001, Encoding::Bytes, |_| json!({"type": "binary"})),
    // inet: a mask is refused by the field, so the text is searchable beside it
    row(869, 1041, Encoding::Text, |_| ip()),
    // cidr
    row(
        650,
        651,
        Encoding::Text,
        |_| json!({"type": "ip_range", "ignore_malformed": true, "fields": {"keyword": keyword()}}),
    ),
    // int4range and int4multirange
    row(3904, 3905, Encoding::Range(&Encoding::Integer), |_| range(number("integer"))),
    row(4451, 6150, Encoding::MultiRange(&Encoding::Integer), |_| range(number("integer"))),
    // int8range and int8multirange
    row(3926, 3927, Encoding::Range(&Encoding::Integer), |_| range(number("long"))),
    row(4536, 6157, Encoding::MultiRange(&Encoding::Integer), |_| range(number("long"))),
    // numrange and nummultirange
    row(3906, 3907, Encoding::Range(&Encoding::Numeric), |_| range(number("double"))),
    row(4532, 6151, Encoding::MultiRange(&Encoding::Numeric), |_| range(number("double"))),
    // tsrange and tsmultirange
    row(3908, 3909, Encoding::Range(&Encoding::Timestamp), |_| range(json!({"type": "date"}))),
    row(4533, 6152, Encoding::MultiRange(&Encoding::Timestamp), |_| range(json!({"type": "date"}))),
    // tstzrange and tstzmultirange
    row(3910, 3911, Encoding::Range(&Encoding::TimestampUtc), |_| range(json!({"type": "date"}))),
    row(4534, 6153, Encoding::MultiRange(&Encoding::TimestampUtc), |_| range(json!({"type": "date"}))),
    // daterange and datemultirange
    row(3912, 3913, Encoding::Range(&Encoding::Date), |_| range(json!({"type": "date"}))),
    row(4535, 6155, Encoding::MultiRange(&Encoding::Date), |_| range(json!({"type": "date"}))),
    // json
    row(114, 199, Encoding::Json, |_| json!({"type": "flat_object"})),
    // jsonb
    row(3802, 3807, Encoding::Json, |_| json!({"type": "flat_object"})),
];

fn ip() -> Value {
    json!({"type": "ip", "ignore_malformed": true, "fields": {"keyword": keyword()}})
}

/// The native range types refuse valid PostgreSQL ranges (`gt 1 lt 2` holds no integer), so the bounds are fields.
fn range(mut bound: Value) -> Value {
    bound["ignore_malformed"] = json!(true);
    json!({"properties": {"gt": bound, "gte": bound, "lt": bound, "lte": bound}})
}

/// A term over 32,766 bytes fails its document; 8,191 characters of at most 4 bytes never reach it.
const IGNORE_ABOVE: u32 = 8191;

fn number(name: &str) -> Value {
    json!({"type": name, "coerce": false})
}

fn keyword() -> Value {
    json!({"type": "keyword", "ignore_above": IGNORE_ABOVE})
}

fn text() -> Value {
    json!({"type": "text", "fields": {"keyword": keyword()}})
}

/// `scaled_float` keeps the value exactly where all of it fits a double's 53 bits.
fn numeric(modifier: i32) -> Value {
    // numeric(p,s) is stored as ((p << 16) | (s & 0x7ff)) + 4, s in 11 bits two's complement since PostgreSQL 15.
    if modifier >= 4 {
        let precision = (modifier - 4) >> 16 & 0xffff;
        let scale = (((modifier - 4) & 0x7ff) ^ 1024) - 1024;
        if precision <= 15 && (0..=precision).contains(&scale) {
            let factor = 10_u64.pow(scale as u32);
            return json!({"type": "scaled_float", "scaling_factor": factor, "ignore_malformed": true, "coerce": false});
        }
    }
    json!({"type": "double", "ignore_malformed": true, "coerce": false})
}

fn scalar_row(oid: u32) -> Option<&'static TypeRow> {
    TYPES.iter().find(|t| t.oid == oid)
}

/// Resolves the type of a column of the stream: built-in arrays by the table, other types by what the catalog said.
pub fn resolve(oid: u32, modifier: i32, catalog: &TypeCatalog) -> ColumnType {
    if let Some(element) = TYPES.iter().find(|t| t.array_oid == oid) {
        let element = Box::new(ColumnType::scalar(element.oid, modifier));
        return ColumnType { oid, modifier, element: Some(element) };
    }
    match catalog.get(&oid) {
        Some(known) if known.modifier == -1 && known.element.is_none() => {
            ColumnType { modifier, ..known.clone() }
        }
        Some(known) => known.clone(),
        None => ColumnType::scalar(oid, modifier),
    }
}

/// Is the type in the table, as itself or as an array?
pub fn is_built_in(oid: u32) -> bool {
    TYPES.iter().any(|t| t.oid == oid || t.array_oid == oid)
}

/// The encoding of a column's values.
pub(super) fn encoding(column_type: &ColumnType) -> Encoding {
    match &column_type.element {
        Some(element) => Encoding::Array(Box::new(encoding(element))),
        None => scalar_row(column_type.oid).map_or(Encoding::Text, |t| t.encoding.clone()),
    }
}

/// The mapping of a field in a new index; an array has its element's, since OpenSearch has no array type.
pub(super) fn mapping(column_type: &ColumnType) -> Value {
    match &column_type.element {
        // A flat_object takes objects only, and no nested arrays of them.
        Some(element) if has_json_sibling(element) => json!({"type": "object", "enabled": false}),
        Some(element) => mapping(element),
        None => scalar_row(column_type.oid).map_or_else(keyword, |t| (t.mapping)(column_type.modifier)),
    }
}

/// Does the field have a sibling `NAME__json` for what a flat_object cannot take?
pub(super) fn has_json_sibling(column_type: &ColumnType) -> bool {
    matches!(encoding(column_type), Encoding::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric_modifier(precision: i32, scale: i32) -> i32 {
        (precision << 16 | scale & 0x7ff) + 4
    }

    #[test]
    fn a_numeric_is_scaled_where_a_double_holds_it() {
        assert_eq!(numeric(numeric_modifier(15, 2))["scaling_factor"], 100);
        assert_eq!(numeric(numeric_modifier(4, 4))["type"], "scaled_float");
        for (p, s) in [(16, 2), (3, 5), (5, -2)] {
            assert_eq!(numeric(numeric_modifier(p, s))["type"], "double", "{p},{s}");
        }
        assert_eq!(numeric(-1)["type"], "double");
    }

    #[test]
    fn no_oid_stands_twice_in_the_table() {
        let mut oids: Vec<u32> = TYPES.iter().flat_map(|t| [t.oid, t.array_oid]).collect();
        oids.sort_unstable();
        assert!(oids.windows(2).all(|w| w[0] != w[1]));
    }

    #[test]
    fn an_unknown_type_is_its_text_and_a_domain_its_base() {
        let unknown = resolve(999_999, -1, &TypeCatalog::new());
        assert_eq!(encoding(&unknown), Encoding::Text);
        assert_eq!(mapping(&unknown)["type"], "keyword");
        let domains = TypeCatalog::from([(70_000, ColumnType::scalar(23, -1))]);
        assert_eq!(encoding(&resolve(70_000, -1, &domains)), Encoding::Integer);
        assert_eq!(encoding(&resolve(1007, -1, &domains)), Encoding::Array(Box::new(Encoding::Integer)));
    }
}

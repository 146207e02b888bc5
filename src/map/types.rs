//! The one table of types: what JSON a PostgreSQL type becomes, and how a new index maps its field.
//!
//! A type is one row of [`TYPES`]. What types are made of is not in it: arrays, ranges, multiranges and composites follow
//! from their parts, as the catalog describes them. A type without a row goes through as PostgreSQL's text, mapped as
//! keyword.

use super::{spark::SparkValue, text::escape_into};
use crate::model::{ColumnType, Structure, TypeCatalog};
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
    /// An object as it is, anything else as `{"value": …}`; of duplicate keys the last.
    Json,
    /// As `Json`, but the server has already seen to it that no key stands twice.
    Jsonb,
    /// An object of strings and nulls.
    Hstore,
    /// An array of numbers.
    Vector,
    /// Base64 of the bytes.
    Bytes,
    /// An object of the bounds.
    Range(Box<Encoding>),
    /// An array of such objects.
    Multirange(Box<Encoding>),
    /// A JSON array of the element's encoding.
    Array {
        /// Of each element.
        element: Box<Encoding>,
        /// Between two elements in PostgreSQL's text.
        delimiter: u8,
    },
    /// An object with a member per attribute: its key as `,"name":`, and its encoding.
    Composite(Vec<(Box<[u8]>, Encoding)>),
    /// `(x,y)` of a point as `[x,y]`.
    GeoPoint,
    /// What a PySpark job writes.
    Spark(Box<SparkValue>),
}

/// What the table knows a type by.
enum Key {
    /// `pg_type.oid` and `typarray`: the same in every database.
    BuiltIn(u32, u32),
    /// Name of a base type that an extension brings.
    Extension(&'static str),
}

/// One type.
pub(super) struct TypeRow {
    key: Key,
    /// The JSON of its values.
    encoding: Encoding,
    /// Field mapping of a new index from the type modifier (OpenSearch docs: "Supported field types").
    mapping: fn(i32) -> Value,
}

const fn row(oid: u32, array_oid: u32, encoding: Encoding, mapping: fn(i32) -> Value) -> TypeRow {
    TypeRow { key: Key::BuiltIn(oid, array_oid), encoding, mapping }
}

const fn extension(name: &'static str, encoding: Encoding, mapping: fn(i32) -> Value) -> TypeRow {
    TypeRow { key: Key::Extension(name), encoding, mapping }
}

/// The types that are more than their text (oids: PostgreSQL's `pg_type.dat`).
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
    // json
    row(114, 199, Encoding::Json, |_| flat_object()),
    // jsonb
    row(3802, 3807, Encoding::Jsonb, |_| flat_object()),
    extension("hstore", Encoding::Hstore, |_| flat_object()),
    extension("citext", Encoding::Text, |_| text()),
    // pgvector; its sparsevec is text
    extension("vector", Encoding::Vector, |_| vector()),
    extension("halfvec", Encoding::Vector, |_| vector()),
];

fn ip() -> Value {
    json!({"type": "ip", "ignore_malformed": true, "fields": {"keyword": keyword()}})
}

fn flat_object() -> Value {
    json!({"type": "flat_object"})
}

/// In the document, but not searched.
fn unindexed() -> Value {
    json!({"type": "object", "enabled": false})
}

/// Nearest neighbours need the k-NN plugin's own type.
fn vector() -> Value {
    json!({"type": "float", "index": false, "doc_values": false})
}

/// The native range types refuse valid PostgreSQL ranges (`gt 1 lt 2` holds no integer), so the bounds are fields.
fn range(bound: &Encoding, mut mapping: Value) -> Value {
    if bound.is_nested() {
        return unindexed();
    }
    // Others have no such parameter, and nothing to refuse.
    let can_refuse =
        ["short", "integer", "long", "float", "double", "scaled_float", "date", "ip", "ip_range"];
    if can_refuse.iter().any(|name| mapping["type"] == *name) {
        mapping["ignore_malformed"] = json!(true);
    }
    json!({"properties": {"gt": mapping, "gte": mapping, "lt": mapping, "lte": mapping}})
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

fn row_of(column_type: &ColumnType) -> Option<&'static TypeRow> {
    TYPES.iter().find(|row| match (&row.key, &column_type.structure) {
        (Key::BuiltIn(oid, _), Structure::Scalar) => *oid == column_type.oid,
        (Key::Extension(name), Structure::Extension(found)) => name == found,
        _ => false,
    })
}

/// Resolves the type of a column of the stream: built-in scalars and their arrays by the table, others by what the
/// catalog said.
pub fn resolve(oid: u32, modifier: i32, catalog: &TypeCatalog) -> ColumnType {
    let built_in = TYPES.iter().find_map(|row| match row.key {
        Key::BuiltIn(element, array) if array == oid => {
            Some(ColumnType::array(oid, -1, ColumnType::scalar(element, -1)))
        }
        _ => None,
    });
    built_in
        .or_else(|| catalog.get(&oid).cloned())
        .unwrap_or_else(|| ColumnType::scalar(oid, -1))
        .with_modifier(modifier)
}

/// Is the type in the table, as itself or as an array?
pub fn is_built_in(oid: u32) -> bool {
    TYPES.iter().any(|row| matches!(row.key, Key::BuiltIn(scalar, array) if oid == scalar || oid == array))
}

/// The encoding of a column's values.
pub(super) fn encoding(column_type: &ColumnType) -> Encoding {
    match &column_type.structure {
        Structure::Scalar | Structure::Extension(_) => {
            row_of(column_type).map_or(Encoding::Text, |row| row.encoding.clone())
        }
        Structure::Array { element, delimiter } => {
            Encoding::Array { element: Box::new(encoding(element)), delimiter: *delimiter }
        }
        Structure::Range(bound) => Encoding::Range(Box::new(encoding(bound))),
        Structure::Multirange(bound) => Encoding::Multirange(Box::new(encoding(bound))),
        Structure::Composite(attributes) => Encoding::Composite(
            attributes.iter().map(|(name, part)| (member_key(name, ""), encoding(part))).collect(),
        ),
    }
}

/// `,"name":` with `suffix` behind the name.
pub(super) fn member_key(name: &str, suffix: &str) -> Box<[u8]> {
    let mut key = b",\"".to_vec();
    escape_into(name.as_bytes(), &mut key);
    key.extend_from_slice(suffix.as_bytes());
    key.extend_from_slice(b"\":");
    key.into_boxed_slice()
}

/// The mapping of a field in a new index; an array has its element's, since OpenSearch has no array type. `knn`: has the
/// cluster the k-NN plugin?
pub(super) fn mapping(column_type: &ColumnType, knn: bool) -> Value {
    match &column_type.structure {
        Structure::Scalar | Structure::Extension(_) => match row_of(column_type) {
            // Without a dimension there is nothing that the plugin could index.
            Some(TypeRow { encoding: Encoding::Vector, .. }) if knn && column_type.modifier > 0 => {
                json!({"type": "knn_vector", "dimension": column_type.modifier})
            }
            row => row.map_or_else(keyword, |row| (row.mapping)(column_type.modifier)),
        },
        // A flat_object takes objects only, and no nested arrays of them.
        Structure::Array { element, .. } if has_json_sibling(element) => unindexed(),
        Structure::Array { element, .. } => mapping(element, false),
        Structure::Range(bound) | Structure::Multirange(bound) => {
            range(&encoding(bound), mapping(bound, false))
        }
        Structure::Composite(_) => flat_object(),
    }
}

/// Can the k-NN plugin index the values?
pub fn is_vector(column_type: &ColumnType) -> bool {
    mapping(column_type, true)["type"] == "knn_vector"
}

/// Does the field have a sibling `NAME__json` for what a flat_object cannot take?
pub(super) fn has_json_sibling(column_type: &ColumnType) -> bool {
    encoding(column_type).is_object()
}

impl Encoding {
    /// Is it written into a flat_object?
    pub(super) fn is_object(&self) -> bool {
        matches!(self, Encoding::Json | Encoding::Jsonb | Encoding::Hstore | Encoding::Composite(_))
    }

    /// Can a value hold another of any depth?
    pub(super) fn is_nested(&self) -> bool {
        match self {
            Encoding::Array { element, .. } | Encoding::Range(element) | Encoding::Multirange(element) => {
                element.is_nested()
            }
            other => other.is_object(),
        }
    }
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
    fn no_type_stands_twice_in_the_table() {
        let keys = |row: &TypeRow| match row.key {
            Key::BuiltIn(oid, array_oid) => vec![oid.to_string(), array_oid.to_string()],
            Key::Extension(name) => vec![name.to_owned()],
        };
        let mut keys: Vec<String> = TYPES.iter().flat_map(keys).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|w| w[0] != w[1]));
    }

    #[test]
    fn an_unknown_type_is_its_text_and_a_domain_its_base() {
        let unknown = resolve(999_999, -1, &TypeCatalog::new());
        assert_eq!(encoding(&unknown), Encoding::Text);
        assert_eq!(mapping(&unknown, false)["type"], "keyword");
        let domains = TypeCatalog::from([(70_000, ColumnType::scalar(23, -1))]);
        assert_eq!(encoding(&resolve(70_000, -1, &domains)), Encoding::Integer);
        let array = Encoding::Array { element: Box::new(Encoding::Integer), delimiter: b',' };
        assert_eq!(encoding(&resolve(1007, -1, &domains)), array);
    }

    fn of(structure: Structure) -> ColumnType {
        ColumnType { oid: 80_000, modifier: -1, structure }
    }

    #[test]
    fn a_vector_is_searched_where_the_plugin_is_there_and_the_dimension_known() {
        let vector = of(Structure::Extension("vector".into()));
        let three = vector.clone().with_modifier(3);
        assert_eq!(mapping(&three, true), json!({"type": "knn_vector", "dimension": 3}));
        for (column_type, knn) in [(&three, false), (&vector, true)] {
            assert_eq!(mapping(column_type, knn)["index"], false);
        }
        assert!(
            is_vector(&three) && !is_vector(&vector) && !is_vector(&ColumnType::array(1, -1, three.clone()))
        );
    }

    #[test]
    fn bounds_of_a_range_are_fields_that_refuse_nothing() {
        let bound = |oid| {
            mapping(&of(Structure::Range(Box::new(ColumnType::scalar(oid, -1)))), false)["properties"]["gt"]
                .clone()
        };
        assert_eq!(bound(23), json!({"type": "integer", "coerce": false, "ignore_malformed": true}));
        assert_eq!(bound(1184), json!({"type": "date", "ignore_malformed": true}));
        assert_eq!(bound(25), text(), "a text field has no such parameter");
        let of_json = of(Structure::Range(Box::new(ColumnType::scalar(3802, -1))));
        assert_eq!(mapping(&of_json, false), unindexed());
    }
}

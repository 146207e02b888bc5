//! The index of a PySpark job: what its fields are mapped as, and how to tell one.

use super::{document::SparkValue, types::SparkType};
use crate::{
    config::SparkCast,
    map::plan::TableSpec,
    model::{Column, ColumnType},
};
use serde_json::{Map, Value, json};

/// The mapping of a field in a new index: what the job's dynamic mapping gave, except that doubles are no floats, and
/// that a NaN, which is a string, does not make its document a dead letter.
pub(in crate::map) fn mapping(value: &SparkValue) -> Value {
    let number = |name: &str| json!({"type": name, "ignore_malformed": true});
    match (&value.cast, &value.spark_type) {
        (Some(SparkCast::String), _) => text(),
        (Some(SparkCast::Double), _) | (None, SparkType::Double | SparkType::Decimal { .. }) => {
            number("double")
        }
        (Some(SparkCast::Float), _) | (None, SparkType::Float) => number("float"),
        (None, SparkType::Boolean | SparkType::Bit) => json!({"type": "boolean"}),
        (
            None,
            SparkType::Text
            | SparkType::Interval
            | SparkType::Bytes
            | SparkType::BitString
            | SparkType::Array(_),
        ) => text(),
        _ => json!({"type": "long"}),
    }
}

fn text() -> Value {
    json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}})
}

/// A field that only a PySpark job maps so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparkTrace {
    /// The field.
    pub field: String,
    /// The type it is mapped as.
    pub mapped_as: &'static str,
    /// The declared type of its column.
    pub sql_type: String,
}

/// Fields of an index, by its `mappings.properties`, that tell of a PySpark job: dates and timestamps are `long`, json and
/// bytea are `text`. Plain documents would be refused there, or fill such fields with something else.
pub fn traces_of_spark(
    spec: &TableSpec,
    columns: &[Column],
    properties: &Map<String, Value>,
) -> Vec<SparkTrace> {
    let trace = |column: &Column| {
        let field = spec.field_name(&column.name)?;
        let mapped = properties.get(field)?.get("type")?.as_str()?;
        let mapped_as = match scalar_oid(&column.column_type) {
            1082 | 1083 | 1114 | 1184 | 1266 if mapped == "long" => "long",
            17 | 114 | 3802 if mapped == "text" => "text",
            _ => return None,
        };
        Some(SparkTrace { field: field.to_owned(), mapped_as, sql_type: column.sql_type.clone() })
    };
    columns.iter().filter_map(trace).collect()
}

fn scalar_oid(column_type: &ColumnType) -> u32 {
    column_type.element.as_ref().map_or(column_type.oid, |element| scalar_oid(element))
}

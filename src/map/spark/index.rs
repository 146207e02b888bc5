//! The index of a PySpark job: what its fields are mapped as, and how to tell one.

use super::{document::SparkValue, types::SparkType};
use crate::{
    config::SparkCast,
    map::plan::TableSpec,
    model::{Column, ColumnType},
};
use serde_json::{Map, Value, json};

/// The mapping of a field in a new index: what the job's dynamic mapping gave, except that doubles are no floats, and
/// that a NaN or an infinite date, which are strings, do not make their document a dead letter.
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
        _ => number("long"),
    }
}

fn text() -> Value {
    json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}})
}

/// Says what to do about an index, by its `mappings.properties`, that a PySpark job made: its dates and timestamps are
/// `long`, its json is `text`. Plain documents would be refused there. `None` where nothing tells of a job.
pub fn spark_advice(spec: &TableSpec, columns: &[Column], properties: &Map<String, Value>) -> Option<String> {
    let trace = |column: &Column| {
        let field = spec.field_name(&column.name)?;
        let mapped = properties.get(field)?.get("type")?.as_str()?;
        let is_trace = match scalar_oid(&column.column_type) {
            1082 | 1083 | 1114 | 1184 | 1266 => mapped == "long",
            114 | 3802 => mapped == "text",
            _ => false,
        };
        is_trace.then(|| format!("{field} ({}) is {mapped}", column.sql_type))
    };
    let traces: Vec<String> = columns.iter().filter_map(trace).collect();
    let fields = traces.join(", ");
    (!traces.is_empty()).then(|| {
        format!(
            "a PySpark job seems to have made it: {fields}. Plain documents are refused there; set documents: spark to go on \
             as the job did (docs/spark.md), or name a new index"
        )
    })
}

fn scalar_oid(column_type: &ColumnType) -> u32 {
    column_type.element().map_or(column_type.oid, scalar_oid)
}

//! What a PySpark job makes of a row: ids by `concat_ws`, documents by opensearch-hadoop's connector.
//!
//! In: PostgreSQL's text of a value, as everywhere. Out: what Spark 3.5 with pgjdbc makes of the same value, byte for byte,
//! so that an index of such a job is taken over in place. Everything here was compared with a real Spark.

mod calendar;
mod decimal;
mod document;
mod id;
mod index;
mod interval;
mod java_float;
mod text;
mod types;

pub(super) use document::SparkValue;
pub(super) use id::SparkId;
pub use index::spark_advice;

use super::{plan::TableSpec, types::Encoding};
use crate::{
    config::{Documents, IdForm, Spark, SparkCast},
    model::{Column, ColumnType, Structure},
};
use calendar::Zones;
use chrono_tz::Tz;
use types::SparkType;

/// A setting that does not fit the table, or a column that the job cannot have read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: column `{column}` ({sql_type}): {why}")]
pub struct SparkProblem {
    /// The key of the table's configuration.
    pub key: &'static str,
    /// The column.
    pub column: String,
    /// Its declared type; `no such column` where there is none.
    pub sql_type: String,
    /// What is wrong, and the cure.
    pub why: String,
}

/// Looks whether ids and documents of `columns` can be what `spec` asks for.
pub fn spark_problems(spec: &TableSpec, columns: &[Column]) -> Vec<SparkProblem> {
    let mut problems = vec![];
    let mut add = |key, column: &str, sql_type: &str, why: String| {
        problems.push(SparkProblem { key, column: column.to_owned(), sql_type: sql_type.to_owned(), why });
    };
    for (name, _) in &spec.spark.cast {
        if !columns.iter().any(|column| column.name == *name) {
            add("spark.cast", name, "no such column", "take it out, or correct its name".to_owned());
        }
    }
    if matches!(spec.id_form, IdForm::Spark | IdForm::SparkMd5) {
        for column in columns.iter().filter(|column| spec.id.contains(&column.name)) {
            if let Err(why) = key_type(&column.column_type, &spec.spark) {
                add(
                    "id_form",
                    &column.name,
                    &column.sql_type,
                    format!("{why}; use id_form plain or md5 with a new index"),
                );
            }
        }
    }
    if spec.documents == Documents::Spark {
        for column in columns.iter().filter(|column| spec.field_name(&column.name).is_some()) {
            let cast = cast_of(&spec.spark, &column.name);
            if let Err((key, why)) = field_type(&column.column_type, cast) {
                add(key, &column.name, &column.sql_type, why);
            }
        }
    }
    problems
}

/// Key types whose text is reproduced.
fn key_type(column_type: &ColumnType, spark: &Spark) -> Result<SparkType, String> {
    let element = column_type.element().unwrap_or(column_type);
    match element.oid {
        // The session of the job printed it; its locale is not known here.
        790 => Err("money is printed by the locale of the server that the job asked".to_owned()),
        // tstzrange and tstzmultirange.
        3910 | 4534 if spark.jvm_timezone != Tz::UTC => {
            Err("Spark has the text that the server printed in the time zone of its JVM".to_owned())
        }
        _ => SparkType::of(column_type).map_err(|unreadable| unreadable.0.to_owned()),
    }
}

fn field_type(column_type: &ColumnType, cast: Option<&SparkCast>) -> Result<(), (&'static str, String)> {
    let spark_type = match SparkType::of(column_type) {
        Ok(spark_type) => spark_type,
        // The job can have read such a column as the server's text only.
        Err(_) if cast == Some(&SparkCast::String) => return Ok(()),
        Err(unreadable) => {
            let why = format!(
                "{}; leave it out with columns.exclude, or say string under spark.cast where the job read its text",
                unreadable.0
            );
            return Err(("documents", why));
        }
    };
    let (spark_type, cast, array) = match (spark_type, cast) {
        (SparkType::Array(element), Some(SparkCast::Array(cast))) => (*element, Some(cast.as_ref()), true),
        (SparkType::Array(element), None) => (*element, None, true),
        (spark_type, cast) => (spark_type, cast, false),
    };
    let is_decimal = matches!(spark_type, SparkType::Decimal { .. });
    let is_number =
        is_decimal || matches!(spark_type, SparkType::Integer | SparkType::Float | SparkType::Double);
    match cast {
        None if is_decimal => {
            let example = if array { "array<double> or array<string>" } else { "double or string" };
            let why = format!(
                "the connector cannot write decimals; say under spark.cast what the job cast it to: {example}"
            );
            Err(("documents", why))
        }
        Some(SparkCast::Double | SparkCast::Float) if !is_number => Err((
            "spark.cast",
            "only numbers are cast to double or float; say string, or take it out".to_owned(),
        )),
        Some(SparkCast::Long | SparkCast::Int) if !(is_decimal || spark_type == SparkType::Integer) => {
            Err(("spark.cast", "only numeric and integer columns are cast to bigint or int".to_owned()))
        }
        Some(SparkCast::Array(_)) => {
            Err(("spark.cast", "it is no array of one dimension; name the type itself".to_owned()))
        }
        _ => Ok(()),
    }
}

fn cast_of<'a>(spark: &'a Spark, column: &str) -> Option<&'a SparkCast> {
    spark.cast.iter().find(|(name, _)| name == column).map(|(_, cast)| cast)
}

fn zones(spark: &Spark) -> Zones {
    Zones { jvm: spark.jvm_timezone, session: spark.timezone }
}

/// How the values of column `name` are written, and whether they are elements of an array; a column that the job cannot
/// read is its text.
fn value(spark: &Spark, name: &str, column_type: &ColumnType) -> (SparkValue, bool) {
    let of = |spark_type, cast: Option<&SparkCast>| SparkValue {
        spark_type,
        cast: cast.cloned(),
        zones: zones(spark),
    };
    match (SparkType::of(column_type).unwrap_or(SparkType::Text), cast_of(spark, name)) {
        (SparkType::Array(element), None) => (of(*element, None), true),
        (SparkType::Array(element), Some(SparkCast::Array(cast))) => (of(*element, Some(cast)), true),
        (spark_type, cast) => (of(spark_type, cast), false),
    }
}

/// The encoding of column `name`.
pub(super) fn encoding(spark: &Spark, name: &str, column_type: &ColumnType) -> Encoding {
    let (value, is_array) = value(spark, name, column_type);
    let encoding = Encoding::Spark(Box::new(value));
    match &column_type.structure {
        Structure::Array { delimiter, .. } if is_array => {
            Encoding::Array { element: Box::new(encoding), delimiter: *delimiter }
        }
        _ => encoding,
    }
}

/// The mapping of a column's field in a new index; an array has its element's.
pub(super) fn mapping(spark: &Spark, column: &Column) -> serde_json::Value {
    index::mapping(&value(spark, &column.name, &column.column_type).0)
}

/// The id of a key whose columns have these types; one that is not reproduced keeps the server's text.
pub(super) fn id(spark: &Spark, key: &[&ColumnType]) -> SparkId {
    let types =
        key.iter().map(|column_type| key_type(column_type, spark).unwrap_or(SparkType::Text)).collect();
    SparkId { types, zones: zones(spark) }
}

#[cfg(test)]
mod tests;

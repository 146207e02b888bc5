//! `documents: spark` and `id_form: spark`: what the PySpark job was told, as far as its documents depend on it.

use super::{raw_table, validate::Findings};
use chrono_tz::Tz;

/// The settings of the job whose ids and documents are reproduced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spark {
    /// `spark.sql.session.timeZone`: timestamps in ids are printed in it.
    pub timezone: Tz,
    /// Zone of the JVM, which read timestamps without time zone and dates in it.
    pub jvm_timezone: Tz,
    /// What columns were cast to before they were written.
    pub cast: Vec<(String, SparkCast)>,
}

impl Default for Spark {
    fn default() -> Self {
        Spark { timezone: Tz::UTC, jvm_timezone: Tz::UTC, cast: vec![] }
    }
}

/// A type of Spark that a column was cast to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SparkCast {
    /// string
    String,
    /// double
    Double,
    /// float
    Float,
    /// bigint, long
    Long,
    /// int, integer
    Int,
    /// array<…>
    Array(Box<SparkCast>),
}

impl SparkCast {
    fn parse(text: &str) -> Option<SparkCast> {
        let text = text.trim().to_ascii_lowercase();
        if let Some(element) = text.strip_prefix("array<").and_then(|rest| rest.strip_suffix('>')) {
            return SparkCast::parse(element).map(|element| SparkCast::Array(Box::new(element)));
        }
        Some(match text.as_str() {
            "string" => SparkCast::String,
            "double" => SparkCast::Double,
            "float" => SparkCast::Float,
            "bigint" | "long" => SparkCast::Long,
            "int" | "integer" => SparkCast::Int,
            _ => return None,
        })
    }
}

/// The settings of a table; their derived defaults are written back.
pub(super) fn validate(v: &mut Findings, place: &str, raw: &mut raw_table::Table) -> Spark {
    let is_used = matches!(raw.documents, raw_table::Documents::Spark)
        || matches!(raw.id_form, raw_table::IdForm::Spark | raw_table::IdForm::SparkMd5);
    if !is_used {
        if raw.spark.is_some() {
            let cure = "say documents: spark or id_form: spark, or leave it out";
            v.add(format!("{place}.spark"), "says nothing about plain ids and documents", cure);
        }
        return Spark::default();
    }
    let raw = raw.spark.get_or_insert_default();
    let timezone = zone(v, &format!("{place}.spark.timezone"), &mut raw.timezone, Tz::UTC);
    let jvm_timezone = zone(v, &format!("{place}.spark.jvm_timezone"), &mut raw.jvm_timezone, timezone);
    let cast = raw.cast.iter().filter_map(|(column, text)| {
        let parsed = SparkCast::parse(text)
            .ok_or_else(|| format!("{text:?} is no type that a column is cast to here"));
        let cure = "say string, double, float, bigint, int, or array<…> of one of them";
        Some((column.clone(), v.fine(&format!("{place}.spark.cast.{column}"), parsed, cure)?))
    });
    Spark { cast: cast.collect(), timezone, jvm_timezone }
}

fn zone(v: &mut Findings, place: &str, raw: &mut Option<String>, default: Tz) -> Tz {
    let name = raw.get_or_insert_with(|| default.name().to_owned());
    let parsed = name.parse::<Tz>().map_err(|_| format!("{name:?} is no time zone"));
    let cure = "write a name of the tz database: UTC, America/New_York, or Etc/GMT-9 for +09:00";
    v.fine(place, parsed, cure).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_are_named_as_in_spark() {
        for (text, cast) in [
            ("double", Some(SparkCast::Double)),
            (" Long", Some(SparkCast::Long)),
            ("array<string>", Some(SparkCast::Array(Box::new(SparkCast::String)))),
            ("decimal(10,2)", None),
            ("", None),
        ] {
            assert_eq!(SparkCast::parse(text), cast, "{text}");
        }
    }
}

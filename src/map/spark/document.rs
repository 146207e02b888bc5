//! Values as the connector writes them into documents (opensearch-hadoop's `DataFrameValueWriter`; measured).

use super::{
    calendar::{Day, Zones},
    decimal, java_float, text,
    types::SparkType,
};
use crate::{config::SparkCast, map::document};

/// How a column's values become JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::map) struct SparkValue {
    pub(super) spark_type: SparkType,
    pub(super) cast: Option<SparkCast>,
    pub(super) zones: Zones,
}

impl SparkValue {
    /// Appends the JSON of a value; one that the job fails on becomes what the plain form would have.
    pub(in crate::map) fn write(&self, text: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let written = match &self.cast {
            None => self.write_uncast(text, out),
            Some(cast) => self.write_cast(cast, text, out),
        };
        if written.is_none() {
            out.truncate(start);
            match self.cast {
                Some(SparkCast::String) => write_string(text, out),
                // Longer numbers are refused by every field.
                _ if text.len() > document::LONGEST_NUMBER => write_string(text, out),
                _ => document::write_number(text, out),
            }
        }
    }

    fn write_uncast(&self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match &self.spark_type {
            SparkType::Boolean | SparkType::Bit => text::write(&self.spark_type, text, self.zones, out)?,
            SparkType::Integer | SparkType::Decimal { .. } => document::write_number(text, out),
            SparkType::Float | SparkType::Double => {
                let start = out.len();
                text::write(&self.spark_type, text, self.zones, out)?;
                quote_unless_finite(start, out);
            }
            SparkType::Text => write_string(text, out),
            SparkType::Interval | SparkType::Array(_) => self.write_text(text, out)?,
            SparkType::Bytes => document::write_bytes(text, out),
            SparkType::BitString => document::write_base64(text, out),
            SparkType::Date => write_integer(Day::read(text)?.millis(self.zones), out),
            SparkType::Timestamp | SparkType::TimestampUtc | SparkType::Time => {
                write_integer(text::moment(&self.spark_type, text, self.zones)?.millis(), out);
            }
        }
        Some(())
    }

    /// The string that Spark prints.
    fn write_text(&self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut printed = Vec::with_capacity(text.len());
        text::write(&self.spark_type, text, self.zones, &mut printed)?;
        // A bytea need not be UTF-8; Java replaces what is not.
        write_string(String::from_utf8_lossy(&printed).as_bytes(), out);
        Some(())
    }

    fn write_cast(&self, cast: &SparkCast, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let start = out.len();
        match cast {
            SparkCast::String => self.write_text(text, out)?,
            SparkCast::Double | SparkCast::Float => {
                let exact = self.number(text)?;
                if *cast == SparkCast::Double {
                    java_float::write_f64(text::parse(&exact)?, out);
                } else {
                    java_float::write_f32(text::parse(&exact)?, out);
                }
                quote_unless_finite(start, out);
            }
            SparkCast::Long => write_integer(self.whole(text)?, out),
            SparkCast::Int => write_integer(i64::from(self.whole(text)? as i32), out),
            // The cast of an array is its elements'.
            SparkCast::Array(_) => return None,
        }
        Some(())
    }

    /// A decimal in its scale; other numbers as they are.
    fn number(&self, text: &[u8]) -> Option<Vec<u8>> {
        let SparkType::Decimal { scale } = self.spark_type else { return Some(text.to_vec()) };
        let mut rescaled = Vec::with_capacity(text.len() + scale);
        decimal::write(text, scale, &mut rescaled)?;
        Some(rescaled)
    }

    fn whole(&self, text: &[u8]) -> Option<i64> {
        match self.spark_type {
            SparkType::Decimal { scale } => decimal::truncated(text, scale),
            _ => text::parse(text),
        }
    }
}

fn write_integer(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// NaN and the infinities are strings.
fn quote_unless_finite(start: usize, out: &mut Vec<u8>) {
    if out.last().is_some_and(|last| !last.is_ascii_digit()) {
        out.insert(start, b'"');
        out.push(b'"');
    }
}

/// A JSON string as Jackson 1.8 spells it: `\b` and `\f` too, and hexadecimal digits in capitals.
fn write_string(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'"');
    let mut rest = text;
    let is_rare = |b: &u8| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r');
    while let Some(at) = rest.iter().position(is_rare) {
        crate::map::escape_into(&rest[..at], out);
        match rest[at] {
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    crate::map::escape_into(rest, out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::{America::New_York, UTC};

    const HERE: Zones = Zones { jvm: UTC, session: UTC };

    fn json(spark_type: SparkType, cast: Option<SparkCast>, text: &str) -> String {
        let mut out = vec![];
        SparkValue { spark_type, cast, zones: HERE }.write(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_those_that_the_job_wrote() {
        for (spark_type, text, expected) in [
            (SparkType::Integer, "9007199254740993", "9007199254740993"),
            (SparkType::Float, "1.1", "1.1"),
            (SparkType::Double, "1e-05", "1.0E-5"),
            (SparkType::Double, "1e+300", "1.0E300"),
            (SparkType::Double, "NaN", "\"NaN\""),
            (SparkType::Float, "-Infinity", "\"-Infinity\""),
            (SparkType::Boolean, "t", "true"),
            (SparkType::Bit, "0", "false"),
            (SparkType::Timestamp, "2024-06-15 12:34:56.789999", "1718454896789"),
            (SparkType::TimestampUtc, "1969-12-31 23:59:59.999999+00", "-1"),
            (SparkType::Date, "1582-10-10", "-12218860800000"),
            (SparkType::Time, "03:04:05.999", "11045000"),
            (SparkType::Text, "{\"b\": 1.0}", "\"{\\\"b\\\": 1.0}\""),
            (SparkType::Text, "a\u{8}\u{c}\u{1f}\n\u{7f}\u{2028}", "\"a\\b\\f\\u001F\\n\u{7f}\u{2028}\""),
            (SparkType::Interval, "P1DT2H", "\"1 day 02:00:00\""),
            (SparkType::Bytes, "\\x68c3a9", "\"aMOp\""),
            (SparkType::BitString, "101", "\"MTAx\""),
            // What ends the job.
            (SparkType::Date, "infinity", "\"infinity\""),
            (SparkType::Decimal { scale: 2 }, "12.50", "12.50"),
        ] {
            assert_eq!(json(spark_type.clone(), None, text), expected, "{spark_type:?} {text}");
        }
        let mut out = vec![];
        let there = Zones { jvm: New_York, session: UTC };
        SparkValue { spark_type: SparkType::Date, cast: None, zones: there }.write(b"2024-06-15", &mut out);
        assert_eq!(out, b"1718424000000");
    }

    #[test]
    fn casts_are_sparks() {
        let decimal = |scale| SparkType::Decimal { scale };
        for (spark_type, cast, text, expected) in [
            (decimal(2), SparkCast::Double, "12345.67", "12345.67"),
            (decimal(2), SparkCast::Double, "1234567890123456789.00", "1.23456789012345677E18"),
            (decimal(4), SparkCast::String, "12345.6700", "\"12345.6700\""),
            (decimal(18), SparkCast::String, "1.5", "\"1.500000000000000000\""),
            (decimal(18), SparkCast::Float, "0.1", "0.1"),
            (decimal(2), SparkCast::Long, "-12.99", "-12"),
            (decimal(0), SparkCast::Int, "4294967297", "1"),
            (decimal(2), SparkCast::Double, "NaN", "\"NaN\""),
            // Over 38 digits, which ends the job.
            (decimal(18), SparkCast::Double, &"9".repeat(39), &"9".repeat(39)),
            (decimal(18), SparkCast::Double, &"9".repeat(1001), &format!("\"{}\"", "9".repeat(1001))),
            (decimal(18), SparkCast::String, &"9".repeat(39), &format!("\"{}\"", "9".repeat(39))),
            (SparkType::Integer, SparkCast::Double, "7", "7.0"),
            (SparkType::Timestamp, SparkCast::String, "2024-01-01 12:00:00.50", "\"2024-01-01 12:00:00.5\""),
            (SparkType::Array(Box::new(decimal(1))), SparkCast::String, "{1,NULL}", "\"[1.0, null]\""),
        ] {
            assert_eq!(json(spark_type.clone(), Some(cast), text), expected, "{spark_type:?} {text}");
        }
    }
}

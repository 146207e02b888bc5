//! Values as Spark's `cast(… AS STRING)` and `concat_ws` print them.

use super::{
    calendar::{Day, Moment, Zones},
    decimal, interval, java_float,
    types::SparkType,
};
use crate::map::document::bytes_of_hex;

/// Appends the text of a value as the server printed it; `None`, with nothing appended, where the job fails on it.
pub(super) fn write(spark_type: &SparkType, text: &[u8], zones: Zones, out: &mut Vec<u8>) -> Option<()> {
    match spark_type {
        SparkType::Boolean => out.extend_from_slice(match text {
            b"t" => b"true",
            b"f" => b"false",
            other => other,
        }),
        SparkType::Bit => out.extend_from_slice(if text == b"1" { b"true" } else { b"false" }),
        SparkType::Integer | SparkType::Text | SparkType::BitString => out.extend_from_slice(text),
        SparkType::Interval => interval::write(text, out),
        SparkType::Decimal { scale } => decimal::write(text, *scale, out)?,
        SparkType::Float => java_float::write_f32(parse(text)?, out),
        SparkType::Double => java_float::write_f64(parse(text)?, out),
        SparkType::Bytes => out.extend_from_slice(&bytes_of_hex(text)?),
        SparkType::Date => Day::read(text)?.write(out),
        SparkType::Timestamp | SparkType::TimestampUtc | SparkType::Time => {
            moment(spark_type, text, zones)?.write(zones, out);
        }
        SparkType::Array(element) => return write_array(element, text, zones, out),
    }
    Some(())
}

/// What a timestamp or time of day is in Spark.
pub(super) fn moment(spark_type: &SparkType, text: &[u8], zones: Zones) -> Option<Moment> {
    match spark_type {
        SparkType::Time => Moment::read_time(text, zones),
        SparkType::TimestampUtc => Moment::read_utc(text, zones),
        _ => Moment::read_local(text, zones),
    }
}

/// The number that PostgreSQL printed.
pub(super) fn parse<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `[1, null, 3]`.
fn write_array(element: &SparkType, text: &[u8], zones: Zones, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    out.push(b'[');
    let written = each_element(text, |value| {
        if out.len() > start + 1 {
            out.extend_from_slice(b", ");
        }
        match value {
            Some(value) => write(element, value, zones, out),
            None => {
                out.extend_from_slice(b"null");
                Some(())
            }
        }
    });
    out.push(b']');
    if written.is_none() {
        out.truncate(start);
    }
    written
}

/// Calls `element` for each element of an array of one dimension, without its escapes, `None` for NULL; `None` where it
/// has more of them, which Spark cannot read.
pub(super) fn each_element(text: &[u8], mut element: impl FnMut(Option<&[u8]>) -> Option<()>) -> Option<()> {
    // A custom lower bound comes before the first brace.
    let begin = memchr::memchr(b'{', text)?;
    let mut rest = text.get(begin + 1..)?.strip_suffix(b"}")?;
    let mut unescaped = Vec::new();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            unescaped.clear();
            rest = quoted;
            loop {
                let at = memchr::memchr2(b'"', b'\\', rest)?;
                unescaped.extend_from_slice(&rest[..at]);
                if rest[at] == b'"' {
                    rest = &rest[at + 1..];
                    break;
                }
                unescaped.push(*rest.get(at + 1)?);
                rest = &rest[at + 2..];
            }
            element(Some(&unescaped))?;
        } else {
            let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
            let (value, tail) = rest.split_at(end);
            if value.contains(&b'{') {
                return None;
            }
            element((value != b"NULL").then_some(value))?;
            rest = tail;
        }
        rest = rest.strip_prefix(b",").unwrap_or(rest);
    }
    Some(())
}

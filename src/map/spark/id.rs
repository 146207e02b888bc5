//! Ids as Spark's `concat_ws('|', …)` makes them, and its `md5`: NULLs vanish, arrays are flattened, nothing is escaped.

use super::{calendar::Zones, text, types::SparkType};
use std::borrow::Cow;

/// How the id of a key is made.
#[derive(Clone, Debug)]
pub(in crate::map) struct SparkId {
    /// Of the key columns in order.
    pub(super) types: Vec<SparkType>,
    pub(super) zones: Zones,
}

impl SparkId {
    /// Is `plain` the id of a key that is NULL? Of a single text that is `\N` it is not, as text keys hardly are NULL.
    pub(in crate::map) fn is_only_null(&self, plain: &[u8]) -> bool {
        plain == b"\\N" && self.types.len() == 1 && self.types[0] != SparkType::Text
    }

    /// Appends what `concat_ws` makes of the plain id of a key that is not only NULL: bytes, which are no UTF-8 where a
    /// bytea is none.
    ///
    /// A value that the job fails on keeps the server's text, which is no other value's.
    pub(in crate::map) fn write(&self, plain: &[u8], out: &mut Vec<u8>) {
        let mut first = true;
        let mut rest = Some(plain);
        for spark_type in &self.types {
            let Some(tail) = rest else { break };
            let value = if self.types.len() == 1 {
                Cow::Borrowed(tail)
            } else {
                let part = &tail[..end_of_part(tail)];
                rest = tail.get(part.len() + 1..);
                if part == b"\\N" {
                    continue;
                }
                unescaped(part)
            };
            let (begin, was_first) = (out.len(), first);
            if self.write_value(spark_type, &value, &mut first, out).is_none() {
                out.truncate(begin);
                first = was_first;
                separate(&mut first, out);
                out.extend_from_slice(&value);
            }
        }
    }

    fn write_value(
        &self,
        spark_type: &SparkType,
        value: &[u8],
        first: &mut bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let mut write = |spark_type, value: &[u8]| {
            separate(first, out);
            text::write(spark_type, value, self.zones, out)
        };
        match spark_type {
            SparkType::Array(element) => {
                text::each_element(value, |value| value.map_or(Some(()), |value| write(element, value)))
            }
            scalar => write(scalar, value),
        }
    }
}

fn separate(first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::replace(first, false) {
        out.push(b'|');
    }
}

/// Index of the separator that ends the first part of a plain id.
fn end_of_part(plain: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'|', b'\\', plain.get(at..).unwrap_or_default()) {
        if plain[at + found] == b'|' {
            return at + found;
        }
        at += found + 2;
    }
    plain.len()
}

fn unescaped(part: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', part).is_none() {
        return Cow::Borrowed(part);
    }
    let mut value = Vec::with_capacity(part.len());
    let mut bytes = part.iter();
    while let Some(&byte) = bytes.next() {
        value.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    Cow::Owned(value)
}

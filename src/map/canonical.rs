//! One spelling of a JSON value: for documents that others wrote, where the bytes may differ and the values may not.

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Appends `json` with sorted keys (of equal ones the last), strings in one spelling, numbers by their value, and no white
/// space.
///
/// # Errors
/// It is no JSON.
pub fn write_canonical(json: &[u8], out: &mut Vec<u8>) -> serde_json::Result<()> {
    let value: &RawValue = serde_json::from_slice(json)?;
    write(value, out)
}

fn write(value: &RawValue, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            out.push(b'{');
            for (name, value) in fields {
                serde_json::to_writer(&mut *out, &name)?;
                out.push(b':');
                write(value, out)?;
                out.push(b',');
            }
            out.push(b'}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            out.push(b'[');
            for item in items {
                write(item, out)?;
                out.push(b',');
            }
            out.push(b']');
        }
        // A lone surrogate is a valid escape that no string can hold: it stays as it is spelt.
        Some(b'"') => match serde_json::from_str::<String>(text) {
            Ok(string) => serde_json::to_writer(&mut *out, &string)?,
            Err(_) => out.extend_from_slice(text.as_bytes()),
        },
        Some(b'-' | b'0'..=b'9') => write_number(text, out),
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

/// `-12.50e1` as `-125e0`: sign, digits without zeros at either end, exponent.
fn write_number(text: &str, out: &mut Vec<u8>) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    let zeros = significant.len() - trimmed.len();
    match exponent.parse::<i64>() {
        _ if trimmed.is_empty() => out.push(b'0'),
        Ok(exponent) => {
            let exponent = exponent.saturating_sub(fraction.len() as i64).saturating_add(zeros as i64);
            out.extend_from_slice(format!("{sign}{trimmed}e{exponent}").as_bytes());
        }
        Err(_) => out.extend_from_slice(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(json: &str) -> String {
        let mut out = vec![];
        write_canonical(json.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_value_has_one_spelling() {
        for (a, b) in [
            (r#"{"b": 1, "a": [1, "x"]}"#, r#"{"a":[1.0,"\u0078"],"b":10e-1}"#),
            ("1e400", "10e399"),
            ("-0.0", "0"),
            ("0.1230", "123e-3"),
            ("\"\\/\"", "\"/\""),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        ] {
            assert_eq!(canonical(a), canonical(b));
        }
    }

    #[test]
    fn other_values_have_others() {
        let values = [
            "1",
            "10",
            "-1",
            "0.1",
            "\"1\"",
            "true",
            "null",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "{\"a\":1}",
            "{\"1\":1}",
            "12345678901234567890123",
            "12345678901234567890124",
            "\"\\ud800\"",
            "\"\\ud801\"",
        ];
        let all: std::collections::BTreeSet<_> = values.iter().map(|v| canonical(v)).collect();
        assert_eq!(all.len(), values.len());
        assert!(write_canonical(b"{", &mut vec![]).is_err());
    }
}

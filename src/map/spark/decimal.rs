//! Decimals as `java.math.BigDecimal.toString` prints them, at the precision and scale that Spark gives the column.

use std::io::Write;

/// Digits of Spark's largest decimal (Spark docs: "Data Types", DecimalType).
pub(super) const MOST_DIGITS: usize = 38;
/// A numeric without precision is read as decimal(38,18) (Spark docs: "JDBC To Other Databases").
pub(super) const DEFAULT_SCALE: usize = 18;

/// A value's digits without point, and its sign.
struct Unscaled {
    negative: bool,
    digits: Vec<u8>,
}

/// Appends the text of a numeric at `scale`, rounded half up; `None`, with nothing appended, where Spark cannot hold it:
/// over 38 digits, NaN, infinity.
pub(super) fn write(text: &[u8], scale: usize, out: &mut Vec<u8>) -> Option<()> {
    let Unscaled { negative, digits } = rescale(text, scale)?;
    if negative {
        out.push(b'-');
    }
    // The exponent of the first digit decides the form: below 1e-6 scientific.
    let exponent = digits.len() as i64 - 1 - scale as i64;
    if exponent < -6 {
        let (first, rest) = digits.split_at(1);
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        // Writing to a Vec cannot fail.
        let _ = write!(out, "E{exponent}");
        return Some(());
    }
    if scale == 0 {
        out.extend_from_slice(&digits);
        return Some(());
    }
    let padding = (scale + 1).saturating_sub(digits.len());
    let whole = (digits.len() + padding - scale).saturating_sub(padding);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits[..whole] });
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', padding.saturating_sub(1)));
    out.extend_from_slice(&digits[whole..]);
    Some(())
}

/// The whole part of a numeric, cut towards zero, as Java narrows it to 64 bits.
pub(super) fn truncated(text: &[u8], scale: usize) -> Option<i64> {
    let Unscaled { negative, digits } = rescale(text, scale)?;
    let whole = &digits[..digits.len().saturating_sub(scale)];
    // At most 38 digits fit.
    let value = whole.iter().fold(0i128, |n, digit| n * 10 + i128::from(digit - b'0'));
    Some(if negative { -value } else { value } as i64)
}

fn rescale(text: &[u8], scale: usize) -> Option<Unscaled> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let point = memchr::memchr(b'.', text).unwrap_or(text.len());
    let (whole, fraction) = (&text[..point], text.get(point + 1..).unwrap_or_default());
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let kept = fraction.len().min(scale);
    let mut digits: Vec<u8> = whole.iter().chain(&fraction[..kept]).copied().collect();
    digits.extend(std::iter::repeat_n(b'0', scale - kept));
    if fraction.get(kept).is_some_and(|next| *next >= b'5') {
        increment(&mut digits);
    }
    let zeros = digits.iter().position(|d| *d != b'0').unwrap_or(digits.len() - 1);
    digits.drain(..zeros);
    let negative = negative && digits != b"0";
    (digits.len() <= MOST_DIGITS).then_some(Unscaled { negative, digits })
}

fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str, scale: usize) -> Option<String> {
        let mut out = vec![];
        write(value.as_bytes(), scale, &mut out)?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_decimal_has_its_scale_and_is_scientific_below_a_millionth() {
        for (value, scale, expected) in [
            ("1.5", 2, "1.50"),
            ("0", 6, "0.000000"),
            ("0", 7, "0E-7"),
            ("0.0000001", 7, "1E-7"),
            ("0.000001", 6, "0.000001"),
            ("0.0000001", 18, "1.00000000000E-7"),
            ("-0.0000001", 7, "-1E-7"),
            ("-0.00", 2, "0.00"),
            ("42", 0, "42"),
            ("0.0000000000000000005", 18, "1E-18"),
            ("-0.0000000000000000004", 18, "0E-18"),
            ("9.9999999999999999999", 18, "10.000000000000000000"),
            ("0.05", 2, "0.05"),
            ("12345678901234567890", 18, "12345678901234567890.000000000000000000"),
        ] {
            assert_eq!(text(value, scale).as_deref(), Some(expected), "{value} at {scale}");
        }
        for (value, scale) in
            [("NaN", 2), ("Infinity", 2), ("", 0), ("-", 0), ("1e5", 0), ("123456789012345678901", 18)]
        {
            assert_eq!(text(value, scale), None, "{value}");
        }
    }

    #[test]
    fn a_whole_part_wraps_as_java_narrows() {
        assert_eq!(truncated(b"-12.99", 2), Some(-12));
        assert_eq!(truncated(b"0.5", 1), Some(0));
        assert_eq!(truncated(b"9223372036854775808", 0), Some(i64::MIN));
        assert_eq!(truncated(b"NaN", 0), None);
    }
}

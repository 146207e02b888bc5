//! Doubles and floats as the Java of Spark 3.5 (JDK 8, 11 and 17) prints them.
//!
//! Not the shortest text: `2.0E-3` is `0.002`, but 2e23 is `1.9999999999999998E23`. Digits come from free-format printing
//! by Steele and White ("How to Print Floating-Point Numbers Accurately", 1990) with what Java's implementation makes of
//! it: whole numbers below 2^63 are cut where their digits stop to matter, an exponent form has at least two digits, and
//! the interval around the value is taken as symmetric except at powers of two. Compared with a JDK 17 digit by digit.

use num_bigint::BigUint;

/// A finite value without its sign: `fraction` * 2^(`exponent` - 52), the first of 53 bits set.
#[derive(Clone, Copy)]
struct Binary {
    fraction: u64,
    exponent: i32,
    /// Bits that the type kept: 53 of a double, 24 of a float, fewer of a subnormal one.
    significant: i32,
}

/// Digits without point: `0.DIGITS` * 10^`exponent`.
struct Decimal {
    digits: [u8; 24],
    length: usize,
    exponent: i32,
}

/// Appends `Double.toString`.
pub(super) fn write_f64(value: f64, out: &mut Vec<u8>) {
    let bits = value.abs().to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    let shift = if exponent == 0 { fraction.leading_zeros() as i32 - 11 } else { 0 };
    let binary = match exponent {
        0 => Binary { fraction: fraction << shift.min(52), exponent: -1022 - shift, significant: 53 - shift },
        _ => Binary { fraction: fraction | 1 << 52, exponent: exponent - 1023, significant: 53 },
    };
    write(value, binary, out);
}

/// Appends `Float.toString`.
pub(super) fn write_f32(value: f32, out: &mut Vec<u8>) {
    let bits = value.abs().to_bits();
    let (exponent, fraction) = ((bits >> 23) as i32, bits & ((1 << 23) - 1));
    let shift = if exponent == 0 { fraction.leading_zeros() as i32 - 8 } else { 0 };
    let binary = match exponent {
        0 => Binary {
            fraction: u64::from(fraction << shift.min(23)) << 29,
            exponent: -126 - shift,
            significant: 24 - shift,
        },
        _ => Binary {
            fraction: u64::from(fraction | 1 << 23) << 29,
            exponent: exponent - 127,
            significant: 24,
        },
    };
    write(f64::from(value), binary, out);
}

fn write(value: f64, binary: Binary, out: &mut Vec<u8>) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value.is_infinite() {
        out.extend_from_slice(b"Infinity");
    } else if value == 0.0 {
        out.extend_from_slice(b"0.0");
    } else {
        lay_out(&digits(binary), out);
    }
}

/// Plain from 1e-3 to below 1e7, else with exponent; at least one digit on both sides of the point.
fn lay_out(decimal: &Decimal, out: &mut Vec<u8>) {
    let (digits, exponent) = (&decimal.digits[..decimal.length], decimal.exponent);
    let (whole, zeros, shown) = match exponent {
        1..=7 => (exponent as usize, 0, None),
        -2..=0 => (0, exponent.unsigned_abs() as usize, None),
        _ => (1, 0, Some(exponent - 1)),
    };
    for i in 0..whole {
        out.push(digits.get(i).copied().unwrap_or(b'0'));
    }
    if whole == 0 {
        out.push(b'0');
    }
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', zeros));
    match digits.get(whole..) {
        Some(fraction) if !fraction.is_empty() => out.extend_from_slice(fraction),
        _ => out.push(b'0'),
    }
    if let Some(exponent) = shown {
        out.push(b'E');
        // Writing to a Vec cannot fail.
        let _ = std::io::Write::write_fmt(out, format_args!("{exponent}"));
    }
}

impl Decimal {
    fn new(exponent: i32) -> Self {
        Decimal { digits: [b'0'; 24], length: 0, exponent }
    }

    fn push(&mut self, digit: u8) {
        // 17 digits tell a double apart; more than 24 are not made.
        if let Some(place) = self.digits.get_mut(self.length) {
            *place = b'0' + digit;
            self.length += 1;
        }
    }

    fn last_is_odd(&self) -> bool {
        self.length > 0 && self.digits[self.length - 1] & 1 == 1
    }

    /// Adds one to the last digit.
    fn round_up(&mut self) {
        while self.length > 0 {
            let last = &mut self.digits[self.length - 1];
            if *last < b'9' {
                *last += 1;
                return;
            }
            *last = b'0';
            if self.length == 1 {
                *last = b'1';
                self.exponent += 1;
                return;
            }
            self.length -= 1;
        }
    }

    /// Without zeros at the end.
    fn trimmed(mut self) -> Self {
        while self.length > 1 && self.digits[self.length - 1] == b'0' {
            self.length -= 1;
        }
        self
    }
}

fn digits(binary: Binary) -> Decimal {
    let Binary { fraction, exponent, significant } = binary;
    let zeros = fraction.trailing_zeros() as i32;
    let bits = 53 - zeros;
    // Bits behind the binary point.
    let behind = (bits - exponent - 1).max(0);
    if behind == 0 && exponent <= 62 {
        return whole_digits(binary);
    }
    let estimate = estimated_exponent(fraction, exponent);
    // The value is B/S of the form fraction * 5^b5 * 2^b2 / (5^s5 * 2^s2); M is half the distance to its neighbours, as
    // M/S.
    let (b5, s5) = ((-estimate).max(0), estimate.max(0));
    let mut b2 = b5 + behind + exponent - (bits - 1);
    let mut s2 = s5 + behind;
    let mut m2 = b5 + behind + exponent - significant;
    let common = b2.min(s2);
    (b2, s2, m2) = (b2 - common, s2 - common, m2 - common);
    if bits == 1 {
        // Below a power of two the neighbour is half as far away.
        m2 -= 1;
    }
    if m2 < 0 {
        (b2, s2, m2) = (b2 - m2, s2 - m2, 0);
    }
    let fraction = fraction >> zeros;
    let length = |fives: i32, exact: i32| match fives {
        0 => exact,
        1..=26 => exact + 64 - 5u64.pow(fives as u32).leading_zeros() as i32,
        _ => exact + fives * 3,
    };
    let (b_bits, tens_bits) = (length(b5, bits + b2), length(s5 + 1, s2 + 1));
    let scaled =
        Scaled { fraction, b5: b5 as u32, b2: b2 as u32, s5: s5 as u32, s2: s2 as u32, m2: m2 as u32 };
    if b_bits < 64 && tens_bits < 64 {
        scaled.digits_of_words(estimate, b_bits < 32 && tens_bits < 32)
    } else {
        scaled.digits_of_big_integers(estimate)
    }
}

/// A whole number below 2^63: its decimal digits, without those that lie below its precision.
fn whole_digits(Binary { fraction, exponent, significant }: Binary) -> Decimal {
    let mut value = if exponent > 52 { fraction << (exponent - 52) } else { fraction >> (52 - exponent) };
    let spare = exponent - significant - 1;
    // 10^n <= 2^spare.
    let cut = if exponent > significant && spare > 1 {
        (f64::from(spare) * 2f64.log10()).floor() as u32
    } else {
        0
    };
    if cut > 0 {
        let unit = 10u64.pow(cut);
        let rest = value % unit;
        value = value / unit + u64::from(rest >= unit / 2);
    }
    let mut reversed = [0u8; 20];
    let mut length = 0;
    while value > 0 {
        reversed[length] = (value % 10) as u8;
        value /= 10;
        length += 1;
    }
    let mut decimal = Decimal::new(length as i32 + cut as i32);
    for digit in reversed[..length].iter().rev() {
        decimal.push(*digit);
    }
    decimal.trimmed()
}

/// The decimal exponent of the first digit, or one more.
#[expect(clippy::approx_constant, reason = "Java's estimate, to its last bit")]
fn estimated_exponent(fraction: u64, exponent: i32) -> i32 {
    let mantissa = f64::from_bits(1023 << 52 | fraction & ((1 << 52) - 1));
    ((mantissa - 1.5) * 0.289529654 + 0.176091259 + f64::from(exponent) * 0.301029995663981).floor() as i32
}

struct Scaled {
    fraction: u64,
    b5: u32,
    b2: u32,
    s5: u32,
    s2: u32,
    m2: u32,
}

/// Is the exponent form used, which has at least two digits?
fn is_exponential(estimate: i32) -> bool {
    !(-3..8).contains(&estimate)
}

impl Scaled {
    /// In words of 32 or 64 bits, which overflow as Java's do.
    fn digits_of_words(&self, estimate: i32, narrow: bool) -> Decimal {
        let word = |x: i64| if narrow { i64::from(x as i32) } else { x };
        let five = |power: u32| 5i64.wrapping_pow(power);
        let s = word(five(self.s5).wrapping_shl(self.s2));
        let tens = word(s.wrapping_mul(10));
        let mut b = word((self.fraction as i64).wrapping_mul(five(self.b5)).wrapping_shl(self.b2));
        let mut m = word(five(self.b5).wrapping_shl(self.m2));
        let mut step = |b: &mut i64| {
            let digit = *b / s;
            *b = word((*b % s).wrapping_mul(10));
            m = word(m.wrapping_mul(10));
            // An overflown m is larger than everything.
            let (low, high) = if m > 0 { (*b < m, word(b.wrapping_add(m)) > tens) } else { (true, true) };
            (digit as u8, low, high)
        };
        let first = step(&mut b);
        let (decimal, low, high) = generate(estimate, first, || step(&mut b));
        let twice = word(b.wrapping_shl(1)).wrapping_sub(tens);
        round(decimal, low, high, word(twice).cmp(&0))
    }

    fn digits_of_big_integers(&self, estimate: i32) -> Decimal {
        let five = |power: u32| BigUint::from(5u8).pow(power);
        let s = five(self.s5) << self.s2;
        let tens = &s * 10u8;
        let mut b = (five(self.b5) * self.fraction) << self.b2;
        let mut m = five(self.b5) << self.m2;
        let mut step = |b: &mut BigUint| {
            let mut digit = 0;
            while *b >= s {
                *b -= &s;
                digit += 1;
            }
            *b *= 10u8;
            m *= 10u8;
            (digit, *b < m, &*b + &m >= tens)
        };
        let first = step(&mut b);
        let (decimal, low, high) = generate(estimate, first, || step(&mut b));
        round(decimal, low, high, (b << 1u8).cmp(&tens))
    }
}

/// Digits until what is left lies within the neighbours' reach: below (`low`) or above (`high`).
fn generate(
    estimate: i32,
    (digit, mut low, mut high): (u8, bool, bool),
    mut step: impl FnMut() -> (u8, bool, bool),
) -> (Decimal, bool, bool) {
    let mut decimal = Decimal::new(estimate + 1);
    let mut exponent = estimate;
    if digit == 0 && !high {
        // The estimate was one too high.
        exponent -= 1;
        decimal.exponent = exponent + 1;
    } else {
        decimal.push(digit);
    }
    if is_exponential(exponent) {
        (low, high) = (false, false);
    }
    while !low && !high {
        let next = step();
        decimal.push(next.0);
        (low, high) = (next.1, next.2);
    }
    (decimal, low, high)
}

/// Rounds the last digit by where the rest lies; `twice` compares its double with one unit.
fn round(mut decimal: Decimal, low: bool, high: bool, twice: std::cmp::Ordering) -> Decimal {
    let up = high && (!low || twice.is_gt() || twice.is_eq() && decimal.last_is_odd());
    if up {
        decimal.round_up();
    }
    decimal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn double(value: f64) -> String {
        let mut out = vec![];
        write_f64(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn float(value: f32) -> String {
        let mut out = vec![];
        write_f32(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_those_of_jdk_17() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1234567.0, "-1234567.0"),
            (9999999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (0.001, "0.001"),
            (0.0009999, "9.999E-4"),
            (2e23, "1.9999999999999998E23"),
            (1e23, "9.999999999999999E22"),
            (4.9e-324, "4.9E-324"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (1_234_567_890_123_456_768.0, "1.23456789012345677E18"),
            (2f64.powi(63), "9.223372036854776E18"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), expected);
        }
    }

    #[test]
    fn floats_are_those_of_jdk_17() {
        for (value, expected) in [
            (0.1, "0.1"),
            (16_777_216.0, "1.6777216E7"),
            (1.4e-45, "1.4E-45"),
            (1.175_494_4e-38, "1.17549435E-38"),
            (33_554_432.0, "3.3554432E7"),
            (f32::MAX, "3.4028235E38"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    proptest! {
        #[test]
        fn the_text_is_the_same_number(bits: u64) {
            let (wide, narrow) = (f64::from_bits(bits), f32::from_bits(bits as u32));
            if wide.is_finite() { prop_assert_eq!(double(wide).parse::<f64>().unwrap(), wide); }
            if narrow.is_finite() { prop_assert_eq!(float(narrow).parse::<f32>().unwrap(), narrow); }
        }
    }
}

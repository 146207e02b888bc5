//! Sizes and durations as people write them: `5MB`, `64KiB`, `30s`, `2h`.

use std::time::Duration;

/// Bytes: a plain number, or one with B, kB, MB, GB, TB (decimal) or KiB, MiB, GiB, TiB (binary).
pub fn size(text: &str) -> Result<u64, String> {
    let factor = |unit: &str| {
        Some(match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return None,
        })
    };
    scaled(text, factor)
        .ok_or_else(|| format!("{text:?} is not a size; write it as 500kB, 5MB, 64MiB or 1GB"))
}

/// A duration with its unit: ms, s, m, h or d.
pub fn duration(text: &str) -> Result<Duration, String> {
    let factor = |unit: &str| {
        Some(match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        })
    };
    scaled(text, factor)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration; write it as 5ms, 30s, 10m, 2h or 1d"))
}

fn scaled(text: &str, factor: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    number.parse::<u64>().ok()?.checked_mul(factor(unit.trim())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_decimal_or_binary_and_plain_numbers_are_bytes() {
        for (text, bytes) in [
            ("0", 0),
            ("1234", 1234),
            ("5MB", 5_000_000),
            ("5 mb", 5_000_000),
            ("5MiB", 5 << 20),
            ("64kB", 64_000),
            ("1GB", 1_000_000_000),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MB", "-1", "5XB", "1.5GB", "99999999TB", "99999999999999999999", "5MBB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_their_unit() {
        for (text, millis) in
            [("5ms", 5), ("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "5M", "-5s", "5 years", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_units_panic(text in "\\PC{0,24}", number in any::<u64>(), unit in "[a-zA-Zµé]{0,4}") {
            let _ = (size(&text), duration(&text));
            let text = format!("{number}{unit}");
            let _ = (size(&text), duration(&text));
        }

        #[test]
        fn a_plain_number_of_bytes_is_itself(number in any::<u64>()) {
            prop_assert_eq!(size(&number.to_string()), Ok(number));
        }
    }
}

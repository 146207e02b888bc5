//! Dates and timestamps as numbers, over PostgreSQL's whole range (4713 BC to 5874897 AD), which chrono's does not cover.

/// Microseconds of a day.
pub(super) const DAY: i128 = 86_400_000_000;

/// A point on the time line, as far as windows need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Microseconds since 1970-01-01 00:00 (UTC where the type has a zone).
    At(i128),
    /// `infinity` or `-infinity`.
    Infinite,
}

/// Reads PostgreSQL's ISO text of a date or timestamp (docs: "Date/Time Output"), and ISO 8601 with `T` and `Z`.
pub(super) fn parse(text: &str) -> Option<Moment> {
    let text = text.trim();
    if text == "infinity" || text == "-infinity" {
        return Some(Moment::Infinite);
    }
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) =
        (digits(parts.next()?, 4, 7)?, digits(parts.next()?, 2, 2)?, digits(parts.next()?, 2, 2)?);
    if parts.next().is_some() || year == 0 {
        return None;
    }
    let year = if before_christ { 1 - year } else { year };
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let micros = match time {
        None => 0,
        Some(time) => parse_time(time)?,
    };
    Some(Moment::At(i128::from(days) * DAY + micros))
}

/// `12:34`, `12:34:56.789`, with `Z`, `+02`, `-05:30` or `+01:02:03` behind it.
fn parse_time(text: &str) -> Option<i128> {
    let (clock, offset) = match text.find(['Z', '+', '-']) {
        None => (text, 0),
        Some(at) if &text[at..] == "Z" => (&text[..at], 0),
        Some(at) => {
            let seconds = clock_seconds(text.get(at + 1..)?, 1)?;
            (&text[..at], if text.as_bytes()[at] == b'-' { -seconds } else { seconds })
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut micros = 0;
    if !fraction.is_empty() {
        micros = digits(fraction, 1, 6)? * 10_i64.pow(6 - fraction.len() as u32);
    }
    let seconds = clock_seconds(clock, 2)? - offset;
    Some(i128::from(seconds) * 1_000_000 + i128::from(micros))
}

fn clock_seconds(text: &str, least: usize) -> Option<i64> {
    let parts = text.split(':').map(|p| digits(p, 2, 2)).collect::<Option<Vec<_>>>()?;
    let within =
        parts.len() >= least && parts.len() <= 3 && parts[0] <= 24 && parts[1..].iter().all(|p| *p <= 60);
    within.then(|| parts.iter().zip([3600, 60, 1]).map(|(p, unit)| p * unit).sum())
}

fn digits(text: &str, least: usize, most: usize) -> Option<i64> {
    let right = (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if right { text.parse().ok() } else { None }
}

/// PostgreSQL's ISO text of a day.
pub(super) fn date_text(days: i128) -> String {
    let (date, era) = parts(days);
    format!("{date}{era}")
}

/// PostgreSQL's ISO text of a timestamp; `zone` is put behind the time.
pub(super) fn timestamp_text(micros: i128, zone: &str) -> String {
    let (date, era) = parts(micros.div_euclid(DAY));
    let rest = micros.rem_euclid(DAY);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    format!("{date} {:02}:{:02}:{:02}{fraction}{zone}{era}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn parts(days: i128) -> (String, &'static str) {
    // Days come from parsed text or lie between two that do, so they fit.
    let (year, month, day) = civil_from_days(days as i64);
    if year > 0 {
        (format!("{year:04}-{month:02}-{day:02}"), "")
    } else {
        (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC")
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date; years count 1, 0 (1 BC), -1. Eras of 400 years from 1 March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 4714-11-24 BC and 294276-12-31, the ends of `timestamp`.
    const RANGE: std::ops::Range<i128> = -2_440_588..106_762_940;

    proptest! {
        #[test]
        fn days_survive_printing_and_parsing(day in RANGE) {
            prop_assert_eq!(parse(&date_text(day)), Some(Moment::At(day * DAY)));
        }

        #[test]
        fn timestamps_survive_printing_and_parsing(day in RANGE, micros in 0..DAY) {
            let at = day * DAY + micros;
            prop_assert_eq!(parse(&timestamp_text(at, "")), Some(Moment::At(at)));
            prop_assert_eq!(parse(&timestamp_text(at, "+00")), Some(Moment::At(at)));
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC*", like in "[-0-9:. TZ+BC]{0,40}") {
            parse(&text);
            parse(&like);
        }
    }

    #[test]
    fn known_days_have_their_numbers_and_texts() {
        for (text, day) in [
            ("1970-01-01", 0),
            ("2000-01-01", 10_957),
            ("1969-12-31", -1),
            ("0001-01-01", -719_162),
            ("0001-12-31 BC", -719_163),
            ("4713-01-01 BC", -2_440_550),
            ("294276-12-31", 106_762_939),
            ("5874897-12-31", 2_145_042_905),
        ] {
            assert_eq!(parse(text), Some(Moment::At(day * DAY)), "{text}");
            assert_eq!(date_text(day), text);
        }
    }

    #[test]
    fn zones_are_taken_to_utc() {
        for text in [
            "2024-01-31 12:00:00+00",
            "2024-01-31T12:00:00Z",
            "2024-01-31 17:30:00+05:30",
            "2024-01-31T07:00:00-05",
            "2024-01-31 12:00",
        ] {
            assert_eq!(parse(text), Some(Moment::At(19_753 * DAY + DAY / 2)), "{text}");
        }
        assert_eq!(parse("2024-01-31 00:00:00.5"), Some(Moment::At(19_753 * DAY + 500_000)));
    }

    #[test]
    fn text_that_is_no_date_is_refused() {
        for text in [
            "",
            "today",
            "2024-02-30",
            "2024-13-01",
            "24-01-01",
            "2024-01-01 25:00",
            "2024-01-01T",
            "0000-01-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

//! Ends of a window range as people write them: dates, timestamps, `today+1d`, `-30d`, ids.

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime};

/// One end of a range, checked but not yet resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A value of an integer column.
    Id(i64),
    /// A date or timestamp, as it was written.
    Time(String),
    /// Midnight (UTC) so many days from today.
    Today(i32),
}

/// Days before or after today that are taken seriously: a millennium.
const FAR: i32 = 365_000;

impl Bound {
    /// Reads a bound; the error says which forms there are.
    pub fn parse(text: &str) -> Result<Bound, String> {
        let text = text.trim();
        let relative = text.strip_prefix("today").unwrap_or(text);
        if relative.is_empty() && !text.is_empty() {
            return Ok(Bound::Today(0));
        }
        let days = relative.strip_suffix('d').filter(|_| relative.starts_with(['+', '-']));
        let days = days.and_then(|days| days.parse().ok()).filter(|days| (-FAR..=FAR).contains(days));
        if let Some(days) = days {
            return Ok(Bound::Today(days));
        }
        if let Ok(id) = text.parse() {
            return Ok(Bound::Id(id));
        }
        if is_time(text) {
            return Ok(Bound::Time(text.to_owned()));
        }
        Err(format!("{text:?} is no date (2024-01-31), timestamp, today, today+1d, -30d or id"))
    }

    /// The value to compare the window column with, on this day (UTC).
    pub fn value(&self, today: NaiveDate) -> String {
        match self {
            Bound::Id(id) => id.to_string(),
            Bound::Time(text) => text.clone(),
            Bound::Today(days) => {
                let distance = Days::new(days.unsigned_abs().into());
                let day = if *days < 0 {
                    today.checked_sub_days(distance)
                } else {
                    today.checked_add_days(distance)
                };
                day.unwrap_or(today).to_string()
            }
        }
    }
}

fn is_time(text: &str) -> bool {
    // PostgreSQL takes a space or a T in between.
    let spaced = text.replacen('T', " ", 1);
    let zoneless = spaced.strip_suffix('Z').unwrap_or(&spaced);
    // chrono's %Y takes signs and other lengths: four digits are what is promised.
    let year = text.bytes().take_while(u8::is_ascii_digit).count() == 4;
    year && (NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
        || ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f"]
            .iter()
            .any(|form| NaiveDateTime::parse_from_str(zoneless, form).is_ok())
        || ["%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M:%S%.f%#z"]
            .iter()
            .any(|form| DateTime::parse_from_str(&spaced, form).is_ok()))
}

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Bound::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_documented_forms_are_read() {
        for (text, bound) in [
            ("today", Bound::Today(0)),
            ("today+1d", Bound::Today(1)),
            ("today-7d", Bound::Today(-7)),
            ("-30d", Bound::Today(-30)),
            ("1000000", Bound::Id(1_000_000)),
            ("-5", Bound::Id(-5)),
        ] {
            assert_eq!(Bound::parse(text), Ok(bound), "{text}");
        }
        for text in [
            "2024-01-31",
            "2024-01-31T12:34",
            "2024-01-31 12:34:56.789",
            "2024-01-31T12:34:56Z",
            "2024-01-31 12:34:56+02",
            "2024-01-31T12:34+02:00",
        ] {
            assert_eq!(Bound::parse(text), Ok(Bound::Time(text.to_owned())), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2024-02-30",
            "30d",
            "today+",
            "today+d",
            "-d",
            "2024-1",
            "+99999999999d",
            "24-01-01",
        ] {
            assert!(Bound::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn relative_days_are_midnights_of_that_day() {
        let today = NaiveDate::from_ymd_opt(2024, 3, 1).unwrap();
        assert_eq!(Bound::Today(-1).value(today), "2024-02-29");
        assert_eq!(Bound::Today(1).value(today), "2024-03-02");
        assert_eq!(Bound::Today(FAR).value(today).len(), "3023-07-03".len());
    }

    proptest! {
        #[test]
        fn no_text_makes_bounds_panic(text in "[today0-9dTZ:+. -]{0,24}|\\PC{0,12}") {
            if let Ok(bound) = Bound::parse(&text) {
                let _ = bound.value(NaiveDate::MAX);
            }
        }
    }
}

//! Dates and timestamps: PostgreSQL's ISO text spliced into ISO 8601.
//!
//! With `DateStyle=ISO` and `TimeZone=UTC` the text is `2024-01-31 12:34:56.789012+00`, with five or six digits of the
//! year past 9999, ` BC` at its end before year 1, or `infinity` (PostgreSQL docs: "Date/Time Output").

use super::text::write_string;

/// What the text is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Date,
    Timestamp,
    TimestampUtc,
}

/// Appends the JSON string of a date or timestamp.
pub(super) fn write_time(kind: Kind, text: &[u8], out: &mut Vec<u8>) {
    if let Some((date, time)) = split_common(kind, text) {
        out.push(b'"');
        out.extend_from_slice(date);
        if kind != Kind::Date {
            out.push(b'T');
            out.extend_from_slice(time);
        }
        out.extend_from_slice(if kind == Kind::TimestampUtc { b"Z\"" } else { b"\"" });
        return;
    }
    match (kind, text) {
        (Kind::Date, b"infinity") => out.extend_from_slice(b"\"9999-12-31\""),
        (Kind::Date, b"-infinity") => out.extend_from_slice(b"\"0001-01-01\""),
        (_, b"infinity") => out.extend_from_slice(b"\"9999-12-31T23:59:59.999999Z\""),
        (_, b"-infinity") => out.extend_from_slice(b"\"0001-01-01T00:00:00Z\""),
        _ => match signed_year(kind, text) {
            Some(iso) => write_string(iso.as_bytes(), out),
            // Not a form PostgreSQL prints: pass it on, the index refuses it by name.
            None => write_string(text, out),
        },
    }
}

/// Date and time of a text with a four-digit year of our era: nearly all of them.
fn split_common(kind: Kind, text: &[u8]) -> Option<(&[u8], &[u8])> {
    let date = text.get(..10)?;
    let is_date = |(i, b): (usize, &u8)| if matches!(i, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() };
    if !date.iter().enumerate().all(is_date) {
        return None;
    }
    let rest = &text[10..];
    match kind {
        Kind::Date => rest.is_empty().then_some((date, rest)),
        Kind::Timestamp => clock(rest).map(|time| (date, time)),
        Kind::TimestampUtc => clock(rest.strip_suffix(b"+00")?).map(|time| (date, time)),
    }
}

/// ` 12:34:56[.789012]` without its blank.
fn clock(text: &[u8]) -> Option<&[u8]> {
    let time = text.strip_prefix(b" ")?;
    (time.len() >= 8 && time.iter().all(|b| b.is_ascii_digit() || *b == b':' || *b == b'.')).then_some(time)
}

/// Is it of the characters of dates and times alone?
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.'))
}

/// Years BC and past 9999 as ISO 8601 wants them: signed, at least four digits, year 0 being 1 BC.
fn signed_year(kind: Kind, text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let (text, before_christ) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (year, rest) = text.split_once('-')?;
    let year: i64 = year.parse().ok()?;
    let year = match (before_christ, year) {
        (true, 1) => "0000".to_owned(),
        (true, year) => format!("-{:04}", year - 1),
        (false, year) if year > 9999 => format!("+{year}"),
        (false, year) => format!("{year:04}"),
    };
    let (date, time, end) = match (kind, rest.split_once(' ')) {
        (Kind::Date, None) => return is_plain(rest).then(|| format!("{year}-{rest}")),
        (Kind::Timestamp, Some((date, time))) => (date, time, ""),
        (Kind::TimestampUtc, Some((date, time))) => (date, time.strip_suffix("+00")?, "Z"),
        _ => return None,
    };
    (is_plain(date) && is_plain(time)).then(|| format!("{year}-{date}T{time}{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_text_is_passed_on() {
        use Kind::{Date, Timestamp, TimestampUtc};
        for (kind, text) in [
            (Date, "\n\n\n\n-aa-\"\""),
            (Date, "2024-01-31x"),
            (Date, "2024-01-31 00:00:00"),
            (Timestamp, "2024-01-31x"),
            (Timestamp, "2024-01-31T12:34:56"),
            (TimestampUtc, "2024-01-31 12:34:56+05:30"),
            (TimestampUtc, "01.01.2024 05:30:00 IST"),
        ] {
            let mut out = vec![];
            write_time(kind, text.as_bytes(), &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn every_form_that_postgresql_prints_becomes_iso_8601() {
        use Kind::{Date, Timestamp, TimestampUtc};
        for (kind, text, iso) in [
            (Date, "2024-01-31", "2024-01-31"),
            (Date, "0044-03-15 BC", "-0043-03-15"),
            (Date, "0001-12-31 BC", "0000-12-31"),
            (Date, "10000-01-01", "+10000-01-01"),
            (Date, "4713-01-01 BC", "-4712-01-01"),
            (Date, "infinity", "9999-12-31"),
            (Date, "-infinity", "0001-01-01"),
            (Timestamp, "2024-01-31 12:34:56", "2024-01-31T12:34:56"),
            (Timestamp, "2024-01-31 12:34:56.789012", "2024-01-31T12:34:56.789012"),
            (Timestamp, "294276-12-31 23:59:59.999999", "+294276-12-31T23:59:59.999999"),
            (TimestampUtc, "2024-01-31 12:34:56.7+00", "2024-01-31T12:34:56.7Z"),
            (TimestampUtc, "0044-03-15 10:00:00+00 BC", "-0043-03-15T10:00:00Z"),
            (TimestampUtc, "infinity", "9999-12-31T23:59:59.999999Z"),
            (TimestampUtc, "-infinity", "0001-01-01T00:00:00Z"),
        ] {
            let mut out = vec![];
            write_time(kind, text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("\"{iso}\""), "{text}");
        }
    }
}

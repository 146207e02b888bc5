//! Intervals in the server's own style: pg2os reads `P1Y2M3DT4H5M6.7S`, the job read `1 year 2 mons 3 days 04:05:06.7`
//! (PostgreSQL docs: "Interval Output").

use std::io::Write;

/// Appends an ISO 8601 interval in style `postgres`; what is none (`infinity`) as it is.
pub(super) fn write(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let parsed = std::str::from_utf8(text).ok().and_then(|text| try_write(text, out));
    if parsed.is_none() {
        out.truncate(start);
        out.extend_from_slice(text);
    }
}

fn try_write(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (date, time) = text.strip_prefix('P')?.split_once('T').unwrap_or((&text[1..], ""));
    let start = out.len();
    let mut after_negative = false;
    parts(date, |value, unit| {
        let name = match unit {
            'Y' => "year",
            'M' => "mon",
            'D' => "day",
            _ => return None,
        };
        let number: i64 = value.parse().ok()?;
        let blank = if out.len() == start { "" } else { " " };
        let sign = if after_negative && number > 0 { "+" } else { "" };
        let plural = if number == 1 { "" } else { "s" };
        after_negative = number < 0;
        write!(out, "{blank}{sign}{number} {name}{plural}").ok()
    })?;
    let (mut negative, mut fields) = (false, ["0", "0", "0"]);
    parts(time, |value, unit| {
        negative |= value.starts_with('-');
        let field = fields.get_mut("HMS".find(unit)?)?;
        *field = value.trim_start_matches('-');
        Some(())
    })?;
    if time.is_empty() && out.len() > start {
        return Some(());
    }
    let [hours, minutes, seconds] = fields;
    let (whole, fraction) =
        seconds.split_once('.').map_or((seconds, ""), |(whole, _)| (whole, &seconds[whole.len()..]));
    let blank = if out.len() == start { "" } else { " " };
    let sign = match (negative, after_negative) {
        (true, _) => "-",
        (false, true) => "+",
        (false, false) => "",
    };
    write!(out, "{blank}{sign}{hours:0>2}:{minutes:0>2}:{whole:0>2}{fraction}").ok()
}

/// Calls `part` for each number and the letter behind it.
fn parts<'a>(mut text: &'a str, mut part: impl FnMut(&'a str, char) -> Option<()>) -> Option<()> {
    while !text.is_empty() {
        let end = text.find(|c: char| c.is_ascii_uppercase())?;
        let (value, rest) = text.split_at(end);
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.')) {
            return None;
        }
        part(value, rest.chars().next()?)?;
        text = rest.get(1..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_is_that_of_the_server() {
        for (iso, expected) in [
            ("P1Y2M3DT4H5M6.789S", "1 year 2 mons 3 days 04:05:06.789"),
            ("PT0S", "00:00:00"),
            ("P-1D", "-1 days"),
            ("P1D", "1 day"),
            ("P-1Y-2M3DT-4H-5M-6S", "-1 years -2 mons +3 days -04:05:06"),
            ("P-1DT1H", "-1 days +01:00:00"),
            ("PT-0.5S", "-00:00:00.5"),
            ("PT100H", "100:00:00"),
            ("P178000000Y", "178000000 years"),
            ("infinity", "infinity"),
            ("P1X", "P1X"),
        ] {
            let mut out = b"x".to_vec();
            write(iso.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{expected}"), "{iso}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[PTYMDHS0-9.-]{0,12}") {
            write(text.as_bytes(), &mut vec![]);
        }
    }
}

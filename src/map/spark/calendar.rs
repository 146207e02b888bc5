//! Dates and times as a JVM has them: PostgreSQL's text to what `java.sql.Timestamp` holds, and back to Spark's text.
//!
//! pgjdbc reads a date or timestamp with `java.util.GregorianCalendar`: Julian before 1582-10-15 (days 5 to 14 of that
//! month are read as Julian days), every wall time with the zone of the JVM, an offset before 1900 always the zone's
//! standard one. Spark counts in the proleptic Gregorian calendar, and carries a date before 1900 over by its wall clock
//! (Spark docs: "Migration Guide", Spark 3.0, proleptic Gregorian calendar).

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{OffsetComponents, Tz};
use std::io::Write;

const DAY: i64 = 86_400;
const MICROS: i64 = 1_000_000;
/// 1582-10-15, the first day of the Gregorian calendar, in days since 1970.
const GREGORIAN: i64 = -141_427;
/// 1900-01-01T00:00:00Z: `java.util.TimeZone` knows no change of offset before it.
const UTC1900: i64 = -2_208_988_800;
/// 2071-01-01: from here on the offsets of earlier years are taken.
const LAST_YEARS: i64 = 3_187_296_000;
/// 2037: what Java takes for the standard offset of a zone is the last one it knows.
const LAST_RULES: i64 = 2_114_380_800;
/// 9999-12-31T23:59:59.999Z: what Spark makes of `infinity`.
const FOREVER: i64 = 253_402_300_799_999_000;
/// 0001-01-01T00:00:00Z of the proleptic calendar: what Spark makes of `-infinity`.
const NEVER: i64 = -62_135_596_800_000_000;

/// The time zones of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Zones {
    /// Of the JVM that read the table: values without a zone are of it.
    pub(super) jvm: Tz,
    /// `spark.sql.session.timeZone`: timestamps are printed in it.
    pub(super) session: Tz,
}

/// A calendar day, year 0 being 1 BC.
type Civil = (i64, i64, i64);

/// Microseconds since 1970 as `java.sql.Timestamp` holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(i64);

/// Days of the calendar that Java uses, since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day(i64);

impl Day {
    /// Reads a date; `None` for infinity, which Spark cannot hold.
    pub(super) fn read(text: &[u8]) -> Option<Day> {
        let (text, before_christ) = without_era(std::str::from_utf8(text).ok()?);
        Some(Day(hybrid_days(civil(text, before_christ)?)))
    }

    /// `java.sql.Date.getTime`: milliseconds since 1970 of its midnight in the JVM's zone.
    pub(super) fn millis(self, zones: Zones) -> i64 {
        jvm_instant(self.0 * DAY, zones.jvm) * 1000
    }

    /// Appends Spark's text of it.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        write_day(hybrid_civil(self.0), out);
    }
}

impl Moment {
    /// Reads a timestamp without time zone, as a wall clock of the JVM's zone; `None` where Spark overflows.
    pub(super) fn read_local(text: &[u8], zones: Zones) -> Option<Moment> {
        if let Some(infinite) = infinite(text) {
            return Some(infinite);
        }
        let (text, before_christ) = without_era(std::str::from_utf8(text).ok()?);
        let (day, time) = text.split_once(' ')?;
        let (seconds, micros) = clock(time)?;
        let local = hybrid_days(civil(day, before_christ)?) * DAY + seconds;
        Moment::of(jvm_instant(local, zones.jvm), micros)
    }

    /// Reads a timestamp with time zone, printed in UTC; `None` where Spark overflows.
    ///
    /// The job's server prints it in the JVM's zone and pgjdbc takes that day for one of Java's calendar.
    pub(super) fn read_utc(text: &[u8], zones: Zones) -> Option<Moment> {
        if let Some(infinite) = infinite(text) {
            return Some(infinite);
        }
        let (text, before_christ) = without_era(std::str::from_utf8(text).ok()?);
        let (day, time) = text.strip_suffix("+00")?.split_once(' ')?;
        let (seconds, micros) = clock(time)?;
        let instant = gregorian_days(civil(day, before_christ)?) * DAY + seconds;
        if instant >= (GREGORIAN + 2) * DAY {
            return Moment::of(instant, micros);
        }
        let offset = offset_at(instant, zones.jvm);
        let local = instant + offset;
        let printed = gregorian_civil(local.div_euclid(DAY));
        Moment::of(hybrid_days(printed) * DAY + local.rem_euclid(DAY) - offset, micros)
    }

    /// Reads a time of day, with or without offset. Spark takes it for one of 1970-01-01 in the session's zone, without
    /// its fraction.
    pub(super) fn read_time(text: &[u8], zones: Zones) -> Option<Moment> {
        let text = std::str::from_utf8(text).ok()?;
        let sign = text.find(['+', '-']).unwrap_or(text.len());
        let (time, offset) = text.split_at(sign);
        let (mut wall, _) = clock(time)?;
        if !offset.is_empty() {
            let mut parts = offset[1..].split(':').map(str::parse::<i64>);
            let mut next = || parts.next().unwrap_or(Ok(0)).ok();
            let seconds = next()? * 3600 + next()? * 60 + next()?;
            let utc = if offset.starts_with('-') { wall + seconds } else { wall - seconds };
            wall = utc + offset_at(0, zones.jvm);
        }
        Moment::of(instant_of(wall.rem_euclid(DAY), zones.session), 0)
    }

    fn of(seconds: i64, micros: i64) -> Option<Moment> {
        Some(Moment(seconds.checked_mul(MICROS)?.checked_add(micros)?))
    }

    /// `java.sql.Timestamp.getTime`: milliseconds since 1970.
    pub(super) fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Appends Spark's text of it: in the session's zone, the fraction without its last zeros.
    pub(super) fn write(self, zones: Zones, out: &mut Vec<u8>) {
        let (seconds, micros) = (self.0.div_euclid(MICROS), self.0.rem_euclid(MICROS));
        let instant = if seconds >= UTC1900 {
            seconds
        } else {
            // Carried over by its wall clock.
            let local = seconds + standard_offset(zones.jvm);
            let day = gregorian_days(hybrid_civil(local.div_euclid(DAY)));
            instant_of(day * DAY + local.rem_euclid(DAY), zones.jvm)
        };
        let local = instant + offset_at(instant, zones.session);
        write_day(gregorian_civil(local.div_euclid(DAY)), out);
        let second = local.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        // Writing to a Vec cannot fail.
        let _ = write!(out, " {hour:02}:{minute:02}:{second:02}");
        if micros != 0 {
            let _ = write!(out, ".{micros:06}");
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
    }
}

fn infinite(text: &[u8]) -> Option<Moment> {
    match text {
        b"infinity" => Some(Moment(FOREVER)),
        b"-infinity" => Some(Moment(NEVER)),
        _ => None,
    }
}

/// Appends `yyyy-MM-dd`, the year signed where it has not four digits (`java.time.LocalDate.toString`).
fn write_day((year, month, day): Civil, out: &mut Vec<u8>) {
    let sign = match year {
        ..0 => "-",
        0..=9999 => "",
        _ => "+",
    };
    let _ = write!(out, "{sign}{:04}-{month:02}-{day:02}", year.abs());
}

fn without_era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |text| (text, true))
}

/// `2024-01-31` of either era.
fn civil(text: &str, before_christ: bool) -> Option<Civil> {
    let mut parts = text.split('-').map(|part| part.parse::<i64>().ok());
    let day = (parts.next()??, parts.next()??, parts.next()??);
    let in_range = parts.next().is_none() && (0..10_000_000).contains(&day.0);
    let valid = in_range && (1..=12).contains(&day.1) && (1..=31).contains(&day.2);
    valid.then_some((if before_christ { 1 - day.0 } else { day.0 }, day.1, day.2))
}

/// `12:34:56[.789012]` as seconds and microseconds.
fn clock(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':').map(|part| part.parse::<i64>().ok().filter(|n| (0..100).contains(n)));
    let seconds = parts.next()?? * 3600 + parts.next()?? * 60 + parts.next()??;
    let digits = fraction.len() <= 6 && fraction.bytes().all(|b| b.is_ascii_digit());
    let micros = digits.then(|| fraction.bytes().chain(std::iter::repeat(b'0')).take(6))?;
    Some((seconds, micros.fold(0, |n, digit| n * 10 + i64::from(digit - b'0'))))
}

/// Days since 1970-01-01 of the proleptic Gregorian calendar (the era arithmetic of H. Hinnant's "chrono-Compatible
/// Low-Level Date Algorithms").
fn gregorian_days((year, month, day): Civil) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

fn gregorian_civil(days: i64) -> Civil {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    civil_of(era * 400 + year, of_era - (365 * year + year / 4 - year / 100))
}

fn julian_days((year, month, day): Civil) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) + of_year - 719_470
}

fn julian_civil(days: i64) -> Civil {
    let days = days + 719_470;
    let (era, of_era) = (days.div_euclid(1461), days.rem_euclid(1461));
    let year = (of_era - of_era / 1460) / 365;
    civil_of(era * 4 + year, of_era - 365 * year)
}

/// From a year that begins in March and the day in it.
fn civil_of(year: i64, of_year: i64) -> Civil {
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (if month <= 2 { year + 1 } else { year }, month, day)
}

fn hybrid_days(day: Civil) -> i64 {
    if day >= (1582, 10, 15) { gregorian_days(day) } else { julian_days(day) }
}

fn hybrid_civil(days: i64) -> Civil {
    if days >= GREGORIAN { gregorian_civil(days) } else { julian_civil(days) }
}

/// An instant or wall clock as chrono holds it.
///
/// Before chrono's first year every zone has its first offset. The zone tables end in 2100, Java's rules never: later
/// years have the offsets of one with the same days of the week.
fn naive(seconds: i64) -> NaiveDateTime {
    const FIRST: i64 = -8_000_000_000_000;
    let known = if seconds < LAST_YEARS { seconds.max(FIRST) } else { seconds - to_known_year(seconds) };
    DateTime::from_timestamp(known, 0).unwrap_or_default().naive_utc()
}

/// Seconds from the year of `seconds` back to a like one among the 28 before [`LAST_YEARS`].
fn to_known_year(seconds: i64) -> i64 {
    let (year, _, _) = gregorian_civil(seconds.div_euclid(DAY));
    let begin = |year| gregorian_days((year, 1, 1));
    let days = |year| begin(year + 1) - begin(year);
    let is_like = |known: &i64| (begin(year) - begin(*known)) % 7 == 0 && days(year) == days(*known);
    (2043..=2070).find(is_like).map_or(0, |known| (begin(year) - begin(known)) * DAY)
}

fn offset_at(instant: i64, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return 0;
    }
    i64::from(zone.offset_from_utc_datetime(&naive(instant)).fix().local_minus_utc())
}

fn standard_offset(zone: Tz) -> i64 {
    zone.offset_from_utc_datetime(&naive(LAST_RULES)).base_utc_offset().num_seconds()
}

/// The instant of a wall clock: of a doubled hour the later, in a skipped one as if the clock had not been changed.
fn instant_of(local: i64, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return local;
    }
    match zone.offset_from_local_datetime(&naive(local)).latest() {
        Some(offset) => local - i64::from(offset.fix().local_minus_utc()),
        None => local - offset_at(local - DAY, zone),
    }
}

/// The instant of a wall clock as `java.util.Calendar` has it.
fn jvm_instant(local: i64, zone: Tz) -> i64 {
    let standard = local - standard_offset(zone);
    if standard < UTC1900 { standard } else { instant_of(local, zone) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::{America::New_York, Asia::Tokyo, UTC};
    use proptest::prelude::*;

    const HERE: Zones = Zones { jvm: UTC, session: UTC };
    const THERE: Zones = Zones { jvm: New_York, session: New_York };

    #[test]
    fn days_are_those_of_javas_calendar() {
        for (text, zones, millis, printed) in [
            ("1970-01-01", HERE, 0, "1970-01-01"),
            ("2024-06-15", HERE, 1_718_409_600_000, "2024-06-15"),
            ("2024-06-15", THERE, 1_718_424_000_000, "2024-06-15"),
            ("1582-10-10", HERE, -12_218_860_800_000, "1582-10-20"),
            ("0001-01-01", HERE, -62_135_769_600_000, "0001-01-01"),
            ("0044-03-15 BC", HERE, -63_517_996_800_000, "-0043-03-15"),
            ("10000-01-01", HERE, 253_402_300_800_000, "+10000-01-01"),
        ] {
            let day = Day::read(text.as_bytes()).unwrap();
            let mut out = vec![];
            day.write(&mut out);
            assert_eq!(
                (day.millis(zones), String::from_utf8(out).unwrap()),
                (millis, printed.into()),
                "{text}"
            );
        }
        assert_eq!(Day::read(b"infinity"), None);
    }

    #[test]
    fn moments_have_whole_milliseconds_and_the_zone_of_the_jvm() {
        let read = |text: &str, zones| Moment::read_local(text.as_bytes(), zones).unwrap().millis();
        assert_eq!(read("1969-12-31 23:59:59.999999", HERE), -1);
        assert_eq!(read("2024-01-01 12:34:56.789999", HERE), 1_704_112_496_789);
        assert_eq!(read("2024-01-01 12:34:56.789999", THERE), 1_704_130_496_789);
        // A doubled hour is standard time, a skipped one goes on.
        assert_eq!(read("2024-11-03 01:30:00", THERE), 1_730_615_400_000);
        assert_eq!(read("2024-03-10 02:30:00", THERE), 1_710_055_800_000);
        let utc = Moment::read_utc(b"2024-01-01 12:34:56.789999+00", THERE).unwrap();
        assert_eq!(utc.millis(), 1_704_112_496_789);
        let time = |text: &str, zones| Moment::read_time(text.as_bytes(), zones).unwrap().millis();
        assert_eq!(time("03:04:05.678", HERE), 11_045_000);
        assert_eq!(read("4000-07-01 00:00:00", THERE) - read("4000-07-01 00:00:00", HERE), 4 * 3_600_000);
        assert_eq!((time("24:00:00", HERE), time("12:34:56-04:30", HERE)), (0, 61_496_000));
        assert_eq!(time("03:04:05", Zones { jvm: UTC, session: Tokyo }), 11_045_000 - 9 * 3_600_000);
    }

    #[test]
    fn text_that_is_no_time_is_none_and_an_overflow_too() {
        for text in [
            "",
            " ",
            "x",
            "2024",
            "2024-01-01",
            "2024-13-01 00:00:00",
            "294276-12-31 23:59:59",
            "2024-01-01 x:y:z",
        ] {
            assert_eq!(Moment::read_local(text.as_bytes(), HERE), None, "{text}");
            assert_eq!(Moment::read_utc(text.as_bytes(), HERE), None, "{text}");
        }
        assert_eq!(Moment::read_time(b"12:00:00+x", HERE), None);
    }

    proptest! {
        #[test]
        fn days_survive_both_calendars(days in -100_000_000i64..100_000_000) {
            prop_assert_eq!(gregorian_days(gregorian_civil(days)), days);
            prop_assert_eq!(julian_days(julian_civil(days)), days);
            prop_assert_eq!(hybrid_days(hybrid_civil(days)), days);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[0-9:+. BCinfty-]{0,30}") {
            for zones in [HERE, THERE] {
                if let Some(day) = Day::read(text.as_bytes()) { day.millis(zones); }
                for read in [Moment::read_local, Moment::read_utc, Moment::read_time] {
                    if let Some(moment) = read(text.as_bytes(), zones) { moment.write(zones, &mut vec![]); }
                }
            }
        }
    }
}

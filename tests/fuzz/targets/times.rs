//! Every date and timestamp of PostgreSQL becomes its ISO 8601 form; another text is passed on.

use super::{
    document::{Field, assert_json, built_in, is_string_of, text_of},
    input::Input,
};

/// date, timestamp, timestamptz.
const OIDS: [u32; 3] = [1082, 1114, 1184];

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let oid = OIDS[input.below(OIDS.len())];
    if input.byte() & 1 == 0 {
        any_text(oid, input.0);
    } else {
        printed(oid, &mut input);
    }
}

fn any_text(oid: u32, text: &[u8]) {
    let Field::Value(json) = assert_json(&built_in(oid), text) else {
        panic!("{} is left out", text_of(text))
    };
    let is_iso = json[1..json.len() - 1]
        .iter()
        .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'T' | b':' | b'.' | b'Z'));
    assert!(is_iso || is_string_of(&json, text), "{} becomes {}", text_of(text), text_of(&json));
}

fn printed(oid: u32, input: &mut Input<'_>) {
    let before_christ = input.byte() & 3 == 0;
    let last_year = match (before_christ, oid) {
        (true, _) => 4713,
        (false, 1082) => 5_874_897,
        (false, _) => 294_276,
    };
    let year = 1 + (input.number() >> (input.byte() % 64)) % last_year;
    let (month, day) = (1 + input.below(12), 1 + input.below(31));
    let mut clock = format!("{:02}:{:02}:{:02}", input.below(24), input.below(60), input.below(60));
    let micros = format!("{:06}", input.number() % 1_000_000);
    let fraction = micros.trim_end_matches('0');
    if !fraction.is_empty() {
        clock += &format!(".{fraction}");
    }
    // Astronomical years: 1 BC is 0 (ISO 8601); more than four digits need a sign.
    let iso_year = match (before_christ, year) {
        (true, 1) => "0000".to_owned(),
        (true, year) => format!("-{:04}", year - 1),
        (false, 10_000..) => format!("+{year}"),
        (false, year) => format!("{year:04}"),
    };
    let era = if before_christ { " BC" } else { "" };
    let (text, iso) = match oid {
        1082 => (format!("{year:04}-{month:02}-{day:02}{era}"), format!("{iso_year}-{month:02}-{day:02}")),
        1114 => (
            format!("{year:04}-{month:02}-{day:02} {clock}{era}"),
            format!("{iso_year}-{month:02}-{day:02}T{clock}"),
        ),
        _ => (
            format!("{year:04}-{month:02}-{day:02} {clock}+00{era}"),
            format!("{iso_year}-{month:02}-{day:02}T{clock}Z"),
        ),
    };
    let field = assert_json(&built_in(oid), text.as_bytes());
    assert_eq!(field, Field::Value(format!("\"{iso}\"").into_bytes()), "{text}");
}

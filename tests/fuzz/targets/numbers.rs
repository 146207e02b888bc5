//! Numbers keep every digit; what is no number is a string.

use super::{
    document::{Field, assert_json, built_in, is_json, is_string_of, text_of},
    input::Input,
};

/// smallint, integer, bigint, oid, real, double precision, numeric.
const OIDS: [u32; 7] = [21, 23, 20, 26, 700, 701, 1700];
/// JSON numbers of more characters are refused by OpenSearch.
const LONGEST: usize = 1000;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let oid = OIDS[input.below(OIDS.len())];
    if input.byte() & 1 == 0 {
        check(oid, input.0);
    } else {
        check(oid, printed(&mut input).as_bytes());
    }
}

fn check(oid: u32, text: &[u8]) {
    let field = assert_json(&built_in(oid), text);
    let has_no_json = matches!(text, b"NaN" | b"Infinity" | b"-Infinity");
    if has_no_json && oid >= 700 {
        assert_eq!(field, Field::LeftOut);
        return;
    }
    let Field::Value(json) = field else { panic!("{} is left out", text_of(text)) };
    let is_number = text.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-')
        && text.last().is_some_and(u8::is_ascii_digit)
        && !text.contains(&b'E')
        && is_json(text);
    if is_number && (oid != 1700 || text.len() <= LONGEST) {
        assert_eq!(text_of(&json), text_of(text));
    } else {
        assert!(is_string_of(&json, text), "{} becomes {}", text_of(text), text_of(&json));
    }
}

/// A number as PostgreSQL prints it, up to 131,072 digits before the point and 16,383 after it.
fn printed(input: &mut Input<'_>) -> String {
    let mut text = String::new();
    if input.byte() & 1 == 1 {
        text.push('-');
    }
    let digits = |input: &mut Input<'_>| {
        let digit = char::from(b'0' + input.byte() % 10).to_string();
        let many = if input.byte() == 255 { 65_536 } else { 40 };
        digit.repeat(1 + input.below(many))
    };
    let whole = digits(input);
    text += match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    if input.byte() & 1 == 1 {
        text.push('.');
        text += &digits(input);
    }
    if input.byte() & 3 == 3 {
        text += if input.byte() & 1 == 1 { "e+" } else { "e-" };
        text += &format!("{:02}", input.below(400));
    }
    text
}

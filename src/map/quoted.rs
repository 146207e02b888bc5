//! Values inside the text of composites and ranges (PostgreSQL docs: "Composite Type Input and Output Syntax").

use std::borrow::Cow;

/// A value, where there is one, and what follows it.
pub(super) type Read<'a> = (Option<Cow<'a, [u8]>>, &'a [u8]);

/// What ends a value of a composite: the others are not quoted there.
pub(super) const IN_COMPOSITE: &[u8] = b",)";
/// What ends a bound of a range.
pub(super) const IN_RANGE: &[u8] = b",)]";

/// Reads a value up to the one of `ends` behind it, and what follows; the value is `None` where there is no text at all,
/// which is not the same as an empty one in quotes.
///
/// Quotes protect commas and brackets; inside, a quote is doubled; a backslash protects any character.
pub(super) fn read<'a>(text: &'a [u8], ends: &[u8]) -> Option<Read<'a>> {
    let plain = text.iter().position(|b| matches!(b, b'"' | b'\\') || ends.contains(b))?;
    let (value, rest) = text.split_at(plain);
    if !matches!(rest.first(), Some(b'"' | b'\\')) {
        return Some(((!value.is_empty()).then_some(Cow::Borrowed(value)), rest));
    }
    let mut value = value.to_vec();
    let (mut rest, mut quoted) = (rest, false);
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' if quoted && after.first() == Some(&b'"') => {
                value.push(b'"');
                rest = &after[1..];
            }
            b'"' => quoted = !quoted,
            b'\\' => {
                let (&escaped, after) = after.split_first()?;
                value.push(escaped);
                rest = after;
            }
            _ if !quoted && ends.contains(&byte) => {
                let at = text.len() - after.len() - 1;
                return Some((Some(Cow::Owned(value)), &text[at..]));
            }
            _ => value.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_undone() {
        for (text, value, rest) in [
            ("a,b", Some("a"), ",b"),
            (",b", None, ",b"),
            (")", None, ")"),
            (r#""",b"#, Some(""), ",b"),
            (r#""a""b\\c,)]","#, Some("a\"b\\c,)]"), ","),
            (r#"a"b,"c\,]"#, Some("ab,c,"), "]"),
        ] {
            let (found, left) = read(text.as_bytes(), IN_RANGE).unwrap();
            assert_eq!((found.as_deref(), left), (value.map(str::as_bytes), rest.as_bytes()), "{text}");
        }
        assert_eq!(read(b"[1],2", IN_COMPOSITE), Some((Some(b"[1]"[..].into()), &b",2"[..])));
        for text in ["", "a", "\"a,", "\\", "\"a\"\""] {
            assert_eq!(read(text.as_bytes(), IN_RANGE), None, "{text}");
        }
    }
}

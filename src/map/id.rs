//! Document ids from key columns.
//!
//! `plain`: PostgreSQL's text of each column (booleans `true`/`false`, NULL as `\N`). One column is taken as it is;
//! several are joined by `|`, with `\` and `|` inside a value escaped by `\`, so that two keys never collide.

use crate::model::{Row, Value};
use md5::{Digest, Md5};
use sha2::Sha256;

/// OpenSearch refuses longer ids and empty ones (docs: "Index document", `_id`).
const LONGEST_ID: usize = 512;

/// Column of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// Index of the column in the row.
    pub column: usize,
    /// Is it boolean? `t` and `f` are spelt out.
    pub boolean: bool,
}

/// A key column has no value in the row: an unchanged out-of-line value without the old row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingKey {
    /// Position in the key.
    pub position: usize,
}

/// Appends the plain id of `row`, however long.
///
/// # Errors
/// [`MissingKey`] where the stream did not send the value of a key column.
pub(super) fn write_plain(key: &[KeyColumn], row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), MissingKey> {
    for (position, column) in key.iter().enumerate() {
        if position > 0 {
            out.push(b'|');
        }
        match row.value(column.column) {
            Value::Unchanged => return Err(MissingKey { position }),
            Value::Null => out.extend_from_slice(b"\\N"),
            Value::Text(b"t") if column.boolean => out.extend_from_slice(b"true"),
            Value::Text(b"f") if column.boolean => out.extend_from_slice(b"false"),
            Value::Text(text) if key.len() == 1 => out.extend_from_slice(text),
            Value::Text(text) => escape(text, out),
        }
    }
    Ok(())
}

/// Appends what routes the document of `row`; nothing for NULL, as OpenSearch takes an empty routing for none.
///
/// # Errors
/// [`MissingKey`] where the stream did not send the value.
pub(super) fn write_routing(column: &KeyColumn, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), MissingKey> {
    match row.value(column.column) {
        Value::Null => Ok(()),
        _ => write_plain(std::slice::from_ref(column), row, out),
    }
}

fn escape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr2(b'|', b'\\', text) {
        out.extend_from_slice(&text[..at]);
        out.extend_from_slice(&[b'\\', text[at]]);
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

/// The key column values of a plain id, `None` for NULL: the inverse of its making. `None` where `plain` does not have
/// `columns` parts.
pub fn key_of_plain(plain: &[u8], columns: usize) -> Option<Vec<Option<String>>> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some(split_plain(plain, columns)?.into_iter().map(|part| part.map(text)).collect())
}

/// The plain id of key column values, as [`key_of_plain`] gives them.
pub fn plain_of_key(values: &[Option<&str>]) -> Vec<u8> {
    let mut plain = vec![];
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            plain.push(b'|');
        }
        match value {
            None => plain.extend_from_slice(b"\\N"),
            Some(text) if values.len() == 1 => plain.extend_from_slice(text.as_bytes()),
            Some(text) => escape(text.as_bytes(), &mut plain),
        }
    }
    plain
}

fn split_plain(plain: &[u8], columns: usize) -> Option<Vec<Option<Vec<u8>>>> {
    if columns == 1 {
        return Some(vec![(plain != b"\\N").then(|| plain.to_vec())]);
    }
    let mut parts = vec![Some(vec![])];
    let mut bytes = plain.iter();
    while let Some(&byte) = bytes.next() {
        let part = parts.last_mut()?;
        match byte {
            b'|' => parts.push(Some(vec![])),
            b'\\' => match bytes.next()? {
                b'N' => *part = None,
                other => part.as_mut()?.push(*other),
            },
            other => part.as_mut()?.push(other),
        }
    }
    (parts.len() == columns).then_some(parts)
}

/// Replaces the plain id in `out[from..]` by its MD5 in lower-case hex.
pub(super) fn replace_by_md5(out: &mut Vec<u8>, from: usize) {
    let digest = Md5::digest(&out[from..]);
    replace_by_hex(out, from, &digest);
}

/// Replaces what is no UTF-8 as Java does when it makes a string of it: each ill-formed sequence by U+FFFD.
pub(super) fn replace_invalid(out: &mut Vec<u8>) {
    if std::str::from_utf8(out).is_err() {
        *out = String::from_utf8_lossy(out).into_owned().into_bytes();
    }
}

/// Replaces an id in `out[from..]` that OpenSearch would refuse, empty, over 512 bytes or not UTF-8, by its SHA-256 in hex.
/// True where it did.
pub(super) fn replace_unfit(out: &mut Vec<u8>, from: usize) -> bool {
    let id = &out[from..];
    let unfit = id.is_empty() || id.len() > LONGEST_ID || std::str::from_utf8(id).is_err();
    if unfit {
        let digest = Sha256::digest(&out[from..]);
        replace_by_hex(out, from, &digest);
    }
    unfit
}

fn replace_by_hex(out: &mut Vec<u8>, from: usize, digest: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.truncate(from);
    for byte in digest {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cell;
    use proptest::prelude::*;

    fn plain(values: &[Option<&str>]) -> String {
        let (mut bytes, mut cells) = (vec![], vec![]);
        for v in values {
            cells.push(v.map_or(Cell::Null, |v| {
                let start = bytes.len() as u32;
                bytes.extend_from_slice(v.as_bytes());
                Cell::Text { start, end: bytes.len() as u32 }
            }));
        }
        let key: Vec<KeyColumn> =
            (0..values.len()).map(|column| KeyColumn { column, boolean: false }).collect();
        let mut out = vec![];
        write_plain(&key, &Row { bytes: &bytes, cells: &cells }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_column_is_taken_as_it_is_and_several_are_joined() {
        assert_eq!(plain(&[Some("a|b\\")]), "a|b\\");
        assert_eq!(plain(&[Some("a|b"), Some("c")]), "a\\|b|c");
        assert_eq!(plain(&[Some("a"), Some("b|c")]), "a|b\\|c");
        assert_eq!(plain(&[None, Some("\\N"), Some("")]), "\\N|\\\\N|");
    }

    #[test]
    fn booleans_are_spelt_out_and_a_missing_key_is_an_error() {
        let key = [KeyColumn { column: 0, boolean: true }, KeyColumn { column: 1, boolean: false }];
        let cells = [Cell::Text { start: 0, end: 1 }, Cell::Text { start: 0, end: 1 }];
        let mut out = vec![];
        write_plain(&key, &Row { bytes: b"t", cells: &cells }, &mut out).unwrap();
        assert_eq!(out, b"true|t");
        let cells = [Cell::Null, Cell::Unchanged];
        let missing = write_plain(&key, &Row { bytes: b"", cells: &cells }, &mut out);
        assert_eq!(missing, Err(MissingKey { position: 1 }));
    }

    #[test]
    fn an_empty_or_long_id_becomes_its_sha_256_and_md5_is_lower_hex() {
        let mut out = b"x".to_vec();
        assert!(replace_unfit(&mut out, 1));
        assert_eq!(out, b"xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut out = vec![b'a'; 512];
        assert!(!replace_unfit(&mut out, 0));
        out.push(b'a');
        assert!(replace_unfit(&mut out, 0));
        assert_eq!(out.len(), 64);
        let mut out = b"1|2".to_vec();
        replace_by_md5(&mut out, 0);
        assert_eq!(out, b"b2595e9d5aa0b6f0be8f792ac7b8547a");
    }

    proptest! {
        #[test]
        fn two_keys_never_collide(row in proptest::collection::vec(proptest::option::of("[a|\\\\N]{0,4}"), 2..4)) {
            let refs: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            let parts = split_plain(plain(&refs).as_bytes(), row.len()).unwrap();
            let expected: Vec<Option<Vec<u8>>> = row.iter().map(|v| v.clone().map(String::into_bytes)).collect();
            prop_assert_eq!(parts, expected);
        }

        #[test]
        fn arbitrary_text_splits_or_does_not_but_never_panics(plain in "[a|\\\\N]{0,8}", columns in 1usize..4) {
            let _ = split_plain(plain.as_bytes(), columns);
        }
    }
}

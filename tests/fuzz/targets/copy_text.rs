//! COPY text against a second reading of it (PostgreSQL docs: "COPY", File Formats, Text Format).

use super::input::Input;
use pg2os::{
    decode::{CopyDecoder, DecodeError},
    model::{Cell, Row, Value},
};

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let columns = input.below(6);
    let mut decoder = CopyDecoder::default();
    if input.byte() & 1 == 0 {
        let (first, second) = input.0.split_at(input.0.len() / 2);
        // The same decoder for one row after the other, as for a window.
        for line in [input.0, first, second] {
            check(&mut decoder, line, columns);
        }
    } else {
        let row: Vec<Option<Vec<u8>>> = (0..columns).map(|_| input.cell()).collect();
        let line = print(&row);
        assert_eq!(read(&line, columns).as_ref(), Ok(&row));
        check(&mut decoder, &line, columns);
    }
}

fn check(decoder: &mut CopyDecoder, line: &[u8], columns: usize) {
    let expected = read(line, columns);
    let found = decoder.decode(line, columns).map(|row| {
        assert!(row.bytes.len() <= line.len());
        assert!(!row.cells.contains(&Cell::Unchanged));
        cells(&row)
    });
    assert_eq!(found, expected);
}

/// The values of a row, NULL as `None`.
pub(super) fn cells(row: &Row<'_>) -> Vec<Option<Vec<u8>>> {
    let value = |i| match row.value(i) {
        Value::Text(text) => Some(text.to_vec()),
        Value::Null | Value::Unchanged => None,
    };
    (0..row.len()).map(value).collect()
}

/// What the server does.
pub(super) fn print(row: &[Option<Vec<u8>>]) -> Vec<u8> {
    let value = |value: &Option<Vec<u8>>| {
        let Some(value) = value else { return b"\\N".to_vec() };
        let escaped = |byte: &u8| match byte {
            8 => b"\\b".to_vec(),
            9 => b"\\t".to_vec(),
            10 => b"\\n".to_vec(),
            11 => b"\\v".to_vec(),
            12 => b"\\f".to_vec(),
            13 => b"\\r".to_vec(),
            b'\\' => b"\\\\".to_vec(),
            byte => vec![*byte],
        };
        value.iter().flat_map(escaped).collect()
    };
    let mut line = row.iter().map(value).collect::<Vec<Vec<u8>>>().join(&b'\t');
    line.push(b'\n');
    line
}

fn read(line: &[u8], columns: usize) -> Result<Vec<Option<Vec<u8>>>, DecodeError> {
    let line = match line.split_last() {
        Some((b'\n', line)) => line,
        _ => line,
    };
    if line.is_empty() && columns == 0 {
        return Ok(vec![]);
    }
    let row: Vec<Option<Vec<u8>>> = line.split(|b| *b == b'\t').map(value).collect::<Result<_, _>>()?;
    match row.len() {
        found if found == columns => Ok(row),
        found => Err(DecodeError::ColumnCount { found, expected: columns }),
    }
}

fn value(field: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
    if field == b"\\N" {
        return Ok(None);
    }
    let (mut value, mut is_escaped) = (vec![], false);
    for &byte in field {
        if is_escaped {
            let meanings = b"b\x08f\x0cn\nr\rt\tv\x0b";
            let meaning = meanings.chunks(2).find(|pair| pair[0] == byte);
            value.push(meaning.map_or(byte, |pair| pair[1]));
            is_escaped = false;
        } else if byte == b'\\' {
            is_escaped = true;
        } else {
            value.push(byte);
        }
    }
    if is_escaped { Err(DecodeError::Truncated("an escape")) } else { Ok(Some(value)) }
}

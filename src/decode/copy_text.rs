//! Rows of `COPY … TO STDOUT` in text format (PostgreSQL docs: "COPY", File Formats, Text Format).

use super::DecodeError;
use crate::model::{Cell, Row};

/// Splits rows into cells, reusing its buffers. The cells have the same text as the stream's tuples.
#[derive(Debug, Default)]
pub struct CopyDecoder {
    cells: Vec<Cell>,
    unescaped: Vec<u8>,
}

impl CopyDecoder {
    /// Decodes one row, with or without its final newline.
    ///
    /// # Errors
    /// Another number of columns than `columns`, or a backslash at the end.
    pub fn decode<'a>(&'a mut self, line: &'a [u8], columns: usize) -> Result<Row<'a>, DecodeError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.cells.clear();
        if columns == 0 && line.is_empty() {
            return Ok(Row { bytes: line, cells: &self.cells });
        }
        if memchr::memchr(b'\\', line).is_none() {
            let mut start = 0;
            for tab in memchr::memchr_iter(b'\t', line) {
                self.cells.push(Cell::Text { start: start as u32, end: tab as u32 });
                start = tab + 1;
            }
            self.cells.push(Cell::Text { start: start as u32, end: line.len() as u32 });
            self.check(columns)?;
            return Ok(Row { bytes: line, cells: &self.cells });
        }
        self.unescaped.clear();
        for field in line.split(|b| *b == b'\t') {
            if field == b"\\N" {
                self.cells.push(Cell::Null);
                continue;
            }
            let start = self.unescaped.len();
            unescape(field, &mut self.unescaped)?;
            self.cells.push(Cell::Text { start: start as u32, end: self.unescaped.len() as u32 });
        }
        self.check(columns)?;
        Ok(Row { bytes: &self.unescaped, cells: &self.cells })
    }

    fn check(&self, expected: usize) -> Result<(), DecodeError> {
        let found = self.cells.len();
        if found == expected { Ok(()) } else { Err(DecodeError::ColumnCount { found, expected }) }
    }
}

fn unescape(mut field: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    while let Some(at) = memchr::memchr(b'\\', field) {
        let (clean, rest) = field.split_at(at);
        out.extend_from_slice(clean);
        let [_, escape, rest @ ..] = rest else { return Err(DecodeError::Truncated("an escape")) };
        out.push(match escape {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            // The server writes no octal or hexadecimal escapes, only these and a doubled backslash.
            other => *other,
        });
        field = rest;
    }
    out.extend_from_slice(field);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Value;
    use proptest::prelude::*;

    fn values(line: &[u8], columns: usize) -> Result<Vec<Option<Vec<u8>>>, DecodeError> {
        let mut decoder = CopyDecoder::default();
        let row = decoder.decode(line, columns)?;
        Ok((0..row.len())
            .map(|i| match row.value(i) {
                Value::Text(t) => Some(t.to_vec()),
                _ => None,
            })
            .collect())
    }

    #[test]
    fn null_empty_and_a_backslash_n_in_the_text_differ() {
        assert_eq!(values(b"\\N\t\t\\\\N\n", 3).unwrap(), [None, Some(vec![]), Some(b"\\N".to_vec())]);
    }

    #[test]
    fn a_row_of_another_width_is_refused() {
        assert_eq!(values(b"a\tb\n", 3), Err(DecodeError::ColumnCount { found: 2, expected: 3 }));
        assert_eq!(values(b"a\t\\N", 1), Err(DecodeError::ColumnCount { found: 2, expected: 1 }));
        assert_eq!(values(b"a\\", 1), Err(DecodeError::Truncated("an escape")));
    }

    #[test]
    fn a_row_without_columns_is_empty() {
        assert_eq!(values(b"\n", 0).unwrap(), Vec::<Option<Vec<u8>>>::new());
    }

    /// What the server does, from the documentation.
    fn escape(value: Option<&[u8]>) -> Vec<u8> {
        let Some(value) = value else { return b"\\N".to_vec() };
        let mut out = vec![];
        for b in value {
            match b {
                8 => out.extend(b"\\b"),
                9 => out.extend(b"\\t"),
                10 => out.extend(b"\\n"),
                11 => out.extend(b"\\v"),
                12 => out.extend(b"\\f"),
                13 => out.extend(b"\\r"),
                b'\\' => out.extend(b"\\\\"),
                b => out.push(*b),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn every_row_survives_copy_text(row in proptest::collection::vec(
            proptest::option::of("[a-c\\\\N\\t\\n\\r\\x08\\x0b\\x0c|é]{0,8}"), 1..6)
        ) {
            let row: Vec<Option<Vec<u8>>> = row.into_iter().map(|v| v.map(String::into_bytes)).collect();
            let line = row.iter().map(|v| escape(v.as_deref())).collect::<Vec<_>>().join(&b'\t');
            prop_assert_eq!(values(&line, row.len()).unwrap(), row);
        }

        #[test]
        fn arbitrary_bytes_never_panic(line in proptest::collection::vec(any::<u8>(), 0..60), columns in 0usize..5) {
            let _ = values(&line, columns);
        }
    }
}

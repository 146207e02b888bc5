//! One row as text, borrowed from the bytes it arrived in.

/// One column value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// Unchanged out-of-line (TOAST) value that the server did not send; only the stream has it.
    Unchanged,
    /// PostgreSQL's text of the value, in the database's client encoding (UTF-8), not unescaped any further.
    Text(&'a [u8]),
}

/// Where one value lies in the bytes of its row: reusable between rows, so that decoding allocates nothing per row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// Unchanged TOAST value.
    Unchanged,
    /// Byte range of the text.
    Text {
        /// First byte.
        start: u32,
        /// Byte after the last.
        end: u32,
    },
}

/// A row: the bytes it arrived in and the place of each column's value.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The bytes that the cells point into.
    pub bytes: &'a [u8],
    /// One cell per column, in the order of the relation or of the column list that was selected.
    pub cells: &'a [Cell],
}

impl<'a> Row<'a> {
    /// The value of column `index`; a column that is not there is NULL.
    pub fn value(&self, index: usize) -> Value<'a> {
        match self.cells.get(index) {
            None | Some(Cell::Null) => Value::Null,
            Some(Cell::Unchanged) => Value::Unchanged,
            Some(&Cell::Text { start, end }) => {
                Value::Text(self.bytes.get(start as usize..end as usize).unwrap_or_default())
            }
        }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Has the row no columns?
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

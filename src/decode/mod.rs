//! Bytes to messages and rows: pgoutput (the stream) and COPY text (windows and lookups).
//!
//! Pure functions of bytes. Whatever arrives, the answer is a value or a typed [`DecodeError`]; nothing is allocated
//! beyond what the length of the message justifies, and nothing at all per row once the buffers are warm.
#![deny(clippy::indexing_slicing)]

mod copy_text;
mod cursor;
mod pgoutput;

pub use copy_text::CopyDecoder;
pub use pgoutput::{Decoder, Message, OldRow, Relation, RelationColumn, RelationIdentity};

/// The bytes are not what the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before its last field.
    #[error("the message is cut off inside {0}")]
    Truncated(&'static str),
    /// Bytes are left after the last field.
    #[error("{0} bytes are left over at the end of the message")]
    TrailingBytes(usize),
    /// A tag that has no meaning where it stands.
    #[error("unexpected {what} 0x{tag:02x}")]
    UnexpectedTag {
        /// Place of the tag.
        what: &'static str,
        /// The tag.
        tag: u8,
    },
    /// A COPY row has another number of columns than were selected.
    #[error("a row has {found} columns where {expected} were selected")]
    ColumnCount {
        /// Columns in the row.
        found: usize,
        /// Columns in the column list.
        expected: usize,
    },
}

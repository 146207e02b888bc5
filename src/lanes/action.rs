//! Bulk actions: what is to become of one document.

use crate::{
    map::escape_into,
    model::{Version, Xid},
};
use twox_hash::XxHash3_64;

/// Number of a table within one run of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableNo(pub u16);

/// The index that a table's documents go to, with the beginnings of its action lines rendered once.
#[derive(Clone, Debug)]
pub struct Target {
    /// The table.
    pub table: TableNo,
    /// Alias or index.
    pub index: String,
    pub(super) index_line: Box<[u8]>,
    pub(super) delete_line: Box<[u8]>,
}

impl Target {
    /// The target `index` of `table`.
    pub fn new(table: TableNo, index: &str) -> Self {
        let line = |operation: &str| {
            let mut line = format!("{{\"{operation}\":{{\"_index\":\"").into_bytes();
            escape_into(index.as_bytes(), &mut line);
            line.extend_from_slice(b"\",\"_id\":\"");
            line.into_boxed_slice()
        };
        Target { table, index: index.to_owned(), index_line: line("index"), delete_line: line("delete") }
    }

    /// The hash of a document id: chooses the lane, and stands for the id in merging and in the guard. Not of its routing:
    /// the delete and the index of a document that moves to another shard keep their order in one lane.
    pub fn hash(&self, id: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(u64::from(self.table.0), id)
    }
}

/// What happens to the document.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// It becomes this JSON object.
    Index(&'a [u8]),
    /// It goes.
    Delete,
    /// The current row decides, read in a snapshot that sees the transaction (unchanged TOAST values, **M4**).
    Lookup(LookupKey),
    /// It cannot be sent; it becomes a dead letter.
    Refused {
        /// Why.
        reason: &'a str,
        /// The document as far as it was made.
        document: &'a [u8],
    },
}

/// The row that decides an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupKey {
    /// Key column values, `None` for NULL.
    pub values: Vec<Option<String>>,
    /// The transaction that the reading snapshot must see.
    pub xid: Xid,
}

/// One action of a change or of a window's row.
#[derive(Clone, Debug)]
pub struct Action<'a> {
    /// Its index.
    pub target: &'a Target,
    /// Document id.
    pub id: &'a [u8],
    /// The plain id that the document id was made from.
    pub plain_id: &'a [u8],
    /// What routes the document to its shard; empty for its id.
    pub routing: &'a [u8],
    /// External version.
    pub version: Version,
    /// What happens.
    pub change: Change<'a>,
}

//! Why the stream cannot be taken in any further.

use crate::{decode::DecodeError, lanes::TableNo, map::MissingIdColumn, model::VersionError};

/// The stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Bytes that are not pgoutput.
    #[error(
        "the server sent a message that is not pgoutput protocol 1: {0}; nothing was acknowledged past it"
    )]
    Decode(#[from] DecodeError),
    /// A message where the protocol does not allow it.
    #[error("the server sent {0}; nothing was acknowledged past it")]
    Protocol(&'static str),
    /// No version for a commit.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The table lost an id or routing column, or had none yet at this point of the stream.
    #[error(
        "{table}: {source} in the stream; add it to the publication, or set tables[].id or routing to other columns"
    )]
    IdColumn {
        /// The table.
        no: TableNo,
        /// Its name.
        table: String,
        /// The column.
        source: MissingIdColumn,
    },
    /// Deletes could not be mapped to documents.
    #[error(
        "{table}: column {column} of `id` or `routing` is not in the replica identity, so deletes cannot be followed; run: {cure}"
    )]
    Identity {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// SQL.
        cure: String,
    },
    /// An UPDATE or DELETE without the value of an id column.
    #[error(
        "{table}: the server did not send the value of column {column} of a change, so its document is not known: the \
         replica identity of a partition lacks it; run ALTER TABLE … REPLICA IDENTITY FULL for each partition, and drop \
         the slot, so that the tables are read again"
    )]
    MissingKey {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

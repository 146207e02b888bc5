//! The vocabulary that the stages share: positions, versions, transaction ids, rows, tables.

mod lsn;
mod row;
mod shape;
mod snapshot;
mod table;
mod version;

pub use lsn::{InvalidLsn, Lsn};
pub use row::{Cell, Row, Value};
pub use shape::{Attribute, Origin, Storage, TableShape};
pub use snapshot::{InvalidSnapshot, Snapshot, Xid};
pub use table::{
    Column, ColumnType, ReplicaIdentity, Structure, TableName, TableSchema, TypeCatalog, quote_identifier,
    quote_literal,
};
pub use version::{Epoch, Epochs, ORDINAL_HELD, ORDINAL_TRUNCATE, Version, VersionError};

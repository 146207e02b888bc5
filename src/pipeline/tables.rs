//! The tables of a session: configuration and catalog joined, numbered, immutable.

use std::sync::{Mutex, PoisonError, atomic::AtomicU64};

use crate::{
    config::{OnSchemaChange, OnTruncate},
    decode::CopyDecoder,
    lanes::{TableNo, Target},
    map::{IdBuffers, MissingIdColumn, TablePlan, TableSpec},
    model::{Lsn, TableName, TableSchema, Version, Xid},
};
use serde_json::{Map, Value};

/// TRUNCATEs of a table that are remembered.
const TRUNCATES: usize = 100;

/// A copy of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// `uuid` of the index.
    pub uuid: String,
    /// Histories of its shards, where they are known.
    pub history: Option<String>,
}

/// One table of the session.
#[derive(Debug)]
pub struct Table {
    /// Its index and action lines.
    pub target: Target,
    /// What the catalog said at the start of the session.
    pub schema: TableSchema,
    /// What the configuration says.
    pub spec: TableSpec,
    /// Are TRUNCATEs followed?
    pub on_truncate: OnTruncate,
    /// How rows of windows are mapped: their cells are the schema's columns in order.
    pub plan: TablePlan,
    /// Are only inserts followed?
    pub append_only: bool,
    /// Was the index there before pg2os? Documents that pg2os did not write stay in it.
    pub adopted: bool,
    /// Counts the definitions other than `schema` that the stream has brought.
    pub definitions: AtomicU64,
    /// Mapping of fields that the configuration gives.
    pub overrides: Map<String, Value>,
    /// What happens when the table changes in a way the stream does not carry.
    pub on_schema_change: OnSchemaChange,
    /// Commits below it do not matter: the table is about to be read anew, at a floor above.
    pub read_above: Lsn,
    /// Which copy of its index the session began with.
    pub copy: Copy,
    /// Transactions whose TRUNCATE of the table came through the stream, the latest of them.
    truncates: Mutex<Vec<Xid>>,
}

impl Table {
    /// Joins what catalog and configuration say.
    ///
    /// # Errors
    /// An id column that is not published.
    pub fn new(
        target: Target,
        schema: TableSchema,
        spec: TableSpec,
        on_truncate: OnTruncate,
    ) -> Result<Self, MissingIdColumn> {
        let plan = TablePlan::of_schema(&spec, &schema)?;
        Ok(Table {
            target,
            schema,
            spec,
            on_truncate,
            plan,
            append_only: false,
            adopted: false,
            definitions: AtomicU64::new(0),
            overrides: Map::new(),
            on_schema_change: OnSchemaChange::Resync,
            read_above: Lsn::ZERO,
            copy: Copy::default(),
            truncates: Mutex::default(),
        })
    }

    /// May a document with `version` be deleted, since it is older than what empties the index? Versions below the first
    /// epoch were not given by pg2os.
    pub fn may_delete(&self, version: Version) -> bool {
        !self.adopted || version.epoch() > 0
    }

    /// Does the sweep below `floor` delete a document with `version` (**M6**)?
    pub fn is_swept(&self, version: Version, floor: Version) -> bool {
        version < floor && self.may_delete(version)
    }

    /// Does a TRUNCATE at `truncate` delete a document with `version` (**M11**)?
    pub fn is_truncated(&self, version: Version, truncate: Version) -> bool {
        version <= truncate && self.may_delete(version)
    }

    /// Notes a TRUNCATE of the stream.
    pub fn note_truncate(&self, xid: Xid) {
        let mut truncates = self.truncates.lock().unwrap_or_else(PoisonError::into_inner);
        if truncates.len() == TRUNCATES {
            truncates.remove(0);
        }
        truncates.push(xid);
    }

    /// The transactions of the TRUNCATEs that came lately.
    pub fn truncates(&self) -> Vec<Xid> {
        self.truncates.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Id and document of a COPY line, for people.
    ///
    /// # Errors
    /// The line does not decode.
    pub fn sample(&self, line: &[u8]) -> Result<(String, String), String> {
        let (mut decoder, mut ids, mut document) = (CopyDecoder::default(), IdBuffers::default(), vec![]);
        let row = decoder.decode(line, self.schema.columns.len()).map_err(|error| error.to_string())?;
        self.plan.write_id(&row, &mut ids).map_err(|_| "a key column is missing".to_owned())?;
        // A row that would become a dead letter is shown as far as it was made.
        let _ = self.plan.write_document(&row, &mut document);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&ids.id), text(&document)))
    }
}

/// All tables of the session by number.
#[derive(Debug, Default)]
pub struct Tables(Vec<Table>);

impl Tables {
    /// The number of the table that is pushed next.
    pub fn next(&self) -> TableNo {
        TableNo(self.0.len() as u16)
    }

    /// Adds a table that was made with [`Tables::next`].
    pub fn push(&mut self, table: Table) {
        self.0.push(table);
    }

    /// Table number `no`.
    pub fn get(&self, no: TableNo) -> &Table {
        &self.0[usize::from(no.0)]
    }

    /// The table that a relation of the stream is: the same, whatever it is called at that point of the stream, or an
    /// earlier one with its name.
    pub fn find(&self, oid: u32, schema: &str, name: &str) -> Option<TableNo> {
        let is_called = |t: &Table| t.schema.name.schema == schema && t.schema.name.name == name;
        let found = self.0.iter().position(|t| t.schema.oid == oid);
        Some(TableNo(found.or_else(|| self.0.iter().position(is_called))? as u16))
    }

    /// To complete what is known of the tables before the session begins.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Table> {
        self.0.iter_mut()
    }

    /// The table with a qualified name, as state and dead letters have it.
    pub fn find_qualified(&self, name: &str) -> Option<TableNo> {
        let found = self.0.iter().position(|t| t.schema.name.to_string() == name)?;
        Some(TableNo(found as u16))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Table> {
        self.0.iter()
    }

    /// Names, for messages.
    pub fn names(&self) -> Vec<&TableName> {
        self.0.iter().map(|t| &t.schema.name).collect()
    }
}

//! The tables of a session: configuration and catalog joined, numbered, immutable.

use crate::{
    config::OnTruncate,
    lanes::{TableNo, Target},
    map::{TablePlan, TableSpec},
    model::{TableName, TableSchema},
};

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
    /// How rows of windows and lookups are mapped: their cells are the schema's columns in order.
    pub plan: TablePlan,
}

/// All tables of the session by number.
#[derive(Debug, Default)]
pub struct Tables(Vec<Table>);

impl Tables {
    /// Adds a table.
    pub fn add(&mut self, table: impl FnOnce(TableNo) -> Table) -> TableNo {
        let number = TableNo(self.0.len() as u16);
        self.0.push(table(number));
        number
    }

    /// Table number `no`.
    pub fn get(&self, no: TableNo) -> &Table {
        &self.0[usize::from(no.0)]
    }

    /// The table with a name of the stream.
    pub fn find(&self, schema: &str, name: &str) -> Option<TableNo> {
        let found =
            self.0.iter().position(|t| t.schema.name.schema == schema && t.schema.name.name == name)?;
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

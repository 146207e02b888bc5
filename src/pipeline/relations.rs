//! The relations that the stream has described, and how their rows are mapped.

use super::{intake_error::IntakeError, tables::Tables};
use crate::{
    decode::{Relation, RelationIdentity},
    lanes::TableNo,
    map::{self, TablePlan},
    model::{ColumnType, Lsn, TypeCatalog, quote_identifier},
};
use std::sync::atomic::Ordering;

/// A table as the stream describes it, where that is not as the catalog did at the start of the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redefinition {
    /// The table.
    pub(super) table: TableNo,
    /// Its columns.
    pub(super) columns: Vec<(String, ColumnType)>,
}

/// Plans by oid. The server describes a relation before its first change, and again whenever it has changed.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// `None` for tables that are not configured.
    known: Vec<(u32, Option<(TableNo, TablePlan)>)>,
    /// Rows come in runs of one table.
    recent: usize,
}

impl Relations {
    /// The table and plan of relation `oid`; `None` where it is not configured.
    ///
    /// # Errors
    /// The server has not described it.
    pub(super) fn find(&mut self, oid: u32) -> Result<Option<(TableNo, &TablePlan)>, IntakeError> {
        if self.known.get(self.recent).is_none_or(|(known, _)| *known != oid) {
            let found = self.known.iter().position(|(known, _)| *known == oid);
            self.recent =
                found.ok_or(IntakeError::Protocol("a change of a relation it has not described"))?;
        }
        let found = self.known.get(self.recent).and_then(|(_, plan)| plan.as_ref());
        Ok(found.map(|(table, plan)| (*table, plan)))
    }

    /// Takes in a description that changes of the transaction with this commit are written in.
    ///
    /// # Errors
    /// The table cannot be followed as it is described.
    pub(super) fn describe(
        &mut self,
        tables: &Tables,
        types: &TypeCatalog,
        relation: &Relation,
        commit: Lsn,
    ) -> Result<Option<Redefinition>, IntakeError> {
        let mut redefinition = None;
        let mut plan = None;
        if let Some(table) = tables.find(relation.oid, &relation.schema, &relation.name) {
            let columns = columns_of(types, relation);
            plan = plan_of(tables, table, relation, &columns, commit)?.map(|plan| (table, plan));
            let schema = &tables.get(table).schema;
            let known = schema.columns.iter().map(|c| (&c.name, &c.column_type));
            if plan.is_some() && !columns.iter().map(|(name, ty)| (name, ty)).eq(known) {
                // Before the first action that is mapped by it: lookups read the catalog again.
                tables.get(table).definitions.fetch_add(1, Ordering::AcqRel);
                redefinition = Some(Redefinition { table, columns });
            }
        }
        self.known.retain(|(known, _)| *known != relation.oid);
        self.known.push((relation.oid, plan));
        Ok(redefinition)
    }
}

/// Types of a configured relation that neither the type table nor `types` knows.
pub(super) fn unknown_types(tables: &Tables, types: &TypeCatalog, relation: &Relation) -> Vec<u32> {
    if tables.find(relation.oid, &relation.schema, &relation.name).is_none() {
        return vec![];
    }
    let oids = relation.columns.iter().map(|c| c.type_oid);
    oids.filter(|oid| !map::is_built_in(*oid) && !types.contains_key(oid)).collect()
}

fn columns_of(types: &TypeCatalog, relation: &Relation) -> Vec<(String, ColumnType)> {
    let columns = relation.columns.iter();
    columns.map(|c| (c.name.clone(), map::resolve(c.type_oid, c.modifier, types))).collect()
}

/// The plan for rows in this definition; `None` where they do not matter.
fn plan_of(
    tables: &Tables,
    no: TableNo,
    relation: &Relation,
    columns: &[(String, ColumnType)],
    commit: Lsn,
) -> Result<Option<TablePlan>, IntakeError> {
    let table = tables.get(no);
    let name = table.schema.name.to_string();
    let plan = match TablePlan::new(&table.spec, relation.oid, columns) {
        Ok(plan) => plan,
        // An id column had another name then, or came later; the windows to come see these changes.
        Err(_) if commit < table.read_above => return Ok(None),
        Err(source) => return Err(IntakeError::IdColumn { no, table: name, source }),
    };
    let sent = |column: &String| relation.columns.iter().any(|c| c.key && c.name == *column);
    let outside = table.spec.key_columns().find(|column| !sent(column));
    // Of a partitioned table the identity is the root's, which sends no rows: see `RowChange::write_old_id`.
    let all_sent =
        table.append_only || table.schema.partitioned || relation.identity == RelationIdentity::Full;
    if let Some(column) = outside.filter(|_| !all_sent) {
        if commit < table.read_above {
            return Ok(None);
        }
        let quoted = table.schema.name.quoted();
        return Err(IntakeError::Identity {
            table: name,
            column: quote_identifier(column),
            cure: format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL;"),
        });
    }
    Ok(Some(plan))
}

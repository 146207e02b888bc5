//! The relations that the stream has described, and how their rows are mapped.

use super::{intake::IntakeError, tables::Tables};
use crate::{
    decode::{Relation, RelationIdentity},
    lanes::TableNo,
    map::{self, TablePlan},
    model::{TypeCatalog, quote_identifier},
};
use std::sync::atomic::Ordering;

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

    /// Takes in a description.
    ///
    /// # Errors
    /// The table cannot be followed as it is described.
    pub(super) fn describe(
        &mut self,
        tables: &Tables,
        types: &TypeCatalog,
        relation: &Relation,
    ) -> Result<(), IntakeError> {
        let plan = plan_of(tables, types, relation)?;
        self.known.retain(|(known, _)| *known != relation.oid);
        self.known.push((relation.oid, plan));
        Ok(())
    }
}

/// Types of a configured relation that neither the type table nor `types` knows.
pub(super) fn unknown_types(tables: &Tables, types: &TypeCatalog, relation: &Relation) -> Vec<u32> {
    if tables.find(&relation.schema, &relation.name).is_none() {
        return vec![];
    }
    let oids = relation.columns.iter().map(|c| c.type_oid);
    oids.filter(|oid| !map::is_built_in(*oid) && !types.contains_key(oid)).collect()
}

fn plan_of(
    tables: &Tables,
    types: &TypeCatalog,
    relation: &Relation,
) -> Result<Option<(TableNo, TablePlan)>, IntakeError> {
    let Some(no) = tables.find(&relation.schema, &relation.name) else { return Ok(None) };
    let table = tables.get(no);
    let name = table.schema.name.to_string();
    let columns: Vec<_> = relation
        .columns
        .iter()
        .map(|c| (c.name.clone(), map::resolve(c.type_oid, c.modifier, types)))
        .collect();
    let known = table.schema.columns.iter().map(|c| (&c.name, &c.column_type));
    if !columns.iter().map(|(name, column_type)| (name, column_type)).eq(known) {
        // Before the first action that is mapped by it: lookups read the catalog again.
        table.definitions.fetch_add(1, Ordering::AcqRel);
    }
    let plan = TablePlan::new(&table.spec, relation.oid, &columns)
        .map_err(|source| IntakeError::IdColumn { table: name.clone(), source })?;
    let sent = |column: &String| relation.columns.iter().any(|c| c.key && c.name == *column);
    let outside = table.spec.key_columns().find(|column| !sent(column));
    // Of a partitioned table the identity is the root's, which sends no rows: see `RowChange::write_old_id`.
    let all_sent =
        table.append_only || table.schema.partitioned || relation.identity == RelationIdentity::Full;
    if let Some(column) = outside.filter(|_| !all_sent) {
        let quoted = table.schema.name.quoted();
        return Err(IntakeError::Identity {
            table: name,
            column: quote_identifier(column),
            cure: format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL;"),
        });
    }
    Ok(Some((no, plan)))
}

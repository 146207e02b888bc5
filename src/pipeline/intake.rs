//! From the stream's messages to actions in the lanes: transactions, ordinals, versions, key changes, lookups.
//!
//! Runs on the reader thread. No clock, no I/O: what needs either is returned as a [`Need`].

use super::{
    intake_error::IntakeError,
    relations::{self, Redefinition, Relations},
    tables::{Table, Tables},
    waiting::Waiting,
};
use crate::{
    config::OnTruncate,
    decode::{Decoder, Message, Relation},
    lanes::{Action, Change, Lanes, LookupKey, TableNo},
    map::{IdBuffers, Numbering, Ordinals, Place, TablePlan},
    model::{
        Cell, Column, ColumnType, Epochs, Lsn, ORDINAL_HELD, Row, TypeCatalog, Version, Xid, quote_identifier,
    },
};
use std::{collections::VecDeque, str::Utf8Error, sync::Arc};

/// What must be done before the next message can be taken in.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// A lane is full: wait for room in it, then call [`Intake::resume`].
    Room(usize),
    /// Ask the catalog for these types and give them to [`Intake::types_loaded`].
    Types(Vec<u32>),
    /// A table has other columns than at the start of the session: its index must have their fields before the first row.
    Columns(TableNo, Vec<(String, ColumnType)>),
    /// **M11**: after everything queued is answered, delete every document of `tables` whose version is at or below
    /// `version`, at that version.
    Truncate {
        /// The tables.
        tables: Vec<TableNo>,
        /// The transaction.
        xid: Xid,
        /// The version of the TRUNCATE.
        version: Version,
    },
}

/// Counts since the start of the session.
#[derive(Debug, Default, Clone, Copy)]
pub struct IntakeCounts {
    /// Transactions with a BEGIN.
    pub transactions: u64,
    /// Inserts, updates and deletes of configured tables.
    pub changes: u64,
    /// Values that JSON has no form for.
    pub omitted_values: u64,
    /// Actions that wait for a lookup.
    pub lookups: u64,
    /// TRUNCATEs and descriptions of relations: something may have changed about the tables.
    pub redefinitions: u64,
}

#[derive(Debug, Clone, Copy)]
struct Transaction {
    commit: Lsn,
    xid: Xid,
}

/// See the module.
#[derive(Debug)]
pub struct Intake {
    tables: Arc<Tables>,
    lanes: Arc<Lanes>,
    epochs: Epochs,
    types: TypeCatalog,
    held_below: Lsn,
    max_document_bytes: usize,
    decoder: Decoder,
    state: State,
}

#[derive(Debug)]
struct State {
    ordinals: Ordinals,
    relations: Relations,
    open: Option<Transaction>,
    near: Xid,
    ids: IdBuffers,
    old_ids: IdBuffers,
    document: Vec<u8>,
    cells: Vec<Cell>,
    /// Actions of the last message that found their lane full, in order.
    waiting: VecDeque<Waiting>,
    /// A relation with types that are not known yet.
    undescribed: Option<Relation>,
    counts: IntakeCounts,
}

impl Intake {
    /// An intake for a fresh session; `near` is a full transaction id of now, to widen the stream's by. Commits below
    /// `held_below` were given other ordinals before (**M12**).
    pub fn new(
        tables: Arc<Tables>,
        lanes: Arc<Lanes>,
        epochs: Epochs,
        types: TypeCatalog,
        near: Xid,
        held_below: Lsn,
        max_document_bytes: usize,
    ) -> Self {
        let state = State {
            ordinals: Ordinals::default(),
            relations: Relations::default(),
            open: None,
            near,
            ids: IdBuffers::default(),
            old_ids: IdBuffers::default(),
            document: vec![],
            cells: vec![],
            waiting: VecDeque::new(),
            undescribed: None,
            counts: IntakeCounts::default(),
        };
        Intake {
            tables,
            lanes,
            epochs,
            types,
            held_below,
            max_document_bytes,
            decoder: Decoder::default(),
            state,
        }
    }

    /// Numbers changes otherwise.
    pub fn set_numbering(&mut self, numbering: Numbering) {
        self.state.ordinals = Ordinals::of(numbering);
    }

    /// Counts since the start.
    pub fn counts(&self) -> IntakeCounts {
        self.state.counts
    }

    /// Is a transaction open?
    pub fn in_transaction(&self) -> bool {
        self.state.open.is_some()
    }

    /// Takes one pgoutput message in. Where it says that something is needed, that comes before the next message.
    ///
    /// # Errors
    /// The stream cannot go on; the position stays before the transaction.
    pub fn message(&mut self, data: &[u8]) -> Result<Option<Need>, IntakeError> {
        let state = &mut self.state;
        let (relation, old, new, is_insert) = match self.decoder.decode(data)? {
            Message::Insert { relation, new } => (relation, None, Some(new), true),
            Message::Update { relation, old, new } => (relation, old, Some(new), false),
            Message::Delete { relation, old } => (relation, Some(old), None, false),
            Message::Begin { commit_lsn, xid, .. } => {
                if state.open.is_some() {
                    return Err(IntakeError::Protocol("BEGIN inside a transaction"));
                }
                let xid = Xid::widen(xid, state.near);
                state.near = state.near.max(xid);
                state.open = Some(Transaction { commit: commit_lsn, xid });
                state.ordinals.begin(commit_lsn < self.held_below);
                state.counts.transactions += 1;
                self.lanes.tracker().begin();
                return Ok(None);
            }
            Message::Commit { end_lsn, .. } => {
                state.open.take().ok_or(IntakeError::Protocol("COMMIT outside a transaction"))?;
                self.lanes.tracker().commit(end_lsn);
                return Ok(None);
            }
            Message::Relation(relation) => {
                state.counts.redefinitions += 1;
                let unknown = relations::unknown_types(&self.tables, &self.types, &relation);
                if unknown.is_empty() {
                    return self.describe(&relation);
                }
                state.undescribed = Some(relation);
                return Ok(Some(Need::Types(unknown)));
            }
            Message::Origin | Message::Type | Message::Logical => return Ok(None),
            Message::Truncate { relations } => {
                let transaction =
                    state.open.ok_or(IntakeError::Protocol("TRUNCATE outside a transaction"))?;
                state.counts.redefinitions += 1;
                let place = state.ordinals.next_change();
                let version = self.epochs.version(transaction.commit, state.ordinals.of_truncate(place))?;
                let mut configured: Vec<TableNo> = vec![];
                for oid in relations {
                    let Some((no, _)) = state.relations.find(oid)? else { continue };
                    let table = self.tables.get(no);
                    table.note_truncate(transaction.xid);
                    if table.on_truncate == OnTruncate::Delete {
                        configured.push(no);
                    }
                }
                for table in &configured {
                    self.lanes.guard_truncate(*table, transaction.xid, version);
                }
                if configured.is_empty() {
                    return Ok(None);
                }
                return Ok(Some(Need::Truncate { tables: configured, xid: transaction.xid, version }));
            }
        };
        let transaction = state.open.ok_or(IntakeError::Protocol("a change outside a transaction"))?;
        let place = state.ordinals.next_change();
        let State { relations, ordinals, ids, old_ids, document, cells, counts, waiting, .. } = state;
        let Some((table, plan)) = relations.find(relation)? else { return Ok(None) };
        let table = self.tables.get(table);
        // Another publication may send more than the inserts that are followed.
        if table.append_only && !is_insert {
            return Ok(None);
        }
        counts.changes += 1;
        let mut change = RowChange {
            table,
            plan,
            transaction,
            place,
            epochs: &self.epochs,
            lanes: &self.lanes,
            ordinals,
            waiting,
            counts,
        };
        if let Some(old) = old {
            change.write_old_id(&old.row(), old_ids)?;
            if new.is_none() {
                change.delete(&old.row(), old_ids)?;
            }
        }
        if let Some(mut new) = new {
            if let Some(old) = old {
                old.complete(&new, cells);
                new.cells = cells;
            }
            change.write_id(&new, ids)?;
            // An old key tuple does not mean a changed key.
            if let Some(old) = old
                && (old_ids.id != ids.id || old_ids.routing != ids.routing)
            {
                change.delete(&old.row(), old_ids)?;
                if old_ids.id == ids.id {
                    change.outrank();
                }
            }
            change.index(&new, ids, self.max_document_bytes, document)?;
        }
        Ok(self.room_needed())
    }

    /// Queues what waited for room; tells where room is still needed.
    pub fn resume(&mut self) -> Option<Need> {
        while let Some(waiting) = self.state.waiting.front() {
            let action = Action {
                target: &self.tables.get(waiting.table).target,
                id: &waiting.id,
                plain_id: &waiting.plain_id,
                routing: &waiting.routing,
                version: waiting.version,
                change: waiting.change(),
            };
            if self.lanes.push_change(&action, waiting.xid).is_err() {
                break;
            }
            self.state.waiting.pop_front();
        }
        self.room_needed()
    }

    fn room_needed(&self) -> Option<Need> {
        let waiting = self.state.waiting.front()?;
        Some(Need::Room(self.lanes.lane_of_id(&self.tables.get(waiting.table).target, &waiting.id)))
    }

    /// The types that [`Need::Types`] asked for; oids that `types` lacks are taken as text from now on.
    ///
    /// # Errors
    /// The relation that waited for them cannot be followed.
    pub fn types_loaded(&mut self, types: TypeCatalog) -> Result<Option<Need>, IntakeError> {
        self.types.extend(types);
        match self.state.undescribed.take() {
            Some(relation) => self.describe(&relation),
            None => Ok(None),
        }
    }

    fn describe(&mut self, relation: &Relation) -> Result<Option<Need>, IntakeError> {
        // Outside a transaction nothing is known to be old.
        let commit = self.state.open.map_or(Lsn(u64::MAX), |transaction| transaction.commit);
        let described = self.state.relations.describe(&self.tables, &self.types, relation, commit)?;
        Ok(described.map(|Redefinition { table, columns }| Need::Columns(table, columns)))
    }
}

/// One change of a configured table on its way to the lanes.
struct RowChange<'a> {
    table: &'a Table,
    plan: &'a TablePlan,
    transaction: Transaction,
    place: Place,
    epochs: &'a Epochs,
    lanes: &'a Lanes,
    ordinals: &'a mut Ordinals,
    waiting: &'a mut VecDeque<Waiting>,
    counts: &'a mut IntakeCounts,
}

impl RowChange<'_> {
    fn write_id(&self, row: &Row<'_>, ids: &mut IdBuffers) -> Result<(), IntakeError> {
        self.plan.write_id(row, ids).map_err(|missing| self.missing_key(missing.position))
    }

    /// As [`RowChange::write_id`]. An old row of a partition has the columns of the partition's identity.
    fn write_old_id(&self, row: &Row<'_>, ids: &mut IdBuffers) -> Result<(), IntakeError> {
        if let Some(position) = self.plan.null_key(row)
            && self.id_column(position).is_some_and(|column| column.not_null)
        {
            return Err(self.missing_key(position));
        }
        self.write_id(row, ids)
    }

    fn id_column(&self, position: usize) -> Option<&Column> {
        self.table.schema.column(self.table.spec.id.get(position)?)
    }

    fn missing_key(&self, position: usize) -> IntakeError {
        let column = self.id_column(position).map(|column| quote_identifier(&column.name));
        IntakeError::MissingKey {
            table: self.table.schema.name.to_string(),
            column: column.unwrap_or_else(|| format!("number {position}")),
        }
    }

    /// The action's version, and whether a lookup decides it (**M4**).
    fn version(&mut self, ids: &IdBuffers) -> Result<(Version, bool), IntakeError> {
        let ordinal = self.ordinals.of_row(self.place, self.plan.oid(), &ids.plain);
        Ok((self.epochs.version(self.transaction.commit, ordinal)?, ordinal == ORDINAL_HELD))
    }

    /// What follows has a higher ordinal than what was pushed: where both routings of an id are one shard, they are one
    /// document, and a late request with the delete must not win over the index.
    fn outrank(&mut self) {
        self.place = self.ordinals.next_change();
    }

    fn delete(&mut self, row: &Row<'_>, ids: &IdBuffers) -> Result<(), IntakeError> {
        let (version, held) = self.version(ids)?;
        // Where ids are unique only at the end of a transaction, another of its rows may have the id by then. A row whose
        // key is no text has no document.
        let by_lookup = held || self.table.schema.deferrable_id;
        let change = by_lookup.then(|| self.lookup(row).ok()).flatten();
        self.push(ids, version, change.unwrap_or(Change::Delete));
        Ok(())
    }

    fn index(
        &mut self,
        row: &Row<'_>,
        ids: &IdBuffers,
        max_document_bytes: usize,
        document: &mut Vec<u8>,
    ) -> Result<(), IntakeError> {
        let (version, held) = self.version(ids)?;
        if held || self.plan.is_incomplete(row) {
            match self.lookup(row) {
                Ok(change) => self.push(ids, version, change),
                Err(error) => {
                    let reason = format!(
                        "the row cannot be looked up, as its key is no text that SQL_ASCII and UTF-8 share: {error}"
                    );
                    self.push(ids, version, Change::Refused { reason: &reason, document: b"" });
                }
            }
            return Ok(());
        }
        document.clear();
        match self.plan.write_fitting_document(row, max_document_bytes, document) {
            Ok(omitted) => {
                self.counts.omitted_values += u64::from(omitted);
                self.push(ids, version, Change::Index(document));
            }
            Err(reason) => self.push(ids, version, Change::Refused { reason: &reason, document }),
        }
        Ok(())
    }

    fn lookup(&mut self, row: &Row<'_>) -> Result<Change<'static>, Utf8Error> {
        let values = self.plan.key_values(row)?;
        self.counts.lookups += 1;
        Ok(Change::Lookup(LookupKey { values, xid: self.transaction.xid }))
    }

    fn push(&mut self, ids: &IdBuffers, version: Version, change: Change<'_>) {
        let target = &self.table.target;
        let (id, plain_id, routing) = (&ids.id[..], &ids.plain[..], &ids.routing[..]);
        let action = Action { target, id, plain_id, routing, version, change };
        let xid = self.transaction.xid;
        if !self.waiting.is_empty() || self.lanes.push_change(&action, xid).is_err() {
            self.waiting.push_back(Waiting::new(&action, xid));
        }
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;

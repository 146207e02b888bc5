//! From the stream's messages to actions in the lanes: transactions, ordinals, versions, key changes, lookups.
//!
//! Runs on the reader thread. No clock, no I/O: what needs either is returned as a [`Need`].

use super::{
    relations::{self, Redefinition, Relations},
    tables::{Table, Tables},
    waiting::Waiting,
};
use crate::{
    config::OnTruncate,
    decode::{DecodeError, Decoder, Message, OldRow, Relation},
    lanes::{Action, Change, Lanes, LookupKey, TableNo},
    map::{IdBuffers, MissingIdColumn, Ordinals, Place, TablePlan},
    model::{Cell, ColumnType, Epochs, Lsn, ORDINAL_HELD, Row, TypeCatalog, Version, VersionError, Xid},
};
use std::{collections::VecDeque, sync::Arc};

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
    /// The table lost an id column, or had none yet at this point of the stream.
    #[error(
        "{table}: {source} in the stream; add it to the publication, or set tables[].id to other columns"
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
        "{table}: id column {column} is not in the replica identity, so deletes cannot be followed; run: {cure}"
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
    #[error("{table}: the server did not send the value of id column number {position} of a change")]
    MissingKey {
        /// The table.
        table: String,
        /// Position in `id`, from 0.
        position: usize,
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
    /// An intake for a fresh session; `near` is a full transaction id of now, to widen the stream's by.
    pub fn new(
        tables: Arc<Tables>,
        lanes: Arc<Lanes>,
        epochs: Epochs,
        types: TypeCatalog,
        near: Xid,
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
        Intake { tables, lanes, epochs, types, max_document_bytes, decoder: Decoder::default(), state }
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
        let (relation, old, new) = match self.decoder.decode(data)? {
            Message::Insert { relation, new } => (relation, None, Some(new)),
            Message::Update { relation, old, new } => (relation, old, Some(new)),
            Message::Delete { relation, old } => (relation, Some(old), None),
            Message::Begin { commit_lsn, xid, .. } => {
                if state.open.is_some() {
                    return Err(IntakeError::Protocol("BEGIN inside a transaction"));
                }
                let xid = Xid::widen(xid, state.near);
                state.near = state.near.max(xid);
                state.open = Some(Transaction { commit: commit_lsn, xid });
                state.ordinals.begin();
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
                let configured: Vec<TableNo> = relations
                    .iter()
                    .filter_map(|oid| state.relations.table(*oid))
                    .inspect(|no| self.tables.get(*no).note_truncate(transaction.xid))
                    .filter(|no| self.tables.get(*no).on_truncate == OnTruncate::Delete)
                    .collect();
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
        counts.changes += 1;
        let mut change = RowChange {
            table: self.tables.get(table),
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
            change.write_id(&old.row(), old_ids)?;
            if new.is_none() {
                change.delete(&old.row(), old_ids)?;
            }
        }
        if let Some(mut new) = new {
            if let Some(old) = old {
                plan.complete(&new, &old.row(), matches!(old, OldRow::Full(_)), cells);
                new.cells = cells;
            }
            change.write_id(&new, ids)?;
            // An old key tuple does not mean a changed key.
            if let Some(old) = old
                && old_ids.id != ids.id
            {
                change.delete(&old.row(), old_ids)?;
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
        self.plan.write_id(row, ids).map_err(|missing| IntakeError::MissingKey {
            table: self.table.schema.name.to_string(),
            position: missing.position,
        })
    }

    /// The action's version, and whether a lookup decides it (**M4**).
    fn version(&mut self, ids: &IdBuffers) -> Result<(Version, bool), IntakeError> {
        let ordinal = self.ordinals.of_row(self.place, self.plan.oid(), &ids.plain);
        Ok((self.epochs.version(self.transaction.commit, ordinal)?, ordinal == ORDINAL_HELD))
    }

    fn delete(&mut self, row: &Row<'_>, ids: &IdBuffers) -> Result<(), IntakeError> {
        let (version, held) = self.version(ids)?;
        let change = if held { self.lookup(row) } else { Change::Delete };
        self.push(ids, version, change);
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
            let change = self.lookup(row);
            self.push(ids, version, change);
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

    fn lookup(&mut self, row: &Row<'_>) -> Change<'static> {
        self.counts.lookups += 1;
        Change::Lookup(LookupKey { values: self.plan.key_values(row), xid: self.transaction.xid })
    }

    fn push(&mut self, ids: &IdBuffers, version: Version, change: Change<'_>) {
        let target = &self.table.target;
        let action = Action { target, id: &ids.id, plain_id: &ids.plain, version, change };
        let xid = self.transaction.xid;
        if !self.waiting.is_empty() || self.lanes.push_change(&action, xid).is_err() {
            self.waiting.push_back(Waiting::new(&action, xid));
        }
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;

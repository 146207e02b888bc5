//! From the stream's messages to actions in the lanes: transactions, ordinals, versions, key changes, lookups.
//!
//! Runs on the reader thread. No clock, no I/O: what needs either is asked of the [`Host`].

use super::tables::{Table, Tables};
use crate::{
    config::OnTruncate,
    decode::{DecodeError, Decoder, Message, OldRow, Relation, RelationIdentity},
    lanes::{Action, Change, Lanes, LookupKey, TableNo},
    map::{self, IdBuffers, MissingIdColumn, Ordinals, Place, TablePlan},
    model::{Cell, Epochs, Lsn, ORDINAL_HELD, Row, TypeCatalog, Version, VersionError, Xid, quote_identifier},
};
use std::sync::Arc;

/// What the intake cannot do itself.
pub trait Host {
    /// Waits until a lane may have room again, keeping the connection alive meanwhile.
    ///
    /// # Errors
    /// [`IntakeError::Stopped`] when the session ends.
    fn wait_for_room(&mut self, lane: usize) -> Result<(), IntakeError>;

    /// Asks the catalog for types that are not built in.
    ///
    /// # Errors
    /// As above, or what the catalog answered.
    fn load_types(&mut self, oids: Vec<u32>) -> Result<TypeCatalog, IntakeError>;

    /// Deletes every document of `tables` whose version is at or below `version`, after everything queued is answered.
    ///
    /// # Errors
    /// As above.
    fn truncate(&mut self, tables: Vec<TableNo>, xid: Xid, version: Version) -> Result<(), IntakeError>;
}

/// The stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The session was told to stop.
    #[error("stopped")]
    Stopped,
    /// Bytes that are not pgoutput.
    #[error("the server sent a message that is not pgoutput protocol 1: {0}; nothing was acknowledged past it")]
    Decode(#[from] DecodeError),
    /// A message where the protocol does not allow it.
    #[error("the server sent {0}; nothing was acknowledged past it")]
    Protocol(&'static str),
    /// No version for a commit.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The table lost an id column.
    #[error("{table}: {source}; add it to the publication, or set tables[].id to other columns")]
    IdColumn {
        /// The table.
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
    /// The catalog could not be asked.
    #[error("the types of {0} could not be read: {1}")]
    Types(String, String),
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
    /// Plans of the relations seen, by oid; `None` for tables that are not configured.
    relations: Vec<(u32, Option<(TableNo, TablePlan)>)>,
    recent: usize,
    open: Option<Transaction>,
    near: Xid,
    ids: IdBuffers,
    old_ids: IdBuffers,
    document: Vec<u8>,
    cells: Vec<Cell>,
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
            relations: vec![],
            recent: 0,
            open: None,
            near,
            ids: IdBuffers::default(),
            old_ids: IdBuffers::default(),
            document: vec![],
            cells: vec![],
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

    /// Takes one pgoutput message in: when it returns, its actions are queued.
    ///
    /// # Errors
    /// The stream cannot go on; the position stays before the transaction.
    pub fn message(&mut self, data: &[u8], host: &mut dyn Host) -> Result<(), IntakeError> {
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
                return Ok(());
            }
            Message::Commit { end_lsn, .. } => {
                state.open.take().ok_or(IntakeError::Protocol("COMMIT outside a transaction"))?;
                self.lanes.tracker().commit(end_lsn);
                return Ok(());
            }
            Message::Relation(relation) => {
                let plan = plan_of(&self.tables, &mut self.types, &relation, host)?;
                state.relations.retain(|(oid, _)| *oid != relation.oid);
                state.relations.push((relation.oid, plan));
                return Ok(());
            }
            Message::Origin | Message::Type | Message::Logical => return Ok(()),
            Message::Truncate { relations } => {
                let transaction = state.open.ok_or(IntakeError::Protocol("TRUNCATE outside a transaction"))?;
                let place = state.ordinals.next_change();
                let version = self.epochs.version(transaction.commit, state.ordinals.of_truncate(place))?;
                let configured = relations.iter().filter_map(|oid| state.table(*oid)).filter(|no| {
                    self.tables.get(*no).on_truncate == OnTruncate::Delete
                });
                let configured: Vec<TableNo> = configured.collect();
                for table in &configured {
                    self.lanes.guard_truncate(*table, transaction.xid, version);
                }
                if !configured.is_empty() {
                    host.truncate(configured, transaction.xid, version)?;
                }
                return Ok(());
            }
        };
        let mut change = RowChange {
            tables: &self.tables,
            lanes: &self.lanes,
            epochs: &self.epochs,
            max_document_bytes: self.max_document_bytes,
            host,
        };
        change.apply(state, relation, old, new)
    }
}

impl State {
    fn table(&self, oid: u32) -> Option<TableNo> {
        self.relations.iter().find(|(o, _)| *o == oid)?.1.as_ref().map(|(no, _)| *no)
    }

    /// Place of relation `oid` in `relations`; rows come in runs of one table.
    fn relation(&mut self, oid: u32) -> Result<usize, IntakeError> {
        if self.relations.get(self.recent).is_none_or(|(o, _)| *o != oid) {
            let found = self.relations.iter().position(|(o, _)| *o == oid);
            self.recent = found.ok_or(IntakeError::Protocol("a change of a relation it has not described"))?;
        }
        Ok(self.recent)
    }
}

struct RowChange<'a> {
    tables: &'a Tables,
    lanes: &'a Lanes,
    epochs: &'a Epochs,
    max_document_bytes: usize,
    host: &'a mut dyn Host,
}

impl RowChange<'_> {
    fn apply(
        &mut self,
        state: &mut State,
        relation: u32,
        old: Option<OldRow<'_>>,
        new: Option<Row<'_>>,
    ) -> Result<(), IntakeError> {
        let transaction = state.open.ok_or(IntakeError::Protocol("a change outside a transaction"))?;
        let at = state.relation(relation)?;
        let place = state.ordinals.next_change();
        let State { relations, ordinals, ids, old_ids, document, cells, counts, .. } = state;
        let Some((no, plan)) = &relations[at].1 else { return Ok(()) };
        let table = self.tables.get(*no);
        let missing = |m: map::MissingKey| IntakeError::MissingKey {
            table: table.schema.name.to_string(),
            position: m.position,
        };
        counts.changes += 1;

        let Some(mut new) = new else {
            // A DELETE always has its old row.
            if let Some(old) = old {
                plan.write_id(&old.row(), ids).map_err(missing)?;
                self.send_delete(table, plan, transaction, place, ordinals, ids, &old.row(), counts)?;
            }
            return Ok(());
        };
        if let Some(old) = old {
            plan.complete(&new, &old.row(), matches!(old, OldRow::Full(_)), cells);
            new.cells = cells;
            plan.write_id(&old.row(), old_ids).map_err(missing)?;
        }
        plan.write_id(&new, ids).map_err(missing)?;
        // An old key tuple does not mean a changed key.
        if let Some(old) = old
            && old_ids.id != ids.id
        {
            self.send_delete(table, plan, transaction, place, ordinals, old_ids, &old.row(), counts)?;
        }

        let ordinal = ordinals.of_row(place, plan.oid(), &ids.plain);
        let version = self.epochs.version(transaction.commit, ordinal)?;
        if ordinal == ORDINAL_HELD || plan.is_incomplete(&new) {
            counts.lookups += 1;
            let key = LookupKey { values: plan.key_values(&new), xid: transaction.xid };
            return self.push(table, ids, version, Change::Lookup(key), transaction.xid);
        }
        document.clear();
        let refusal = match plan.write_document(&new, document) {
            Ok(omitted) => {
                counts.omitted_values += u64::from(omitted);
                (document.len() > self.max_document_bytes).then(|| {
                    let (is, may) = (document.len(), self.max_document_bytes);
                    format!("the document has {is} bytes; bulk.max_document_bytes is {may}")
                })
            }
            Err(refusal) => Some(refusal.to_string()),
        };
        let change = match &refusal {
            None => Change::Index(document),
            Some(reason) => Change::Refused { reason, document },
        };
        self.push(table, ids, version, change, transaction.xid)
    }

    #[expect(clippy::too_many_arguments)]
    fn send_delete(
        &mut self,
        table: &Table,
        plan: &TablePlan,
        transaction: Transaction,
        place: Place,
        ordinals: &mut Ordinals,
        ids: &IdBuffers,
        row: &Row<'_>,
        counts: &mut IntakeCounts,
    ) -> Result<(), IntakeError> {
        let ordinal = ordinals.of_row(place, plan.oid(), &ids.plain);
        let version = self.epochs.version(transaction.commit, ordinal)?;
        let change = if ordinal == ORDINAL_HELD {
            counts.lookups += 1;
            Change::Lookup(LookupKey { values: plan.key_values(row), xid: transaction.xid })
        } else {
            Change::Delete
        };
        self.push(table, ids, version, change, transaction.xid)
    }

    fn push(
        &mut self,
        table: &Table,
        ids: &IdBuffers,
        version: Version,
        change: Change<'_>,
        xid: Xid,
    ) -> Result<(), IntakeError> {
        let action = Action { target: &table.target, id: &ids.id, plain_id: &ids.plain, version, change };
        while let Err(lane) = self.lanes.push_change(&action, xid) {
            self.host.wait_for_room(lane)?;
        }
        Ok(())
    }
}

fn plan_of(
    tables: &Tables,
    types: &mut TypeCatalog,
    relation: &Relation,
    host: &mut dyn Host,
) -> Result<Option<(TableNo, TablePlan)>, IntakeError> {
    let Some(no) = tables.find(&relation.schema, &relation.name) else { return Ok(None) };
    let table = tables.get(no);
    let name = table.schema.name.to_string();
    let unknown: Vec<u32> = relation
        .columns
        .iter()
        .map(|c| c.type_oid)
        .filter(|oid| !map::is_built_in(*oid) && !types.contains_key(oid))
        .collect();
    if !unknown.is_empty() {
        types.extend(host.load_types(unknown)?);
    }
    let columns: Vec<_> = relation
        .columns
        .iter()
        .map(|c| (c.name.clone(), map::resolve(c.type_oid, c.modifier, types)))
        .collect();
    let plan = TablePlan::new(&table.spec, relation.oid, &columns)
        .map_err(|source| IntakeError::IdColumn { table: name.clone(), source })?;
    let outside = table.spec.id.iter().find(|id| !relation.columns.iter().any(|c| c.key && c.name == **id));
    if let Some(column) = outside.filter(|_| relation.identity != RelationIdentity::Full) {
        let quoted = table.schema.name.quoted();
        return Err(IntakeError::Identity {
            table: name,
            column: quote_identifier(column),
            cure: format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL;"),
        });
    }
    Ok(Some((no, plan)))
}

//! Lookup by key: the current rows that decide actions, read from the primary in snapshots that see their events.

use super::tables::{Table, Tables};
use crate::{
    config::{Config, Postgres},
    decode::CopyDecoder,
    lanes::{Batch, EntryKind, TableNo},
    map::{IdBuffers, MissingIdColumn, TablePlan},
    model::{Lsn, Snapshot, TableSchema, Xid},
    source::{self, catalog, floor, lookup},
};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// Keys of one query.
const KEYS: usize = 500;
/// A commit is streamed before it is visible; a synchronous standby may keep it invisible for long.
const FIRST_RETRY: Duration = Duration::from_millis(2);
const LONGEST_RETRY: Duration = Duration::from_millis(500);

/// A lookup that failed and can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The connection.
    #[error(transparent)]
    Connect(#[from] source::SourceError),
    /// The query.
    #[error(transparent)]
    Query(#[from] source::QueryError),
    /// A row that does not decode.
    #[error("{table}: {what}")]
    Row {
        /// The table.
        table: String,
        /// What is wrong with it.
        what: String,
    },
    /// The table lost an id column.
    #[error("{table}: {missing}")]
    IdColumn {
        /// The table.
        table: String,
        /// The column.
        missing: MissingIdColumn,
    },
}

/// A table as the catalog describes it now.
#[derive(Debug)]
struct Definition {
    /// [`Table::definitions`] when it was read.
    number: u64,
    schema: TableSchema,
    plan: TablePlan,
}

/// The connection, and what was read over it.
#[derive(Debug, Default)]
struct Primary {
    client: Option<Client>,
    definitions: HashMap<TableNo, Arc<Definition>>,
}

/// A current row: what routes it, and its document, or why it has none, with what was made of it.
type Current = (Vec<u8>, Result<Vec<u8>, (String, Vec<u8>)>);

/// Reads current rows for all lanes over one connection.
#[derive(Debug)]
pub struct Lookups {
    config: Postgres,
    timeline: Option<u32>,
    application_name: String,
    primary: Mutex<Primary>,
    tables: Arc<Tables>,
    max_document_bytes: usize,
}

impl Lookups {
    /// Lookups of `tables`; connects when first needed, to the primary of `timeline` where a stream is of one.
    pub fn new(
        config: &Config,
        timeline: Option<u32>,
        application_name: String,
        tables: Arc<Tables>,
    ) -> Self {
        let max_document_bytes = config.bulk.max_document_bytes;
        Lookups {
            config: config.postgres.clone(),
            timeline,
            application_name,
            primary: Mutex::default(),
            tables,
            max_document_bytes,
        }
    }

    /// Decides every lookup entry of `batch`; returns a position at or above everything that was read for it, 0/0 where
    /// nothing was.
    ///
    /// # Errors
    /// The source could not be asked; what is decided stays so, and the call can be repeated.
    pub async fn resolve(&self, batch: &mut Batch) -> Result<Lsn, LookupError> {
        let mut read = Lsn::ZERO;
        let mut by_table: HashMap<TableNo, Vec<u32>> = HashMap::new();
        for at in batch.live(|kind| kind == EntryKind::Lookup) {
            by_table.entry(batch.entry(at).table).or_default().push(at);
        }
        for (table, entries) in by_table {
            for entries in entries.chunks(KEYS) {
                read = read.max(self.resolve_some(batch, self.tables.get(table), entries).await?);
            }
        }
        Ok(read)
    }

    /// The primary's WAL insert position.
    ///
    /// # Errors
    /// As for [`Lookups::resolve`].
    pub async fn insert_position(&self) -> Result<Lsn, LookupError> {
        let mut primary = self.primary.lock().await;
        let client = self.connected(&mut primary.client).await?;
        let lsn = source::position::log_end(&client).await?.insert;
        primary.client = Some(client);
        Ok(lsn)
    }

    /// Takes the connection out, so that a failure or a dropped future drops it in its unknown state.
    async fn connected(&self, client: &mut Option<Client>) -> Result<Client, LookupError> {
        match client.take() {
            Some(client) if !client.is_closed() => Ok(client),
            _ => Ok(match self.timeline {
                Some(timeline) => {
                    source::sql::connect_on(&self.config, timeline, &self.application_name).await?
                }
                None => source::sql::connect(&self.config, None, &self.application_name).await?,
            }),
        }
    }

    async fn resolve_some(
        &self,
        batch: &mut Batch,
        table: &Table,
        entries: &[u32],
    ) -> Result<Lsn, LookupError> {
        let keys: Vec<_> = entries.iter().map(|at| batch.lookup(batch.entry(*at)).values.clone()).collect();
        let xids: Vec<Xid> = entries.iter().map(|at| batch.lookup(batch.entry(*at)).xid).collect();
        let newest = xids.iter().max().copied().unwrap_or_default();
        let sees_all =
            |snapshot: &Snapshot| snapshot.xmin > newest || xids.iter().all(|xid| snapshot.sees(*xid));
        let (definition, read) = self.read(table, &keys, sees_all).await?;
        let columns = definition.schema.columns.len();

        let mut found: HashMap<Vec<u8>, Current> = HashMap::new();
        let (mut decoder, mut ids) = (CopyDecoder::default(), IdBuffers::default());
        for line in read.rows {
            let bad = |what: String| LookupError::Row { table: table.schema.name.to_string(), what };
            let row = decoder.decode(&line, columns).map_err(|e| bad(e.to_string()))?;
            let plan = &definition.plan;
            plan.write_id(&row, &mut ids).map_err(|_| bad("a key column is missing".to_owned()))?;
            let mut document = vec![];
            let made = plan.write_fitting_document(&row, self.max_document_bytes, &mut document);
            let decided = match made {
                Ok(_) => Ok(document),
                Err(reason) => Err((reason, document)),
            };
            found.insert(ids.id.clone(), (ids.routing.clone(), decided));
        }
        for at in entries {
            let entry = batch.entry(*at);
            // A row that is routed to another shard by now is not in this document any more.
            let here = |current: &&Current| current.0 == batch.routing_of(entry);
            match found.get(batch.id_of(entry)).filter(here).map(|current| &current.1) {
                None => batch.resolve(*at, &table.target, None),
                Some(Ok(document)) => batch.resolve(*at, &table.target, Some(document)),
                Some(Err((reason, document))) => batch.resolve_refused(*at, &table.target, reason, document),
            }
        }
        Ok(read.read.lsn)
    }

    /// Reads the rows with `keys` in a snapshot that sees what it must.
    async fn read(
        &self,
        table: &Table,
        keys: &[Vec<Option<String>>],
        sees_all: impl Fn(&Snapshot) -> bool,
    ) -> Result<(Arc<Definition>, lookup::Found), LookupError> {
        let mut pause = FIRST_RETRY;
        loop {
            let mut primary = self.primary.lock().await;
            let client = self.connected(&mut primary.client).await?;
            let current = self.definition(&client, &mut primary.definitions, table, &sees_all).await;
            // A definition that does not hold any more is read again with the next try.
            let read = match current {
                Ok(Some(definition)) => {
                    let found = find(&client, table, &definition, keys).await;
                    found.map(|found| sees_all(&found.read.snapshot).then_some((definition, found)))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            match read {
                Err(error) => {
                    primary.definitions.remove(&table.target.table);
                    return Err(error);
                }
                Ok(read) => {
                    primary.client = Some(client);
                    drop(primary);
                    if let Some(read) = read {
                        return Ok(read);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }

    /// The table as the catalog describes it, read again after the stream has brought another definition; `None` where
    /// that is not visible yet.
    async fn definition(
        &self,
        client: &Client,
        known: &mut HashMap<TableNo, Arc<Definition>>,
        table: &Table,
        sees_all: impl Fn(&Snapshot) -> bool,
    ) -> Result<Option<Arc<Definition>>, LookupError> {
        let (no, name) = (table.target.table, &table.schema.name);
        let number = table.definitions.load(Ordering::Acquire);
        if let Some(definition) = known.get(&no).filter(|definition| definition.number == number) {
            return Ok(Some(definition.clone()));
        }
        // The transaction that changed the table may be the one that changed the row.
        if number > 0 && !sees_all(&floor::current_snapshot(client).await?) {
            return Ok(None);
        }
        let schema =
            catalog::load_table(client, &name.schema, &name.name, &self.config.all_publications()).await?;
        let plan = TablePlan::of_schema(&table.spec, &schema)
            .map_err(|missing| LookupError::IdColumn { table: name.to_string(), missing })?;
        let definition = Arc::new(Definition { number, schema, plan });
        known.insert(no, definition.clone());
        Ok(Some(definition))
    }
}

async fn find(
    client: &Client,
    table: &Table,
    definition: &Definition,
    keys: &[Vec<Option<String>>],
) -> Result<lookup::Found, LookupError> {
    let schema = &definition.schema;
    let columns: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    let filter = schema.row_filter.as_deref();
    let sql = lookup::lookup_sql(schema, &columns, &table.spec.id, filter, keys)?;
    Ok(lookup::lookup(client, &sql).await?)
}

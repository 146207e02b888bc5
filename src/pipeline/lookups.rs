//! Lookup by key: the current rows that decide actions, read from the primary in snapshots that see their events.

use super::tables::{Table, Tables};
use crate::{
    config::{Config, Postgres},
    decode::CopyDecoder,
    lanes::{Batch, EntryKind, TableNo},
    map::IdBuffers,
    model::{Lsn, Snapshot, Xid},
    source::{self, lookup},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
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
}

/// The document of a current row, or why it has none, with what was made of it.
type Decided = Result<Vec<u8>, (String, Vec<u8>)>;

/// Reads current rows for all lanes over one connection.
#[derive(Debug)]
pub struct Lookups {
    config: Postgres,
    application_name: String,
    client: Mutex<Option<Client>>,
    tables: Arc<Tables>,
    max_document_bytes: usize,
}

impl Lookups {
    /// Lookups of `tables`; connects when first needed.
    pub fn new(config: &Config, application_name: String, tables: Arc<Tables>) -> Self {
        let max_document_bytes = config.bulk.max_document_bytes;
        Lookups {
            config: config.postgres.clone(),
            application_name,
            client: Mutex::new(None),
            tables,
            max_document_bytes,
        }
    }

    /// Decides every lookup entry of `batch`.
    ///
    /// # Errors
    /// The source could not be asked; what is decided stays so, and the call can be repeated.
    pub async fn resolve(&self, batch: &mut Batch) -> Result<(), LookupError> {
        let mut by_table: HashMap<TableNo, Vec<u32>> = HashMap::new();
        for at in batch.live(|kind| kind == EntryKind::Lookup) {
            by_table.entry(batch.entry(at).table).or_default().push(at);
        }
        for (table, entries) in by_table {
            for entries in entries.chunks(KEYS) {
                self.resolve_some(batch, self.tables.get(table), entries).await?;
            }
        }
        Ok(())
    }

    /// The primary's WAL insert position.
    ///
    /// # Errors
    /// As for [`Lookups::resolve`].
    pub async fn insert_position(&self) -> Result<Lsn, LookupError> {
        let mut guard = self.client.lock().await;
        let client = self.connected(&mut guard).await?;
        let lsn = source::position::log_end(&client).await?.insert;
        *guard = Some(client);
        Ok(lsn)
    }

    /// Takes the connection out, so that a failure or a dropped future drops it in its unknown state.
    async fn connected(&self, client: &mut Option<Client>) -> Result<Client, LookupError> {
        match client.take() {
            Some(client) if !client.is_closed() => Ok(client),
            _ => Ok(source::sql::connect(&self.config, None, &self.application_name).await?),
        }
    }

    async fn resolve_some(
        &self,
        batch: &mut Batch,
        table: &Table,
        entries: &[u32],
    ) -> Result<(), LookupError> {
        let keys: Vec<_> = entries.iter().map(|at| batch.lookup(batch.entry(*at)).values.clone()).collect();
        let newest = entries.iter().map(|at| batch.lookup(batch.entry(*at)).xid).max().unwrap_or_default();
        let xids: Vec<Xid> = entries.iter().map(|at| batch.lookup(batch.entry(*at)).xid).collect();
        let sees_all =
            |snapshot: &Snapshot| snapshot.xmin > newest || xids.iter().all(|xid| snapshot.sees(*xid));
        let columns: Vec<&str> = table.schema.columns.iter().map(|c| c.name.as_str()).collect();
        let filter = table.schema.row_filter.as_deref();
        let sql = lookup::lookup_sql(&table.schema, &columns, &table.spec.id, filter, &keys)?;
        let rows = self.read(&sql, sees_all).await?;

        let mut found: HashMap<Vec<u8>, Decided> = HashMap::new();
        let (mut decoder, mut ids) = (CopyDecoder::default(), IdBuffers::default());
        for line in rows {
            let bad = |what: String| LookupError::Row { table: table.schema.name.to_string(), what };
            let row = decoder.decode(&line, columns.len()).map_err(|e| bad(e.to_string()))?;
            table.plan.write_id(&row, &mut ids).map_err(|_| bad("a key column is missing".to_owned()))?;
            let mut document = vec![];
            let made = table.plan.write_fitting_document(&row, self.max_document_bytes, &mut document);
            let decided = match made {
                Ok(_) => Ok(document),
                Err(reason) => Err((reason, document)),
            };
            found.insert(ids.id.clone(), decided);
        }
        for at in entries {
            match found.get(batch.id_of(batch.entry(*at))) {
                None => batch.resolve(*at, &table.target, None),
                Some(Ok(document)) => batch.resolve(*at, &table.target, Some(document)),
                Some(Err((reason, document))) => batch.resolve_refused(*at, &table.target, reason, document),
            }
        }
        Ok(())
    }

    /// Runs `sql` until its snapshot sees what it must.
    async fn read(
        &self,
        sql: &str,
        sees_all: impl Fn(&Snapshot) -> bool,
    ) -> Result<Vec<bytes::Bytes>, LookupError> {
        let mut pause = FIRST_RETRY;
        loop {
            let mut guard = self.client.lock().await;
            let client = self.connected(&mut guard).await?;
            let found = lookup::lookup(&client, sql).await?;
            *guard = Some(client);
            drop(guard);
            if sees_all(&found.read.snapshot) {
                return Ok(found.rows);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }
}

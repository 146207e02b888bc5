//! Writing beside the live process, or without one: a Job, retried dead letters, repairs.
//!
//! **M9**: rows are read at a floor and written; then, after the horizon and at a new floor, their keys are read again, and
//! documents of rows that are gone by then are deleted just below that floor. So it needs no coordination with whoever
//! streams.

use super::{
    bootstrap::Work,
    deliver::Deliverer,
    error::PipelineError,
    high::HighMark,
    letters::Letters,
    lookups::Lookups,
    prepare::{self, Prepared},
    progress::Progress,
    reading::{self, WindowReading},
    schemas, session,
    tables::{Table, Tables},
};
use crate::{
    ack::Tracker,
    config::Config,
    decode::CopyDecoder,
    lanes::{Action, Change, Lanes, TableNo, Target, WindowRows},
    map::{IdBuffers, TablePlan, key_of_plain},
    model::{Epochs, Lsn, ORDINAL_HELD, Snapshot, Version},
    sink::{self, DeadLetters, StateStore},
    source::{self, copy, floor, lookup, replication::SystemIdentity, server},
};
use futures_util::StreamExt;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Keys of one query.
const KEYS: usize = 500;

/// See the module.
pub(super) struct Beside {
    pub(super) config: Arc<Config>,
    pub(super) primary: Client,
    pub(super) state: Arc<StateStore>,
    pub(super) tables: Arc<Tables>,
    pub(super) progress: Arc<Progress>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) epochs: Epochs,
    high: Arc<HighMark>,
    /// Of the floor at which rows are read first.
    version: Version,
    application_name: String,
    _lanes_end: DropGuard,
}

/// The lanes of a writer: they end only where pg2os has a defect.
pub(super) type LaneTasks = JoinSet<Result<(), PipelineError>>;

impl Beside {
    /// Connects both servers, prepares what is missing in OpenSearch, and takes the floor. `what` names the process to
    /// the server. The tasks are to be watched while the writer is used.
    ///
    /// # Errors
    /// Whatever stands in the way, with its cure.
    pub(super) async fn open(
        config: Arc<Config>,
        what: &str,
        progress: Arc<Progress>,
    ) -> Result<(Self, Vec<Work>, LaneTasks), PipelineError> {
        let name = format!("pg2os {} {what}", config.name);
        let primary = source::sql::connect(&config.postgres, None, &name).await?;
        let config = Arc::new(schemas::expanded(&primary, &config).await?);
        let client = sink::Client::new(&config.opensearch)?;
        client.info().await?;
        let server = identity_of(&primary).await?;
        let schemas = schemas::schemas(&primary, &config).await?;
        let state = StateStore::open(&client, &config.opensearch.state_index, &config.name).await?;
        let store = DeadLetters::open(&client, &config.opensearch.dead_letter_index, &config.name).await?;
        let letters = Letters::load(store, config.limits.dead_letters).await?;
        let Prepared { tables, work, indices } =
            prepare::tables(&config, &client, &state, schemas, &server).await?;
        let epochs = prepare::epochs(&client, &state, &indices).await?.list;
        let (state, tables) = (Arc::new(state), Arc::new(tables));
        let lanes = Arc::new(Lanes::new(session::limits(&config), Tracker::new(Lsn::ZERO), false, None));
        let insert = source::position::log_end(&primary).await?.insert;
        let high = Arc::new(HighMark::beside(state.clone(), epochs.clone()));
        let deliverer = Arc::new(Deliverer {
            lanes: lanes.clone(),
            tables: tables.clone(),
            client,
            letters,
            lookups: Lookups::new(&config, None, name.clone(), tables.clone()),
            require_alias: indices.iter().all(|index| index.is_alias),
            progress: progress.clone(),
            epochs: epochs.clone(),
            highest_version: AtomicU64::new(epochs.version(insert, ORDINAL_HELD)?.0),
            high: high.clone(),
            stream: None,
            memory: Arc::default(),
        });
        let end = CancellationToken::new();
        let mut tasks = LaneTasks::new();
        for lane in 0..lanes.count() {
            let (deliverer, end) = (deliverer.clone(), end.clone());
            tasks.spawn(async move { deliverer.run(lane, &end).await });
        }
        let taken = floor::take_floor(&primary).await?;
        floor::wait_until_visible(&primary, taken.burned).await?;
        let version = epochs.floor_version(taken.lsn)?;
        let writer = Beside {
            config,
            primary,
            state,
            tables,
            progress,
            lanes,
            epochs,
            high,
            version,
            application_name: name,
            _lanes_end: end.drop_guard(),
        };
        Ok((writer, work, tasks))
    }

    /// A connection to read rows over.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) async fn reader(&self) -> Result<Client, PipelineError> {
        Ok(source::sql::connect(&self.config.postgres, None, &self.application_name).await?)
    }

    /// Reads the rows of `table` under `predicate` (all without one) and makes their documents so. `label` is for people.
    ///
    /// # Errors
    /// One of the servers; what was written is right, what was not reached is as before.
    pub(super) async fn fill(
        &self,
        client: &Client,
        number: TableNo,
        predicate: Option<String>,
        label: String,
    ) -> Result<(), PipelineError> {
        let table = self.tables.get(number);
        let rows = self.begin(client).await?;
        let reading = WindowReading {
            table,
            number,
            predicate: predicate.clone(),
            label: label.clone(),
            lanes: &self.lanes,
            progress: &self.progress,
            max_document_bytes: self.config.bulk.max_document_bytes,
        };
        let mut written = Keys::default();
        // Nothing is guarded without a stream, so no window is ever to be read again.
        reading.copy(client, &rows, |ids| written.push(ids)).await?;
        client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
        rows.answered().await;

        let again = self.again(client).await?;
        let keys = KeyPlan::new(table)?;
        let mut present = HashSet::new();
        let filter = table.schema.row_filter.as_deref();
        let sql = copy::copy_sql(&table.schema, &keys.names, filter, predicate.as_deref());
        floor::snapshot(client).await?;
        let mut lines = Box::pin(copy::read(client, &sql).await?);
        let mut reader = RowReader::default();
        while let Some(line) = lines.next().await {
            let ids = reader.ids(&keys.plan, &line?, keys.names.len());
            let ids = ids.map_err(|what| bad(table, &label, what))?;
            present.insert(place(&table.target, &ids.plain, &ids.routing));
        }
        client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
        // What is not in the window any more may have moved to another one, or to another shard.
        let missing: Vec<_> = written
            .iter()
            .filter(|(plain, routing)| !present.contains(&place(&table.target, plain, routing)))
            .collect();
        self.delete_gone(client, table, &missing, again).await
    }

    /// Reads the rows of `table` with these plain ids and makes their documents so; documents under these ids and routings
    /// that have no row are deleted.
    ///
    /// # Errors
    /// As for [`Beside::fill`].
    pub(super) async fn rewrite(
        &self,
        client: &Client,
        number: TableNo,
        documents: &[(&[u8], &[u8])],
    ) -> Result<(), PipelineError> {
        self.write(client, number, documents).await?;
        let again = self.again(client).await?;
        self.delete_gone(client, self.tables.get(number), documents, again).await
    }

    /// As [`Beside::rewrite`], but a document without a row stays as it is: why the row is gone is not known, and not every
    /// way of going is followed.
    ///
    /// # Errors
    /// As for [`Beside::fill`].
    pub(super) async fn rewrite_found(
        &self,
        client: &Client,
        number: TableNo,
        documents: &[(&[u8], &[u8])],
    ) -> Result<(), PipelineError> {
        let table = self.tables.get(number);
        let found = self.write(client, number, documents).await?;
        if table.append_only {
            // The document of a row that went since stays too.
            return Ok(());
        }
        let again = self.again(client).await?;
        self.delete_gone(client, table, &found.iter().collect::<Vec<_>>(), again).await
    }

    /// Reads the rows with these plain ids and writes their documents; returns those that there are.
    async fn write(
        &self,
        client: &Client,
        number: TableNo,
        documents: &[(&[u8], &[u8])],
    ) -> Result<Keys, PipelineError> {
        let (table, mut found) = (self.tables.get(number), Keys::default());
        for chunk in documents.chunks(KEYS) {
            let predicate = lookup::key_predicate(&table.schema, &table.spec.id, &values(chunk, table))?;
            let rows = self.begin(client).await?;
            let reading = WindowReading {
                table,
                number,
                predicate: Some(predicate),
                label: "of some keys".to_owned(),
                lanes: &self.lanes,
                progress: &self.progress,
                max_document_bytes: self.config.bulk.max_document_bytes,
            };
            reading.copy(client, &rows, |ids| found.push(ids)).await?;
            client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
            rows.answered().await;
        }
        Ok(found)
    }

    /// Begins a reading: a snapshot that sees the floor, of which nothing can be lost, and which **M7** covers.
    async fn begin(&self, client: &Client) -> Result<WindowRows, PipelineError> {
        let read = floor::snapshot(client).await?;
        floor::wait_flushed(&self.primary, &read).await?;
        self.high.cover(read.lsn).await;
        Ok(WindowRows::new(read.snapshot, self.version))
    }

    /// The new floor, after the horizon; what `client` reads from now on sees it.
    async fn again(&self, client: &Client) -> Result<Version, PipelineError> {
        while let Some(until) = self.lanes.doubtful_until(Instant::now()) {
            tracing::info!("waiting until no request of this process can be executed late any more");
            tokio::time::sleep_until(until.into()).await;
        }
        let again = floor::take_floor(&self.primary).await?;
        floor::wait_until_visible(client, again.burned).await?;
        Ok(self.epochs.floor_version(again.lsn)?)
    }

    /// Deletes those of `documents` (plain id and routing) that have no row, and moves those that are routed to another
    /// shard since, at `version`.
    async fn delete_gone(
        &self,
        client: &Client,
        table: &Table,
        documents: &[(&[u8], &[u8])],
        version: Version,
    ) -> Result<(), PipelineError> {
        let (schema, target, plan) = (&table.schema, &table.target, &table.plan);
        let columns: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
        let actions = WindowRows::new(Snapshot::of_everything(), version);
        let (mut reader, mut id, mut document) = (RowReader::default(), vec![], vec![]);
        let wrong = |what: String| bad(table, "of some keys", what);
        for chunk in documents.chunks(KEYS) {
            let (wanted, filter) = (values(chunk, table), schema.row_filter.as_deref());
            let sql = lookup::lookup_sql(schema, &columns, &table.spec.id, filter, &wanted)?;
            let mut current = HashMap::new();
            let found = lookup::lookup(client, &sql).await?;
            // A row may be gone by a commit that a failover takes back.
            self.high.cover(found.read.lsn).await;
            for line in found.rows {
                let ids = reader.ids(plan, &line, columns.len()).map_err(wrong)?;
                current.insert(ids.plain.clone(), (ids.routing.clone(), line));
            }
            for &(plain_id, routing) in chunk {
                let now = current.get(plain_id);
                if now.is_some_and(|(now, _)| now == routing) {
                    continue;
                }
                plan.id_of_plain(plain_id, &mut id);
                // Above every commit that the lookup sees, and below the row that may now be routed to the same shard.
                let gone = if now.is_some() { version.below() } else { version };
                let delete =
                    Action { target, id: &id, plain_id, routing, version: gone, change: Change::Delete };
                reading::queue(&self.lanes, &delete, &actions).await;
                let Some((routing, line)) = now else { continue };
                let row = reader.decoder.decode(line, columns.len()).map_err(|e| wrong(e.to_string()))?;
                document.clear();
                let most = self.config.bulk.max_document_bytes;
                let refusal = plan.write_fitting_document(&row, most, &mut document).err();
                let change = match &refusal {
                    None => Change::Index(&document),
                    Some(reason) => Change::Refused { reason, document: &document },
                };
                let index = Action { target, id: &id, plain_id, routing, version, change };
                reading::queue(&self.lanes, &index, &actions).await;
            }
        }
        actions.answered().await;
        Ok(())
    }
}

/// The source's identity without a replication connection, which only a stream needs.
async fn identity_of(control: &Client) -> Result<SystemIdentity, PipelineError> {
    let facts = server::server_facts(control).await?;
    let Some(system_id) = facts.system_identifier else {
        return Err(PipelineError::Configuration(format!(
            "role {} may not ask for the system identifier; run: GRANT EXECUTE ON FUNCTION pg_control_system() TO {}",
            facts.role,
            crate::model::quote_identifier(&facts.role)
        )));
    };
    Ok(SystemIdentity {
        system_id: system_id.to_string(),
        timeline: 0,
        flush: Lsn::ZERO,
        database: facts.database,
    })
}

/// How rows that are read with their key columns only become ids.
struct KeyPlan<'a> {
    names: Vec<&'a str>,
    plan: TablePlan,
}

impl<'a> KeyPlan<'a> {
    fn new(table: &'a Table) -> Result<Self, PipelineError> {
        let schema = &table.schema;
        let is_key = |name: &String| table.spec.key_columns().any(|key| key == name);
        let columns: Vec<_> = schema.columns.iter().filter(|c| is_key(&c.name)).collect();
        let typed: Vec<_> = columns.iter().map(|c| (c.name.clone(), c.column_type.clone())).collect();
        let plan = TablePlan::new(&table.spec, schema.oid, &typed)
            .map_err(|missing| PipelineError::id_column(&schema.name.to_string(), &missing))?;
        Ok(KeyPlan { names: columns.iter().map(|c| c.name.as_str()).collect(), plan })
    }
}

fn bad(table: &Table, label: &str, what: String) -> PipelineError {
    PipelineError::Row { table: table.schema.name.to_string(), window: label.to_owned(), what }
}

#[derive(Default)]
struct RowReader {
    decoder: CopyDecoder,
    ids: IdBuffers,
}

impl RowReader {
    fn ids(&mut self, plan: &TablePlan, line: &[u8], columns: usize) -> Result<&IdBuffers, String> {
        let row = self.decoder.decode(line, columns).map_err(|error| error.to_string())?;
        plan.write_id(&row, &mut self.ids).map_err(|_| "a key column is missing".to_owned())?;
        Ok(&self.ids)
    }
}

fn values(documents: &[(&[u8], &[u8])], table: &Table) -> Vec<Vec<Option<String>>> {
    documents.iter().filter_map(|(plain, _)| key_of_plain(plain, table.spec.id.len())).collect()
}

/// Stands for an id and its routing.
fn place(target: &Target, plain: &[u8], routing: &[u8]) -> u64 {
    target.hash(plain) ^ target.hash(routing).rotate_left(1)
}

/// Plain ids and routings of one window, side by side.
#[derive(Debug, Default)]
struct Keys {
    bytes: Vec<u8>,
    /// Where an id ends, and its routing.
    ends: Vec<(usize, usize)>,
}

impl Keys {
    fn push(&mut self, ids: &IdBuffers) {
        self.bytes.extend_from_slice(&ids.plain);
        let id = self.bytes.len();
        self.bytes.extend_from_slice(&ids.routing);
        self.ends.push((id, self.bytes.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, (id, end))| (&self.bytes[start..*id], &self.bytes[*id..*end]))
    }
}

//! Writing beside the live process, or without one: a Job, retried dead letters, repairs.
//!
//! **M9**: rows are read at a floor and written; then, after the horizon and at a new floor, their keys are read again, and
//! documents of rows that are gone by then are deleted just below that floor. So it needs no coordination with whoever
//! streams. What a writer leaves that ends in between, the next one looks at: see `attempts`.

use super::{
    attempts::Attempts,
    bootstrap::Work,
    deliver::Deliverer,
    error::PipelineError,
    high::HighMark,
    keys,
    letters::Letters,
    lookups::Lookups,
    pace::Pace,
    prepare::{self, Prepared},
    progress::Progress,
    reading::WindowReading,
    reading_host::{ReadingHost, is_conflict},
    schemas, session,
    tables::Tables,
};
use crate::{
    ack::Tracker,
    config::Config,
    lanes::{Lanes, TableNo, Target, WindowRows},
    map::IdBuffers,
    model::{Epochs, Lsn, ORDINAL_HELD, Version},
    sink::{self, DeadLetters, StateStore},
    source::{self, floor, replication::SystemIdentity, server},
};
use std::{
    collections::HashSet,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::{CancellationToken, DropGuard};

/// See the module.
pub(super) struct Beside {
    pub(super) config: Arc<Config>,
    pub(super) primary: Client,
    pub(super) state: Arc<StateStore>,
    pub(super) tables: Arc<Tables>,
    pub(super) progress: Arc<Progress>,
    pub(super) client: sink::Client,
    pub(super) lanes: Arc<Lanes>,
    pub(super) epochs: Epochs,
    pub(super) high: Arc<HighMark>,
    /// Where windows are read.
    pub(super) host: ReadingHost,
    pace: Pace,
    pub(super) attempts: Attempts,
    /// Of the floor at which windows are read first.
    pub(super) version: Version,
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
            client: client.clone(),
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
        let names = tables.iter().map(|table| table.schema.name.to_string()).collect();
        let attempts = Attempts::begin(&primary, state.clone(), names).await?;
        let (host, taken) = ReadingHost::take_floor(&config, None, &name, &primary).await?;
        // M8.
        high.cover(taken.lsn).await;
        floor::wait_until_visible(&primary, taken.burned).await?;
        let version = epochs.floor_version(taken.lsn)?;
        attempts.note(version).await?;
        let writer = Beside {
            pace: Pace::new(config.backfill.rate),
            host,
            config,
            primary,
            state,
            tables,
            progress,
            client: client.clone(),
            lanes,
            epochs,
            high,
            attempts,
            version,
            application_name: name,
            _lanes_end: end.drop_guard(),
        };
        Ok((writer, work, tasks))
    }

    /// A connection to read windows over, to where the configuration says.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) async fn window_reader(&self) -> Result<Client, PipelineError> {
        self.host.connect(&self.primary).await
    }

    /// A connection to the primary to read rows over.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) async fn reader(&self) -> Result<Client, PipelineError> {
        Ok(source::sql::connect(&self.config.postgres, None, &self.application_name).await?)
    }

    /// Reads the rows of `table` under `predicate` (all without one) and makes their documents so. `label` is for people. False
    /// where that took longer than `limit`, or a standby cancelled it: what was read until then is right, and the rest is to be
    /// read anew over another connection.
    ///
    /// # Errors
    /// One of the servers; what was written is right, what was not reached is as before.
    pub(super) async fn fill(
        &self,
        client: &Client,
        number: TableNo,
        predicate: Option<String>,
        label: String,
        limit: Option<Duration>,
    ) -> Result<bool, PipelineError> {
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
            pace: Some(&self.pace),
        };
        let mut written = Keys::default();
        // Nothing is guarded without a stream, so no window is ever to be read again.
        let copying = reading.copy(client, &rows, |ids| written.push(ids));
        let copied = match tokio::time::timeout(limit.unwrap_or(Duration::MAX), copying).await {
            Ok(Err(error)) if self.host.other().is_some() && is_conflict(&error) => Err(error.to_string()),
            Ok(copied) => copied.map(Ok)?,
            Err(_) => Err("it took longer than backfill.window_time".to_owned()),
        };
        if let Err(why) = copied {
            rows.answered().await;
            tracing::info!(window = label, "the window is not read to its end: {why}");
            let other = self.window_reader().await?;
            let again = self.again(&other).await?;
            self.delete_gone(&other, table, &written.iter().collect::<Vec<_>>(), again).await?;
            return Ok(false);
        }
        client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
        rows.answered().await;

        let again = self.again(client).await?;
        let mut present = HashSet::new();
        keys::list(client, table, predicate.as_deref(), |ids| {
            present.insert(place(&table.target, &ids.plain, &ids.routing));
        })
        .await?;
        // What is not in the window any more may have moved to another one, or to another shard.
        let missing: Vec<_> = written
            .iter()
            .filter(|(plain, routing)| !present.contains(&place(&table.target, plain, routing)))
            .collect();
        self.delete_gone(client, table, &missing, again).await?;
        Ok(true)
    }

    /// Begins a reading: a snapshot that sees the floor, of which nothing can be lost, and which **M7** covers.
    async fn begin(&self, client: &Client) -> Result<WindowRows, PipelineError> {
        let read = floor::snapshot(client).await?;
        floor::wait_flushed(&self.primary, &read).await?;
        self.high.cover(read.lsn).await;
        Ok(WindowRows::new(read.snapshot, self.version))
    }

    /// The version of a floor to write at, which is durable; what `client` reads from now on sees it.
    pub(super) async fn new_floor(&self, client: &Client) -> Result<Version, PipelineError> {
        let version = self.floor(client).await?;
        self.attempts.note(version).await?;
        Ok(version)
    }

    async fn floor(&self, client: &Client) -> Result<Version, PipelineError> {
        let taken = floor::take_floor(&self.primary).await?;
        // M8.
        self.high.cover(taken.lsn).await;
        floor::wait_until_visible(client, taken.burned).await?;
        Ok(self.epochs.floor_version(taken.lsn)?)
    }

    /// The new floor, after the horizon; what `client` reads from now on sees it.
    pub(super) async fn again(&self, client: &Client) -> Result<Version, PipelineError> {
        while let Some(until) = self.lanes.doubtful_until(Instant::now()) {
            tracing::info!("waiting until no request of this process can be executed late any more");
            tokio::time::sleep_until(until.into()).await;
        }
        self.floor(client).await
    }
}

/// The source's identity without a replication connection, which only a stream needs.
pub(super) async fn identity_of(control: &Client) -> Result<SystemIdentity, PipelineError> {
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

//! A backfill on its own: a Job, beside a live process or without one.
//!
//! **M9**: a window is read and written; then, at a new floor, its keys are read again, and documents that it wrote for
//! rows that are gone by then are deleted just below that floor. So it needs no coordination with whoever streams.

use super::{
    deliver::Deliverer,
    error::PipelineError,
    high::HighMark,
    lookups::Lookups,
    prepare::{self, Prepared},
    progress::Progress,
    reading::{self, WindowReading},
    session,
    tables::Tables,
    windows::{self, Range},
};
use crate::{
    ack::Tracker,
    config::Config,
    decode::CopyDecoder,
    lanes::{Action, Change, Lanes, TableNo, WindowRows},
    map::{IdBuffers, TablePlan, key_of_plain},
    model::{Epochs, Lsn, ORDINAL_HELD, Snapshot, Version},
    sink::{self, DeadLetters, StateStore},
    source::{self, copy, floor, lookup, replication::SystemIdentity, server, window::WindowRange},
};
use futures_util::StreamExt;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Keys of one query.
const KEYS: usize = 500;

/// Fills the indices once, as `config` says, within `range`.
///
/// # Errors
/// Whatever stands in the way. What was written is right either way; the windows not reached are not.
pub async fn backfill(
    config: Arc<Config>,
    range: Range,
    progress: Arc<Progress>,
) -> Result<(), PipelineError> {
    let name = format!("pg2os {} backfill", config.name);
    let primary = source::sql::connect(&config.postgres, None, &name).await?;
    let client = sink::Client::new(&config.opensearch)?;
    client.info().await?;
    let server = identity_of(&primary).await?;
    let schemas = prepare::schemas(&primary, &config).await?;
    let state = StateStore::open(&client, &config.opensearch.state_index, &config.name).await?;
    let dead_letters = DeadLetters::open(&client, &config.opensearch.dead_letter_index, &config.name).await?;
    let Prepared { tables, mut work, indices } =
        prepare::tables(&config, &client, &state, schemas, &server).await?;
    let epochs = prepare::epochs(&client, &state, &indices).await?.list;
    let state = Arc::new(state);
    let tables = Arc::new(tables);
    let lanes = Arc::new(Lanes::new(session::limits(&config), Tracker::new(Lsn::ZERO), false, None));
    let insert = source::position::log_end(&primary).await?.insert;
    let high = Arc::new(HighMark::new(state.clone(), epochs.clone(), Lsn::ZERO));
    let deliverer = Arc::new(Deliverer {
        lanes: lanes.clone(),
        tables: tables.clone(),
        client: client.clone(),
        dead_letters,
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
    let _guard = end.clone().drop_guard();
    let mut tasks = JoinSet::new();
    for lane in 0..lanes.count() {
        let (deliverer, end) = (deliverer.clone(), end.clone());
        tasks.spawn(async move { deliverer.run(lane, &end).await });
    }

    let taken = floor::take_floor(&primary).await?;
    floor::wait_until_visible(&primary, taken.burned).await?;
    let mut jobs = VecDeque::new();
    let mut readers = HashMap::new();
    for work in &mut work {
        let table = tables.get(work.table);
        work.note_foreign_rows(&state).await?;
        let ranges =
            windows::divide(&primary, table, work.window.clone(), &range, chrono::Utc::now()).await?;
        progress.plan(
            work.table,
            &table.schema.name.to_string(),
            ranges.len(),
            0,
            table.schema.estimated_rows,
        );
        readers.insert(work.table, ranges.len());
        jobs.extend(ranges.into_iter().map(|range| (work.table, range)));
    }
    let job = Arc::new(Job {
        version: epochs.floor_version(taken.lsn)?,
        config: config.clone(),
        primary,
        tables,
        lanes,
        progress,
        epochs,
        high,
        jobs: Mutex::new(jobs),
        left: Mutex::new(readers),
    });
    let mut windows = JoinSet::new();
    for _ in 0..config.backfill.parallel {
        let job = job.clone();
        windows.spawn(async move { job.work().await });
    }
    loop {
        tokio::select! {
            window = windows.join_next() => match window {
                Some(result) => result.map_err(|_| PipelineError::Ended("a window reader"))??,
                None => return Ok(()),
            },
            Some(_) = tasks.join_next() => return Err(PipelineError::Ended("a lane")),
        }
    }
}

/// The source's identity without a replication connection, which a backfill does not need.
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

struct Job {
    config: Arc<Config>,
    primary: Client,
    tables: Arc<Tables>,
    lanes: Arc<Lanes>,
    progress: Arc<Progress>,
    epochs: Epochs,
    high: Arc<HighMark>,
    /// Of the floor that all windows share.
    version: Version,
    jobs: Mutex<VecDeque<(TableNo, WindowRange)>>,
    /// Windows left per table.
    left: Mutex<HashMap<TableNo, usize>>,
}

impl Job {
    async fn work(&self) -> Result<(), PipelineError> {
        let name = format!("pg2os {} backfill", self.config.name);
        let client = source::sql::connect(&self.config.postgres, None, &name).await?;
        loop {
            let next = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((table, range)) = next else { return Ok(()) };
            self.fill(&client, table, &range).await?;
            self.progress.window_done(table);
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(left) = left.get_mut(&table) {
                *left -= 1;
                if *left == 0 {
                    self.progress.table_live(table);
                }
            }
        }
    }

    async fn fill(&self, client: &Client, number: TableNo, range: &WindowRange) -> Result<(), PipelineError> {
        let read = floor::snapshot(client).await?;
        floor::wait_flushed(&self.primary, &read).await?;
        self.high.cover(read.lsn).await;
        let rows = WindowRows::new(read.snapshot, self.version);
        let reading = WindowReading {
            table: self.tables.get(number),
            number,
            predicate: range.predicate(),
            label: range.label(),
            lanes: &self.lanes,
            progress: &self.progress,
            max_document_bytes: self.config.bulk.max_document_bytes,
        };
        let mut written = Keys::default();
        // Nothing is guarded without a stream, so no window is ever to be read again.
        reading.copy(client, &rows, |ids| written.push(&ids.plain)).await?;
        client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
        rows.answered().await;
        self.delete_gone(client, number, range, &written).await
    }

    /// Reads the keys again at a new floor, and deletes what was written for rows that are gone.
    async fn delete_gone(
        &self,
        client: &Client,
        number: TableNo,
        range: &WindowRange,
        written: &Keys,
    ) -> Result<(), PipelineError> {
        while let Some(until) = self.lanes.doubtful_until() {
            tracing::info!("waiting until no request of this backfill can be executed late any more");
            tokio::time::sleep_until(until.into()).await;
        }
        let table = self.tables.get(number);
        let schema = &table.schema;
        let again = floor::take_floor(&self.primary).await?;
        floor::wait_until_visible(client, again.burned).await?;
        let version = self.epochs.floor_version(again.lsn)?;
        let columns: Vec<_> = schema
            .columns
            .iter()
            .filter(|c| table.spec.id.contains(&c.name))
            .map(|c| (c.name.clone(), c.column_type.clone()))
            .collect();
        let plan = TablePlan::new(&table.spec, schema.oid, &columns)
            .map_err(|missing| PipelineError::id_column(&schema.name.to_string(), &missing))?;
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let bad =
            |what: String| PipelineError::Row { table: schema.name.to_string(), window: range.label(), what };
        let (mut decoder, mut ids, mut present) =
            (CopyDecoder::default(), IdBuffers::default(), HashSet::new());
        let filter = schema.row_filter.as_deref();
        let sql = copy::copy_sql(schema, &names, filter, range.predicate().as_deref());
        let mut lines = Box::pin(copy::read(client, &sql).await?);
        while let Some(line) = lines.next().await {
            let line = line?;
            let row = decoder.decode(&line, names.len()).map_err(|error| bad(error.to_string()))?;
            plan.write_id(&row, &mut ids).map_err(|_| bad("a key column is missing".to_owned()))?;
            present.insert(table.target.hash(&ids.plain));
        }
        // What is not in the window any more may have moved to another one.
        let missing: Vec<&[u8]> =
            written.iter().filter(|plain| !present.contains(&table.target.hash(plain))).collect();
        let deletes = WindowRows::new(Snapshot::of_everything(), version);
        for chunk in missing.chunks(KEYS) {
            let keys: Vec<_> =
                chunk.iter().filter_map(|plain| key_of_plain(plain, table.spec.id.len())).collect();
            let sql = lookup::lookup_sql(schema, &names, &table.spec.id, filter, &keys)?;
            let mut moved = HashSet::new();
            for line in lookup::lookup(client, &sql).await?.rows {
                let row = decoder.decode(&line, names.len()).map_err(|error| bad(error.to_string()))?;
                plan.write_id(&row, &mut ids).map_err(|_| bad("a key column is missing".to_owned()))?;
                moved.insert(ids.plain.clone());
            }
            for plain in chunk.iter().filter(|plain| !moved.contains(**plain)) {
                plan.id_of_plain(plain, &mut ids.id);
                let target = &table.target;
                let action = Action { target, id: &ids.id, plain_id: plain, version, change: Change::Delete };
                reading::queue(&self.lanes, &action, &deletes).await;
            }
        }
        deletes.answered().await;
        Ok(())
    }
}

/// Plain ids of one window, side by side.
#[derive(Debug, Default)]
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    fn push(&mut self, plain: &[u8]) {
        self.bytes.extend_from_slice(plain);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

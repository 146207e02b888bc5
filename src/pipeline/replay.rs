//! Replay: history from a saved position once more into the same indices, beside the live stream.
//!
//! A copy of the bookmark slot is streamed through the usual reader and intake, but what they queue is not sent: documents
//! of history would carry old versions, which lose against whatever stands there (or stood, as a tombstone) since, and would
//! bring back, until the end or a kill, rows that are gone. What counts is *which* documents history touched: their ids are
//! collected, in bounded memory, and made right as every writer beside the live process makes them (**M9**, `beside`):
//! read at a floor past that history, written just below it, and after the horizon read again at a new floor, where what is
//! gone is deleted. What rule M10 asks of a last stretch thus holds for every id that is written, by **M9** alone.
//!
//! | state | what a kill there leaves | shown by (`tests/e2e/replay.rs`) |
//! |---|---|---|
//! | the range is checked, the copy of the slot made | nothing: a temporary slot ends with its connection | `positions_outside_…`, `…_leaves_no_slot…` |
//! | collecting ids | nothing | |
//! | a TRUNCATE deletes what is older than itself (**M11**) | the rest of it, which the next replay finds | `m11_…` |
//! | the floor is taken, rows are read and written | documents as of the floor, live changes have higher versions; the attempt is durable, and the next writer looks again (`attempts`) | `a_replay_that_is_killed_…` |
//! | read again, what is gone deleted | the same | `m10_…`, which fails without this |
//!
//! Neither checkpoint nor live slot is touched; `high` is raised by what is read (**M7**).

use super::{
    beside::Beside,
    bookmark::{self, Kept},
    error::PipelineError,
    intake::Intake,
    journal::Ids,
    position, prepare,
    progress::Progress,
    reader::{Reader, ReaderError, SERVER_TIMEOUT, StreamState},
    requests::RequestHandler,
    schemas, session,
    tasks::{AbortOnDrop, LeaveOnDrop, ended, spawn_reader},
};
use crate::{
    ack::Tracker,
    config::{Bookmark, Config, OnTruncate, Postgres},
    lanes::{Batch, LaneLimits, Lanes, TableNo},
    model::{Lsn, TypeCatalog},
    sink::{self, Checkpoint, StateStore, TableState},
    source::{self, publication, replication::ReplicationConnection, slot},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Client;

/// Memory of the ids of one round; a round ends with a floor, which waits for open transactions.
const IDS_BYTES: usize = 16 << 20;
/// What an id costs beside its bytes.
const ID_OVERHEAD: usize = 96;
const TICK: Duration = Duration::from_millis(50);
const GOODBYE: Duration = Duration::from_secs(10);

/// What was replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Where history ended.
    pub to: Lsn,
    /// Changes of configured tables in it.
    pub changes: u64,
    /// Documents that were made right.
    pub documents: u64,
}

/// Replays from `from` to `to`, or to where the server stands now.
///
/// # Errors
/// [`PipelineError::Configuration`] where that history is not kept, with the range that is; else whatever stands in the
/// way. What was written is right; the rest is as it was.
pub async fn replay(
    config: Arc<Config>,
    from: Lsn,
    to: Option<Lsn>,
    progress: Arc<Progress>,
) -> Result<Replayed, PipelineError> {
    let source = Source::open(config, from, to).await?;
    let (mut writer, work, mut lane_tasks) =
        Beside::open(source.config.clone(), "replay", progress.clone()).await?;
    // What is not filled yet is about to be read as a whole.
    let is_new = work.iter().map(|work| work.record.state == TableState::New).collect();
    if let Some(tables) = Arc::get_mut(&mut writer.tables) {
        for (table, work) in tables.iter_mut().zip(&work) {
            table.read_above = work.record.floor.map_or(source.end, |floor| floor.lsn);
        }
    }
    let publications = source.publications(&writer).await?;
    let Source { config, control, connection, slot, checkpoint, end, timeline } = source;

    let lanes = Arc::new(Lanes::new(
        LaneLimits { lanes: 1, ..session::limits(&config) },
        Tracker::new(from),
        false,
        None,
    ));
    let stream = Arc::new(StreamState::new(from));
    progress.begin_session(stream.clone(), lanes.clone());
    let _leave = LeaveOnDrop(stream.clone());
    let next_xid = source::position::log_end(&control).await?.next_xid;
    let intake = Intake::new(
        writer.tables.clone(),
        lanes.clone(),
        writer.epochs.clone(),
        TypeCatalog::new(),
        next_xid,
        checkpoint.held_below,
        config.bulk.max_document_bytes,
    );
    let (requests, asked) = mpsc::unbounded_channel();
    let handler = RequestHandler {
        control: Arc::new(control),
        lanes: writer.lanes.clone(),
        tables: writer.tables.clone(),
        client: writer.client.clone(),
        epochs: writer.epochs.clone(),
        memory: Arc::default(),
    };
    let mut handling = AbortOnDrop::spawn(handler.run(asked));
    let connection = start(connection, slot, from, publications).await?;
    tracing::info!(%from, to = %end, "replaying");
    let reader = Reader::new(connection, intake, lanes.clone(), stream.clone(), requests, from);
    let mut collecting = Collecting {
        reader: writer.reader().await?,
        writer,
        lanes,
        stream: stream.clone(),
        is_new,
        ids: Ids::new(),
        bytes: 0,
        documents: 0,
    };
    let mut reading = spawn_reader(reader);
    let documents = tokio::select! {
        biased;
        result = &mut reading => return Err(match result {
            Ok(Err(error)) => error.into(),
            // It leaves in order when a request stays unanswered; the handler knows why.
            Ok(Ok(())) => ended((&mut handling.0).await, "the reader thread"),
            Err(_) => PipelineError::Ended("the reader thread"),
        }),
        result = &mut handling.0 => return Err(ended(result, "the handler of requests")),
        Some(result) = lane_tasks.join_next() => return Err(ended(result, "a lane")),
        documents = collecting.run(end) => documents?,
    };
    stream.finish();
    farewell(reading).await;
    tokio::select! {
        biased;
        Some(result) = lane_tasks.join_next() => return Err(ended(result, "a lane")),
        finished = collecting.writer.finish() => finished?,
    }
    // **M9**: what was read is of the server whose history it was.
    source::sql::check_timeline(&collecting.writer.primary, timeline).await?;
    Ok(Replayed { to: end, changes: stream.changes(), documents })
}

/// The source of a replay: one server, with a copy of the bookmark slot of its own.
struct Source {
    config: Arc<Config>,
    control: Client,
    connection: ReplicationConnection,
    /// The copy, which ends with `connection`.
    slot: String,
    checkpoint: Checkpoint,
    end: Lsn,
    timeline: u32,
}

impl Source {
    /// Finds the bookmark, sees that it reaches back to `from`, and copies it.
    async fn open(config: Arc<Config>, from: Lsn, to: Option<Lsn>) -> Result<Self, PipelineError> {
        let Some(bookmark) = config.bookmark.clone() else {
            return Err(PipelineError::Configuration(
                "bookmark is `off`, so no history is kept: take it out and restart `pg2os run`, which keeps history from then \
                 on; `pg2os resync` reads whole tables again"
                    .to_owned(),
            ));
        };
        let name = format!("pg2os {} replay", config.name);
        let (control, host) = source::sql::connect_primary(&config.postgres, &name).await?;
        // A replay is of one server.
        let postgres = Postgres { hosts: vec![host], ..config.postgres.clone() };
        let config = Arc::new(Config { postgres, ..Config::clone(&config) });
        let client = sink::Client::new(&config.opensearch)?;
        client.info().await?;
        let state = StateStore::find(&client, &config.opensearch.state_index, &config.name).await?;
        let checkpoint = match state {
            Some(state) => state.checkpoint().await?.map(|stored| stored.record),
            None => None,
        };
        let end = source::position::log_end(&control).await?.flush;
        let found = slot::find(&control, &bookmark.slot).await?;
        let database = &config.postgres.database;
        let position = checkpoint.as_ref().map(|checkpoint| checkpoint.lsn);
        let kept = bookmark::kept(&bookmark.slot, found.as_ref(), database, position, end);
        let kept = kept.map_err(PipelineError::Configuration)?;
        kept.check(from, to).map_err(PipelineError::Configuration)?;
        let Some(checkpoint) = checkpoint else { return Err(PipelineError::Ended("the checkpoint")) };

        let (server, connection, slot, copied) = copy(config.clone(), bookmark, name).await?;
        if let Some(why) = position::foreign(&checkpoint, &server) {
            return Err(PipelineError::Gap(why));
        }
        if checkpoint.timeline != server.timeline {
            return Err(PipelineError::Replaced { server: server.timeline, known: checkpoint.timeline });
        }
        // The bookmark may have moved meanwhile, the copy does not.
        Kept { from: copied, ..kept }.check(from, to).map_err(PipelineError::Configuration)?;
        let (end, timeline) = (to.unwrap_or(end), server.timeline);
        Ok(Source { config, control, connection, slot, checkpoint, end, timeline })
    }

    /// The publications that the checkpoint's stream is of, in the order of the configuration.
    async fn publications(&self, writer: &Beside) -> Result<Vec<String>, PipelineError> {
        let made = publication::oids(&self.control).await?;
        let streamed = |name: &String| {
            let is = |(oid, made): &(u32, String)| made == name && self.checkpoint.publications.contains(oid);
            made.iter().any(is)
        };
        let mut publications = self.config.postgres.all_publications();
        publications.retain(streamed);
        let version_num = schemas::check_server(&self.control).await?;
        // **M12**: where a TRUNCATE stands among the changes of its transaction depends on it.
        if prepare::fingerprint(&publications, &writer.tables, version_num) == self.checkpoint.fingerprint {
            return Ok(publications);
        }
        Err(PipelineError::Configuration(
            "tables, ids or publications are others than those that `pg2os run` follows: start it with this configuration \
             first, or replay with its configuration"
                .to_owned(),
        ))
    }
}

/// What a replay streams from, and where its slot stands.
type Copied = (source::replication::SystemIdentity, ReplicationConnection, String, Lsn);

async fn copy(config: Arc<Config>, bookmark: Bookmark, name: String) -> Result<Copied, PipelineError> {
    let connecting = tokio::task::spawn_blocking(move || {
        let mut connection = ReplicationConnection::connect(&config.postgres, &name, Some(SERVER_TIMEOUT))?;
        let server = connection.identify_system()?;
        let (slot, at) = connection.copy_slot(&bookmark.slot)?;
        Ok::<_, PipelineError>((server, connection, slot, at))
    });
    connecting.await.map_err(|_| PipelineError::Ended("connecting"))?
}

async fn start(
    mut connection: ReplicationConnection,
    slot: String,
    from: Lsn,
    publications: Vec<String>,
) -> Result<ReplicationConnection, PipelineError> {
    let starting = tokio::task::spawn_blocking(move || {
        connection.start(&slot, from, &publications)?;
        Ok::<_, PipelineError>(connection)
    });
    starting.await.map_err(|_| PipelineError::Ended("starting the stream"))?
}

/// The slot goes with the connection, whether the server is told or not.
async fn farewell(reading: oneshot::Receiver<Result<(), ReaderError>>) {
    let _ = tokio::time::timeout(GOODBYE, reading).await;
}

/// The ids that history touched, on their way to the indices.
struct Collecting {
    writer: Beside,
    reader: Client,
    /// What reader and intake have queued.
    lanes: Arc<Lanes>,
    stream: Arc<StreamState>,
    /// By table: is it not filled yet?
    is_new: Vec<bool>,
    ids: Ids,
    bytes: usize,
    documents: u64,
}

impl Collecting {
    /// Takes in what is streamed up to `end` and makes the documents right; returns how many.
    async fn run(&mut self, end: Lsn) -> Result<u64, PipelineError> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                batch = self.lanes.next_batch(0) => self.take(batch),
                _ = tick.tick() => {}
            }
            let position = self.lanes.tracker().position();
            // All of it: a walsender that lags would hold up a server that stops.
            self.stream.set_durable(position);
            if self.writer.primary.is_closed() {
                return Err(PipelineError::Source(source::SourceError::Closed { doing: "replaying" }));
            }
            if self.bytes >= IDS_BYTES || position >= end {
                self.rewrite().await?;
            }
            if position >= end {
                break;
            }
        }
        // Deletes of a TRUNCATE.
        while !self.writer.lanes.is_empty() {
            tokio::time::sleep(TICK).await;
        }
        Ok(self.documents)
    }

    fn take(&mut self, mut batch: Batch) {
        for (table, id, routing) in batch.ids() {
            let is_new = self.is_new.get(usize::from(table.0)).copied().unwrap_or(false);
            if !is_new && self.ids.insert((table, id.into(), routing.into())) {
                self.bytes += id.len() + routing.len() + ID_OVERHEAD;
            }
        }
        let body = batch.seal();
        self.lanes.answered(0, batch, body);
    }

    async fn rewrite(&mut self) -> Result<(), PipelineError> {
        let ids: Vec<_> = std::mem::take(&mut self.ids).into_iter().collect();
        self.bytes = 0;
        let begun = Instant::now();
        for of_table in ids.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(table, ..)) = of_table.first() else { continue };
            let documents: Vec<(&[u8], &[u8])> =
                of_table.iter().map(|(_, id, routing)| (&**id, &**routing)).collect();
            self.of_table(table, &documents).await?;
        }
        if !ids.is_empty() {
            self.documents += ids.len() as u64;
            let seconds = begun.elapsed().as_secs_f32();
            let position = self.lanes.tracker().position();
            tracing::info!(documents = self.documents, %position, seconds, "documents read again");
        }
        Ok(())
    }

    async fn of_table(&self, table: TableNo, documents: &[(&[u8], &[u8])]) -> Result<(), PipelineError> {
        let (writer, client) = (&self.writer, &self.reader);
        let followed = writer.tables.get(table);
        if followed.append_only || followed.on_truncate == OnTruncate::Ignore {
            return writer.rewrite_found(client, table, documents).await;
        }
        writer.rewrite(client, table, documents).await
    }
}

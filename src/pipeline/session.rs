//! A session: everything between acquiring the slot and losing it.
//!
//! A session is built from what the servers and the state documents say, never from what an earlier one remembered: on
//! any loss it is dropped whole, and the next one goes on from the checkpoint. Opening comes in the order of
//! `docs/architecture.md` ("Opening a session"): look, decide, repair durably, START.

use super::{
    assistant::Assistant,
    bootstrap::{Bootstrap, Work},
    checkpoint::CheckpointKeeper,
    deliver::Deliverer,
    error::PipelineError,
    intake::Intake,
    lookups::Lookups,
    position::{self, Gap, Start},
    prepare::{self, Prepared},
    progress::Progress,
    reader::{Reader, ReaderError, SERVER_TIMEOUT, StreamState},
    tables::Tables,
};
use crate::{
    ack::Tracker,
    config::{BackfillOrder, Config, OnGap},
    lanes::{LaneLimits, Lanes},
    model::{Lsn, TypeCatalog},
    sink::{self, Checkpoint, DeadLetters, EpochRecord, Repair, StateStore},
    source::{self, position::LogEnd, replication::ReplicationConnection, slot},
};
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// Lanes of `bulk.lanes: auto`: two connections fill a two-core cluster, more bring little.
const AUTO_LANES: usize = 4;
/// Bytes of all open and sent batches together.
const QUEUE_BYTES: usize = 24 << 20;
/// A larger batch brings nothing, measured (`docs/performance.md`).
const BATCH_BYTES: usize = 1 << 20;
const BATCH_ACTIONS: usize = 10_000;
const GUARDED_DELETES: usize = 200_000;
const TICK: Duration = Duration::from_millis(50);
/// Time that an orderly stop has to finish what is in flight.
const DRAIN: Duration = Duration::from_secs(10);

/// How a session ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// Everything up to the server's position is in the indices.
    CaughtUp,
}

/// See the module.
pub struct Session {
    config: Arc<Config>,
    control: tokio_postgres::Client,
    state: StateStore,
    client: sink::Client,
    dead_letters: DeadLetters,
    tables: Arc<Tables>,
    work: Vec<Work>,
    require_alias: bool,
    epochs: EpochRecord,
    checkpoint: Checkpoint,
    connection: ReplicationConnection,
    log_end: LogEnd,
    taken: Instant,
}

impl Session {
    /// Looks at both servers, decides where to start, repairs what must be, and acquires the slot.
    ///
    /// # Errors
    /// Whatever stands in the way, with its cure; [`PipelineError::SlotBusy`] where another instance streams.
    pub async fn open(config: Arc<Config>) -> Result<Self, PipelineError> {
        let application_name = format!("pg2os {}", config.name);
        let control = source::sql::connect(&config.postgres, None, &application_name).await?;
        let client = sink::Client::new(&config.opensearch)?;
        client.info().await?;
        prepare::check_server(&control).await?;
        let schemas = prepare::schemas(&control, &config).await?;

        let (settings, name) = (config.clone(), application_name.clone());
        let connecting = tokio::task::spawn_blocking(move || {
            let mut connection =
                ReplicationConnection::connect(&settings.postgres, &name, Some(SERVER_TIMEOUT))?;
            let server = connection.identify_system()?;
            Ok::<_, PipelineError>((connection, server))
        });
        let (mut connection, server) = connecting.await.map_err(|_| PipelineError::Ended("connecting"))??;

        let state = StateStore::open(&client, &config.opensearch.state_index, &config.name).await?;
        // Before anything is made on a server that may not be ours.
        let stored = state.checkpoint().await?.map(|stored| stored.record);
        if let Some(why) = stored.and_then(|checkpoint| position::foreign(&checkpoint, &server)) {
            return Err(PipelineError::Gap(why));
        }
        let schemas = prepare::published(&control, &config, schemas).await?;
        let dead_letters =
            DeadLetters::open(&client, &config.opensearch.dead_letter_index, &config.name).await?;
        let Prepared { tables, mut work, indices } =
            prepare::tables(&config, &client, &state, schemas, &server).await?;
        let mut epochs = prepare::epochs(&client, &state, &indices).await?;

        let slot_name = config.postgres.slot.clone();
        let found = slot::find(&control, &slot_name).await?;
        // After the slot: whoever held it until now has written its checkpoint before it moved the slot.
        let stored = state.checkpoint().await?.map(|stored| stored.record);
        if let Some((true, Some(pid))) = found.as_ref().map(|s| (s.active, s.active_pid)) {
            return Err(PipelineError::SlotBusy { slot: slot_name, pid });
        }
        prepare::check_slot(&slot_name, found.as_ref(), &server.database)?;
        let mut history = vec![];
        if stored.as_ref().is_some_and(|c| c.timeline < server.timeline) {
            history = connection.timeline_history(server.timeline)?;
        }
        let log_end = source::position::log_end(&control).await?;
        let from = match position::start(stored.as_ref(), &slot_name, found.as_ref(), &server, &history) {
            Start::Continue(lsn) => lsn,
            Start::Foreign(why) => return Err(PipelineError::Gap(why)),
            start => {
                let after_gap = matches!(start, Start::Gap(_));
                if let Start::Gap(gap) = &start {
                    plan_repair(&config, &state, gap, &mut epochs).await?;
                }
                // Without a stream since then, nothing that was read before counts.
                for table in &mut work {
                    table.restart(&state, after_gap).await?;
                }
                acquire(&control, &slot_name, found.as_ref()).await?
            }
        };
        prepare::let_go_of_others(&state, &tables).await?;
        if epochs.list.is_worn_at(log_end.insert) {
            epochs.list.begin(log_end.insert)?;
            state.write_epochs(&epochs).await?;
        }
        let checkpoint = Checkpoint {
            slot: slot_name.clone(),
            system_identifier: server.system_id,
            database: server.database,
            timeline: server.timeline,
            fingerprint: String::new(),
            lsn: from,
            high: None,
        };
        state.write_checkpoint(&checkpoint, &epochs.list).await?;

        let publications = config.postgres.publications.clone();
        let starting = tokio::task::spawn_blocking(move || {
            connection.start(&slot_name, from, &publications)?;
            Ok::<_, PipelineError>(connection)
        });
        let connection = starting.await.map_err(|_| PipelineError::Ended("starting the stream"))??;
        tracing::info!(from = %from, slot = checkpoint.slot, tables = tables.iter().count(), "streaming");
        let require_alias = indices.iter().all(|index| index.is_alias);
        Ok(Session {
            config,
            control,
            state,
            client,
            dead_letters,
            tables: Arc::new(tables),
            work,
            require_alias,
            epochs,
            checkpoint,
            connection,
            log_end,
            taken: Instant::now(),
        })
    }

    /// Streams, and reads the windows that are not done, until told to stop, or until caught up where that is asked for.
    ///
    /// # Errors
    /// The session is lost; the next one goes on from the checkpoint.
    pub async fn run(
        self,
        progress: Arc<Progress>,
        until_caught_up: bool,
        stop: CancellationToken,
    ) -> Result<End, PipelineError> {
        let from = self.checkpoint.lsn;
        let lanes = Arc::new(Lanes::new(limits(&self.config), Tracker::new(from), !self.work.is_empty()));
        let stream = Arc::new(StreamState::new(from));
        progress.begin_session(stream.clone(), lanes.clone());
        let intake = Intake::new(
            self.tables.clone(),
            lanes.clone(),
            self.epochs.list.clone(),
            TypeCatalog::new(),
            self.log_end.next_xid,
            self.config.bulk.max_document_bytes,
        );
        let (requests, asked) = mpsc::unbounded_channel();
        let reader = Reader::new(self.connection, intake, lanes.clone(), stream.clone(), requests, from);
        stream.set_waiting(self.config.backfill.order == BackfillOrder::First);
        let mut reading = spawn_reader(reader);

        // Everything below ends with the session, the reader thread too: it must not keep the slot.
        let session = CancellationToken::new();
        let _end = session.clone().drop_guard();
        let _leave = LeaveOnDrop(stream.clone());
        let name = format!("pg2os {} lookups", self.config.name);
        let deliverer = Arc::new(Deliverer {
            lanes: lanes.clone(),
            tables: self.tables.clone(),
            client: self.client.clone(),
            dead_letters: self.dead_letters,
            lookups: Lookups::new(&self.config, name, self.tables.clone()),
            require_alias: self.require_alias,
            progress: progress.clone(),
            epochs: self.epochs.list.clone(),
            highest_version: AtomicU64::new(
                self.epochs.list.version(self.log_end.insert, crate::model::ORDINAL_HELD)?.0,
            ),
        });
        let mut senders = JoinSet::new();
        for lane in 0..lanes.count() {
            let (deliverer, session) = (deliverer.clone(), session.clone());
            senders.spawn(async move { deliverer.run(lane, &session).await });
        }
        let state = Arc::new(self.state);
        let bootstrap = Bootstrap {
            config: self.config.clone(),
            state: state.clone(),
            client: self.client.clone(),
            tables: self.tables.clone(),
            lanes: lanes.clone(),
            progress: progress.clone(),
            epochs: self.epochs.list.clone(),
            taken: self.taken,
        };
        let mut bootstrap = AbortOnDrop::spawn(bootstrap.fill(self.work));
        let mut filled = false;
        let drained = CancellationToken::new();
        let keeper = CheckpointKeeper::new(
            state.clone(),
            self.epochs.list.clone(),
            self.checkpoint,
            lanes.clone(),
            stream.clone(),
        );
        let mut keeping = AbortOnDrop::spawn(keeper.run(drained.clone()));
        let assistant = Assistant {
            control: self.control,
            lanes: lanes.clone(),
            tables: self.tables.clone(),
            client: self.client.clone(),
        };
        let mut assisting = AbortOnDrop::spawn(assistant.run(asked));
        let mut goal = None;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

        let end = loop {
            // The order says which of two ends is told.
            tokio::select! {
                biased;
                () = stop.cancelled() => break End::Stopped,
                result = &mut reading => {
                    return Err(match result {
                        Ok(Err(error)) => error.into(),
                        Ok(Ok(())) | Err(_) => PipelineError::Ended("the reader thread"),
                    });
                }
                result = &mut assisting.0 => return Err(ended(result, "the assistant")),
                result = &mut keeping.0 => return Err(ended(result, "the checkpoint keeper")),
                Some(_) = senders.join_next() => return Err(PipelineError::Ended("a lane")),
                result = &mut bootstrap.0, if !filled => {
                    result.map_err(|_| PipelineError::Ended("the backfill"))??;
                    filled = true;
                    stream.set_waiting(false);
                    if self.epochs.repair.is_some() {
                        let repaired = EpochRecord { list: self.epochs.list.clone(), repair: None };
                        state.write_epochs(&repaired).await?;
                        tracing::info!("the gap is repaired");
                    }
                }
                _ = tick.tick(), if filled && until_caught_up => {
                    let goal = match goal {
                        Some(goal) => goal,
                        None => *goal.insert(log_end_of(&self.config).await?),
                    };
                    if lanes.tracker().position() >= goal {
                        break End::CaughtUp;
                    }
                }
            }
        };

        // Stop reading, drain, last checkpoint, last status, leave.
        stream.hold();
        bootstrap.0.abort();
        let deadline = Instant::now() + DRAIN;
        while !lanes.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(TICK / 10).await;
        }
        if !lanes.is_empty() {
            tracing::warn!(
                "OpenSearch did not answer within {} s; what is left is streamed again at the next start",
                DRAIN.as_secs()
            );
        }
        drained.cancel();
        match tokio::time::timeout(DRAIN, &mut keeping.0).await {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) => return Err(PipelineError::Ended("the checkpoint keeper")),
            Err(_) => tracing::warn!("the last checkpoint could not be written in time"),
        }
        stream.finish();
        match tokio::time::timeout(DRAIN, reading).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last acknowledgement may not have arrived"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the reader did not leave in time"),
        }
        Ok(end)
    }
}

pub(super) fn limits(config: &Config) -> LaneLimits {
    let lanes = config.bulk.lanes.unwrap_or(AUTO_LANES);
    // A lane has one batch open and one in flight.
    let share = QUEUE_BYTES / (2 * lanes);
    LaneLimits {
        lanes,
        batch_bytes: config.bulk.bytes.min(BATCH_BYTES).min(share),
        batch_actions: BATCH_ACTIONS,
        flush_after: config.bulk.flush_after,
        guarded_deletes: GUARDED_DELETES,
    }
}

fn spawn_reader(reader: Reader) -> oneshot::Receiver<Result<(), ReaderError>> {
    let (done, reading) = oneshot::channel();
    let thread = std::thread::Builder::new().name("reader".to_owned());
    let spawned = thread.spawn(move || {
        // The session may be gone already; then nobody waits.
        let _ = done.send(reader.run());
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread for the reader");
    }
    reading
}

/// Writes down that a gap is to be repaired, before anything is streamed past it.
async fn plan_repair(
    config: &Config,
    state: &StateStore,
    gap: &Gap,
    epochs: &mut EpochRecord,
) -> Result<(), PipelineError> {
    if config.on_gap == OnGap::Stop {
        return Err(PipelineError::Gap(format!(
            "{gap}; on_gap is `stop`: set on_gap: resync to read all tables again beside the stream"
        )));
    }
    tracing::warn!(%gap, "a gap: all tables are read again beside the stream, and what is gone is swept");
    let at = match gap {
        Gap::Forked { at, .. } => {
            // LSNs of the two timelines are not comparable past the fork.
            epochs.list.begin(*at)?;
            *at
        }
        Gap::SlotMissing { checkpoint, .. }
        | Gap::SlotLost { checkpoint, .. }
        | Gap::SlotAhead { checkpoint, .. } => *checkpoint,
    };
    epochs.repair = Some(Repair { reason: gap.to_string(), lsn: at });
    state.write_epochs(epochs).await?;
    Ok(())
}

/// Makes the slot, or moves one that nobody streamed from to now; returns where the stream starts.
async fn acquire(
    control: &tokio_postgres::Client,
    name: &str,
    found: Option<&slot::SlotState>,
) -> Result<Lsn, PipelineError> {
    match found {
        Some(slot) if !slot.is_lost() => {
            // The slot may be older than the publication, which WAL from before it does not know.
            let now = source::position::log_end(control).await?.flush;
            Ok(slot::advance(control, name, now).await?)
        }
        lost => {
            if lost.is_some() {
                slot::drop_slot(control, name).await?;
            }
            let start = slot::create(control, name).await?;
            tracing::info!(slot = name, %start, "replication slot created");
            Ok(start)
        }
    }
}

/// The server's position, over a connection of its own: the session's is the assistant's.
async fn log_end_of(config: &Config) -> Result<Lsn, PipelineError> {
    let control = source::sql::connect(&config.postgres, None, &format!("pg2os {}", config.name)).await?;
    Ok(source::position::log_end(&control).await?.flush)
}

/// Tells the reader thread to go, however the session ends.
struct LeaveOnDrop(Arc<StreamState>);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A task that ends with its session.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T: Send + 'static> AbortOnDrop<T> {
    fn spawn(task: impl Future<Output = T> + Send + 'static) -> Self {
        AbortOnDrop(tokio::spawn(task))
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The error of a task that should have gone on.
fn ended(result: Result<Result<(), PipelineError>, JoinError>, what: &'static str) -> PipelineError {
    match result {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => PipelineError::Ended(what),
    }
}

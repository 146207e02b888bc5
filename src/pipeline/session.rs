//! A session: everything between acquiring the slot and losing it.
//!
//! A session is built from what the servers and the state documents say; what the process remembers of an earlier one
//! (`memory`) only spares it work. On any loss it is dropped whole, and the next one goes on from the checkpoint.
//! `opening` acquires the slot.

pub(super) use super::tasks::ended;
use super::{
    bookmark,
    bootstrap::{Bootstrap, Work},
    checkpoint::CheckpointKeeper,
    deliver::Deliverer,
    error::PipelineError,
    high::HighMark,
    intake::Intake,
    intake_error::IntakeError,
    letters::Letters,
    lookups::Lookups,
    memory::Memory,
    progress::Progress,
    reader::{Reader, ReaderError, StreamState},
    requests::RequestHandler,
    tables::Tables,
    target_watch::{self, TargetWatch},
    tasks::{AbortOnDrop, LeaveOnDrop, spawn_reader},
    watch::Watch,
};
use crate::{
    ack::Tracker,
    config::{BackfillOrder, Config},
    lanes::{LaneLimits, Lanes, TableNo},
    model::{Lsn, TableShape, TypeCatalog},
    sink::{self, Checkpoint, EpochRecord, StateStore},
    source::{self, position::LogEnd, replication::ReplicationConnection},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Lanes of `bulk.lanes: auto`: two connections fill a two-core cluster, more bring little.
const AUTO_LANES: usize = 4;
/// Bytes of all open and sent batches together.
const QUEUE_BYTES: usize = 24 << 20;
/// A larger batch brings nothing, measured (`docs/performance.md`).
const BATCH_BYTES: usize = 1 << 20;
const BATCH_ACTIONS: usize = 10_000;
const GUARDED_DELETES: usize = 200_000;
/// About 40,000 deletes that wait to be sent once more.
const REPEAT_BYTES: usize = 8 << 20;
const TICK: Duration = Duration::from_millis(50);
/// Time that an orderly stop has for each of its steps.
const DRAIN: Duration = Duration::from_secs(10);
/// The same where PostgreSQL stops: it waits for us.
const DRAIN_FOR_SERVER: Duration = Duration::from_secs(1);

/// How a session ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// Everything up to the server's position is in the indices.
    CaughtUp,
    /// **M5**: more deletes were in doubt than there is memory for. The stream begins again at the checkpoint, when
    /// nothing is in doubt any more.
    Overflowed,
    /// Tables are to be read anew, by the next session.
    Again,
    /// PostgreSQL has ended the ordinary connection, as it does when it stops. It then waits until its walsenders have had
    /// everything acknowledged, which may never be: what needs a lookup cannot be decided any more.
    ServerLeft,
}

/// See the module.
pub struct Session {
    pub(super) config: Arc<Config>,
    pub(super) control: tokio_postgres::Client,
    pub(super) state: StateStore,
    pub(super) client: sink::Client,
    pub(super) letters: Letters,
    pub(super) tables: Arc<Tables>,
    pub(super) work: Vec<Work>,
    pub(super) require_alias: bool,
    pub(super) epochs: EpochRecord,
    pub(super) checkpoint: Checkpoint,
    pub(super) connection: ReplicationConnection,
    pub(super) log_end: LogEnd,
    /// Until when requests of an earlier holder of the slot may be executed late.
    pub(super) others_until: Option<Instant>,
    /// **M7**: the highest position whose content may be in the indices.
    pub(super) high: Lsn,
    /// **M12**: commits below it get the held ordinal.
    pub(super) held_below: Lsn,
    pub(super) memory: Arc<Memory>,
    pub(super) shapes: Vec<TableShape>,
}

impl Session {
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
        let lanes = Arc::new(Lanes::new(
            limits(&self.config),
            Tracker::new(from),
            !self.work.is_empty(),
            self.others_until.max(self.memory.lock().doubtful_until),
        ));
        let state = Arc::new(self.state);
        let high = Arc::new(HighMark::new(state.clone(), self.epochs.list.clone(), self.high));
        let _remember = RememberOnDrop {
            memory: self.memory.clone(),
            lanes: lanes.clone(),
            timeline: self.checkpoint.timeline,
            high: high.clone(),
            horizon: self.config.limits.late_request_horizon,
        };
        let stream = Arc::new(StreamState::new(from));
        progress.begin_session(stream.clone(), lanes.clone());
        let intake = Intake::new(
            self.tables.clone(),
            lanes.clone(),
            self.epochs.list.clone(),
            TypeCatalog::new(),
            self.log_end.next_xid,
            self.held_below,
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
            letters: self.letters,
            lookups: Lookups::new(&self.config, Some(self.checkpoint.timeline), name, self.tables.clone()),
            require_alias: self.require_alias,
            progress: progress.clone(),
            epochs: self.epochs.list.clone(),
            highest_version: AtomicU64::new(
                self.epochs.list.version(self.log_end.insert, crate::model::ORDINAL_HELD)?.0,
            ),
            high: high.clone(),
            stream: Some(stream.clone()),
            memory: self.memory.clone(),
        });
        let mut senders = JoinSet::new();
        for lane in 0..lanes.count() {
            let (deliverer, session) = (deliverer.clone(), session.clone());
            senders.spawn(async move { deliverer.run(lane, &session).await });
        }
        let bootstrap = Bootstrap {
            config: self.config.clone(),
            timeline: self.checkpoint.timeline,
            state: state.clone(),
            client: self.client.clone(),
            tables: self.tables.clone(),
            lanes: lanes.clone(),
            progress: progress.clone(),
            epochs: self.epochs.list.clone(),
            high: high.clone(),
            memory: self.memory.clone(),
            stream: stream.clone(),
        };
        let mut bootstrap = AbortOnDrop::spawn(bootstrap.fill(self.work));
        let _bookmark =
            AbortOnDrop::spawn(bookmark::keep(self.config.clone(), self.checkpoint.timeline, stream.clone()));
        let mut filled = false;
        let drained = CancellationToken::new();
        let keeper = CheckpointKeeper::new(
            state.clone(),
            self.epochs.list.clone(),
            self.checkpoint,
            lanes.clone(),
            stream.clone(),
            high.clone(),
        );
        let mut keeping = AbortOnDrop::spawn(keeper.run(drained.clone()));
        let control = Arc::new(self.control);
        let handler = RequestHandler {
            control: control.clone(),
            lanes: lanes.clone(),
            tables: self.tables.clone(),
            client: self.client.clone(),
            epochs: self.epochs.list.clone(),
            memory: self.memory.clone(),
        };
        let mut handling = AbortOnDrop::spawn(handler.run(asked));
        let looked = Arc::new(AtomicBool::new(false));
        let watch = Watch {
            config: self.config.clone(),
            tables: self.tables.clone(),
            state: state.clone(),
            lanes: lanes.clone(),
            stream: stream.clone(),
            known: self.shapes,
            looked: looked.clone(),
        };
        let target = TargetWatch { client: self.client, state: state.clone(), tables: self.tables.clone() };
        let mut watching = AbortOnDrop::spawn(target_watch::both(watch, target));
        let mut again = vec![];
        // Once no other process can begin a request any more, what it left is known better.
        let others_done = self.others_until.map(|until| until - self.config.limits.late_request_horizon);
        let mut others_known = others_done.is_none();
        let mut others = std::pin::pin!(high.learn_what_others_left(others_done, &control));
        let mut goal = None;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

        let end = loop {
            // The order says which of two ends is told.
            tokio::select! {
                biased;
                () = stop.cancelled() => break End::Stopped,
                result = &mut reading => {
                    // Without its id column a row has no document; the next session knows the table as it is now.
                    if let Ok(Err(ReaderError::Intake(error @ IntakeError::IdColumn { no, .. }))) = &result {
                        tracing::warn!("{error}; the table is looked at again, and read again if it can be");
                        bootstrap.stop(filled).await;
                        again.push(*no);
                        read_anew(&state, &self.tables, &again).await?;
                        return Ok(End::Again);
                    }
                    return Err(match result {
                        Ok(Err(error)) => error.into(),
                        // It leaves in order when a request stays unanswered; the handler knows why.
                        Ok(Ok(())) => ended((&mut handling.0).await, "the reader thread"),
                        Err(_) => PipelineError::Ended("the reader thread"),
                    });
                }
                result = &mut handling.0 => return Err(ended(result, "the handler of requests")),
                result = &mut keeping.0 => return Err(ended(result, "the checkpoint keeper")),
                Some(result) = senders.join_next() => return Err(ended(result, "a lane")),
                result = &mut bootstrap.0, if !filled => {
                    result.map_err(|_| PipelineError::Ended("the backfill"))??;
                    filled = true;
                    stream.set_waiting(false);
                    if self.epochs.repair.is_some() {
                        let repaired = EpochRecord { list: self.epochs.list.clone(), repair: None };
                        state.write_epochs(&repaired).await?;
                        self.memory.lock().phantoms = None;
                        tracing::info!("the gap is repaired");
                    }
                }
                result = &mut watching.0 => {
                    again = result.map_err(|_| PipelineError::Ended("the catalog watch"))??;
                    break End::Again;
                }
                left = &mut others, if !others_known => {
                    others_known = true;
                    if let Some(end) = left {
                        self.memory.lock().journal.others_wrote_below(end);
                    }
                }
                _ = tick.tick() => {
                    if lanes.doubts_overflowed() {
                        tracing::warn!(
                            "more deletes than memory allows are to be repeated once no earlier request can be executed \
                             late; the stream waits for that, and begins again at the checkpoint"
                        );
                        break End::Overflowed;
                    }
                    if control.is_closed() {
                        tracing::warn!("PostgreSQL has ended the connection of this session; leaving, as it may wait for that to stop");
                        break End::ServerLeft;
                    }
                    if !(filled && until_caught_up) {
                        continue;
                    }
                    let goal = match goal {
                        Some(goal) => goal,
                        None => *goal.insert(log_end_of(&self.config).await?),
                    };
                    if lanes.tracker().answered_position() >= goal && looked.load(Ordering::Acquire) {
                        break End::CaughtUp;
                    }
                }
            }
        };

        // Stop reading, drain, last checkpoint, last status, leave.
        stream.hold();
        bootstrap.stop(filled).await;
        while let (End::Overflowed, Some(until), false) =
            (end, lanes.doubtful_until(Instant::now()), stop.is_cancelled())
        {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
        let patience = if end == End::ServerLeft { DRAIN_FOR_SERVER } else { DRAIN };
        let deadline = Instant::now() + patience;
        while !lanes.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(TICK / 10).await;
        }
        if !lanes.is_empty() {
            tracing::warn!(
                "not everything was answered within {} s; what is left is streamed again at the next start",
                patience.as_secs()
            );
        }
        drained.cancel();
        match tokio::time::timeout(patience, &mut keeping.0).await {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) => return Err(PipelineError::Ended("the checkpoint keeper")),
            Err(_) => tracing::warn!("the last checkpoint could not be written in time"),
        }
        stream.finish();
        match tokio::time::timeout(patience, reading).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last acknowledgement may not have arrived"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the reader did not leave in time"),
        }
        read_anew(&state, &self.tables, &again).await?;
        Ok(end)
    }
}

/// Durably forgets what was read of tables, for the next session: their windows are stopped.
async fn read_anew(state: &StateStore, tables: &Tables, again: &[TableNo]) -> Result<(), PipelineError> {
    for no in again {
        if let Some(stored) = state.table(&tables.get(*no).schema.name.to_string()).await? {
            let append_only = tables.get(*no).append_only;
            Work { table: *no, record: stored.record, window: None, append_only, is_empty: false }
                .restart(state, true)
                .await?;
        }
    }
    Ok(())
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
        repeat_bytes: REPEAT_BYTES,
        horizon: config.limits.late_request_horizon,
    }
}

/// The server's position, over a connection of its own: the session's is the request handler's.
async fn log_end_of(config: &Config) -> Result<Lsn, PipelineError> {
    let control = source::sql::connect(&config.postgres, None, &format!("pg2os {}", config.name)).await?;
    Ok(source::position::log_end(&control).await?.flush)
}

/// Tells the next session of the process what this one knew, however it ends.
struct RememberOnDrop {
    memory: Arc<Memory>,
    lanes: Arc<Lanes>,
    timeline: u32,
    high: Arc<HighMark>,
    horizon: Duration,
}

impl Drop for RememberOnDrop {
    fn drop(&mut self) {
        let left = self.high.known().left(self.timeline);
        self.memory.lock().end_session(&self.lanes, left, self.horizon, Instant::now());
    }
}

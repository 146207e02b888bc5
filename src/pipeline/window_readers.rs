//! Readers of windows: each takes a window from the queue, reads it in a short transaction of its own, and notes it when every
//! one of its rows was answered. A window that takes too long is split; one that a standby cancels is read again.

use super::{
    bootstrap::Bootstrap,
    error::{Meaning, PipelineError},
    pace::Pace,
    plans::{self, Job},
    polite::{Gate, Politeness, Standby},
    reading::WindowReading,
    reading_host::{ReadingHost, is_conflict},
    snapshots::OpenSnapshots,
};
use crate::{
    config::BackfillOrder,
    lanes::{TableNo, WindowRows},
    sink::{PlanRecord, WindowRecord, WindowState},
    source::{self, divide, divide::Divider, floor},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// Pause before a window is read again because the guard no longer knows, and between looks for work.
const READ_AGAIN: Duration = Duration::from_millis(100);
/// Pause after a standby failed a read.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Conflicts on a standby after which a window is split: a shorter one has a better chance.
const CONFLICTS: u32 = 2;

/// What readers share.
pub(super) struct Readers {
    pub(super) bootstrap: Bootstrap,
    pub(super) primary: Arc<Client>,
    pub(super) host: ReadingHost,
    pub(super) plans: tokio::sync::Mutex<HashMap<TableNo, PlanRecord>>,
    pub(super) queue: Mutex<Queue>,
}

/// Windows that nobody has taken yet.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) jobs: VecDeque<Job>,
    /// Tables of the windows that somebody is at, of which some may come back in parts.
    taken: Vec<TableNo>,
}

impl Queue {
    /// A window of `table` is done, or split into others; is that table done with it?
    fn give_back(&mut self, table: TableNo) -> bool {
        if let Some(at) = self.taken.iter().position(|taken| *taken == table) {
            self.taken.swap_remove(at);
        }
        !self.taken.contains(&table) && !self.jobs.iter().any(|job| job.table == table)
    }
}

struct Shared {
    readers: Readers,
    open: OpenSnapshots,
    pace: Pace,
    gate: Gate,
}

/// How reading a window ended.
enum Read {
    Done,
    /// The guard no longer knows, or the standby is behind what the guard has forgotten.
    Again,
    TooLong,
}

impl Readers {
    /// Reads every window of the queue.
    ///
    /// # Errors
    /// The session is lost; windows that are done stay done.
    pub(super) async fn run(self) -> Result<(), PipelineError> {
        let shared = Arc::new(Shared {
            pace: Pace::new(self.bootstrap.config.backfill.rate),
            open: OpenSnapshots::default(),
            gate: Gate::new(),
            readers: self,
        });
        let bootstrap = &shared.readers.bootstrap;
        let mut reading = JoinSet::new();
        for _ in 0..bootstrap.config.backfill.parallel {
            let shared = shared.clone();
            reading.spawn(async move { shared.read_windows().await });
        }
        let name = format!("pg2os {} standby", bootstrap.config.name);
        let postgres = &bootstrap.config.postgres;
        let politeness = Politeness {
            gate: &shared.gate,
            primary: &shared.readers.primary,
            slot: &postgres.slot,
            limits: &bootstrap.config.limits,
            standby: shared.readers.host.other().map(|host| Standby {
                postgres,
                host,
                application_name: &name,
            }),
        };
        // A stream that waits for the windows must not be what they wait for.
        let waits = bootstrap.config.backfill.order == BackfillOrder::First;
        let mut watching =
            std::pin::pin!(politeness.watch(|paused| bootstrap.stream.set_waiting(waits && !paused)));
        loop {
            tokio::select! {
                biased;
                reader = reading.join_next() => match reader {
                    Some(result) => result.map_err(|_| PipelineError::Ended("a window reader"))??,
                    None => return Ok(()),
                },
                failed = &mut watching => failed?,
            }
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next window; `None` when all are done.
    async fn next(&self) -> Option<Job> {
        loop {
            {
                let mut queue = self.queue();
                if let Some(job) = queue.jobs.pop_front() {
                    queue.taken.push(job.table);
                    return Some(job);
                }
                if queue.taken.is_empty() {
                    return None;
                }
            }
            tokio::time::sleep(READ_AGAIN).await;
        }
    }

    /// Puts two windows in the place of `job`, durably; false where it cannot be split.
    async fn split(&self, client: &Client, job: &Job) -> Result<bool, PipelineError> {
        let config = &self.bootstrap.config;
        let divider = Divider {
            client,
            table: &self.bootstrap.tables.get(job.table).schema,
            is_streamed: true,
            most_bytes: config.backfill.window_bytes,
        };
        let facts = divider.facts().await?;
        let Some(halves) = divider.halves(&facts, &job.range).await? else { return Ok(false) };
        let mut plans = self.plans.lock().await;
        let Some(plan) = plans.get_mut(&job.table) else { return Ok(false) };
        let halves = plans::split(plan, job, halves, &facts.files);
        self.bootstrap.state.write_plan(plan).await?;
        self.bootstrap.progress.window_split(job.table);
        self.queue().jobs.extend(halves);
        Ok(true)
    }
}

impl Shared {
    async fn read_windows(&self) -> Result<(), PipelineError> {
        let mut client = None;
        while let Some(job) = self.readers.next().await {
            let table = job.table;
            self.finish_window(&mut client, job).await?;
            let is_last = self.readers.queue().give_back(table);
            if is_last {
                self.readers.bootstrap.windows_done(table).await?;
            }
        }
        Ok(())
    }

    /// Reads a window until it is done, or split into others.
    async fn finish_window(&self, client: &mut Option<Client>, mut job: Job) -> Result<(), PipelineError> {
        let (readers, mut conflicts) = (&self.readers, 0);
        let limit = readers.bootstrap.config.backfill.window_time;
        loop {
            self.gate.open().await;
            // Taken out, so that whatever interrupts a COPY drops its connection.
            let connected = match client.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => readers.host.connect(&readers.primary).await?,
            };
            let label = job.range.label();
            match self.read_window(&connected, &job).await {
                Ok(Read::Done) => {
                    *client = Some(connected);
                    return Ok(());
                }
                Ok(Read::Again) => {
                    tracing::info!(window = label, "the window is read again");
                    tokio::time::sleep(READ_AGAIN).await;
                }
                Ok(Read::TooLong) => {
                    drop(connected);
                    let fresh = readers.host.connect(&readers.primary).await?;
                    let is_split = readers.split(&fresh, &job).await?;
                    *client = Some(fresh);
                    if is_split {
                        tracing::info!(
                            window = label,
                            "the window took longer than {limit:?} (backfill.window_time); it is split"
                        );
                        return Ok(());
                    }
                    tracing::warn!(
                        window = label,
                        "the window takes longer than {limit:?} and cannot be split; it is read to its end"
                    );
                    job.divisible = false;
                }
                Err(error) if readers.host.other().is_some() && is_of_standby(&error) => {
                    drop(connected);
                    conflicts += u32::from(is_conflict(&error));
                    tracing::warn!(%error, window = label, "the standby did not let the window be read; it is read again");
                    tokio::time::sleep(AFTER_FAILURE).await;
                    if conflicts >= CONFLICTS && job.divisible {
                        let fresh = readers.host.connect(&readers.primary).await?;
                        let is_split = readers.split(&fresh, &job).await?;
                        *client = Some(fresh);
                        if is_split {
                            tracing::info!(
                                window = label,
                                "the window is split, as the standby cancelled it {conflicts} times"
                            );
                            return Ok(());
                        }
                        conflicts = 0;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads one window once.
    async fn read_window(&self, client: &Client, job: &Job) -> Result<Read, PipelineError> {
        let (readers, bootstrap) = (&self.readers, &self.readers.bootstrap);
        let table = bootstrap.tables.get(job.table);
        let version = bootstrap.epochs.floor_version(job.floor.lsn)?;
        let opening = self.open.opening();
        let read = floor::snapshot(client).await?;
        let Some(open) = opening.opened(read.snapshot.xmin) else { return Ok(Read::Again) };
        floor::wait_flushed(&readers.primary, &read).await?;
        bootstrap.memory.lock().journal.whole(job.table, read.lsn);
        bootstrap.high.cover(read.lsn).await;
        let window = WindowRows::new(read.snapshot, version);
        let reading = WindowReading {
            table,
            number: job.table,
            predicate: job.range.predicate(),
            label: job.range.label(),
            lanes: &bootstrap.lanes,
            progress: &bootstrap.progress,
            max_document_bytes: bootstrap.config.bulk.max_document_bytes,
            pace: Some(&self.pace),
        };
        let copying = async {
            let Some(rows) = reading.copy(client, &window, |_| ()).await? else { return Ok(None) };
            if job.range.is_by_blocks() {
                // Nobody gives the table another file before the COMMIT.
                let files = divide::files(client, &table.schema).await?;
                let plans = readers.plans.lock().await;
                if plans.get(&job.table).is_some_and(|plan| plans::is_rewritten(&plan.files, &files)) {
                    return Err(PipelineError::Redefined(table.schema.name.to_string()));
                }
            }
            client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
            Ok::<_, PipelineError>(Some(rows))
        };
        let rows = if job.divisible {
            let limit = bootstrap.config.backfill.window_time;
            match tokio::time::timeout(limit, copying).await {
                Ok(rows) => rows?,
                Err(_) => return Ok(Read::TooLong),
            }
        } else {
            copying.await?
        };
        let Some(rows) = rows else { return Ok(Read::Again) };
        window.answered().await;
        if let Some(xmin) = open.close() {
            bootstrap.lanes.prune_guards(xmin);
        }
        let record = WindowRecord {
            table: table.schema.name.to_string(),
            number: job.number,
            label: job.range.label(),
            predicate: job.range.predicate().unwrap_or_default(),
            state: WindowState::Done,
            rows,
            floor: job.floor,
        };
        bootstrap.state.write_window(&record, &bootstrap.epochs).await?;
        bootstrap.progress.window_done(job.table);
        Ok(Read::Done)
    }
}

/// May the error come from the standby, and pass?
fn is_of_standby(error: &PipelineError) -> bool {
    matches!(error, PipelineError::Query(_) | PipelineError::Source(_))
        && error.meaning() == Meaning::Transient
}

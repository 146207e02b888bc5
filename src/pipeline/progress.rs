//! What has been done so far: counters that progress lines, `status` and tests read. Shared by all sessions of a run.

use super::reader::StreamState;
use crate::{
    lanes::{Lanes, TableNo},
    model::Lsn,
    sink::Answer,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Counters; all of them only grow within a session.
#[derive(Debug, Default)]
pub struct Progress {
    actions: AtomicU64,
    dead_letters: AtomicU64,
    doing: OnceLock<&'static str>,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    tables: BTreeMap<TableNo, TableProgress>,
    session: Option<(Arc<StreamState>, Arc<Lanes>)>,
}

/// How far the windows of a table are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableProgress {
    /// Qualified name.
    pub name: String,
    /// Windows in all.
    pub windows: usize,
    /// Windows done.
    pub done: usize,
    /// Those of them that an earlier session had done.
    pub found_done: usize,
    /// Rows read in this session.
    pub rows: u64,
    /// Bytes of COPY text read in this session.
    pub bytes: u64,
    /// The planner's estimate of the table's rows.
    pub estimated_rows: u64,
    /// Is it filled?
    pub live: bool,
}

/// How far the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamProgress {
    /// Changes of configured tables taken in during this session.
    pub changes: u64,
    /// Everything up to here was answered.
    pub position: Lsn,
    /// What is in the checkpoint.
    pub durable: Lsn,
    /// How far the server says it has sent.
    pub server_end: Lsn,
    /// Bytes queued.
    pub queued: usize,
}

impl Progress {
    /// Of work that is called otherwise than backfill.
    pub fn of(doing: &'static str) -> Self {
        Progress { doing: OnceLock::from(doing), ..Progress::default() }
    }

    /// What the work is called.
    pub fn doing(&self) -> &'static str {
        self.doing.get().unwrap_or(&"backfill")
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_session(&self, stream: Arc<StreamState>, lanes: Arc<Lanes>) {
        let mut shared = self.shared();
        shared.tables.clear();
        shared.session = Some((stream, lanes));
    }

    pub(super) fn answered(&self, answer: &Answer, actions: usize) {
        let add = |applied: usize| {
            self.actions.fetch_add(applied as u64, Ordering::Relaxed);
        };
        match answer {
            Answer::AllDone => add(actions),
            Answer::Items(items) => add(actions.saturating_sub(items.len())),
            _ => {}
        }
    }

    pub(super) fn buried(&self, letters: u64) {
        self.dead_letters.fetch_add(letters, Ordering::Relaxed);
    }

    pub(super) fn plan(&self, table: TableNo, name: &str, windows: usize, done: usize, estimated_rows: i64) {
        let estimated_rows = u64::try_from(estimated_rows).unwrap_or(0);
        let progress = TableProgress {
            name: name.to_owned(),
            windows,
            done,
            found_done: done,
            estimated_rows,
            ..TableProgress::default()
        };
        self.shared().tables.insert(table, progress);
    }

    fn table(&self, table: TableNo, change: impl FnOnce(&mut TableProgress)) {
        if let Some(progress) = self.shared().tables.get_mut(&table) {
            change(progress);
        }
    }

    pub(super) fn rows_read(&self, table: TableNo, rows: u64, bytes: u64) {
        self.table(table, |t| {
            t.rows += rows;
            t.bytes += bytes;
        });
    }

    pub(super) fn window_done(&self, table: TableNo) {
        self.table(table, |t| t.done += 1);
    }

    /// Two windows stand in the place of one.
    pub(super) fn window_split(&self, table: TableNo) {
        self.table(table, |t| t.windows += 1);
    }

    pub(super) fn table_live(&self, table: TableNo) {
        self.table(table, |t| t.live = true);
    }

    /// The tables whose windows are being read, or were in this session.
    pub fn tables(&self) -> Vec<TableProgress> {
        self.shared().tables.values().cloned().collect()
    }

    /// The stream of the present session, once there is one.
    pub fn stream(&self) -> Option<StreamProgress> {
        let shared = self.shared();
        let (stream, lanes) = shared.session.as_ref()?;
        Some(StreamProgress {
            changes: stream.changes(),
            position: lanes.tracker().answered_position(),
            durable: stream.durable(),
            server_end: stream.server_end(),
            queued: lanes.queued_bytes(),
        })
    }

    /// Actions that were applied.
    pub fn actions(&self) -> u64 {
        self.actions.load(Ordering::Relaxed)
    }

    /// Dead letters written.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }
}

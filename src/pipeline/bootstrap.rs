//! Windows into lanes: from a table's floor to its last window's last answer, beside the stream.
//!
//! The floor (steps 2 to 4), then windows in any order and in parallel, each in a short transaction; a window is done
//! when every one of its rows was answered. After the last window of a table that has older documents comes the sweep.

use super::{
    bulk_load,
    error::PipelineError,
    high::HighMark,
    memory::Memory,
    phantoms,
    plans::{self, Planned},
    progress::Progress,
    reader::StreamState,
    reading,
    reading_host::ReadingHost,
    tables::Tables,
    watch,
    window_readers::{Queue, Readers},
};
use crate::{
    config::{self, Config},
    lanes::{Action, Change, Lanes, TableNo, WindowRows},
    model::{Epochs, Lsn},
    sink::{self, Floor, StateStore, TableRecord, TableState, Versions},
    source::{self, floor},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_postgres::Client;

/// Pause between two looks at how far the stream is.
const LOOK: Duration = Duration::from_millis(100);
/// Part of `backfill.window_time` in which a window is to be read at `backfill.rate`.
const MARGIN: u64 = 2;

/// A table of the session and how far it is.
#[derive(Debug)]
pub struct Work {
    /// The table.
    pub table: TableNo,
    /// Its state document.
    pub record: TableRecord,
    /// How it is configured to be divided.
    pub window: Option<config::Window>,
    /// Are only inserts followed? Then documents of rows that were deleted stay, as they do without a gap.
    pub append_only: bool,
    /// Did pg2os make its index, and has that no documents?
    pub is_empty: bool,
}

impl Work {
    /// Nothing that was read before counts any more: durable before the stream goes on. After a gap the index may hold
    /// rows that were deleted in it, even where no window was read yet: the stream alone wrote them.
    ///
    /// # Errors
    /// The state could not be written.
    pub async fn restart(&mut self, state: &StateStore, after_gap: bool) -> Result<(), PipelineError> {
        if self.void(after_gap) {
            state.write_table(&self.record).await?;
        }
        Ok(())
    }

    /// Forgets what was read before; true where there is something to write down.
    pub fn void(&mut self, after_gap: bool) -> bool {
        let begun = self.record.state != TableState::New || self.record.floor.is_some();
        if begun || after_gap {
            self.record.state = TableState::New;
            self.record.floor = None;
            self.record.sweep |= !self.append_only;
        }
        begun || after_gap
    }

    /// The windows begin at a floor, unless they have one already; true where that is to be written down.
    pub fn begin(&mut self, floor: Lsn, epochs: &Epochs) -> bool {
        let begins = self.record.state == TableState::New || self.record.floor.is_none();
        if begins {
            let epoch = epochs.last().number;
            self.record.floor = Some(Floor { lsn: floor, epoch, slot_start: floor });
            self.record.state = TableState::Windows;
        }
        begins
    }

    /// A backfill without the stream is about to write: what it leaves of rows that go before the stream begins must be
    /// swept by the process that fills the table for it.
    ///
    /// # Errors
    /// The state could not be written.
    pub async fn note_foreign_rows(&mut self, state: &StateStore) -> Result<(), PipelineError> {
        if self.record.state == TableState::New && !self.record.sweep && !self.append_only {
            self.record.sweep = true;
            state.write_table(&self.record).await?;
        }
        Ok(())
    }
}

/// Bytes of the table that a window has at most; one that is read slowly on purpose has less.
pub(super) fn most_bytes(backfill: &config::Backfill) -> u64 {
    let paced = backfill.rate.map_or(u64::MAX, |rate| {
        rate.saturating_mul(backfill.window_time.as_secs()) / backfill.parallel.max(1) as u64 / MARGIN
    });
    backfill.window_bytes.min(paced.max(1))
}

/// What the readers of windows share.
#[derive(Clone)]
pub struct Bootstrap {
    /// Settings.
    pub config: Arc<Config>,
    /// Timeline of the stream.
    pub timeline: u32,
    /// State documents.
    pub state: Arc<StateStore>,
    /// OpenSearch.
    pub client: sink::Client,
    /// The tables.
    pub tables: Arc<Tables>,
    /// The lanes.
    pub lanes: Arc<Lanes>,
    /// Counters.
    pub progress: Arc<Progress>,
    /// Epochs of the versions.
    pub epochs: Epochs,
    /// **M7**.
    pub high: Arc<HighMark>,
    /// What a failover may have left to look up, and where windows are noted.
    pub memory: Arc<Memory>,
    /// The stream beside the windows.
    pub stream: Arc<StreamState>,
}

impl Bootstrap {
    /// Reads what is not live yet; ends when all of it is.
    ///
    /// # Errors
    /// The session is lost; windows that are done stay done.
    pub async fn fill(self, mut work: Vec<Work>) -> Result<(), PipelineError> {
        for filled in work.iter().filter(|w| w.record.state == TableState::Live) {
            plans::explain_filled(&self.state, filled).await?;
        }
        bulk_load::begin(&self.client, &self.state, &work).await?;
        work.retain(|w| w.record.state != TableState::Live);
        let phantoms = self.memory.lock().phantoms.clone();
        if work.is_empty() && phantoms.is_none() {
            self.lanes.stop_guarding();
            return Ok(());
        }
        let name = format!("pg2os {} windows", self.config.name);
        let primary = Arc::new(source::sql::connect_on(&self.config.postgres, self.timeline, &name).await?);
        // Burned anew in every session: what an earlier one streamed, deletes included, is visible to every window of
        // this one, so its guards need not be remembered.
        let (host, floor) =
            ReadingHost::take_floor(&self.config, Some(self.timeline), &name, &primary).await?;
        // M8, and what a crash takes away must not come again below a floor.
        floor::wait_flushed_up_to(&primary, floor.lsn).await?;
        self.high.cover(floor.lsn).await;
        floor::wait_until_visible(&primary, floor.burned).await?;
        // What was sent on the timeline that was left may be executed after the repair: then it is done once more.
        let doubtful_until = self.lanes.doubtful_until(Instant::now());
        if let Some(phantoms) = &phantoms {
            phantoms::repair(&self, &primary, floor.lsn, phantoms).await?;
        }
        self.refuse_other_columns(&primary, &work).await?;
        let reader = host.connect(&primary).await?;
        let (mut queue, mut plans) = (Queue::default(), HashMap::new());
        for w in &mut work {
            if w.begin(floor.lsn, &self.epochs) {
                self.state.write_table(&w.record).await?;
            }
            let Some(floor) = w.record.floor else { continue };
            let planned = self.plan(&reader, w, floor).await?;
            queue.jobs.extend(planned.left);
            plans.insert(w.table, planned.plan);
        }
        drop(reader);
        let readers = Readers {
            bootstrap: self.clone(),
            primary: primary.clone(),
            host,
            plans: tokio::sync::Mutex::new(plans),
            queue: Mutex::new(queue),
        };
        Box::pin(readers.run()).await?;
        for mut w in work {
            self.windows_done(w.table).await?;
            if w.record.sweep {
                self.sweep(&w).await?;
                w.record.sweep = false;
            }
            w.record.state = TableState::Live;
            self.state.write_table(&w.record).await?;
            self.progress.table_live(w.table);
            tracing::info!(table = %self.tables.get(w.table).schema.name, "the table is filled and live");
        }
        if let (Some(phantoms), Some(until)) = (&phantoms, doubtful_until) {
            tokio::time::sleep_until(until.into()).await;
            phantoms::repair(&self, &primary, floor.lsn, phantoms).await?;
        }
        self.lanes.stop_guarding();
        Ok(())
    }

    /// All windows of a table are done.
    ///
    /// # Errors
    /// OpenSearch.
    pub(super) async fn windows_done(&self, table: TableNo) -> Result<(), PipelineError> {
        let name = self.tables.get(table).schema.name.to_string();
        bulk_load::end(&self.client, &self.state, &name, self.config.backfill.force_merge).await
    }

    /// Windows are read with the columns that the session began with. One that was added since, and written at or below the
    /// floor, would be missing in them, and the stream's documents of it are older than theirs.
    async fn refuse_other_columns(&self, primary: &Client, work: &[Work]) -> Result<(), PipelineError> {
        let shapes = watch::shapes(primary, &self.config).await?;
        for (shape, table) in shapes.iter().zip(self.tables.iter()) {
            if work.iter().any(|w| w.table == table.target.table) {
                watch::same_columns(shape, &table.schema)?;
            }
        }
        Ok(())
    }

    /// Divides a table, or goes on with how it was divided; returns the plan and the windows that are left.
    async fn plan(&self, reader: &Client, work: &Work, floor: Floor) -> Result<Planned, PipelineError> {
        let table = self.tables.get(work.table);
        let most = most_bytes(&self.config.backfill);
        let planned = plans::plan(&self.state, reader, table, work, floor, most).await?;
        let total = planned.plan.windows.len();
        self.progress.plan(
            work.table,
            &table.schema.name.to_string(),
            total,
            total - planned.left.len(),
            table.schema.estimated_rows,
        );
        Ok(planned)
    }

    /// **M6**: what carries a version below the floor's after all windows is not in the source any more.
    async fn sweep(&self, work: &Work) -> Result<(), PipelineError> {
        let table = self.tables.get(work.table);
        let name = &table.schema.name;
        if work.window.as_ref().is_some_and(|w| w.from.is_some()) {
            tracing::warn!(table = %name, "window.from is set, so documents of deleted rows before it cannot be told from rows that were never read; they stay");
            return Ok(());
        }
        let Some(floor) = work.record.floor else { return Ok(()) };
        let version = self.epochs.floor_version(floor.lsn)?;
        // A row of before the floor may have gone without a delete (with its partition, or with the table that had the name
        // before): what the stream brings of it must be in the index by now, and must not come again.
        self.stream.set_waiting(false);
        self.stream.want(floor.lsn);
        while self.stream.durable() < floor.lsn {
            tokio::time::sleep(LOOK).await;
        }
        while let Some(until) = self.lanes.doubtful_until(Instant::now()) {
            tracing::info!(table = %name, seconds = (until - Instant::now()).as_secs(), "the sweep waits until no request can be executed late any more (limits.late_request_horizon; a minute more after the slot was taken from another process)");
            tokio::time::sleep_until(until.into()).await;
        }
        // A row's place in a lane, for deletes that are no rows: they see everything and carry the floor's version.
        let sweeping = WindowRows::new(crate::model::Snapshot::of_everything(), version);
        let mut deleted = 0_u64;
        let mut listing = Versions::of(&self.client, &table.target.index).await?;
        while let Some(page) = listing.next_page().await? {
            for document in page.iter().filter(|d| table.is_swept(d.version, version)) {
                let (target, change) = (&table.target, Change::Delete);
                let (id, routing) = (document.id.as_bytes(), document.routing());
                let action = Action { target, id, plain_id: id, routing, version, change };
                reading::queue(&self.lanes, &action, &sweeping).await;
                deleted += 1;
            }
        }
        sweeping.answered().await;
        tracing::info!(table = %name, deleted, "documents without a row swept");
        Ok(())
    }
}

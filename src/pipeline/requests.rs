//! What the reader thread asks for, as it cannot do it itself: types from the catalog, fields for new columns, and
//! following a TRUNCATE (**M11**).

use super::{error::PipelineError, fields, memory::Memory, reader::Request, tables::Tables};
use crate::{
    ack::Hold,
    lanes::{Action, Change, Lanes, TableNo},
    model::{Epochs, Lsn, Version, Xid},
    sink::{self, Versions},
    source,
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

const TICK: Duration = Duration::from_millis(5);

/// Answers the reader's requests, one at a time.
pub(super) struct RequestHandler {
    pub(super) control: Arc<tokio_postgres::Client>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) tables: Arc<Tables>,
    pub(super) client: sink::Client,
    pub(super) epochs: Epochs,
    pub(super) memory: Arc<Memory>,
}

impl RequestHandler {
    /// Answers until the reader is gone.
    ///
    /// # Errors
    /// One of the servers could not be asked; the reader is not answered.
    pub(super) async fn run(
        self,
        mut requests: mpsc::UnboundedReceiver<Request>,
    ) -> Result<(), PipelineError> {
        let mut again: VecDeque<TruncateAgain> = VecDeque::new();
        loop {
            let due = again.front().map(|truncate| truncate.due);
            let request = tokio::select! {
                request = requests.recv() => request,
                () = sleep_until(due) => {
                    if let Some(truncate) = again.pop_front() {
                        self.repeat(truncate).await?;
                    }
                    continue;
                }
            };
            // A reader that has left meanwhile needs no answer.
            match request {
                None => return Ok(()),
                Some(Request::Types(oids, answer)) => {
                    let _ = answer.send(source::types::load_types(&self.control, &oids).await?);
                }
                Some(Request::Columns(table, columns, done)) => {
                    fields::follow_columns(&self.client, self.tables.get(table), &columns).await?;
                    let _ = done.send(());
                }
                Some(Request::Truncate { tables, xid, version, done }) => {
                    let due = self.truncate(&tables, xid, version).await?;
                    again.extend(due.map(|due| self.once_more(due, tables, xid, version)));
                    let _ = done.send(());
                }
            }
        }
    }

    /// **M5**: a TRUNCATE is a delete of every id, and repeated where any of them is in doubt. To be called while its
    /// transaction is open.
    fn once_more(&self, due: Instant, tables: Vec<TableNo>, xid: Xid, version: Version) -> TruncateAgain {
        let mut tracker = self.lanes.tracker();
        let ticket = tracker.ticket();
        TruncateAgain { due, tables, xid, version, hold: tracker.answered(ticket) }
    }

    async fn repeat(&self, truncate: TruncateAgain) -> Result<(), PipelineError> {
        self.truncate(&truncate.tables, truncate.xid, truncate.version).await?;
        self.flushed().await;
        self.lanes.tracker().release(truncate.hold);
        Ok(())
    }

    async fn flushed(&self) {
        let mark = self.lanes.mark();
        while !self.lanes.is_flushed(&mark) {
            tokio::time::sleep(TICK).await;
        }
    }

    /// Returns when it is to be done once more.
    async fn truncate(
        &self,
        tables: &[TableNo],
        xid: Xid,
        version: Version,
    ) -> Result<Option<Instant>, PipelineError> {
        self.flushed().await;
        // Before the listing, which a late request may follow at once.
        let doubtful_until = self.lanes.doubtful_until(Instant::now());
        let committed = self.epochs.position(version).map_or(Lsn::ZERO, Lsn::past_first_byte);
        for no in tables {
            self.memory.lock().journal.whole(*no, committed);
            let table = self.tables.get(*no);
            let target = &table.target;
            let mut deleted = 0_u64;
            let mut listing = Versions::of(&self.client, &target.index).await?;
            while let Some(page) = listing.next_page().await? {
                for document in page.iter().filter(|d| table.is_truncated(d.version, version)) {
                    let (id, routing) = (document.id.as_bytes(), document.routing());
                    let change = Change::Delete;
                    let action = Action { target, id, plain_id: id, routing, version, change };
                    while let Err(lane) = self.lanes.push_change(&action, xid) {
                        self.lanes.room(lane).await;
                    }
                    deleted += 1;
                }
            }
            tracing::info!(index = target.index, deleted, "TRUNCATE followed");
        }
        Ok(doubtful_until)
    }
}

/// A TRUNCATE that is to be followed once more.
struct TruncateAgain {
    due: Instant,
    tables: Vec<TableNo>,
    xid: Xid,
    version: Version,
    hold: Hold,
}

/// Never, where there is no time.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

//! What the reader thread asks for, as it cannot do it itself: types from the catalog, fields for new columns, and
//! following a TRUNCATE (**M11**, without its repetition after a doubt).

use super::{error::PipelineError, fields, reader::Request, tables::Tables};
use crate::{
    lanes::{Action, Change, Lanes, TableNo},
    model::{Version, Xid},
    sink::{self, Versions},
    source,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

const TICK: Duration = Duration::from_millis(5);

/// Answers the reader's requests, one at a time.
pub(super) struct RequestHandler {
    pub(super) control: tokio_postgres::Client,
    pub(super) lanes: Arc<Lanes>,
    pub(super) tables: Arc<Tables>,
    pub(super) client: sink::Client,
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
        while let Some(request) = requests.recv().await {
            // A reader that has left meanwhile needs no answer.
            match request {
                Request::Types(oids, answer) => {
                    let _ = answer.send(source::types::load_types(&self.control, &oids).await?);
                }
                Request::Columns(table, columns, done) => {
                    fields::follow_columns(&self.client, self.tables.get(table), &columns).await?;
                    let _ = done.send(());
                }
                Request::Truncate { tables, xid, version, done } => {
                    self.truncate(&tables, xid, version).await?;
                    let _ = done.send(());
                }
            }
        }
        Ok(())
    }
    async fn truncate(&self, tables: &[TableNo], xid: Xid, version: Version) -> Result<(), PipelineError> {
        let mark = self.lanes.mark();
        while !self.lanes.is_flushed(&mark) {
            tokio::time::sleep(TICK).await;
        }
        for no in tables {
            let table = self.tables.get(*no);
            let target = &table.target;
            let mut deleted = 0_u64;
            let mut listing = Versions::of(&self.client, &target.index).await?;
            while let Some(page) = listing.next_page().await? {
                for document in page.iter().filter(|d| d.version <= version && table.may_delete(d.version)) {
                    let id = document.id.as_bytes();
                    let action = Action { target, id, plain_id: id, version, change: Change::Delete };
                    while let Err(lane) = self.lanes.push_change(&action, xid) {
                        self.lanes.room(lane).await;
                    }
                    deleted += 1;
                }
            }
            tracing::info!(index = target.index, deleted, "TRUNCATE followed");
        }
        Ok(())
    }
}

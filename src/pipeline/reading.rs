//! The rows of one window into the lanes: COPY → decode → map → queue.

use super::{
    error::PipelineError,
    pace::{self, Pace},
    progress::Progress,
    tables::Table,
};
use crate::{
    decode::CopyDecoder,
    lanes::{Action, Change, Lanes, RowPushed, TableNo, WindowRows},
    map::IdBuffers,
    source::copy,
};
use futures_util::StreamExt;
use tokio_postgres::Client;

/// Rows between two updates of the counters.
const COUNT_EVERY: u64 = 1024;

/// One window of a table, about to be read.
pub(super) struct WindowReading<'a> {
    pub(super) table: &'a Table,
    pub(super) number: TableNo,
    /// SQL condition; `None` is the whole table.
    pub(super) predicate: Option<String>,
    /// For people.
    pub(super) label: String,
    pub(super) lanes: &'a Lanes,
    pub(super) progress: &'a Progress,
    pub(super) max_document_bytes: usize,
    /// How fast it may be read.
    pub(super) pace: Option<&'a Pace>,
}

impl WindowReading<'_> {
    /// Reads the window in the transaction that `client` is in and queues its rows; `on_id` sees every plain id. Returns
    /// the number of rows; `None` where the window must be read again in a later snapshot: then drop the connection,
    /// which is in the middle of a COPY.
    ///
    /// # Errors
    /// The query, or a row that does not decode.
    pub(super) async fn copy(
        &self,
        client: &Client,
        window: &WindowRows,
        mut on_id: impl FnMut(&IdBuffers),
    ) -> Result<Option<u64>, PipelineError> {
        let schema = &self.table.schema;
        let columns: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
        let sql = copy::copy_sql(schema, &columns, schema.row_filter.as_deref(), self.predicate.as_deref());
        let bad = |what: String| PipelineError::Row {
            table: schema.name.to_string(),
            window: self.label.clone(),
            what,
        };
        let (mut decoder, mut ids, mut document) = (CopyDecoder::default(), IdBuffers::default(), vec![]);
        let (mut rows, mut bytes, mut unpaced) = (0_u64, 0_u64, 0);
        let mut lines = Box::pin(copy::read(client, &sql).await?);
        while let Some(line) = lines.next().await {
            let line = line?;
            let row = decoder.decode(&line, columns.len()).map_err(|error| bad(error.to_string()))?;
            let plan = &self.table.plan;
            plan.write_id(&row, &mut ids).map_err(|_| bad("a key column is missing".to_owned()))?;
            on_id(&ids);
            document.clear();
            let refusal = plan.write_fitting_document(&row, self.max_document_bytes, &mut document).err();
            let change = match &refusal {
                None => Change::Index(&document),
                Some(reason) => Change::Refused { reason, document: &document },
            };
            let target = &self.table.target;
            let (id, plain_id, routing) = (&ids.id[..], &ids.plain[..], &ids.routing[..]);
            let action = Action { target, id, plain_id, routing, version: window.version(), change };
            if !queue(self.lanes, &action, window).await {
                return Ok(None);
            }
            rows += 1;
            bytes += line.len() as u64;
            unpaced += line.len();
            if let (Some(pace), true) = (self.pace, unpaced >= pace::SHARE) {
                pace.keep(std::mem::take(&mut unpaced)).await;
            }
            if rows.is_multiple_of(COUNT_EVERY) {
                self.progress.rows_read(self.number, COUNT_EVERY, std::mem::take(&mut bytes));
            }
        }
        self.progress.rows_read(self.number, rows % COUNT_EVERY, bytes);
        if let Some(pace) = self.pace {
            pace.keep(unpaced).await;
        }
        Ok(Some(rows))
    }
}

/// Queues a row of a window, waiting for room; false where the window must be read again.
pub(super) async fn queue(lanes: &Lanes, action: &Action<'_>, window: &WindowRows) -> bool {
    loop {
        match lanes.push_row(action, window) {
            RowPushed::Queued | RowPushed::Dropped => return true,
            RowPushed::Full(lane) => lanes.room(lane).await,
            RowPushed::ReadAgain => return false,
        }
    }
}

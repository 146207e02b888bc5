//! The catalog watch: changes of a table that the stream does not carry, and what follows from them.
//!
//! The shape with which the documents of a table agree is durable. It is read before the first window of a fill, and
//! compared with the catalog at the start of every session, every half minute, and when the server describes a relation. A change that breaks the agreement ends the session; the next one reads the table anew, with a floor of its own,
//! windows and a sweep.
//!
//! | failure between | what the next session finds |
//! |---|---|
//! | change made, not looked at | the shape from before it, and the change |
//! | verdict, table not marked as new | the same again |
//! | table marked, shape not stored | a new table: the shape is read before its windows |
//! | shape stored, floor not taken | the same |
//! | shape read, change made, windows read | the change: the table is read once more |

use super::{
    bootstrap::Work,
    error::PipelineError,
    reader::StreamState,
    schema_change::{self, Question, Verdict},
    schemas,
    tables::{Table, Tables},
};
use crate::{
    config::{Config, OnSchemaChange},
    lanes::{Lanes, TableNo},
    model::{Lsn, TableName, TableSchema, TableShape},
    sink::{ShapeRecord, StateStore, TableState},
    source::{
        self,
        shape::{self, Found},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::Client;

const EVERY: Duration = Duration::from_secs(30);
/// Relations may be described often; nothing is looked at more often than this.
const SOONEST: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);
/// Looks that fail in a row before the session does: a table may change while it is looked at.
const FAILURES: usize = 3;

/// Watches the tables of a session.
pub(super) struct Watch {
    pub(super) config: Arc<Config>,
    pub(super) tables: Arc<Tables>,
    pub(super) state: Arc<StateStore>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) stream: Arc<StreamState>,
    /// The shapes with which the documents agree, by the numbers of the tables.
    pub(super) known: Vec<TableShape>,
    /// Told when the first look has found nothing to repair.
    pub(super) looked: Arc<AtomicBool>,
}

/// A table, and what the catalog says about it now.
struct Seen {
    table: TableNo,
    now: TableShape,
    /// Questions that are not asked yet, or were answered by yes.
    open: Vec<Question>,
}

impl Watch {
    /// Watches until the session has to begin anew; returns the tables to be read anew.
    ///
    /// # Errors
    /// A table is gone, or the catalog cannot be read.
    pub(super) async fn run(mut self) -> Result<Vec<TableNo>, PipelineError> {
        let (mut client, mut failures) = (None, 0);
        loop {
            let redefined = self.stream.redefinitions();
            match self.look(&mut client).await {
                Ok(Some(again)) => return Ok(again),
                Ok(None) => {
                    failures = 0;
                    self.looked.store(true, Ordering::Release);
                }
                Err(error @ PipelineError::Configuration(_)) => return Err(error),
                Err(error) => {
                    failures += 1;
                    if failures == FAILURES {
                        return Err(error);
                    }
                    tracing::info!(%error, "the catalog could not be looked at; trying again");
                }
            }
            let begun = Instant::now();
            let soon = |watch: &Watch| failures > 0 || watch.stream.redefinitions() != redefined;
            while begun.elapsed() < if soon(&self) { SOONEST } else { EVERY } {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Looks once; returns the tables to be read anew, `None` to go on.
    async fn look(&mut self, client: &mut Option<Client>) -> Result<Option<Vec<TableNo>>, PipelineError> {
        // Taken out, so that a failure drops the connection with its transaction.
        let connected = match client.take() {
            Some(client) if !client.is_closed() => client,
            _ => {
                let name = format!("pg2os {} catalog", self.config.name);
                source::sql::connect(&self.config.postgres, None, &name).await?
            }
        };
        let config = schemas::expanded(&connected, &self.config).await?;
        if schemas::names(&config).iter().ne(self.tables.names().iter().copied()) {
            tracing::info!("the configuration stands for other tables now; the session begins anew");
            return Ok(Some(vec![]));
        }
        let (mut seen, mut at) = self.see(&connected, false).await?;
        if seen.iter().any(|seen| seen.open.iter().any(Question::is_replaced)) {
            // A TRUNCATE that is still to come through the stream may be the reason: that spares the question.
            self.streamed(at).await;
        }
        if seen.iter().any(|seen| !seen.open.is_empty()) {
            (seen, at) = self.see(&connected, true).await?;
            if seen.iter().any(|seen| seen.open.iter().any(Question::is_replaced)) {
                self.streamed(at).await;
            }
        }
        *client = Some(connected);
        let mut again = vec![];
        for seen in seen {
            let no = seen.table;
            if self.judge(seen).await? {
                again.push(no);
            }
        }
        Ok((!again.is_empty()).then_some(again))
    }

    /// Reads all shapes, with the questions that each leaves open; with `ask`, those of them that are answered by yes. Also
    /// says how far the stream must be to have brought what is seen.
    async fn see(&self, client: &Client, ask: bool) -> Result<(Vec<Seen>, Lsn), PipelineError> {
        shape::begin(client).await?;
        let known = self.known.iter().map(|known| Some(known.oid));
        let tables: Vec<_> = self.tables.names().into_iter().zip(known).collect();
        let look = shape::look(client, &tables, &self.config.postgres.all_publications()).await?;
        let mut seen = vec![];
        for ((table, configured), found) in self.tables.iter().zip(&self.config.tables).zip(look.tables) {
            let no = table.target.table;
            let now = present(&table.schema.name, &configured.place, found)?;
            let asked = schema_change::questions(self.known(no), &now, &table.spec, &table.truncates());
            let mut open = vec![];
            for question in asked {
                if !ask || answer(client, table, &now, &question).await? {
                    open.push(question);
                }
            }
            seen.push(Seen { table: no, now, open });
        }
        client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
        Ok((seen, look.at))
    }

    /// Returns when everything before `at` has come through the stream.
    async fn streamed(&self, at: Lsn) {
        while self.lanes.tracker().answered_position() < at {
            tokio::time::sleep(TICK).await;
        }
    }

    /// Is the table to be read anew? If not, the documents agree with it, or are to be left as they are.
    async fn judge(&mut self, Seen { table: no, now, open }: Seen) -> Result<bool, PipelineError> {
        let (table, known) = (self.tables.get(no), self.known(no));
        let Verdict { lost, repair, new_columns } =
            schema_change::judge(known, &now, &table.spec, &open, &table.truncates());
        let name = &table.schema.name;
        let ignore = table.on_schema_change == OnSchemaChange::Ignore;
        if !lost.is_empty() || !(repair.is_empty() || ignore) {
            tracing::warn!(
                table = %name,
                "the table changed in a way that the stream does not carry: {}; it is read again beside the stream, and \
                 documents without a row are swept",
                [lost, repair].concat().join("; ")
            );
            return Ok(true);
        }
        if !repair.is_empty() {
            tracing::warn!(
                table = %name,
                "the table changed in a way that the stream does not carry: {}; on_schema_change is `ignore`, so documents \
                 written before stay as they are",
                repair.join("; ")
            );
        }
        if !new_columns.is_empty() {
            tracing::info!(table = %name, columns = ?new_columns, "new columns are followed");
        }
        if !now.says_the_same(known) {
            let record = ShapeRecord { table: name.to_string(), shape: now.clone() };
            self.state.write_shape(&record).await?;
        }
        if let Some(known) = self.known.get_mut(usize::from(no.0)) {
            *known = now;
        }
        Ok(false)
    }

    fn known(&self, no: TableNo) -> &TableShape {
        &self.known[usize::from(no.0)]
    }
}

/// Is the answer yes?
async fn answer(
    client: &Client,
    table: &Table,
    now: &TableShape,
    question: &Question,
) -> Result<bool, PipelineError> {
    let name = &table.schema.name;
    Ok(match question {
        Question::FilledByDefault(column) => shape::is_filled_by_default(client, now, column).await?,
        Question::JoinedWithRows(partition) => {
            shape::has_rows_from_before(client, name, now.oid, partition).await?
        }
        Question::Replaced { relation, since } => {
            !shape::has_rows_older_than(client, name, now, relation, *since).await?
        }
    })
}

/// The shape of a table that is there under its name.
///
/// # Errors
/// It is not; with what to do.
pub(super) fn present(table: &TableName, place: &str, found: Found) -> Result<TableShape, PipelineError> {
    Err(PipelineError::Configuration(match found {
        Found::Table(shape) => return Ok(shape),
        Found::Renamed(now) => format!(
            "{place}: table {table} is called {now} now: set {place}.table to {now} and start again; the stream goes on \
             where it stands, and the index is not filled anew"
        ),
        Found::Gone => format!(
            "{place}: table {table} was dropped; make it again, or remove {place} from the configuration, which leaves its \
             index as it is"
        ),
    }))
}

/// Reads the shapes of the tables. For a fill that is done before its windows are read.
///
/// # Errors
/// A table is gone, or the catalog cannot be read.
pub(super) async fn shapes(control: &Client, config: &Config) -> Result<Vec<TableShape>, PipelineError> {
    let names = schemas::names(config);
    let tables: Vec<_> = names.iter().map(|name| (name, None)).collect();
    let look = shape::look(control, &tables, &config.postgres.all_publications()).await?;
    let found = config.tables.iter().zip(&names).zip(look.tables);
    found.map(|((table, name), found)| present(name, &table.place, found)).collect()
}

/// Says which table that is known is not there under its name.
///
/// # Errors
/// As for [`shapes`]. A table that is not known is not looked for.
pub(super) async fn refuse_absent(
    control: &Client,
    config: &Config,
    state: &StateStore,
) -> Result<(), PipelineError> {
    let (names, mut oids) = (schemas::names(config), vec![]);
    for name in &names {
        oids.push(state.shape(&name.to_string()).await?.map(|stored| stored.record.shape.oid));
    }
    let tables: Vec<_> = names.iter().zip(oids).collect();
    let look = shape::look(control, &tables, &config.postgres.all_publications()).await?;
    for ((table, (name, oid)), found) in config.tables.iter().zip(tables).zip(look.tables) {
        if oid.is_some() {
            present(name, &table.place, found)?;
        }
    }
    Ok(())
}

/// The shapes with which the documents agree: what is stored, or `now` for tables of which nothing was read yet.
///
/// # Errors
/// The state could not be read or written.
pub(super) async fn agree(
    state: &StateStore,
    work: &[Work],
    now: Vec<TableShape>,
) -> Result<Vec<TableShape>, PipelineError> {
    let mut agreed = vec![];
    for (work, now) in work.iter().zip(now) {
        let known = state.shape(&work.record.table).await?.map(|stored| stored.record.shape);
        agreed.push(match known.filter(|_| work.record.state != TableState::New) {
            Some(known) => known,
            None => {
                let record = ShapeRecord { table: work.record.table.clone(), shape: now };
                state.write_shape(&record).await?;
                record.shape
            }
        });
    }
    Ok(agreed)
}

/// Were the shape and the description of a table read with the same columns?
///
/// # Errors
/// They were not: the next session reads both again.
pub(super) fn same_columns(shape: &TableShape, schema: &TableSchema) -> Result<(), PipelineError> {
    let published = shape.attributes.iter().filter(|a| a.published).map(|a| (&a.name, &a.sql_type));
    if published.eq(schema.columns.iter().map(|c| (&c.name, &c.sql_type))) {
        return Ok(());
    }
    Err(PipelineError::Redefined(schema.name.to_string()))
}

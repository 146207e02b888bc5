//! `resync`: tables, or parts of them, read again; and another source accepted.
//!
//! **Whole tables** are asked for in their own state: it goes back to new. Whoever streams notices (`target_watch`), begins a
//! new session and fills them as after a gap: new floor, windows beside the stream, sweep. There is no second kind of
//! request that could be lost or done twice, and no second way to fill a table; where nobody streams, this process does
//! until it has caught up.
//!
//! **A range** is written beside whoever streams (**M9**): its windows, and then the documents of the range that these
//! did not write are looked up by key, since a row may have moved out of the range.
//!
//! **Another source** is accepted by a new epoch, so that all that the old one wrote is older, by tables that are new, by
//! indices that belong to the new one, and by forgetting the checkpoint, in this order.
//!
//! | failure between | what is there |
//! |---|---|
//! | before the first table is marked | nothing asked for |
//! | some tables marked | those are read again by whoever streams next; the command says the rest again |
//! | tables marked, the command or its session killed | the same: the state holds the request |
//! | floor taken, windows or sweep not done | what bootstrap does after any crash |
//! | part of a range written | the attempt (`attempts`): the next writer looks at it, the command writes it all again |
//! | epoch begun, checkpoint not forgotten | the old checkpoint: still another source, exit 4, and accepted once more |
//! | checkpoint forgotten | new tables without a checkpoint: `run` fills them |

use super::{
    beside::{self, Beside},
    error::PipelineError,
    position,
    progress::Progress,
    run, schemas,
    session::{End, ended},
    verify::scope,
    windows::Range,
};
use crate::{
    config::{Config, OnGap},
    lanes::TableNo,
    model::Lsn,
    sink::{self, Checkpoint, EpochRecord, Owner, Repair, SinkError, Source, StateStore, Stored, TableState},
    source::{self, replication::SystemIdentity, slot},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const POLL: Duration = Duration::from_secs(1);
/// An instance that streamed a moment ago is about to come back.
const COMES_BACK: Duration = Duration::from_secs(15);
/// A checkpoint of another source that is younger was written by a process that lives.
const STILL_WRITTEN: chrono::TimeDelta = chrono::TimeDelta::seconds(60);

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Qualified tables; all, if none is named.
    pub tables: Vec<String>,
    /// Part of them.
    pub range: Range,
    /// May it be another source than that of the checkpoint?
    pub accept_source: bool,
}

/// Reads tables of `config` again; returns when that is done, or after `stop`.
///
/// # Errors
/// Whatever stands in the way. What was asked for of whole tables stays asked for.
pub async fn resync(
    config: Arc<Config>,
    options: &Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<End, PipelineError> {
    let name = format!("pg2os {} resync", config.name);
    let control = source::sql::connect(&config.postgres, None, &name).await?;
    let expanded = Arc::new(schemas::expanded(&control, &config).await?);
    let client = sink::Client::new(&config.opensearch)?;
    client.info().await?;
    let Some(state) = StateStore::find(&client, &config.opensearch.state_index, &config.name).await? else {
        return Err(PipelineError::Configuration(format!(
            "pipeline {} has filled nothing yet; `pg2os run` does",
            config.name
        )));
    };
    let request = Request { config: &expanded, control, client, state };
    let accepted = request.accept(options.accept_source).await?;
    if options.range != Range::default() && !accepted {
        let config =
            expanded.select(&options.tables).map_err(|p| PipelineError::Configuration(p.to_string()))?;
        return tokio::select! {
            biased;
            () = stop.cancelled() => Ok(End::Stopped),
            result = Box::pin(range(Arc::new(config), &options.range, progress)) => result.map(|()| End::CaughtUp),
        };
    }
    let tables = if accepted { &[][..] } else { &options.tables[..] };
    let marked = request.mark(tables).await?;
    request.carry_out(&config, &marked, progress, stop).await
}

struct Request<'a> {
    config: &'a Config,
    control: Client,
    client: sink::Client,
    state: StateStore,
}

/// Tables that are to be read again, at floors from this position on.
struct Marked {
    tables: Vec<String>,
    since: Lsn,
}

impl Request<'_> {
    /// Refuses another source, or accepts it where that is allowed; true where it did.
    async fn accept(&self, may: bool) -> Result<bool, PipelineError> {
        let Some(Stored { record, owner, time }) = self.state.checkpoint().await? else { return Ok(false) };
        let server = beside::identity_of(&self.control).await?;
        let Some(why) = position::foreign(&record, &server) else { return Ok(false) };
        if !may {
            return Err(PipelineError::Gap(why));
        }
        if !record.settled && chrono::Utc::now() - time < STILL_WRITTEN {
            return Err(PipelineError::Gap(format!(
                "{owner} has written the checkpoint of the other source less than a minute ago; stop that process, and \
                 try again in a minute"
            )));
        }
        self.take_over(&record, &server).await?;
        Ok(true)
    }

    async fn take_over(&self, old: &Checkpoint, server: &SystemIdentity) -> Result<(), PipelineError> {
        let insert = source::position::log_end(&self.control).await?.insert;
        let mut epochs = self.state.epochs().await?.map_or_else(EpochRecord::default, |stored| stored.record);
        epochs.list.begin(insert)?;
        let reason = format!("database {} of cluster {} was accepted", server.database, server.system_id);
        tracing::warn!(
            before = old.database,
            cluster = old.system_identifier,
            "another source: {reason}; all tables are read again"
        );
        epochs.repair = Some(Repair { reason, lsn: insert, by_ids: false });
        self.state.write_epochs(&epochs).await?;
        self.state.raise_high(insert, &epochs.list).await?;
        for stored in self.state.tables().await? {
            let mut record = stored.record;
            self.state.forget_shape(&record.table).await?;
            (record.state, record.floor, record.sweep) = (TableState::New, None, true);
            self.state.write_table(&record).await?;
        }
        for table in &self.config.tables {
            let Some(index) = self.client.find_index(&table.index).await? else { continue };
            let Some(owner) = index.owner().filter(|owner| owner.pipeline == self.config.name) else {
                continue;
            };
            let (system_identifier, database) = (server.system_id.clone(), server.database.clone());
            let source = Source { system_identifier, database, ..owner.source };
            self.client.claim(&index, &Owner { source, ..owner }).await?;
        }
        Ok(self.state.forget_checkpoint().await?)
    }

    /// Asks for tables, durably.
    async fn mark(&self, names: &[String]) -> Result<Marked, PipelineError> {
        let chosen = self.config.select(names).map_err(|p| PipelineError::Configuration(p.to_string()))?;
        let since = source::position::log_end(&self.control).await?.insert;
        let mut marked = Marked { tables: vec![], since };
        for table in &chosen.tables {
            let name = table.qualified().to_string();
            loop {
                // Of a table that is not known yet nothing was read.
                let Some(stored) = self.state.table(&name).await? else { break };
                let mut record = stored.record;
                (record.state, record.floor) = (TableState::New, None);
                record.sweep |= !table.append_only;
                // Whatever happened to the index, this is the answer to it.
                if let Some(index) = self.client.find_index(&record.index).await? {
                    record.index_history = self.client.history(&index.concrete).await?;
                    record.index_uuid = index.uuid;
                }
                match self.state.write_table(&record).await {
                    // Whoever streams has changed it meanwhile.
                    Err(SinkError::Superseded { .. }) => {}
                    written => {
                        written?;
                        break;
                    }
                }
            }
            marked.tables.push(name);
        }
        Ok(marked)
    }

    /// Waits until whoever streams has done it; does it itself where nobody does.
    async fn carry_out(
        &self,
        config: &Arc<Config>,
        marked: &Marked,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<End, PipelineError> {
        let mut streamed = Instant::now();
        let mut live = self.is_live().await?;
        while live && !self.is_done(marked).await? {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(End::Stopped),
                () = tokio::time::sleep(POLL) => {}
            }
            if self.is_live().await? {
                streamed = Instant::now();
            }
            // It lets go of the slot to begin a new session.
            live = streamed.elapsed() < COMES_BACK;
        }
        if live {
            return Ok(End::CaughtUp);
        }
        // It is what a gap is answered with.
        let config = Arc::new(Config { on_gap: OnGap::Resync, ..Config::clone(config) });
        run::run(config, progress, true, stop).await
    }

    /// Does somebody stream?
    async fn is_live(&self) -> Result<bool, PipelineError> {
        Ok(slot::find(&self.control, &self.config.postgres.slot).await?.is_some_and(|slot| slot.active))
    }

    async fn is_done(&self, marked: &Marked) -> Result<bool, PipelineError> {
        let tables = self.state.tables().await?;
        Ok(marked.tables.iter().all(|name| {
            tables.iter().map(|stored| &stored.record).any(|record| {
                let since = record.floor.is_some_and(|floor| floor.lsn >= marked.since);
                record.table == *name && record.state == TableState::Live && since
            })
        }))
    }
}

/// Writes a part of the tables of `config` beside whoever streams.
async fn range(config: Arc<Config>, range: &Range, progress: Arc<Progress>) -> Result<(), PipelineError> {
    let (writer, work, mut lanes) = Beside::open(config, "resync", progress).await?;
    let writing = async {
        let client = writer.reader().await?;
        for work in work {
            if work.record.state != TableState::Live {
                tracing::warn!(
                    table = work.record.table,
                    "the table is not filled yet; `pg2os run` fills all of it"
                );
                continue;
            }
            write_range(&writer, &client, work.table, work.window, range).await?;
        }
        writer.finish().await
    };
    tokio::select! {
        result = writing => result,
        Some(result) = lanes.join_next() => Err(ended(result, "a lane")),
    }
}

async fn write_range(
    writer: &Beside,
    client: &Client,
    number: TableNo,
    window: Option<crate::config::Window>,
    range: &Range,
) -> Result<(), PipelineError> {
    let table = writer.tables.get(number);
    let name = table.schema.name.to_string();
    let found = writer.client.find_index(&table.target.index).await?;
    let properties = found.map(|index| index.properties).unwrap_or_default();
    let scopes = scope::scopes(client, table, window, range, &properties).await?;
    writer.progress.plan(number, &name, scopes.len(), 0, table.schema.estimated_rows);
    for scope in scopes {
        for predicate in scope.rows {
            let label = predicate.clone().unwrap_or_else(|| "all".to_owned());
            writer.fill(client, number, predicate, label, None).await?;
        }
        if !table.append_only {
            writer.rewrite_older(client, number, &scope.documents).await?;
        }
        writer.progress.window_done(number);
    }
    writer.progress.table_live(number);
    tracing::info!(table = name, "the range is read again");
    Ok(())
}

//! A backfill on its own: all windows, in parallel, once.

use super::{
    beside::Beside,
    bootstrap::{Work, most_bytes},
    bulk_load,
    error::PipelineError,
    polite::{Gate, Politeness, Standby},
    progress::Progress,
    session::ended,
    verify::scope,
    windows::{self, Manner, Range},
};
use crate::{
    config::Config,
    lanes::TableNo,
    source::{divide::Divider, window::WindowRange},
};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// Fills the indices once, as `config` says, within `range`; with `sweep`, documents there that have no row go.
///
/// # Errors
/// Whatever stands in the way. What was written is right either way; the windows not reached are not.
pub async fn backfill(
    config: Arc<Config>,
    range: Range,
    sweep: bool,
    progress: Arc<Progress>,
) -> Result<(), PipelineError> {
    let (writer, mut work, mut lanes) = Beside::open(config, "backfill", progress).await?;
    let manner = Manner { is_streamed: false, most_bytes: most_bytes(&writer.config.backfill) };
    let reader = writer.window_reader().await?;
    bulk_load::begin(&writer.client, &writer.state, &work).await?;
    let (mut queue, mut sweeps) = (Queue::default(), vec![]);
    for work in &mut work {
        let table = writer.tables.get(work.table);
        if sweep && !table.append_only {
            sweeps.push((work.table, swept(&writer, &reader, work, &range).await?));
        }
        work.note_foreign_rows(&writer.state).await?;
        let now = chrono::Utc::now();
        let windows =
            windows::divide(&reader, table, work.window.clone(), &range, now, manner).await?.windows;
        writer.progress.plan(
            work.table,
            &table.schema.name.to_string(),
            windows.len(),
            0,
            table.schema.estimated_rows,
        );
        queue.left.insert(work.table, windows.len());
        queue.jobs.extend(windows.into_iter().map(|range| (work.table, range)));
    }
    drop(reader);
    let job = Arc::new(Job { writer, queue: Mutex::new(queue), gate: Gate::new() });
    let mut windows = JoinSet::new();
    for _ in 0..job.writer.config.backfill.parallel {
        let job = job.clone();
        windows.spawn(async move { job.work().await });
    }
    let Config { postgres, limits, name, .. } = &*job.writer.config;
    let name = format!("pg2os {name} standby");
    let standby = job.writer.host.other().map(|host| Standby { postgres, host, application_name: &name });
    let politeness =
        Politeness { gate: &job.gate, primary: &job.writer.primary, slot: &postgres.slot, limits, standby };
    let mut watching = std::pin::pin!(politeness.watch(|_| ()));
    loop {
        tokio::select! {
            biased;
            window = windows.join_next() => match window {
                Some(result) => result.map_err(|_| PipelineError::Ended("a window reader"))??,
                None => break,
            },
            Some(result) = lanes.join_next() => return Err(ended(result, "a lane")),
            failed = &mut watching => failed?,
        }
    }
    let ending = async {
        let reader = job.writer.reader().await?;
        for (number, documents) in sweeps {
            // M6: what is executed late must be listed too.
            job.writer.again(&reader).await?;
            let mut looked_up = 0;
            for query in documents {
                looked_up += job.writer.rewrite_older(&reader, number, &query).await?;
            }
            let table = &job.writer.tables.get(number).schema.name;
            tracing::info!(%table, looked_up, "documents that no window had were looked up, and went where they have no row");
        }
        job.writer.finish().await
    };
    tokio::select! {
        result = ending => result?,
        Some(result) = lanes.join_next() => return Err(ended(result, "a lane")),
    }
    for table in job.writer.tables.iter() {
        let (name, merge) = (table.schema.name.to_string(), job.writer.config.backfill.force_merge);
        bulk_load::end(&job.writer.client, &job.writer.state, &name, merge).await?;
    }
    Ok(())
}

/// The queries that find the documents of what is filled: all, or those of a range.
async fn swept(
    writer: &Beside,
    reader: &Client,
    work: &Work,
    range: &Range,
) -> Result<Vec<Value>, PipelineError> {
    let table = writer.tables.get(work.table);
    let is_part = work.window.as_ref().is_some_and(|window| window.from.is_some() || window.to.is_some());
    if *range == Range::default() && !is_part {
        return Ok(vec![json!({ "match_all": {} })]);
    }
    let found = writer.client.find_index(&table.target.index).await?;
    let properties = found.map(|index| index.properties).unwrap_or_default();
    let scopes = scope::scopes(reader, table, work.window.clone(), range, &properties).await?;
    Ok(scopes.into_iter().map(|scope| scope.documents).collect())
}

struct Job {
    writer: Beside,
    queue: Mutex<Queue>,
    gate: Gate,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(TableNo, WindowRange)>,
    /// Windows left per table.
    left: HashMap<TableNo, usize>,
}

impl Job {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(&self) -> Result<(), PipelineError> {
        let writer = &self.writer;
        let mut client = writer.window_reader().await?;
        'windows: loop {
            self.gate.open().await;
            let Some((table, range)) = self.queue().jobs.pop_front() else { return Ok(()) };
            let mut limit = Some(writer.config.backfill.window_time);
            while !writer.fill(&client, table, range.predicate(), range.label(), limit).await? {
                client = writer.window_reader().await?;
                if self.split(&client, table, &range).await? {
                    tracing::info!(window = range.label(), "the window is split");
                    continue 'windows;
                }
                tracing::warn!(window = range.label(), "the window cannot be split; it is read to its end");
                limit = None;
            }
            writer.progress.window_done(table);
            let mut queue = self.queue();
            if let Some(left) = queue.left.get_mut(&table) {
                *left -= 1;
                if *left == 0 {
                    writer.progress.table_live(table);
                }
            }
        }
    }

    /// Puts two windows in the place of one; false where it cannot be split.
    async fn split(&self, client: &Client, no: TableNo, range: &WindowRange) -> Result<bool, PipelineError> {
        let divider = Divider {
            client,
            table: &self.writer.tables.get(no).schema,
            is_streamed: false,
            most_bytes: self.writer.config.backfill.window_bytes,
        };
        let facts = divider.facts().await?;
        let Some((first, second)) = divider.halves(&facts, range).await? else { return Ok(false) };
        self.writer.progress.window_split(no);
        let mut queue = self.queue();
        queue.jobs.extend([(no, first), (no, second)]);
        *queue.left.entry(no).or_default() += 1;
        Ok(true)
    }
}

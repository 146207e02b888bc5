//! A backfill on its own: all windows, in parallel, once.

use super::{
    beside::Beside,
    error::PipelineError,
    progress::Progress,
    session::ended,
    windows::{self, Range},
};
use crate::{config::Config, lanes::TableNo, source::window::WindowRange};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::JoinSet;

/// Fills the indices once, as `config` says, within `range`.
///
/// # Errors
/// Whatever stands in the way. What was written is right either way; the windows not reached are not.
pub async fn backfill(
    config: Arc<Config>,
    range: Range,
    progress: Arc<Progress>,
) -> Result<(), PipelineError> {
    let (writer, mut work, mut lanes) = Beside::open(config, "backfill", progress).await?;
    let (mut jobs, mut left) = (VecDeque::new(), HashMap::new());
    for work in &mut work {
        let table = writer.tables.get(work.table);
        work.note_foreign_rows(&writer.state).await?;
        let ranges =
            windows::divide(&writer.primary, table, work.window.clone(), &range, chrono::Utc::now()).await?;
        writer.progress.plan(
            work.table,
            &table.schema.name.to_string(),
            ranges.len(),
            0,
            table.schema.estimated_rows,
        );
        left.insert(work.table, ranges.len());
        jobs.extend(ranges.into_iter().map(|range| (work.table, range)));
    }
    let parallel = writer.config.backfill.parallel;
    let job = Arc::new(Job { writer, jobs: Mutex::new(jobs), left: Mutex::new(left) });
    let mut windows = JoinSet::new();
    for _ in 0..parallel {
        let job = job.clone();
        windows.spawn(async move { job.work().await });
    }
    loop {
        tokio::select! {
            window = windows.join_next() => match window {
                Some(result) => result.map_err(|_| PipelineError::Ended("a window reader"))??,
                None => break,
            },
            Some(result) = lanes.join_next() => return Err(ended(result, "a lane")),
        }
    }
    tokio::select! {
        result = job.writer.finish() => result,
        Some(result) = lanes.join_next() => Err(ended(result, "a lane")),
    }
}

struct Job {
    writer: Beside,
    jobs: Mutex<VecDeque<(TableNo, WindowRange)>>,
    /// Windows left per table.
    left: Mutex<HashMap<TableNo, usize>>,
}

impl Job {
    async fn work(&self) -> Result<(), PipelineError> {
        let client = self.writer.reader().await?;
        loop {
            let next = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((table, range)) = next else { return Ok(()) };
            self.writer.fill(&client, table, range.predicate(), range.label()).await?;
            self.writer.progress.window_done(table);
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(left) = left.get_mut(&table) {
                *left -= 1;
                if *left == 0 {
                    self.writer.progress.table_live(table);
                }
            }
        }
    }
}

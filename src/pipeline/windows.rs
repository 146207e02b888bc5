//! Which windows a table is divided into: configuration, catalog and bounds joined.

use super::{error::PipelineError, tables::Table};
use crate::{
    config::Window,
    source::window::{self, WindowRange},
};
use chrono::{DateTime, Utc};
use tokio_postgres::Client;

/// Ends of what is to be read, where they are given beside the configuration: `2024-01-01`, `-30d`, `1000`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First value, inclusive.
    pub from: Option<String>,
    /// End, exclusive.
    pub to: Option<String>,
}

/// Divides `table` as `configured`, or as the catalog suggests; bounds are read by `reader`, after the floor's barrier.
/// What `range` says wins over the configuration.
///
/// # Errors
/// A window that the column does not allow, or no answer.
pub async fn divide(
    reader: &Client,
    table: &Table,
    configured: Option<Window>,
    range: &Range,
    now: DateTime<Utc>,
) -> Result<Vec<WindowRange>, PipelineError> {
    let chosen = match configured {
        Some(window) => Some(window),
        None => {
            let (window, why) = window::choose(&table.schema);
            tracing::info!(windows = why, "windows chosen");
            window
        }
    };
    let Some(mut window) = chosen else {
        if *range != Range::default() {
            return Err(PipelineError::Configuration(format!(
                "{}: --from and --to need a window column; set window.column, or --window-column",
                table.schema.name
            )));
        }
        return Ok(vec![WindowRange::Whole]);
    };
    window.from = range.from.clone().or(window.from);
    window.to = range.to.clone().or(window.to);
    let filter = table.schema.row_filter.as_deref();
    let bounds = window::bounds(reader, &table.schema, &window.column, filter).await?;
    let plan = window::plan(&table.schema, &window, &bounds, now)?;
    if let Some(note) = plan.note {
        tracing::info!(note);
    }
    Ok(plan.windows)
}

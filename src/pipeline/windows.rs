//! Which windows a table is divided into: configuration, catalog and bounds joined.

use super::{error::PipelineError, tables::Table};
use crate::{
    config::Window,
    source::{
        divide::{Divided, Divider},
        division::{self, Way},
    },
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

/// What divides a table beside its configuration.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Does the stream bring rows that an UPDATE moves while windows are read?
    pub is_streamed: bool,
    /// Bytes of the table that a window is to have at most.
    pub most_bytes: u64,
}

/// Divides `table` as `configured`, or as the catalog suggests, and tells how; questions go to `reader`, after the floor's
/// barrier. What `range` says wins over the configuration.
///
/// # Errors
/// A window that the column does not allow, or no answer.
pub async fn divide(
    reader: &Client,
    table: &Table,
    configured: Option<Window>,
    range: &Range,
    now: DateTime<Utc>,
    manner: Manner,
) -> Result<Divided, PipelineError> {
    let schema = &table.schema;
    let divider = Divider {
        client: reader,
        table: schema,
        is_streamed: manner.is_streamed,
        most_bytes: manner.most_bytes,
    };
    let mut window = configured;
    if window.is_none() && *range != Range::default() {
        let mut facts = divider.facts().await?;
        // Who asks for a range has it, with or without an index.
        facts.leading.extend(schema.primary_key.iter().cloned());
        let (Way::Column(chosen), _) = division::choose(schema, &facts, false) else {
            return Err(PipelineError::Configuration(format!(
                "{}: --from and --to need a window column; set window.column, or --window-column",
                schema.name
            )));
        };
        window = Some(chosen);
    }
    if let Some(window) = &mut window {
        window.from = range.from.clone().or(window.from.take());
        window.to = range.to.clone().or(window.to.take());
    }
    let divided = divider.divide(window.as_ref(), now).await?;
    tracing::info!(table = %schema.name, windows = divided.windows.len(), "divided: {}", divided.reason);
    for note in &divided.notes {
        tracing::warn!(table = %schema.name, "{note}");
    }
    Ok(divided)
}

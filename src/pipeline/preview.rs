//! What a backfill would do, without doing it (`--dry-run`).

use super::{
    bootstrap::most_bytes,
    error::PipelineError,
    prepare, schemas,
    windows::{self, Manner, Range},
};
use crate::{
    config::{self, Config},
    lanes::TableNo,
    model::TableSchema,
    source::{self, copy, floor, window},
};
use futures_util::TryStreamExt;
use tokio_postgres::Client;

/// Rows that are shown of each table.
const SAMPLES: u32 = 3;
/// Bytes of an action line beside index and id.
const ACTION_LINE: usize = 90;

/// What a backfill would do to one table.
#[derive(Debug, serde::Serialize)]
pub struct Preview {
    /// Qualified name.
    pub table: String,
    /// Index.
    pub index: String,
    /// `mappings.properties` of the index that would be made.
    pub mapping: serde_json::Value,
    /// By what it is divided, and why so.
    pub division: String,
    /// What is done differently from what was asked.
    pub notes: Vec<String>,
    /// Its windows.
    pub windows: Vec<WindowPreview>,
    /// Some rows.
    pub samples: Vec<Sample>,
}

/// A row as it would be written.
#[derive(Debug, serde::Serialize)]
pub struct Sample {
    /// `_id`.
    pub id: String,
    /// The document's JSON.
    pub document: String,
}

/// What a backfill would do in one window.
#[derive(Debug, serde::Serialize)]
pub struct WindowPreview {
    /// The window.
    pub label: String,
    /// Its rows.
    pub rows: u64,
    /// About the bytes of their bulk actions, from the samples.
    pub bulk_bytes: u64,
}

/// Looks what a backfill would do; writes nothing.
///
/// # Errors
/// The source could not be asked, or the configuration does not fit it.
pub async fn preview(config: &Config, range: &Range) -> Result<Vec<Preview>, PipelineError> {
    let name = format!("pg2os {} backfill --dry-run", config.name);
    let client = source::sql::connect(&config.postgres, None, &name).await?;
    let config = &schemas::expanded(&client, config).await?;
    let schemas = schemas::schemas(&client, config).await?;
    let manner = Manner { is_streamed: false, most_bytes: most_bytes(&config.backfill) };
    let mut previews = vec![];
    for (configured, schema) in config.tables.iter().zip(schemas) {
        previews.push(preview_table(&client, configured, schema, range, manner).await?);
    }
    Ok(previews)
}

async fn preview_table(
    client: &Client,
    configured: &config::Table,
    schema: TableSchema,
    range: &Range,
    manner: Manner,
) -> Result<Preview, PipelineError> {
    let (table, mapping) = prepare::join(configured, schema, TableNo(0), false)?;
    let schema = &table.schema;
    let filter = schema.row_filter.as_deref();
    let (columns, name) = (schema.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), &schema.name);
    let now = chrono::Utc::now();
    let divided = windows::divide(client, &table, configured.window.clone(), range, now, manner).await?;
    let mut preview = Preview {
        table: name.to_string(),
        division: divided.reason,
        notes: divided.notes,
        index: configured.index.clone(),
        mapping: serde_json::Value::Object(mapping),
        windows: vec![],
        samples: vec![],
    };
    let mut sampled_bytes = 0;
    for range in divided.windows {
        let predicate = range.predicate();
        let rows = window::count(client, schema, filter, predicate.as_deref()).await?;
        if rows > 0 && preview.samples.is_empty() {
            let sql = copy::sample_sql(schema, &columns, filter, predicate.as_deref(), SAMPLES);
            floor::snapshot(client).await?;
            let lines: Vec<_> = copy::read(client, &sql).await?.try_collect().await?;
            client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
            for line in lines {
                let (id, document) = table.sample(&line).map_err(|what| PipelineError::Row {
                    table: name.to_string(),
                    window: range.label(),
                    what,
                })?;
                sampled_bytes += document.len() + id.len() + configured.index.len() + ACTION_LINE;
                preview.samples.push(Sample { id, document });
            }
        }
        preview.windows.push(WindowPreview { label: range.label(), rows, bulk_bytes: 0 });
    }
    let average = sampled_bytes as u64 / preview.samples.len().max(1) as u64;
    for window in &mut preview.windows {
        window.bulk_bytes = window.rows * average;
    }
    Ok(preview)
}

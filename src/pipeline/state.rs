//! `pg2os state`: the state documents of tables, listed and removed.

use super::error::PipelineError;
use crate::{
    config::Config,
    sink::{Client, StateStore, TableState},
};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A table that the state index knows; its JSON form is part of the interface.
#[derive(Clone, Debug, Serialize)]
pub struct StoredTable {
    /// Qualified name.
    pub table: String,
    /// Index.
    pub index: String,
    /// State.
    pub state: TableState,
    /// Windows that are recorded.
    pub windows: usize,
    /// Is it configured still?
    pub configured: bool,
    /// When its state changed.
    pub time: DateTime<Utc>,
}

async fn store(config: &Config) -> Result<Option<StateStore>, PipelineError> {
    let client = Client::new(&config.opensearch)?;
    client.info().await?;
    Ok(StateStore::find(&client, &config.opensearch.state_index, &config.name).await?)
}

/// All tables that are known, by name.
///
/// # Errors
/// The state could not be read.
pub async fn list(config: &Config) -> Result<Vec<StoredTable>, PipelineError> {
    let Some(store) = store(config).await? else { return Ok(vec![]) };
    let mut tables = vec![];
    for stored in store.tables().await? {
        let record = stored.record;
        let configured = config.tables.iter().any(|table| table.qualified().to_string() == record.table)
            || config.wildcards.iter().any(|wildcard| {
                let (schema, name) = record.table.split_once('.').unwrap_or(("", &record.table));
                wildcard.covers(&crate::model::TableName { schema: schema.to_owned(), name: name.to_owned() })
            });
        tables.push(StoredTable {
            windows: store.windows(&record.table).await?.len(),
            table: record.table,
            index: record.index,
            state: record.state,
            configured,
            time: stored.time,
        });
    }
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(tables)
}

/// Removes everything that is known of a table; `false` where nothing is. The next session finds a table that it does not
/// know, and reads it; what it wrote before is swept where its row is gone.
///
/// # Errors
/// The state could not be changed.
pub async fn forget(config: &Config, table: &str) -> Result<bool, PipelineError> {
    let Some(store) = store(config).await? else { return Ok(false) };
    let is_known = store.table(table).await?.is_some();
    if is_known {
        store.forget_table(table).await?;
    }
    Ok(is_known)
}

//! A table that got another name in PostgreSQL, and then in the configuration: its index and its state go on.

use super::error::PipelineError;
use crate::{
    config::{self, Config},
    model::TableSchema,
    sink::{Client, Owner, ShapeRecord, StateStore, TableRecord},
};

/// The state of a table that is not known by its name: what was known of the same table under another one, where that fed
/// the same index. Everything of it bears the new name then.
///
/// The table's own document is written last: after a failure between, all of it is done again.
///
/// # Errors
/// State or index could not be read or written.
pub(super) async fn take_over(
    config: &Config,
    client: &Client,
    state: &StateStore,
    table: &config::Table,
    schema: &TableSchema,
) -> Result<Option<TableRecord>, PipelineError> {
    let configured = |name: &str| config.tables.iter().any(|t| format!("{}.{}", t.schema, t.name) == name);
    let candidates = state.tables().await?.into_iter().map(|stored| stored.record);
    for record in candidates.filter(|r| r.index == table.index && !configured(&r.table)) {
        let Some(shape) = state.shape(&record.table).await?.map(|stored| stored.record.shape) else {
            continue;
        };
        if shape.oid != schema.oid {
            continue;
        }
        let name = schema.name.to_string();
        let Some(index) = client.find_index(&table.index).await? else { continue };
        let Some(owner) = index.owner().filter(|owner| [&record.table, &name].contains(&&owner.source.table))
        else {
            continue;
        };
        tracing::info!(
            table = name,
            before = record.table,
            index = index.name,
            "the table has another name; its index goes on"
        );
        let source = crate::sink::Source { table: name.clone(), ..owner.source };
        client.claim(&index, &Owner { source, ..owner }).await?;
        state.shape(&name).await?;
        state.write_shape(&ShapeRecord { table: name.clone(), shape }).await?;
        let record = TableRecord { table: name, ..record };
        state.write_table(&record).await?;
        return Ok(Some(record));
    }
    Ok(None)
}

//! Settings of an empty index while it is filled: no refresh and no replicas, put back when its windows are done.
//!
//! What they were is durable before they are changed, and forgotten after they are put back. Whoever starts next looks at
//! every note:
//!
//! | killed | the next start finds |
//! |---|---|
//! | before the note | the settings as they were |
//! | after it, before the change | the note; nothing is ours, so nothing is put back |
//! | while windows are read | the note, and goes on; or puts back where nobody fills that table any more |
//! | after putting back | the note; nothing is ours |

use super::{bootstrap::Work, error::PipelineError};
use crate::sink::{
    BulkLoadRecord, Client, SinkError, StateStore, TableState, to_be_kept, to_be_put_back, while_filled,
};

/// Changes the settings of the indices in `work` that are empty, and puts back those that an earlier process left of tables
/// that nobody fills now.
///
/// # Errors
/// OpenSearch.
pub(super) async fn begin(client: &Client, state: &StateStore, work: &[Work]) -> Result<(), PipelineError> {
    let mut noted = vec![];
    for note in state.bulk_loads().await?.into_iter().map(|stored| stored.record) {
        let is_filled = |w: &Work| {
            w.record.table == note.table
                && w.record.index_uuid == note.index_uuid
                && w.record.state != TableState::Live
        };
        if work.iter().any(is_filled) {
            noted.push(note.table);
        } else {
            put_back(client, state, &note).await?;
        }
    }
    for w in work.iter().filter(|w| w.is_empty && !noted.contains(&w.record.table)) {
        let Some(index) = client.find_index(&w.record.index).await? else { continue };
        let former = to_be_kept(&client.settings(&index.concrete).await?);
        if former.is_empty() {
            continue;
        }
        let note = BulkLoadRecord {
            table: w.record.table.clone(),
            index: index.name,
            index_uuid: index.uuid,
            former,
        };
        match state.write_bulk_load(&note).await {
            // Another process fills it too.
            Err(SinkError::Superseded { .. }) => continue,
            written => written?,
        }
        match client.change_settings(&index.concrete, &while_filled(&note.former)).await {
            Err(error) if error.is_refusal("security_exception") => {
                tracing::warn!(
                    index = index.concrete,
                    "the index is filled with its settings as they are, which takes longer: {error}"
                );
                state.forget_bulk_load(&note.table).await?;
            }
            changed => {
                changed?;
                tracing::info!(
                    index = index.concrete,
                    "no refresh and no replicas while the index is filled"
                );
            }
        }
    }
    Ok(())
}

/// The windows of `table` are done: puts back what was changed for them, if anything was.
///
/// # Errors
/// OpenSearch; the next start does it.
pub(super) async fn end(
    client: &Client,
    state: &StateStore,
    table: &str,
    force_merge: bool,
) -> Result<(), PipelineError> {
    let Some(note) = state.bulk_load(table).await?.map(|stored| stored.record) else { return Ok(()) };
    if force_merge {
        // Before there are replicas, which would merge for themselves.
        client.force_merge(&note.index).await?;
        tracing::info!(index = note.index, "OpenSearch merges its segments (backfill.force_merge)");
    }
    put_back(client, state, &note).await
}

async fn put_back(client: &Client, state: &StateStore, note: &BulkLoadRecord) -> Result<(), PipelineError> {
    let index = client.find_index(&note.index).await?.filter(|index| index.uuid == note.index_uuid);
    if let Some(index) = index {
        let back = to_be_put_back(&note.former, &client.settings(&index.concrete).await?);
        if !back.is_empty() {
            client.change_settings(&index.concrete, &back).await?;
            client.refresh(&index.concrete).await?;
            tracing::info!(index = index.concrete, "refresh and replicas are as before again");
        }
    }
    Ok(state.forget_bulk_load(&note.table).await?)
}

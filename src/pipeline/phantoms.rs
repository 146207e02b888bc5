//! Phantoms: after a failover that lost commits the indices may hold rows that no longer exist, or miss ones that do
//! again. The ids that were written past the fork are looked up on the new primary, like a window of these keys alone.

use super::{bootstrap::Bootstrap, error::PipelineError, journal::Ids, reading, tables::Table};
use crate::{
    decode::CopyDecoder,
    lanes::{Action, Change, WindowRows},
    map::{IdBuffers, key_of_plain},
    model::Lsn,
    source::{self, floor, lookup},
};
use std::{collections::HashSet, time::Duration};
use tokio_postgres::Client;

/// Keys of one query.
const KEYS: usize = 500;
/// Pause before keys are looked up again because the guard no longer knows.
const AGAIN: Duration = Duration::from_millis(100);

/// Looks every id of `written` up in snapshots that see all commits at or before `floor`, and writes what is there, or
/// deletes, just below it. Ends when everything is answered.
///
/// # Errors
/// One of the servers; the repair is to be done again.
pub(super) async fn repair(
    bootstrap: &Bootstrap,
    primary: &Client,
    floor: Lsn,
    written: &Ids,
) -> Result<(), PipelineError> {
    let ids: Vec<_> = written.iter().collect();
    for of_table in ids.chunk_by(|a, b| a.0 == b.0) {
        for chunk in of_table.chunks(KEYS) {
            let Some((number, ..)) = chunk.first() else { continue };
            let documents: Vec<(&[u8], &[u8])> =
                chunk.iter().map(|(_, id, routing)| (&**id, &**routing)).collect();
            while !look_up(bootstrap, primary, floor, bootstrap.tables.get(*number), &documents).await? {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    tracing::info!(ids = ids.len(), "what was written past the fork is looked up again");
    Ok(())
}

/// False where the keys must be read again in a later snapshot.
async fn look_up(
    bootstrap: &Bootstrap,
    primary: &Client,
    floor: Lsn,
    table: &Table,
    documents: &[(&[u8], &[u8])],
) -> Result<bool, PipelineError> {
    let schema = &table.schema;
    let columns: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    let mut keys: Vec<_> =
        documents.iter().filter_map(|(id, _)| key_of_plain(id, table.spec.id.len())).collect();
    let found = loop {
        let filter = schema.row_filter.as_deref();
        let sql = lookup::lookup_sql(schema, &columns, &table.spec.id, filter, &keys)?;
        match lookup::lookup(primary, &sql).await {
            // One of them is no value of the key's type, as the id of a document that was swept may not be.
            Err(error) if error.is_data_exception() && !keys.is_empty() => {
                primary.batch_execute("ROLLBACK").await.map_err(source::SourceError::from)?;
                if let (first @ [_, ..], rest) = documents.split_at(documents.len() / 2) {
                    let first = Box::pin(look_up(bootstrap, primary, floor, table, first)).await?;
                    return Ok(first && Box::pin(look_up(bootstrap, primary, floor, table, rest)).await?);
                }
                // It has no row.
                keys.clear();
            }
            found => break found?,
        }
    };
    floor::wait_flushed(primary, &found.read).await?;
    let written = documents.iter().map(|(id, routing)| (table.target.table, *id, *routing));
    bootstrap.memory.lock().journal.write(found.read.lsn, written);
    bootstrap.high.cover(found.read.lsn).await;

    let version = bootstrap.epochs.floor_version(floor)?;
    let window = WindowRows::new(found.read.snapshot, version);
    let bad = |what: String| PipelineError::Row {
        table: schema.name.to_string(),
        window: "of the keys written past the fork".to_owned(),
        what,
    };
    let (mut decoder, mut ids, mut document) = (CopyDecoder::default(), IdBuffers::default(), vec![]);
    let (mut present, mut moved) = (HashSet::new(), HashSet::new());
    let target = &table.target;
    for line in &found.rows {
        let row = decoder.decode(line, columns.len()).map_err(|error| bad(error.to_string()))?;
        table.plan.write_id(&row, &mut ids).map_err(|_| bad("a key column is missing".to_owned()))?;
        document.clear();
        let most = bootstrap.config.bulk.max_document_bytes;
        let refusal = table.plan.write_fitting_document(&row, most, &mut document).err();
        let change = match &refusal {
            None => Change::Index(&document),
            Some(reason) => Change::Refused { reason, document: &document },
        };
        let (id, plain_id, routing) = (&ids.id[..], &ids.plain[..], &ids.routing[..]);
        let action = Action { target, id, plain_id, routing, version, change };
        if !reading::queue(&bootstrap.lanes, &action, &window).await {
            return Ok(false);
        }
        present.insert((ids.plain.clone(), ids.routing.clone()));
        moved.insert(ids.plain.clone());
    }
    for &(plain_id, routing) in documents {
        if present.contains(&(plain_id.to_vec(), routing.to_vec())) {
            continue;
        }
        table.plan.id_of_plain(plain_id, &mut ids.id);
        // Below the row that may now be routed to the same shard.
        let version = if moved.contains(plain_id) { version.below() } else { version };
        let action = Action { target, id: &ids.id, plain_id, routing, version, change: Change::Delete };
        if !reading::queue(&bootstrap.lanes, &action, &window).await {
            return Ok(false);
        }
    }
    window.answered().await;
    Ok(true)
}

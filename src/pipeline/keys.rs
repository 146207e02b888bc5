//! Rows and the ids of their documents: looked up, or listed.

use super::{error::PipelineError, tables::Table};
use crate::{
    decode::CopyDecoder,
    map::{IdBuffers, TablePlan, key_of_plain},
    model::Lsn,
    source::{self, copy, floor, lookup},
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::{HashMap, HashSet};
use tokio_postgres::Client;

/// Keys of one query.
pub(super) const KEYS: usize = 500;

/// The current rows with these plain ids, as COPY lines of all columns, and a position that nothing of them lies behind.
/// An id that is no value of the key's type has no row.
///
/// # Errors
/// The query.
pub(super) async fn rows_of(
    client: &Client,
    table: &Table,
    plain: &[&[u8]],
) -> Result<(Lsn, Vec<Bytes>), PipelineError> {
    let schema = &table.schema;
    let columns: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    let keys: Vec<_> = plain.iter().filter_map(|id| key_of_plain(id, table.spec.id.len())).collect();
    let sql = lookup::lookup_sql(schema, &columns, &table.spec.id, schema.row_filter.as_deref(), &keys)?;
    match lookup::lookup(client, &sql).await {
        Err(error) if error.is_data_exception() => {
            client.batch_execute("ROLLBACK").await.map_err(source::SourceError::from)?;
            let (first, rest) = match plain {
                [] => return Err(error.into()),
                [_] => (&[][..], &[][..]),
                _ => plain.split_at(plain.len() / 2),
            };
            let (low, mut rows) = Box::pin(rows_of(client, table, first)).await?;
            let (high, more) = Box::pin(rows_of(client, table, rest)).await?;
            rows.extend(more);
            Ok((low.max(high), rows))
        }
        found => {
            let found = found?;
            Ok((found.read.lsn, found.rows))
        }
    }
}

/// Lists the keys of the rows of `table` under `predicate` (all without one), in a snapshot of its own.
///
/// # Errors
/// The query, or a row that does not decode.
pub(super) async fn list(
    client: &Client,
    table: &Table,
    predicate: Option<&str>,
    mut each: impl FnMut(&IdBuffers),
) -> Result<(), PipelineError> {
    let schema = &table.schema;
    let is_key = |name: &String| table.spec.key_columns().any(|key| key == name);
    let columns: Vec<_> = schema.columns.iter().filter(|c| is_key(&c.name)).collect();
    let typed: Vec<_> = columns.iter().map(|c| (c.name.clone(), c.column_type.clone())).collect();
    let plan = TablePlan::new(&table.spec, schema.oid, &typed)
        .map_err(|missing| PipelineError::id_column(&schema.name.to_string(), &missing))?;
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let sql = copy::copy_sql(schema, &names, schema.row_filter.as_deref(), predicate);
    floor::snapshot(client).await?;
    let mut lines = Box::pin(copy::read(client, &sql).await?);
    let mut reader = RowReader::default();
    while let Some(line) = lines.next().await {
        each(reader.ids(table, &plan, names.len(), &line?)?);
    }
    client.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
    Ok(())
}

/// The plain id of the document with `id`, where it can be told without its row: not from a hash, and not where the id
/// could be one.
pub(super) fn plain_of_id<'a>(table: &Table, id: &'a [u8]) -> Option<&'a [u8]> {
    let is_hash = id.len() == 64 && id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_plain = table.spec.id_form == crate::config::IdForm::Plain;
    (is_plain && !is_hash).then_some(id)
}

/// The plain ids of those of `ids` that have a row, by listing all keys of the table.
///
/// # Errors
/// As for [`list`].
pub(super) async fn plain_of_ids<'a>(
    client: &Client,
    table: &Table,
    ids: impl Iterator<Item = &'a [u8]>,
) -> Result<HashMap<&'a [u8], Vec<u8>>, PipelineError> {
    let wanted: HashSet<&[u8]> = ids.collect();
    let mut found = HashMap::new();
    list(client, table, None, |ids| {
        if let Some(id) = wanted.get(&ids.id[..]) {
            found.insert(*id, ids.plain.clone());
        }
    })
    .await?;
    Ok(found)
}

/// Reads the ids of rows.
#[derive(Default)]
pub(super) struct RowReader {
    pub(super) decoder: CopyDecoder,
    pub(super) ids: IdBuffers,
}

impl RowReader {
    /// The ids of a COPY line of as many columns, of which `plan` was made.
    ///
    /// # Errors
    /// The line does not decode.
    pub(super) fn ids(
        &mut self,
        table: &Table,
        plan: &TablePlan,
        columns: usize,
        line: &[u8],
    ) -> Result<&IdBuffers, PipelineError> {
        let row = self.decoder.decode(line, columns).map_err(|e| bad(table, &e.to_string()))?;
        plan.write_id(&row, &mut self.ids).map_err(|_| bad(table, "a key column is missing"))?;
        Ok(&self.ids)
    }
}

pub(super) fn bad(table: &Table, what: &str) -> PipelineError {
    let window = "of some keys".to_owned();
    PipelineError::Row { table: table.schema.name.to_string(), window, what: what.to_owned() }
}

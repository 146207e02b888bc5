//! Reading rows by COPY: one row per message, bounded memory.

use super::query_error::{Doing, Result};
use crate::model::{TableSchema, quote_identifier};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio_postgres::Client;

/// `COPY (SELECT … FROM … WHERE (filter) AND (predicate)) TO STDOUT` (docs: "COPY", text format). The row filter is the
/// publication's, so that windows and lookups agree with the stream.
///
/// `ONLY` keeps inheritance children out, whose changes are streamed under their own names.
pub fn copy_sql<C: AsRef<str>>(
    table: &TableSchema,
    columns: &[C],
    row_filter: Option<&str>,
    predicate: Option<&str>,
) -> String {
    format!("COPY ({}) TO STDOUT", select(table, columns, row_filter, predicate))
}

/// As [`copy_sql`], for the first `rows` rows that come.
pub fn sample_sql<C: AsRef<str>>(
    table: &TableSchema,
    columns: &[C],
    row_filter: Option<&str>,
    predicate: Option<&str>,
    rows: u32,
) -> String {
    format!("COPY ({} LIMIT {rows}) TO STDOUT", select(table, columns, row_filter, predicate))
}

fn select<C: AsRef<str>>(
    table: &TableSchema,
    columns: &[C],
    row_filter: Option<&str>,
    predicate: Option<&str>,
) -> String {
    let columns: Vec<String> = columns.iter().map(|c| quote_identifier(c.as_ref())).collect();
    let only = if table.partitioned { "" } else { "ONLY " };
    let conditions: Vec<String> =
        [row_filter, predicate].into_iter().flatten().map(|c| format!("({c})")).collect();
    let condition =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("SELECT {} FROM {only}{}{condition}", columns.join(", "), table.name.quoted())
}

/// Runs a COPY … TO STDOUT: each item is one row in text format with its newline.
///
/// Dropping the stream early does not end the COPY: its rows are read and thrown away by the driver, so cancel the query
/// or drop the connection.
pub async fn read(client: &Client, sql: &str) -> Result<impl Stream<Item = Result<Bytes>> + Send + use<>> {
    let doing = || "reading rows".to_owned();
    let rows = client.copy_out(sql).await.doing(doing)?;
    Ok(rows.map(move |row| row.doing(doing)))
}

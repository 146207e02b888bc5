//! Where the primary's write-ahead log ends.

use super::query_error::{Doing, QueryError, Result};
use crate::model::{Lsn, Xid};
use tokio_postgres::Client;

/// Ends of the log (docs: "Backup Control Functions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Reserved by records that are being written: above everything that any snapshot can have seen.
    pub insert: Lsn,
    /// Durable on the primary: what the stream can have sent.
    pub flush: Lsn,
    /// The next transaction id, to widen those of the stream.
    pub next_xid: Xid,
}

/// Reads the ends of the log.
///
/// # Errors
/// The query failed.
pub async fn log_end(primary: &Client) -> Result<LogEnd> {
    let doing = || "reading the end of the WAL".to_owned();
    let sql = "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text,
       pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text,
       pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text";
    let row = primary.query_one(sql, &[]).await.doing(doing)?;
    let text = |column: usize| -> String { row.get(column) };
    let answer = |text: String| QueryError::answer(doing(), text);
    Ok(LogEnd {
        insert: text(0).parse().map_err(|_| answer(text(0)))?,
        flush: text(1).parse().map_err(|_| answer(text(1)))?,
        next_xid: Xid(text(2).parse().map_err(|_| answer(text(2)))?),
    })
}

/// How far a standby has replayed; `None` on a primary.
///
/// # Errors
/// The query failed.
pub async fn replayed(standby: &Client) -> Result<Option<Lsn>> {
    let doing = || "reading how far the standby is".to_owned();
    let sql = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
       THEN pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text END";
    let text: Option<String> = standby.query_one(sql, &[]).await.doing(doing)?.get(0);
    text.map(|text| text.parse().map_err(|_| QueryError::answer(doing(), text))).transpose()
}

//! The floor under backfilled rows, and the two waits that make a read safe to write: visibility and flush.

use super::query_error::{Doing, QueryError, Result};
use crate::model::{Lsn, Snapshot, Xid};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};

const FLUSH_LIMIT: Duration = Duration::from_secs(60);

/// A position F, and a transaction id that is younger than every transaction with a commit record at or before F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The floor: rows read under it carry `version(F, 0) - 1`.
    pub lsn: Lsn,
    /// Once every transaction up to this one has ended on the server that is read, windows may be read.
    pub burned: Xid,
}

/// Where a read stands: what its snapshot sees, and a position that bounds it from above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPoint {
    /// The snapshot; of a standby's what is certain of it.
    pub snapshot: Snapshot,
    /// On a primary the WAL insert position after the snapshot, on a standby the replay position: whatever the
    /// snapshot sees lies before it (**M7**).
    pub lsn: Lsn,
    /// Was it read from a standby? What a standby shows is flushed.
    pub standby: bool,
}

/// Steps 2 and 3 of the floor, on the primary: read F, then use up a transaction id in a transaction of its own.
///
/// A transaction with a commit record at or before F got its id before the one that is burned here. Reading an xmax
/// would not do: a transaction that waits for a synchronous standby is in the WAL, invisible, and not below xmax.
pub async fn take_floor(primary: &Client) -> Result<Floor> {
    let doing = || "taking a floor".to_owned();
    let sql = "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text";
    let lsn: String = primary.query_one(sql, &[]).await.doing(doing)?.get(0);
    let burned = burn(primary).await?;
    Ok(Floor { lsn: lsn.parse().map_err(|_| QueryError::answer(doing(), lsn))?, burned })
}

async fn burn(primary: &Client) -> Result<Xid> {
    let doing = || "using up a transaction id".to_owned();
    let sql = "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text";
    let xid: String = primary.query_one(sql, &[]).await.doing(doing)?.get(0);
    xid.parse().map(Xid).map_err(|_| QueryError::answer(doing(), xid))
}

/// Step 4 of the floor, on the server that windows are read from: wait until every transaction up to the burned one has
/// ended there. It waits as long as it takes; every five seconds the log names the transactions that it waits for.
pub async fn wait_until_visible(reader: &Client, burned: Xid) -> Result<()> {
    let doing = || "waiting for open transactions to end".to_owned();
    let sql = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.text";
    let begun = Instant::now();
    let (mut pause, mut told) = (Duration::from_millis(5), begun);
    loop {
        let text: String = reader.query_one(sql, &[]).await.doing(doing)?.get(0);
        let xmin: u64 = text.parse().map_err(|_| QueryError::answer(doing(), text))?;
        if xmin > burned.0 {
            return Ok(());
        }
        if told.elapsed() >= Duration::from_secs(5) {
            told = Instant::now();
            let open = open_transactions(reader, Some(burned)).await?.join("; ");
            let seconds = begun.elapsed().as_secs();
            tracing::info!(seconds, open, "the backfill waits for transactions that were open when it began");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Names the transactions that have an id (at most `up_to`) and have not ended, prepared ones too.
///
/// Process, role and id are visible to every role; on a standby only its own side is known (docs: "pg_stat_activity").
pub async fn open_transactions(client: &Client, up_to: Option<Xid>) -> Result<Vec<String>> {
    let sql = "
SELECT pg_catalog.format('process %s (role %s, database %s, application %s) in transaction %s',
         a.pid, coalesce(a.usename, '?'), coalesce(a.datname, '?'), coalesce(a.application_name, '?'), a.backend_xid)
  FROM pg_catalog.pg_stat_activity a
 WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
   AND ($1::pg_catalog.text IS NULL
        OR pg_catalog.age(a.backend_xid) >= pg_catalog.age($1::pg_catalog.text::pg_catalog.xid8::pg_catalog.xid))
UNION ALL
SELECT pg_catalog.format('prepared transaction %L (role %s, database %s, transaction %s; COMMIT PREPARED or ROLLBACK PREPARED ends it)',
         p.gid, p.owner, p.database, p.transaction)
  FROM pg_catalog.pg_prepared_xacts p
 WHERE $1::pg_catalog.text IS NULL
    OR pg_catalog.age(p.transaction) >= pg_catalog.age($1::pg_catalog.text::pg_catalog.xid8::pg_catalog.xid)";
    let up_to = up_to.map(|x| x.0.to_string());
    let rows = client.query(sql, &[&up_to]).await.doing(|| "listing open transactions".into())?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

/// What a statement that begins now sees.
pub async fn current_snapshot(client: &Client) -> Result<Snapshot> {
    let doing = || "taking a snapshot".to_owned();
    let sql = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text";
    let text: String = client.query_one(sql, &[]).await.doing(doing)?.get(0);
    text.parse().map_err(|_| QueryError::answer(doing(), text))
}

/// Begins a REPEATABLE READ, READ ONLY transaction and says what its snapshot sees.
///
/// In it a database of encoding SQL_ASCII sends its bytes as they are: as UTF8 it would refuse the whole read for one value
/// that is none (docs: "Character Set Support").
///
/// The server takes the snapshot before it evaluates anything, so the position in the same answer was read after it.
/// The caller ends the transaction, or drops the connection.
pub async fn snapshot(client: &Client) -> Result<ReadPoint> {
    let doing = || "taking a snapshot".to_owned();
    let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, pg_catalog.pg_is_in_recovery()::pg_catalog.text,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_insert_lsn() END::pg_catalog.text,
       pg_catalog.set_config('client_encoding', CASE pg_catalog.current_setting('server_encoding')
         WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, true)";
    let answer = client.simple_query(sql).await.doing(doing)?;
    let row = answer.iter().find_map(|m| match m {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?, row.get(1)?, row.get(2)?)),
        _ => None,
    });
    let Some((snapshot, standby, lsn)) = row else { return Err(QueryError::answer(doing(), "no row")) };
    let standby = standby == "true";
    let parsed: Snapshot = snapshot.parse().map_err(|_| QueryError::answer(doing(), snapshot))?;
    Ok(ReadPoint {
        snapshot: if standby { parsed.on_standby() } else { parsed },
        lsn: lsn.parse().map_err(|_| QueryError::answer(doing(), lsn))?,
        standby,
    })
}

/// Waits until what a snapshot saw cannot be lost in a crash any more: with `synchronous_commit=off` a row is visible
/// before its commit is flushed (docs: "Asynchronous Commit"). To be called after the read, outside a transaction.
///
/// The insert position may lie behind the last commit (an open transaction wrote, or a WAL switch left it behind a page
/// header); nobody flushes that soon. So after a while a transaction id is used up here: its commit takes the WAL
/// writer past it.
pub async fn wait_flushed(client: &Client, read: &ReadPoint) -> Result<()> {
    if read.standby { Ok(()) } else { wait_flushed_up_to(client, read.lsn).await }
}

/// Waits until the primary's WAL is flushed up to a position.
pub async fn wait_flushed_up_to(client: &Client, lsn: Lsn) -> Result<()> {
    let doing = || "waiting for the WAL to be flushed".to_owned();
    let sql = "SELECT pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text";
    let begun = Instant::now();
    let mut nudge_at = Duration::from_millis(50);
    loop {
        let text: String = client.query_one(sql, &[]).await.doing(doing)?.get(0);
        let flushed: Lsn = text.parse().map_err(|_| QueryError::answer(doing(), text))?;
        if flushed >= lsn {
            return Ok(());
        }
        if begun.elapsed() > FLUSH_LIMIT {
            return Err(QueryError::NotFlushed { wanted: lsn, flushed, seconds: FLUSH_LIMIT.as_secs() });
        }
        if begun.elapsed() >= nudge_at {
            burn(client).await?;
            nudge_at = begun.elapsed() + Duration::from_secs(1);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

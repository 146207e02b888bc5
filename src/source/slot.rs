//! The replication slot: its state, its making, its advance.

use super::{
    floor::open_transactions,
    query_error::{Doing, QueryError, Result},
    server::server_facts,
};
use crate::model::{Lsn, quote_identifier};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, error::SqlState};

/// A row of `pg_replication_slots` (docs: "pg_replication_slots").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// Output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// Database the slot decodes.
    pub database: Option<String>,
    /// Is somebody streaming from it?
    pub active: bool,
    /// Who.
    pub active_pid: Option<i32>,
    /// WAL from here on is held back.
    pub restart_lsn: Option<Lsn>,
    /// What the consumer has acknowledged.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, `lost`; `None` where nothing is reserved.
    pub wal_status: Option<String>,
    /// Bytes that may still be written before WAL is removed; below 0 at any moment; `None` where there is no limit.
    pub safe_wal_size: Option<i64>,
    /// Does it end with its session?
    pub temporary: bool,
    /// Does it decode PREPARE?
    pub two_phase: bool,
    /// Why it was invalidated (17 and later say so; before, `wal_removed` stands for a lost one).
    pub invalidation: Option<String>,
}

impl SlotState {
    /// Is what the slot has not sent gone for ever?
    pub fn is_lost(&self) -> bool {
        self.invalidation.is_some() || self.wal_status.as_deref() == Some("lost")
    }

    /// A slot of `pgoutput` in `database` that nothing is wrong with, to vary in tests.
    #[cfg(test)]
    pub(crate) fn healthy(database: &str, confirmed: Lsn) -> Self {
        SlotState {
            plugin: Some("pgoutput".into()),
            database: Some(database.into()),
            active: false,
            active_pid: None,
            restart_lsn: Some(confirmed),
            confirmed_flush_lsn: Some(confirmed),
            wal_status: Some("reserved".into()),
            safe_wal_size: None,
            temporary: false,
            two_phase: false,
            invalidation: None,
        }
    }
}

/// Columns that a version does not have are NULL through jsonb.
const FIND: &str = "
SELECT s.plugin::pg_catalog.text, s.database::pg_catalog.text, s.active, s.active_pid,
       s.restart_lsn::pg_catalog.text, s.confirmed_flush_lsn::pg_catalog.text, s.wal_status, s.safe_wal_size,
       s.temporary, s.two_phase, pg_catalog.to_jsonb(s)->>'invalidation_reason'
  FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1::pg_catalog.text";

/// The slot's state; `None` where it does not exist.
pub async fn find(client: &Client, slot: &str) -> Result<Option<SlotState>> {
    let doing = || format!("reading the state of slot {slot}");
    let Some(row) = client.query_opt(FIND, &[&slot]).await.doing(doing)? else { return Ok(None) };
    let lsn = |text: Option<String>| {
        text.map(|t| t.parse::<Lsn>().map_err(|_| QueryError::answer(doing(), t))).transpose()
    };
    let wal_status: Option<String> = row.get(6);
    let removed = || (wal_status.as_deref() == Some("lost")).then(|| "wal_removed".to_owned());
    Ok(Some(SlotState {
        plugin: row.get(0),
        database: row.get(1),
        active: row.get(2),
        active_pid: row.get(3),
        restart_lsn: lsn(row.get(4))?,
        confirmed_flush_lsn: lsn(row.get(5))?,
        invalidation: row.get::<_, Option<String>>(10).or_else(removed),
        wal_status,
        safe_wal_size: row.get(7),
        temporary: row.get(8),
        two_phase: row.get(9),
    }))
}

/// Makes the slot for pgoutput and returns its consistent point, from which every later commit is streamed.
///
/// Creation waits for every transaction that is writing, in any database, prepared ones too (docs: "Logical Decoding
/// Concepts"); after two seconds the log names those that were open when it began. The publication must exist before.
pub async fn create(client: &Client, slot: &str) -> Result<Lsn> {
    let waiting_for = open_transactions(client, None).await?;
    let sql =
        "SELECT lsn::pg_catalog.text FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')";
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&slot];
    let mut creation = Box::pin(client.query_one(sql, &parameters));
    let begun = Instant::now();
    let mut patience = Duration::from_secs(2);
    let row = loop {
        match tokio::time::timeout(patience, &mut creation).await {
            Ok(result) => break result,
            Err(_) => tracing::warn!(
                slot,
                seconds = begun.elapsed().as_secs(),
                open = waiting_for.join("; "),
                "slot creation waits for transactions that were open when it began"
            ),
        }
        patience = Duration::from_secs(30);
    };
    match row {
        Ok(row) => {
            let text: String = row.get(0);
            text.parse().map_err(|_| QueryError::answer(format!("creating slot {slot}"), text))
        }
        Err(error) => Err(why_not(client, slot, error).await?),
    }
}

/// Turns the server's refusal into what to do about it.
async fn why_not(client: &Client, slot: &str, error: tokio_postgres::Error) -> Result<QueryError> {
    let refused = |problem: String| QueryError::Slot { slot: slot.to_owned(), problem };
    Ok(match error.code().map(SqlState::code) {
        Some("42501") => {
            let role = quote_identifier(&server_facts(client).await?.role);
            QueryError::NeedsAdministrator {
                what: format!("slot {slot} cannot be made or streamed: role {role} has no REPLICATION attribute"),
                sql: format!("ALTER ROLE {role} REPLICATION;"),
            }
        }
        Some("53400") => refused(
            "all replication slots are in use: drop one that is not needed (SELECT * FROM pg_replication_slots), or \
             raise max_replication_slots and restart the server"
                .into(),
        ),
        // A standby before 16 says 0A000 (feature not supported).
        Some("55000" | "0A000") => {
            let facts = server_facts(client).await?;
            if facts.in_recovery {
                refused("this server is a standby: connect to the primary".into())
            } else if facts.wal_level != "logical" {
                refused(format!(
                    "wal_level is {}: run ALTER SYSTEM SET wal_level = 'logical' and restart the server (under Patroni: \
                     patronictl edit-config, postgresql.parameters.wal_level)",
                    facts.wal_level
                ))
            } else {
                QueryError::Server { doing: format!("creating slot {slot}"), error: Box::new(error) }
            }
        }
        _ => QueryError::Server { doing: format!("creating slot {slot}"), error: Box::new(error) },
    })
}

/// Makes slot `to` as a copy of slot `from`, which may be streamed from meanwhile, and returns where it stands. Other than
/// [`create`] it waits for nobody (docs: `pg_copy_logical_replication_slot`).
pub async fn copy(client: &Client, from: &str, to: &str) -> Result<Lsn> {
    let sql = "SELECT lsn::pg_catalog.text FROM pg_catalog.pg_copy_logical_replication_slot($1, $2)";
    match client.query_one(sql, &[&from, &to]).await {
        Ok(row) => {
            let text: String = row.get(0);
            text.parse().map_err(|_| QueryError::answer(format!("making slot {to}"), text))
        }
        Err(error) => Err(why_not(client, to, error).await?),
    }
}

/// Moves an inactive slot forward and returns where it stands (docs: `pg_replication_slot_advance`).
pub async fn advance(client: &Client, slot: &str, lsn: Lsn) -> Result<Lsn> {
    let doing = || format!("advancing slot {slot} to {lsn}");
    let sql = "SELECT end_lsn::pg_catalog.text
                 FROM pg_catalog.pg_replication_slot_advance($1, ($2::pg_catalog.text)::pg_catalog.pg_lsn)";
    let row = client.query_one(sql, &[&slot, &lsn.to_string()]).await.doing(doing)?;
    let text: String = row.get(0);
    text.parse().map_err(|_| QueryError::answer(doing(), text))
}

/// Drops an inactive slot (docs: `pg_drop_replication_slot`).
pub async fn drop_slot(client: &Client, slot: &str) -> Result<()> {
    let doing = || format!("dropping slot {slot}");
    client.execute("SELECT pg_catalog.pg_drop_replication_slot($1)", &[&slot]).await.doing(doing)?;
    Ok(())
}

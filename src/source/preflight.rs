//! Everything that `check` asks of PostgreSQL. Nothing is changed, and nothing but a login is needed.

use super::{
    query_error::{Doing, Result},
    server::{ServerFacts, server_facts},
    slot::{self, SlotState},
    sql,
};
use crate::config::Postgres;
use chrono::{DateTime, Utc};
use tokio_postgres::Client;

/// A primary before anything is made there.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimaryFacts {
    /// Server, database and role.
    pub server: ServerFacts,
    /// `max_replication_slots`, and how many there are.
    pub slots: Used,
    /// `max_wal_senders`, and how many run.
    pub wal_senders: Used,
    /// Do the settings hold that every connection of pg2os begins with? A pooler drops them.
    pub has_session_settings: bool,
    /// Is a Patroni connected to it?
    pub has_patroni: bool,
    /// Physical slots in use: standbys.
    pub standbys: i64,
    /// The slot; `None` where it does not exist.
    pub slot: Option<SlotState>,
    /// Is the slot kept through a failover (PostgreSQL 17 and later)?
    pub slot_fails_over: bool,
    /// `idle_replication_slot_timeout` in seconds (PostgreSQL 18 and later; 0 is off).
    pub idle_slot_timeout: i64,
    /// Seconds that the server's clock is ahead of ours.
    pub clock_ahead: f64,
}

/// A limit and how much of it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// In use.
    pub used: i64,
    /// Limit.
    pub max: i64,
}

/// A standby.
#[derive(Clone, Debug, PartialEq)]
pub struct StandbyFacts {
    /// Host as configured.
    pub host: String,
    /// Seconds that its replay is behind what it has received; `None` where it replayed nothing yet.
    pub lag: Option<f64>,
    /// Is there a copy of the slot?
    pub has_slot: bool,
}

/// Settings that a version does not have are NULL.
const PRIMARY: &str = "
SELECT pg_catalog.current_setting('max_replication_slots')::pg_catalog.int8,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
       pg_catalog.current_setting('max_wal_senders')::pg_catalog.int8,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
       pg_catalog.current_setting('search_path') = 'pg_catalog'
         AND pg_catalog.current_setting('IntervalStyle') = 'iso_8601',
       EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE application_name LIKE 'Patroni%'),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND active),
       (SELECT coalesce((pg_catalog.to_jsonb(s)->>'failover')::pg_catalog.bool, false)
          FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1::pg_catalog.text),
       (SELECT s.setting::pg_catalog.int8 FROM pg_catalog.pg_settings s WHERE s.name = 'idle_replication_slot_timeout'),
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())";

/// Asks the primary.
///
/// # Errors
/// A query failed.
pub async fn primary_facts(client: &Client, slot: &str) -> Result<PrimaryFacts> {
    let server = server_facts(client).await?;
    let row = client.query_one(PRIMARY, &[&slot]).await.doing(|| "reading the server's settings".into())?;
    let now = Utc::now();
    Ok(PrimaryFacts {
        server,
        slots: Used { max: row.get(0), used: row.get(1) },
        wal_senders: Used { max: row.get(2), used: row.get(3) },
        has_session_settings: row.get(4),
        has_patroni: row.get(5),
        standbys: row.get(6),
        slot_fails_over: row.get::<_, Option<bool>>(7).unwrap_or(false),
        slot: slot::find(client, slot).await?,
        idle_slot_timeout: row.get::<_, Option<i64>>(8).unwrap_or(0),
        clock_ahead: row.get::<_, f64>(9) - epoch(now),
    })
}

fn epoch(time: DateTime<Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}

/// May our role make the publication, or change it, for tables with these oids (docs: "CREATE PUBLICATION", "Notes")?
///
/// # Errors
/// A query failed.
pub async fn may_publish(client: &Client, publication: &str, tables: &[u32]) -> Result<bool> {
    let sql = "SELECT coalesce((SELECT pg_catalog.pg_has_role(pubowner, 'USAGE') FROM pg_catalog.pg_publication WHERE pubname = $1::pg_catalog.text),
                      pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'))
                  AND (SELECT coalesce(pg_catalog.bool_and(pg_catalog.pg_has_role(c.relowner, 'USAGE')), true)
                         FROM pg_catalog.pg_class c WHERE c.oid = ANY($2))";
    let row = client.query_one(sql, &[&publication, &tables]).await;
    Ok(row.doing(|| format!("looking who may change publication {publication}"))?.get(0))
}

/// Asks a host that may be a standby; `None` where it is none, or does not answer.
pub async fn standby_facts(config: &Postgres, host: &str, application_name: &str) -> Option<StandbyFacts> {
    let asked = async {
        let client = sql::connect(config, Some(host), application_name).await.ok()?;
        let sql = "SELECT pg_catalog.pg_is_in_recovery(),
              CASE WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN 0
                   ELSE pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END";
        let row = client.query_one(sql, &[]).await.ok()?;
        let has_slot = slot::find(&client, &config.slot).await.ok()?.is_some();
        row.get::<_, bool>(0).then(|| StandbyFacts { host: host.to_owned(), lag: row.get(1), has_slot })
    };
    let found = asked.await;
    if found.is_none() {
        tracing::debug!(host, "is no standby that answers");
    }
    found
}

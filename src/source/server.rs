//! Facts about the server and our role that decide what can be done at all.

use super::query_error::{Doing, Result};
use tokio_postgres::Client;

/// What `check` and the start ask of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// `server_version_num`: 150018 is 15.18.
    pub version_num: i32,
    /// `wal_level`; the slot needs `logical`.
    pub wal_level: String,
    /// Is it a standby?
    pub in_recovery: bool,
    /// Database of this connection.
    pub database: String,
    /// As IDENTIFY_SYSTEM gives it; `None` where `pg_control_system()` was revoked from us.
    pub system_identifier: Option<u64>,
    /// Bytes that slots may hold back; `None` is unlimited (docs: `max_slot_wal_keep_size`).
    pub max_slot_wal_keep_size: Option<u64>,
    /// Encoding of the database (`UTF8`).
    pub encoding: String,
    /// Our role.
    pub role: String,
    /// Has our role the REPLICATION attribute, or is it a superuser?
    pub is_replication_role: bool,
    /// Is our role a superuser?
    pub is_superuser: bool,
}

const FACTS: &str = "
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
       pg_catalog.current_setting('wal_level'),
       pg_catalog.pg_is_in_recovery(),
       d.datname::pg_catalog.text,
       (SELECT s.setting::pg_catalog.int8 FROM pg_catalog.pg_settings s WHERE s.name = 'max_slot_wal_keep_size'),
       pg_catalog.pg_encoding_to_char(d.encoding)::pg_catalog.text,
       r.rolname::pg_catalog.text, r.rolreplication, r.rolsuper,
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
  FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
 WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user";

/// Reads the facts.
pub async fn server_facts(client: &Client) -> Result<ServerFacts> {
    let doing = || "reading the server's settings".to_owned();
    let row = client.query_one(FACTS, &[]).await.doing(doing)?;
    let system_identifier = if row.get(9) {
        let sql = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
        Some(client.query_one(sql, &[]).await.doing(doing)?.get::<_, i64>(0).cast_unsigned())
    } else {
        None
    };
    let megabytes: i64 = row.get(4);
    let (replication, superuser): (bool, bool) = (row.get(7), row.get(8));
    Ok(ServerFacts {
        version_num: row.get(0),
        wal_level: row.get(1),
        in_recovery: row.get(2),
        database: row.get(3),
        system_identifier,
        max_slot_wal_keep_size: u64::try_from(megabytes).ok().map(|m| m << 20),
        encoding: row.get(5),
        role: row.get(6),
        is_replication_role: replication || superuser,
        is_superuser: superuser,
    })
}

/// The server's version alone.
pub(super) async fn version_num(client: &Client) -> Result<i32> {
    let sql = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4";
    Ok(client.query_one(sql, &[]).await.doing(|| "reading the server's version".into())?.get(0))
}

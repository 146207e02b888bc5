//! What a slot that nobody streams from has not sent yet.

use super::query_error::{Doing, QueryError, Result};
use crate::model::{Lsn, quote_identifier};
use tokio_postgres::Client;

/// Tables with changes in transactions that commit past a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Those with these oids.
    Of(Vec<u32>),
    /// A TRUNCATE is among them: any table.
    Any,
}

impl Pending {
    /// May a document of this table be behind its row?
    pub fn touches(&self, oid: u32) -> bool {
        match self {
            Pending::Of(oids) => oids.contains(&oid),
            Pending::Any => true,
        }
    }
}

/// A look at what `slot` would send, which moves nothing (docs: "pg_logical_slot_peek_binary_changes"; of the messages only
/// their type and relation are read, "Logical Replication Message Formats"). The server decodes all of it, and keeps what
/// does not fit its memory in a file.
pub async fn pending(client: &Client, slot: &str, publications: &[String], past: Lsn) -> Result<Pending> {
    let doing = || format!("looking at what slot {slot} has not sent");
    let sql = "
WITH change AS MATERIALIZED (
  SELECT c.lsn, c.xid::pg_catalog.text AS xid, c.data
    FROM pg_catalog.pg_logical_slot_peek_binary_changes($1::pg_catalog.text, NULL, NULL,
           'proto_version', '1', 'publication_names', $2::pg_catalog.text) c)
SELECT DISTINCT pg_catalog.get_byte(data, 0), pg_catalog.encode(pg_catalog.substr(data, 2, 4), 'hex')
  FROM change
 WHERE pg_catalog.get_byte(data, 0) IN (68, 73, 84, 85)
   AND xid IN (SELECT xid FROM change
                WHERE pg_catalog.get_byte(data, 0) = 67 AND lsn > $3::pg_catalog.text::pg_catalog.pg_lsn)";
    let names = publications.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(",");
    let rows = client.query(sql, &[&slot, &names, &past.to_string()]).await.doing(doing)?;
    let mut oids = vec![];
    for row in rows {
        let (kind, oid): (i32, String) = (row.get(0), row.get(1));
        if kind == i32::from(b'T') {
            return Ok(Pending::Any);
        }
        oids.push(u32::from_str_radix(&oid, 16).map_err(|_| QueryError::answer(doing(), oid))?);
    }
    Ok(Pending::Of(oids))
}

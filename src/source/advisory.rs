//! Advisory locks: whose session is alive (docs: "Advisory Locks"). They need no privilege and leave nothing behind.

use super::query_error::{Doing, Result};
use tokio_postgres::Client;

/// Takes the lock `key` for as long as the session lives; false where another session has it.
pub async fn try_lock(client: &Client, key: i64) -> Result<bool> {
    let sql = "SELECT pg_catalog.pg_try_advisory_lock($1)";
    let row = client.query_one(sql, &[&key]).await.doing(|| "taking an advisory lock".into())?;
    Ok(row.get(0))
}

//! Is a standby one of the primary that is streamed from, and not of one that a failover has replaced?
//!
//! The system identifier is that of both, and a standby does not tell every role which timeline it follows. So the primary
//! uses up transaction ids, some committed and some rolled back at random; a standby that knows the same of them has the
//! same history.

use super::{
    query_error::{Doing, QueryError, Result},
    sql,
};
use crate::model::Xid;
use std::hash::{BuildHasher, RandomState};
use tokio_postgres::{Client, SimpleQueryMessage};

/// A standby of another history is taken for a right one once in 65,536 times.
const MARKS: u32 = 16;

/// Transactions of the primary, and whether they were committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks(Vec<(Xid, bool)>);

/// Leaves marks in the history of the primary. The floor is to be taken after them, so that whoever waited for it has them.
///
/// # Errors
/// The server could not be asked.
pub async fn leave_marks(primary: &Client) -> Result<Marks> {
    let doing = || "leaving marks for standbys".to_owned();
    let random = RandomState::new().hash_one(std::process::id());
    let mut marks = vec![];
    for bit in 0..MARKS {
        let committed = random >> bit & 1 == 1;
        let end = if committed { "COMMIT" } else { "ROLLBACK" };
        let sql = format!("BEGIN; SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text; {end}");
        let answer = primary.simple_query(&sql).await.doing(doing)?;
        let xid = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        let xid = xid.ok_or_else(|| QueryError::answer(doing(), "no transaction id"))?;
        marks.push((Xid(xid), committed));
    }
    Ok(Marks(marks))
}

/// Has a standby that has replayed past the marks the same history?
///
/// # Errors
/// The server could not be asked.
pub async fn knows(standby: &Client, marks: &Marks) -> Result<bool> {
    for (xid, committed) in &marks.0 {
        let sql = "SELECT pg_catalog.pg_xact_status(($1::pg_catalog.text)::pg_catalog.xid8)";
        let status = match standby.query_one(sql, &[&xid.0.to_string()]).await {
            Ok(row) => row.get::<_, Option<String>>(0),
            // It lies in the future there (22023).
            Err(error) if error.code().is_some_and(|code| code.code() == "22023") => None,
            Err(error) => return Err(error).doing(|| "asking a standby for its history".into()),
        };
        if status.as_deref() != Some(if *committed { "committed" } else { "aborted" }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Is the server in recovery?
///
/// # Errors
/// The server could not be asked.
pub async fn is_standby(client: &Client) -> std::result::Result<bool, super::SourceError> {
    sql::in_recovery(client).await
}

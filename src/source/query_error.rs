//! What can go wrong with SQL on the source: where, why, and the cure.

use crate::model::TableName;
use tokio_postgres::error::{DbError, SqlState};

/// Result of a query on the source.
pub(super) type Result<T, E = QueryError> = std::result::Result<T, E>;

/// An error of the SQL side of the source. Every text says what is wrong, where, and the cure.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server refused a statement, or the connection broke.
    #[error("{doing}: {}", describe(error))]
    Server {
        /// What was being done.
        doing: String,
        /// The driver's error.
        error: Box<tokio_postgres::Error>,
    },
    /// The server sent a value that is not of its kind.
    #[error("{doing}: the server sent `{answer}`, which pg2os cannot read; is a proxy or pooler in between?")]
    Answer {
        /// What was being read.
        doing: String,
        /// The value.
        answer: String,
    },
    /// No such table.
    #[error("table {table} does not exist{}; correct the name in `tables`", did_you_mean(near))]
    NoTable {
        /// The name that was looked for.
        table: TableName,
        /// Names like it.
        near: Vec<String>,
    },
    /// The name belongs to something that has no changes to follow.
    #[error("{table} is {kind}: {cure}")]
    NotATable {
        /// The name.
        table: TableName,
        /// What it is.
        kind: &'static str,
        /// What to do.
        cure: String,
    },
    /// Rows cannot be read.
    #[error("role {role} may not read {table} ({what}); run as its owner: {sql}")]
    NoSelect {
        /// The table.
        table: TableName,
        /// Our role.
        role: String,
        /// Which privilege is missing.
        what: String,
        /// The GRANTs.
        sql: String,
    },
    /// Row security would hide rows.
    #[error(
        "row security hides rows of {table} from role {role}, so documents would be missing or swept; run as a superuser: {sql}"
    )]
    RowSecurity {
        /// The table.
        table: TableName,
        /// Our role.
        role: String,
        /// The ALTER ROLE.
        sql: String,
    },
    /// Publications disagree about one table.
    #[error(
        "{table} is in two publications with different {what} ({first}; {second}): drop it from one of them (ALTER PUBLICATION … DROP TABLE …), or name one only in `postgres.publication`"
    )]
    PublicationsDiffer {
        /// The table.
        table: TableName,
        /// "column lists" or "row filters".
        what: &'static str,
        /// One publication, and what it says.
        first: String,
        /// The other.
        second: String,
    },
    /// No id columns are known.
    #[error("{0} has no primary key and no `id`: name the columns that identify a row in `id`")]
    NoId(TableName),
    /// An id column is missing.
    #[error("column `{column}` of {table}, which `id` or `routing` names, {problem}")]
    IdColumn {
        /// The table.
        table: TableName,
        /// The column.
        column: String,
        /// What is wrong with it, and the cure.
        problem: String,
    },
    /// Deletes would not carry the id.
    #[error(
        "{table}: column(s) {columns} of `id` and `routing` are not in the replica identity ({identity}), so deletes could not be mapped to documents; run as its owner: {sql}"
    )]
    IdNotInIdentity {
        /// The table.
        table: TableName,
        /// Those that are missing, joined.
        columns: String,
        /// The identity in force.
        identity: String,
        /// The ALTER TABLE.
        sql: String,
    },
    /// Two rows could share an id.
    #[error(
        "{table}: nothing says that ({id}) is unique{found}; choose the columns of a unique index, make one (CREATE UNIQUE INDEX ON {quoted} ({id})), or set `id_unique: asserted`",
        quoted = table.quoted()
    )]
    IdNotUnique {
        /// The table.
        table: TableName,
        /// The id columns, quoted and joined.
        id: String,
        /// Indexes that do not count, and why.
        found: String,
    },
    /// Publishing the table would break the application.
    #[error(
        "{table} has no replica identity: published, the application's own UPDATE and DELETE would fail (55000); run as its owner: {sql}, or follow inserts only with `append_only: true`"
    )]
    NoIdentity {
        /// The table.
        table: TableName,
        /// The ALTER TABLE.
        sql: String,
    },
    /// The row filter is wrong.
    #[error("`where` of {table}: {problem}")]
    Filter {
        /// The table.
        table: TableName,
        /// What is wrong, and the cure.
        problem: String,
    },
    /// A publication does not publish what is needed.
    #[error("publication {publication} {problem}; run as its owner: {sql}")]
    Publication {
        /// The publication.
        publication: String,
        /// What is wrong.
        problem: String,
        /// The ALTER PUBLICATION.
        sql: String,
    },
    /// An administrator has to make something.
    #[error("{what}; let an administrator run:\n{sql}")]
    NeedsAdministrator {
        /// What is missing, and why we cannot make it.
        what: String,
        /// The exact SQL.
        sql: String,
    },
    /// A replication slot cannot be made.
    #[error("slot {slot} cannot be made: {problem}")]
    Slot {
        /// The slot.
        slot: String,
        /// What is wrong, and the cure.
        problem: String,
    },
    /// WAL is not flushed.
    #[error(
        "the server has not flushed its WAL to {wanted} in {seconds} s (it stands at {flushed}): rows that were read could be lost in a crash, so they are not written; look at the server's WAL disk and the WAL writer"
    )]
    NotFlushed {
        /// Position that was awaited.
        wanted: crate::model::Lsn,
        /// Position reached.
        flushed: crate::model::Lsn,
        /// Time waited.
        seconds: u64,
    },
    /// A window setting does not fit.
    #[error("`window` of {table}: {problem}")]
    Window {
        /// The table.
        table: TableName,
        /// What is wrong, and the cure.
        problem: String,
    },
}

impl QueryError {
    /// May the same thing work later, on a new connection? (docs: "PostgreSQL Error Codes", classes 08, 40, 53, 57P, 58)
    pub fn is_transient(&self) -> bool {
        match self {
            QueryError::NotFlushed { .. } => true,
            QueryError::Server { error, .. } => match error.code() {
                None => true,
                Some(code) => {
                    code == &SqlState::OBJECT_IN_USE
                        || code == &SqlState::LOCK_NOT_AVAILABLE
                        || ["08", "40", "53", "57", "58"].iter().any(|class| code.code().starts_with(class))
                }
            },
            _ => false,
        }
    }

    /// The SQLSTATE of the server's refusal.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            QueryError::Server { error, .. } => error.code(),
            _ => None,
        }
    }

    /// The statement that cures it, where there is one.
    pub fn sql(&self) -> Option<&str> {
        match self {
            QueryError::NoSelect { sql, .. }
            | QueryError::RowSecurity { sql, .. }
            | QueryError::IdNotInIdentity { sql, .. }
            | QueryError::NoIdentity { sql, .. }
            | QueryError::Publication { sql, .. }
            | QueryError::NeedsAdministrator { sql, .. } => Some(sql),
            _ => None,
        }
    }

    /// Is a text no value of the type that it was cast to? (class 22)
    pub fn is_data_exception(&self) -> bool {
        self.code().is_some_and(|code| code.code().starts_with("22"))
    }

    pub(super) fn answer(doing: impl Into<String>, answer: impl Into<String>) -> Self {
        QueryError::Answer { doing: doing.into(), answer: answer.into() }
    }
}

/// Adds to a driver's error what was being done.
pub(super) trait Doing<T> {
    /// `doing` reads as the beginning of a sentence: "reading the catalog of public.t".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, tokio_postgres::Error> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| QueryError::Server { doing: doing(), error: Box::new(error) })
    }
}

/// The driver says only "db error"; the server says what, where and often the cure.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(e) => describe_db(e),
        None if error.is_closed() => "the connection was closed; pg2os connects again".to_owned(),
        None => {
            let cause = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
            format!("{error}{cause}")
        }
    }
}

/// One line with SQLSTATE, message, detail and hint.
pub(super) fn describe_db(e: &DbError) -> String {
    let mut text = format!("{} {}: {}", e.severity(), e.code().code(), e.message());
    for (label, part) in [("DETAIL", e.detail()), ("HINT", e.hint())] {
        if let Some(part) = part {
            text.push_str(&format!(" ({label}: {part})"));
        }
    }
    if let Some(cure) = cure(e.code()) {
        text.push_str(&format!("; {cure}"));
    }
    text
}

fn cure(code: &SqlState) -> Option<&'static str> {
    Some(match code.code() {
        "55006" => "another process holds it: wait for it or end it",
        "57014" => "the statement was cancelled: is statement_timeout set for the role?",
        "42501" => "grant it; under row security run ALTER ROLE … BYPASSRLS for the role of pg2os",
        "53300" => "raise max_connections or lower `backfill.parallel`",
        "40001" => {
            "a standby cancelled the read: raise max_standby_streaming_delay or set hot_standby_feedback"
        }
        c if c.starts_with("57P") => "pg2os connects again",
        _ => return None,
    })
}

fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(" (did you mean {}?)", near.join(" or ")) }
}

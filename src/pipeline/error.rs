//! Why a session or a command ends, and what that means for the next try.

use super::{intake_error::IntakeError, reader::ReaderError};
use crate::{
    map::{BadField, MissingIdColumn},
    model::VersionError,
    sink::{self, SinkError},
    source::{self, QueryError, SourceError},
};
use tokio_postgres::error::SqlState;

/// An error of the pipeline.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// PostgreSQL: connecting, or the replication connection.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// PostgreSQL: a query.
    #[error(transparent)]
    Query(#[from] Box<QueryError>),
    /// OpenSearch.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The stream.
    #[error(transparent)]
    Reader(#[from] ReaderError),
    /// Versions.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// Another instance holds the slot.
    #[error("slot {slot} is in use by process {pid}: another instance streams; waiting for it to leave")]
    SlotBusy {
        /// The slot.
        slot: String,
        /// The process that holds it.
        pid: i32,
    },
    /// A primary that a failover has replaced, and that has not noticed.
    #[error(
        "PostgreSQL is on timeline {server}, but the indices already follow timeline {known}: this server was replaced by a \
         failover and does not know it yet; if it was set back on purpose, remove the pipeline's documents from the state index"
    )]
    Replaced {
        /// Timeline of the server.
        server: u32,
        /// Timeline of the checkpoint.
        known: u32,
    },
    /// Settings that cannot work, all of one kind at once.
    #[error("{0}")]
    Configuration(String),
    /// **G4**: a gap, and `on_gap: stop`; or another source.
    #[error("{0}")]
    Gap(String),
    /// A table changed between two looks at its catalog.
    #[error("{0} changed while the session began; the next one looks again")]
    Redefined(String),
    /// A row of a window does not decode.
    #[error("{table}: a row of window {window} cannot be read: {what}")]
    Row {
        /// The table.
        table: String,
        /// The window.
        window: String,
        /// What is wrong.
        what: String,
    },
    /// More documents were refused than may be.
    #[error(
        "more than {limit} documents were refused (limits.dead_letters), the last one by {reason}; nothing is lost, and \
         the position stays: cure the cause, see `pg2os dead-letters list`, then `pg2os dead-letters retry`, or raise \
         limits.dead_letters"
    )]
    DeadLetters {
        /// The limit.
        limit: u64,
        /// Index, type and reason of one.
        reason: String,
    },
    /// A thread or task ended without a word: a defect of pg2os.
    #[error("{0} ended unexpectedly; please report this with the log")]
    Ended(&'static str),
}

impl From<QueryError> for PipelineError {
    fn from(error: QueryError) -> Self {
        PipelineError::Query(Box::new(error))
    }
}

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It passes; try again.
    Transient,
    /// Another instance is at work; wait for it.
    Busy,
    /// It needs a change of the configuration, of a server or of rights.
    NeedsCure,
    /// The stream has a gap, and is not to be repaired by itself.
    Gap,
}

impl PipelineError {
    /// What the error means.
    pub fn meaning(&self) -> Meaning {
        use PipelineError as E;
        let source = |error: &SourceError| match error.class() {
            _ if error.sqlstate() == Some("55006") => Meaning::Busy,
            source::Class::Transient => Meaning::Transient,
            source::Class::Fatal => Meaning::NeedsCure,
        };
        let query = |error: &QueryError| match error {
            // Another instance made the slot or the publication since it was looked for, or is about to stream.
            QueryError::Server { error, .. }
                if error.code().is_some_and(|code| {
                    [SqlState::DUPLICATE_OBJECT, SqlState::OBJECT_IN_USE].contains(code)
                }) =>
            {
                Meaning::Busy
            }
            // A column was dropped or renamed since the session read the catalog; the next one reads it again.
            error if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => Meaning::Transient,
            error if error.is_transient() => Meaning::Transient,
            _ => Meaning::NeedsCure,
        };
        match self {
            E::Source(error) | E::Reader(ReaderError::Source(error)) => source(error),
            E::Query(error) => query(error),
            // Another instance was quicker: it has, or is about to take, the slot.
            E::Sink(SinkError::Superseded { .. }) => Meaning::Busy,
            E::Replaced { .. }
            | E::Redefined(_)
            | E::Reader(ReaderError::Silent(_) | ReaderError::Paused(_)) => Meaning::Transient,
            E::Sink(error) => match error.class() {
                sink::Class::Transient => Meaning::Transient,
                sink::Class::Fatal => Meaning::NeedsCure,
            },
            // Another session begins a new epoch.
            E::Reader(ReaderError::Intake(IntakeError::Version(VersionError::TooFar { .. }))) => {
                Meaning::Transient
            }
            E::Reader(ReaderError::Intake(_))
            | E::Version(_)
            | E::Configuration(_)
            | E::Row { .. }
            | E::DeadLetters { .. }
            | E::Ended(_) => Meaning::NeedsCure,
            E::SlotBusy { .. } => Meaning::Busy,
            E::Gap(_) => Meaning::Gap,
        }
    }

    /// Is it something in OpenSearch that somebody has to cure and that was right before: credentials, certificates, rights, a
    /// block, a closed index? A program that has run waits for the cure, as its lanes do.
    pub(super) fn is_waited_out(&self) -> bool {
        match self {
            PipelineError::Sink(error) => {
                matches!(
                    error,
                    SinkError::Unauthorized { .. } | SinkError::Forbidden { .. } | SinkError::Tls { .. }
                ) || error.is_refusal("index_closed_exception")
            }
            _ => false,
        }
    }

    /// All bad fields of a table at once.
    pub(super) fn fields(table: &str, bad: &[BadField]) -> Self {
        let lines: Vec<String> = bad.iter().map(|b| format!("{table}: {b}")).collect();
        PipelineError::Configuration(lines.join("\n"))
    }

    /// An id column that is not there.
    pub(super) fn id_column(table: &str, missing: &MissingIdColumn) -> Self {
        PipelineError::Configuration(format!("{table}: {missing}"))
    }
}

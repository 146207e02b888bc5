//! What can go wrong with PostgreSQL, whether to try again, and what to do about it.
//!
//! Invariant: every message ends with a cure, and only errors that are known to pass by themselves are transient.

use std::{error::Error, fmt, io, time::Duration};

/// Is another attempt of use?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The same attempt may succeed later.
    Transient,
    /// Somebody has to change something first.
    Fatal,
}

/// A failure of the source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No TCP connection, or no such name.
    #[error(
        "cannot reach PostgreSQL at {host}:{port}: {source}; check that the server runs, postgres.host and postgres.port, and network policies"
    )]
    Connect {
        /// Host as configured.
        host: String,
        /// Port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The server is a standby where a primary is needed.
    #[error(
        "PostgreSQL at {host}:{port} is in recovery (a standby); waiting for a primary: check postgres.host if this stays"
    )]
    InRecovery {
        /// Host as configured.
        host: String,
        /// Port.
        port: u16,
    },
    /// A primary of another timeline than the session's: a failover is going on, and two servers hold themselves for it.
    #[error("PostgreSQL is on timeline {found}, but the stream is of timeline {wanted}; connecting again")]
    OtherTimeline {
        /// Timeline of the server.
        found: u32,
        /// Timeline of the session.
        wanted: u32,
    },
    /// A file or value of the configuration cannot be used; the text names it and the cure.
    #[error("{0}")]
    Setting(String),
    /// The login failed on this side; the text ends with the cure.
    #[error("cannot log in to PostgreSQL as `{user}`: {reason}")]
    Auth {
        /// Role.
        user: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The TLS handshake failed; the text ends with the cure.
    #[error("no TLS with PostgreSQL at {host}: {reason}")]
    Tls {
        /// Host as configured.
        host: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The bytes are not what the protocol allows.
    #[error(
        "PostgreSQL sent what the protocol does not allow: {0}; check that postgres.host and postgres.port are a PostgreSQL server, else report this"
    )]
    Protocol(String),
    /// The server refused or ended something.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// The connection broke.
    #[error("the connection to PostgreSQL broke while {doing}: {source}; reconnecting is safe")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The server did not answer in time.
    #[error(
        "PostgreSQL gave no answer for {after:?} while {doing}; check that the server is alive and not overloaded"
    )]
    Timeout {
        /// What was being done.
        doing: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The server closed the connection without a word, as it does after `wal_sender_timeout`.
    #[error(
        "PostgreSQL closed the connection while {doing}; its log has the reason (restart, failover or wal_sender_timeout)"
    )]
    Closed {
        /// What was being done.
        doing: &'static str,
    },
}

impl SourceError {
    /// Is another attempt of use?
    pub fn class(&self) -> Class {
        match self {
            Self::Connect { .. } | Self::InRecovery { .. } | Self::OtherTimeline { .. } => Class::Transient,
            Self::Io { .. } | Self::Timeout { .. } | Self::Closed { .. } => Class::Transient,
            Self::Setting(_) | Self::Auth { .. } | Self::Tls { .. } | Self::Protocol(_) => Class::Fatal,
            Self::Server(error) => error.class(),
        }
    }

    /// The SQLSTATE, where the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.sqlstate),
            _ => None,
        }
    }

    /// A failed TLS handshake with its cure.
    pub(crate) fn tls(host: &str, error: &rustls::Error) -> Self {
        use rustls::CertificateError as Bad;
        let cure = match error {
            rustls::Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
                "give the certificate of the server's authority as postgres.tls.ca_file"
            }
            rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
                "connect by a name in the certificate, or use postgres.tls.mode verify-ca"
            }
            rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
                "renew the server's certificate"
            }
            rustls::Error::InvalidCertificate(_) => {
                "the server needs an X.509 version 3 certificate for itself, not one of an authority"
            }
            rustls::Error::AlertReceived(_) => {
                "the server refused: check postgres.tls.cert_file and key_file, and the server's log"
            }
            _ => "check the server's ssl settings; TLS 1.2 or later is needed",
        };
        Self::Tls { host: host.to_owned(), reason: format!("{error}; {cure}") }
    }

    /// An I/O error of a connection that is being made: it may hold an error of TLS or stand for a deadline.
    pub(crate) fn connecting(host: &str, port: u16, source: io::Error) -> Self {
        match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Self::tls(host, error),
            None => Self::Connect { host: host.to_owned(), port, source },
        }
    }
}

impl From<tokio_postgres::Error> for SourceError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::Server(Box::new(ServerError {
                sqlstate: db.code().code().to_owned(),
                message: db.message().to_owned(),
                detail: db.detail().map(str::to_owned),
                hint: db.hint().map(str::to_owned),
            }));
        }
        if error.is_closed() {
            return Self::Closed { doing: "running a statement" };
        }
        let text = match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        let Some(cause) = error.into_source() else { return Self::Protocol(text) };
        match cause.downcast::<io::Error>() {
            Ok(source) => Self::Io { doing: "running a statement", source: *source },
            Err(_) => Self::Protocol(text),
        }
    }
}

/// An ErrorResponse of the server (docs: "Error and Notice Message Fields").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// Field `C`.
    pub sqlstate: String,
    /// Field `M`.
    pub message: String,
    /// Field `D`.
    pub detail: Option<String>,
    /// Field `H`.
    pub hint: Option<String>,
}

impl Error for ServerError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL: {} (SQLSTATE {})", self.message, self.sqlstate)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        write!(f, "; {}", self.policy().1)
    }
}

impl ServerError {
    /// Is another attempt of use?
    pub fn class(&self) -> Class {
        self.policy().0
    }

    /// The table of SQLSTATEs (docs: "PostgreSQL Error Codes"): the first line that fits decides. Words of the message
    /// only choose between cures, as the server may speak another language.
    fn policy(&self) -> (Class, &'static str) {
        use Class::{Fatal, Transient};
        let says = |word: &str| self.message.contains(word);
        match self.sqlstate.as_str() {
            // What passes: connection (08), conflicts (40), resources (53), shutdown and start (57P), …
            "57P01" => (
                Transient,
                "the server restarts, fails over, or ended this session (see its log); reconnecting",
            ),
            "57P02" | "57P03" => (Transient, "the server is restarting; waiting for it"),
            "57P05" | "57014" => (Transient, "somebody or a timeout ended it; trying again"),
            "53300" => (Transient, "raise max_wal_senders or max_connections if this stays"),
            "55006" => (Transient, "another process holds it; stop the other pg2os if this stays"),
            "55P03" => (Transient, "somebody holds a lock; see pg_locks if this stays"),
            "25006" => (Transient, "the server is a standby or read-only; waiting for a primary"),
            code if code.starts_with("08") => (Transient, "reconnecting"),
            code if code.starts_with("40") => (Transient, "trying again"),
            code if code.starts_with("53") => {
                (Transient, "the server is short of a resource; see its log if this stays")
            }

            // … and what does not.
            "28P01" => (Fatal, "check postgres.user and postgres.password, or the files they come from"),
            "28000" if says("pg_hba.conf") => (
                Fatal,
                "add a line for this user, database, address and TLS to pg_hba.conf (a replication connection counts for its database)",
            ),
            "28000" if says("channel binding") => (
                Fatal,
                "the certificate seen here is not the server's: something stands in between, as a proxy that ends TLS",
            ),
            "28000" if says("certificate") => {
                (Fatal, "give postgres.tls.cert_file and key_file, made out to the role")
            }
            "28000" => (Fatal, "check that the role exists and may LOGIN"),
            "3D000" => (Fatal, "check postgres.database"),
            "42501" if says("WAL sender") || says("walsender") || says("replication") => {
                (Fatal, "give the role the attribute: ALTER ROLE … REPLICATION")
            }
            "42501" => {
                (Fatal, "grant the role what is missing: SELECT on the tables and USAGE on their schemas")
            }
            "42704" if says("publication") => (
                Fatal,
                "the publication is missing at the slot's position; make it, then a new slot (`pg2os check` says more)",
            ),
            "42704" if says("slot") => (Fatal, "the slot is missing; see on_gap, and `pg2os check`"),
            "42704" => (Fatal, "make what is missing; `pg2os check` says more"),
            "42P01" | "42703" | "3F000" => (Fatal, "check the names in tables"),
            "55000" if says("wal_level") => (Fatal, "set wal_level = logical and restart PostgreSQL"),
            "55000" if says("slot") && (says("can no longer") || says("cannot read")) => {
                (Fatal, "the slot has lost its WAL: resync (see on_gap), and raise max_slot_wal_keep_size")
            }
            "55000" if says("database") => {
                (Fatal, "the slot belongs to another database; check postgres.slot and postgres.database")
            }
            "55000" => (Fatal, "the server is not in the state for it; `pg2os check` says more"),
            "58P01" => (Fatal, "the server lacks a WAL or history file; resync if it was removed"),
            "0A000" => (Fatal, "this server cannot do it; PostgreSQL 14 or later is needed"),
            "22P05" => (
                Fatal,
                "a value of a row has no place in Unicode: correct it, then drop the slot, so that the tables are read again",
            ),
            code if code.starts_with("42") => (Fatal, "check the configuration with `pg2os check`"),
            _ => (Fatal, "see the server's log"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sqlstate_has_its_class_and_cure() {
        use Class::{Fatal, Transient};
        let table = [
            ("08006", "", Transient, "reconnecting"),
            ("40001", "", Transient, "trying again"),
            ("40P01", "", Transient, "trying again"),
            ("53200", "out of memory", Transient, "short of a resource"),
            ("53300", "too many connections", Transient, "max_wal_senders"),
            ("55006", "replication slot \"s\" is active for PID 7", Transient, "other pg2os"),
            ("55P03", "", Transient, "pg_locks"),
            ("25006", "", Transient, "waiting for a primary"),
            ("57014", "", Transient, "trying again"),
            ("57P01", "", Transient, "reconnecting"),
            ("57P02", "", Transient, "restarting"),
            ("57P03", "the database system is starting up", Transient, "restarting"),
            ("57P05", "", Transient, "trying again"),
            ("28P01", "password authentication failed", Fatal, "postgres.password"),
            ("28000", "no pg_hba.conf entry for …", Fatal, "add a line"),
            ("28000", "role \"x\" does not exist", Fatal, "LOGIN"),
            ("28000", "SCRAM channel binding check failed", Fatal, "in between"),
            ("28000", "connection requires a valid client certificate", Fatal, "cert_file"),
            ("3D000", "", Fatal, "postgres.database"),
            ("42501", "must be superuser or replication role to start walsender", Fatal, "REPLICATION"),
            ("42501", "permission denied to start WAL sender", Fatal, "REPLICATION"),
            ("42501", "permission denied for table t", Fatal, "SELECT"),
            ("42601", "", Fatal, "pg2os check"),
            ("42704", "replication slot \"s\" does not exist", Fatal, "slot is missing"),
            ("42704", "publication \"p\" does not exist", Fatal, "publication is missing"),
            ("42P01", "", Fatal, "tables"),
            ("55000", "logical decoding requires wal_level >= logical", Fatal, "wal_level = logical"),
            ("55000", "can no longer get changes from replication slot \"s\"", Fatal, "lost its WAL"),
            ("55000", "can no longer access replication slot \"s\"", Fatal, "lost its WAL"),
            ("55000", "cannot read from logical replication slot \"s\"", Fatal, "lost its WAL"),
            ("55000", "replication slot \"s\" was not created in this database", Fatal, "postgres.database"),
            ("58P01", "", Fatal, "resync"),
            ("0A000", "", Fatal, "PostgreSQL 14"),
            ("XX000", "", Fatal, "log"),
            ("", "", Fatal, "log"),
        ];
        for (sqlstate, message, class, cure) in table {
            let error =
                ServerError { sqlstate: sqlstate.into(), message: message.into(), ..Default::default() };
            assert_eq!(error.class(), class, "{sqlstate} {message}");
            let text = error.to_string();
            let end = text.rsplit("; ").next().unwrap();
            assert!(
                text.contains(sqlstate) && (end.contains(cure) || text.contains(cure)),
                "{text} lacks {cure}"
            );
        }
    }

    #[test]
    fn a_tls_error_inside_an_io_error_is_found() {
        let inner = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = SourceError::connecting("db", 5432, io::Error::new(io::ErrorKind::InvalidData, inner));
        assert_eq!(error.class(), Class::Fatal);
        assert!(error.to_string().ends_with("postgres.tls.ca_file"), "{error}");
        let error = SourceError::connecting("db", 5432, io::ErrorKind::ConnectionRefused.into());
        assert_eq!(error.class(), Class::Transient);
    }
}

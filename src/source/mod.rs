//! The source: connections to PostgreSQL, and what both kinds of connection share.
//!
//! Invariant: the ordinary and the replication connection have the same session settings, so a value has one text,
//! whether a window or the stream brought it.

pub mod admin_sql;
pub mod advisory;
pub mod catalog;
pub mod copy;
pub mod divide;
pub mod division;
pub mod error;
pub mod floor;
pub mod identity;
pub mod inventory;
pub mod lookup;
mod moment;
pub mod pending;
pub mod position;
pub mod preflight;
pub mod publication;
mod query_error;
pub mod replication;
pub mod server;
pub mod shape;
pub mod slot;
pub mod sql;
pub mod standby;
pub mod tls;
pub mod types;
pub mod window;

pub use error::{Class, ServerError, SourceError};
pub use query_error::QueryError;

use crate::config::{Credential, Postgres};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// Time for one address: from the first packet until the session is ready.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// TCP keepalive: an idle peer that vanished is noticed after `KEEPALIVE_IDLE + KEEPALIVE_RETRIES * KEEPALIVE_INTERVAL`.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Pause between two keepalive probes.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Probes without an answer.
pub(crate) const KEEPALIVE_RETRIES: u32 = 3;
/// `TCP_USER_TIMEOUT`: sent bytes that nobody acknowledges end the connection (keepalive does not run while there are any).
pub(crate) const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The session settings that decide the text of values and the meaning of statements. Startup options outrank
/// `ALTER ROLE … SET` and `ALTER DATABASE … SET` (docs: "Parameter Interaction via the Shell").
const SESSION: [(&str, &str); 13] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    // Above 0 the shortest exact text on PostgreSQL 12 and later; 3 is exact before.
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", "pg_catalog"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    // A row-level policy is an error, never a silent filter.
    ("row_security", "off"),
    ("default_transaction_isolation", "read committed"),
];

/// [`SESSION`] and `more` as the startup parameter `options` (docs: "Message Formats", StartupMessage).
fn startup_options(more: &[(&str, String)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
    let fixed = SESSION.iter().map(|(name, value)| (*name, escape(value)));
    let more = more.iter().map(|(name, value)| (*name, escape(value)));
    fixed.chain(more).map(|(name, value)| format!("-c {name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Who logs in.
struct Login {
    user: String,
    password: Option<SecretString>,
}

impl Login {
    /// Reads the credentials anew: a rotated secret holds from the next connection on.
    fn read(config: &Postgres) -> Result<Self, SourceError> {
        let user = read_credential(&config.user, "postgres.user")?.expose_secret().to_owned();
        let password =
            config.password.as_ref().map(|p| read_credential(p, "postgres.password")).transpose()?;
        if user.contains('\0') || password.as_ref().is_some_and(|p| p.expose_secret().contains('\0')) {
            return Err(SourceError::Setting(
                "a NUL byte in postgres.user or postgres.password; remove it".into(),
            ));
        }
        Ok(Login { user, password })
    }
}

fn read_credential(credential: &Credential, key: &str) -> Result<SecretString, SourceError> {
    credential.read().map_err(|error| SourceError::Setting(format!("{error}; check {key}_file")))
}

/// What to report when no host would do: a transient failure first, as that host may be the primary in a moment.
fn most_hopeful(mut failures: Vec<SourceError>) -> SourceError {
    let transient = failures.iter().position(|failure| failure.class() == Class::Transient);
    if failures.is_empty() {
        return SourceError::Setting("postgres.host is empty; name the host of the primary".into());
    }
    failures.swap_remove(transient.unwrap_or(0))
}

/// Hosts that start with `/` are directories of Unix sockets to libpq; this program speaks TCP only.
fn refuse_unix_socket(host: &str) -> Result<(), SourceError> {
    if host.starts_with('/') {
        let what = format!(
            "postgres.host is the directory {host}, but Unix sockets are not supported; give a host name"
        );
        return Err(SourceError::Setting(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io};

    #[test]
    fn options_are_escaped() {
        let options = startup_options(&[("wal_sender_timeout", "20 s\\".into())]);
        assert!(options.starts_with("-c client_encoding=UTF8 -c DateStyle=ISO "), "{options}");
        assert!(options.ends_with("=read\\ committed -c wal_sender_timeout=20\\ s\\\\"), "{options}");
    }

    #[test]
    fn a_credential_file_loses_one_final_newline_only() {
        let path = std::env::temp_dir().join(format!("pg2os-credential-{}", std::process::id()));
        for (content, value) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), (" a \n\n", " a \n"), ("", "")] {
            fs::write(&path, content).unwrap();
            let read = read_credential(&Credential::File(path.clone()), "postgres.password").unwrap();
            assert_eq!(read.expose_secret(), value);
        }
        fs::remove_file(&path).unwrap();
        let error = read_credential(&Credential::File(path), "postgres.password").unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        assert!(error.to_string().contains("check postgres.password_file"), "{error}");
    }

    #[test]
    fn a_transient_failure_of_one_host_outranks_a_fatal_one_of_another() {
        let fatal = || SourceError::Protocol("x".into());
        let transient = || SourceError::Io { doing: "reading", source: io::Error::other("x") };
        assert_eq!(most_hopeful(vec![fatal(), transient()]).class(), Class::Transient);
        assert_eq!(most_hopeful(vec![fatal(), fatal()]).class(), Class::Fatal);
        assert_eq!(most_hopeful(vec![]).class(), Class::Fatal);
    }
}

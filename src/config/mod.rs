//! The validated configuration: what every other module receives its own section of.

mod bound;
mod check;
mod environment;
mod load;
mod named;
mod names;
mod not_yet;
mod pattern;
mod print;
mod problem;
mod raw;
mod raw_table;
mod spark;
mod tables;
#[cfg(test)]
mod tests;
mod tree;
pub mod units;
mod validate;
mod wildcard;

pub use bound::Bound;
pub use load::{Loaded, Sources, TableFlags, load};
pub use named::{TableColumns, unknown_columns};
pub use pattern::TablePattern;
pub use problem::{Problem, Problems};
pub use raw::schema;
pub use spark::{Spark, SparkCast};
pub use wildcard::{Wildcard, expand};

use crate::model::TableName;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A checked configuration. Every name is resolved, every unit is in the type.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pipeline: names the slot, the publication, `application_name` and the state documents.
    pub name: String,
    /// What to do when the stream has a gap.
    pub on_gap: OnGap,
    /// Where health, metrics and the status page are served.
    pub http: Option<SocketAddr>,
    /// The source.
    pub postgres: Postgres,
    /// The target.
    pub opensearch: OpenSearch,
    /// How bulk requests are formed.
    pub bulk: Bulk,
    /// How windows are read.
    pub backfill: Backfill,
    /// When to stop or warn.
    pub limits: Limits,
    /// The slot that keeps history for `replay`; `None` where none is kept.
    pub bookmark: Option<Bookmark>,
    /// What is kept equal: the entries that name a table; once the catalog is known (see [`expand`]), also the tables
    /// of the wildcards.
    pub tables: Vec<Table>,
    /// The entries that stand for many tables.
    pub wildcards: Vec<Wildcard>,
}

impl Config {
    /// The configuration with its `append_only` tables alone, or with all others.
    pub fn append_only(&self, append_only: bool) -> Config {
        let mut config = self.clone();
        config.tables.retain(|table| table.append_only == append_only);
        config.wildcards.retain(|wildcard| wildcard.settings.append_only == append_only);
        config
    }

    /// The configuration with the tables of these names alone (as in the file: `public.events`), or with all of them when
    /// none is named. A wildcard gives the tables that it covers.
    ///
    /// # Errors
    /// Names that are not among the tables.
    pub fn select(&self, names: &[String]) -> Result<Config, Problems> {
        if names.is_empty() {
            return Ok(self.clone());
        }
        let mut problems = Vec::new();
        let mut tables = Vec::new();
        for name in names {
            let table = match names::table_name(name) {
                Ok((schema, name)) => TableName { schema, name },
                Err((what, cure)) => {
                    problems.push(Problem::new("--table", what, cure));
                    continue;
                }
            };
            let own = self.tables.iter().find(|t| t.qualified() == table).cloned();
            let covered = || {
                let wildcard = self.wildcards.iter().find(|w| w.covers(&table))?;
                Some(Table { wildcard: None, ..wildcard.table(&table) })
            };
            match own.or_else(covered) {
                Some(table) => tables.push(table),
                None => {
                    let known = self.tables.iter().map(|t| t.qualified().to_string());
                    problems.push(Problem::new(
                        "--table",
                        format!("{name} is not among the configured tables"),
                        problem::one_of(name, known),
                    ));
                }
            }
        }
        if problems.is_empty() {
            Ok(Config { tables, wildcards: vec![], ..self.clone() })
        } else {
            Err(Problems(problems))
        }
    }
}

/// See `on_gap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnGap {
    /// Repair by reading everything again.
    Resync,
    /// Leave with exit code 4.
    Stop,
}

/// A user name or password: given, or in a file that is read again at every connect (rotation).
#[derive(Debug, Clone)]
pub enum Credential {
    /// Given in the configuration or the environment.
    Value(SecretString),
    /// Path of a file whose content, less a final newline, is the value.
    File(PathBuf),
}

impl Credential {
    /// The value now: a file is read at every call, so that a rotated secret is seen at the next connect.
    pub fn read(&self) -> Result<SecretString, CredentialError> {
        let path = match self {
            Credential::Value(value) => return Ok(value.clone()),
            Credential::File(path) => path,
        };
        let text =
            std::fs::read_to_string(path).map_err(|source| CredentialError { path: path.clone(), source })?;
        let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
        Ok(SecretString::from(text))
    }
}

/// A file with a user name or password that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the credential file {}: {source}; mount it there, readable for this user, or name another", path.display())]
pub struct CredentialError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

/// Section `postgres`.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Hosts; the first that is not in recovery is taken.
    pub hosts: Vec<String>,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: Credential,
    /// Password, if the server asks for one.
    pub password: Option<Credential>,
    /// TLS.
    pub tls: Tls,
    /// Replication slot.
    pub slot: String,
    /// Publications.
    pub publications: Vec<String>,
    /// Beside a single publication, the one for `append_only` tables, where there are some.
    pub append_publication: Option<String>,
    /// Host the windows are read from, if not the primary.
    pub backfill_host: Option<String>,
}

impl Postgres {
    /// Every publication that a table may be in.
    pub fn all_publications(&self) -> Vec<String> {
        self.publications.iter().chain(&self.append_publication).cloned().collect()
    }
}

/// TLS towards one side.
#[derive(Debug, Clone)]
pub struct Tls {
    /// How much is asked of the server.
    pub mode: TlsMode,
    /// Certificate authorities in PEM instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate in PEM.
    pub cert_file: Option<PathBuf>,
    /// Key of the client certificate in PEM.
    pub key_file: Option<PathBuf>,
}

/// libpq's `sslmode` (docs: "SSL Support").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Never TLS.
    Disable,
    /// TLS where the server has it, unchecked.
    Prefer,
    /// TLS, unchecked (checked like `verify-ca` where a CA file is given, as libpq does).
    Require,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// The same, and made out to the host name.
    VerifyFull,
}

/// Section `opensearch`.
#[derive(Debug, Clone)]
pub struct OpenSearch {
    /// Base URLs without a trailing slash; only these are dialled.
    pub urls: Vec<String>,
    /// User for basic authentication.
    pub username: Option<Credential>,
    /// Password for basic authentication.
    pub password: Option<Credential>,
    /// TLS; `mode` is `Disable` for http, `VerifyFull` for https unless configured otherwise.
    pub tls: Tls,
    /// HTTP proxy; the environment's proxies are ignored.
    pub proxy: Option<String>,
    /// Index of checkpoints, epochs, tables and windows.
    pub state_index: String,
    /// Index of refused documents.
    pub dead_letter_index: String,
}

/// Section `bulk`.
#[derive(Debug, Clone)]
pub struct Bulk {
    /// Number of lanes; `None` is `auto`.
    pub lanes: Option<usize>,
    /// Most bytes of one bulk body.
    pub bytes: usize,
    /// Age at which a batch is sent although it is not full.
    pub flush_after: Duration,
    /// A larger document is a dead letter.
    pub max_document_bytes: usize,
}

/// Section `backfill`.
#[derive(Debug, Clone)]
pub struct Backfill {
    /// Windows read at the same time.
    pub parallel: usize,
    /// Bytes per second that windows may read; `None` is unlimited.
    pub rate: Option<u64>,
    /// The stream beside the windows, or after them.
    pub order: BackfillOrder,
    /// Bytes of the table that a window has at most, as far as it can be split.
    pub window_bytes: u64,
    /// Time that a window's snapshot is held at most, as far as it can be split.
    pub window_time: Duration,
    /// Are the segments of an index merged once it was filled?
    pub force_merge: bool,
}

/// See `backfill.order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackfillOrder {
    /// The stream runs beside the windows.
    Overlap,
    /// The windows first.
    First,
}

/// Section `limits`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of WAL the slot may hold back.
    pub retained_wal: u64,
    /// What happens beyond it.
    pub on_retained_wal: OnRetainedWal,
    /// Standby lag at which windows pause.
    pub standby_lag: Duration,
    /// Dead letters at which the pipeline stops.
    pub dead_letters: u64,
    /// No request is executed later than this after it was sent.
    pub late_request_horizon: Duration,
}

/// See `limits.on_retained_wal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRetainedWal {
    /// Stop.
    Stop,
    /// Drop the slot and plan a resync.
    DropSlot,
}

/// Section `bookmark`.
#[derive(Debug, Clone)]
pub struct Bookmark {
    /// Slot.
    pub slot: String,
    /// Bytes of history.
    pub keep: u64,
    /// Age of history.
    pub keep_time: Duration,
}

/// One entry of `tables`.
#[derive(Debug, Clone)]
pub struct Table {
    /// Place in the file for messages: `tables[2]`.
    pub place: String,
    /// Schema, unquoted (`public` where none is given).
    pub schema: String,
    /// Table, unquoted.
    pub name: String,
    /// The pattern as it was typed, where the table is one of a wildcard's.
    pub wildcard: Option<String>,
    /// Index (alias) name.
    pub index: String,
    /// Id columns; `None` is the primary key.
    pub id: Option<Vec<String>>,
    /// Form of the id.
    pub id_form: IdForm,
    /// Are the id columns asserted to be unique although no index says so?
    pub id_unique_asserted: bool,
    /// How it is divided; `None` is chosen from the catalog.
    pub window: Option<Window>,
    /// Columns that are left out.
    pub exclude_columns: Vec<String>,
    /// Field names of columns that do not keep their own.
    pub rename: Vec<(String, String)>,
    /// Row filter.
    pub filter: Option<String>,
    /// Column whose value routes a document to its shard.
    pub routing: Option<String>,
    /// Are only inserts (and TRUNCATE) followed?
    pub append_only: bool,
    /// Settings of a new index.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Field mappings of a new index, by field: a type name or a whole mapping.
    pub mapping: serde_json::Map<String, serde_json::Value>,
    /// What happens when the table changes in a way the stream does not carry.
    pub on_schema_change: OnSchemaChange,
    /// Are TRUNCATEs followed?
    pub on_truncate: OnTruncate,
    /// Form of the documents.
    pub documents: Documents,
    /// The job whose ids or documents are reproduced.
    pub spark: Spark,
}

impl Table {
    /// Schema and name.
    pub fn qualified(&self) -> TableName {
        TableName { schema: self.schema.clone(), name: self.name.clone() }
    }
}

/// See `on_schema_change`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// The table is read again.
    Resync,
    /// The documents stay as they are.
    Ignore,
}

/// See `on_truncate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnTruncate {
    /// The documents are deleted.
    Delete,
    /// The documents stay.
    Ignore,
}

/// Form of a document id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdForm {
    /// PostgreSQL's text of the key columns.
    #[default]
    Plain,
    /// MD5 of it.
    Md5,
    /// Spark's `concat_ws` of them.
    Spark,
    /// MD5 of that.
    SparkMd5,
}

/// Form of the documents.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Documents {
    /// The form that loses nothing.
    #[default]
    Plain,
    /// What a PySpark job writes.
    Spark,
}

/// How a table is divided.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Date, timestamp or integer column.
    pub column: String,
    /// Step.
    pub step: WindowStep,
    /// First value, inclusive; `None` is the column's minimum.
    pub from: Option<String>,
    /// End, exclusive; `None` is past the column's maximum.
    pub to: Option<String>,
}

/// Step of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowStep {
    /// Days of a date or timestamp column.
    Days(u32),
    /// Values of an integer column.
    Rows(u64),
}

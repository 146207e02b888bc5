//! The configuration as it is typed: the one source of which keys exist, what they mean and what they default to.
//!
//! The comment of a field is its description in the JSON schema; the `Default` of a struct is the default layer.
//! Units and names are parsed later, so that every problem of a file can be told at once.

use super::{BackfillOrder, OnGap, OnRetainedWal, TlsMode, raw_table::Table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, sync::LazyLock};

/// A whole number, or text with a unit.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Quantity {
    /// A plain number.
    Number(u64),
    /// A number with a unit, or a word.
    Text(String),
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Quantity::Text(text.to_owned())
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Quantity::Number(number) => write!(f, "{number}"),
            Quantity::Text(text) => write!(f, "{text}"),
        }
    }
}

/// An end of a window range: an id, or the text of a date.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum End {
    /// An id.
    Number(i64),
    /// A date, a timestamp, `today`, `today+1d` or `-30d`.
    Text(String),
}

/// One name or a list of names.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn list(&self) -> Vec<String> {
        match self {
            OneOrMany::One(name) => vec![name.clone()],
            OneOrMany::Many(names) => names.clone(),
        }
    }
}

/// Id columns.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum IdColumns {
    /// One or more columns.
    Columns(OneOrMany),
    /// Output columns of a query that are renamed columns of its root.
    Renamed(BTreeMap<String, String>),
}

/// The configuration of pg2os, which keeps OpenSearch indices equal to PostgreSQL tables.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "pg2os configuration")]
pub(super) struct Raw {
    /// One pipeline: names the slot, the publication, application_name and the state documents.
    pub(super) name: String,
    /// What to do when the stream has a gap: repair by reading everything again, or leave with exit code 4.
    pub(super) on_gap: OnGap,
    /// Address of /livez, /readyz, /metrics and the status page, as 0.0.0.0:8080; off when absent.
    pub(super) http: Option<String>,
    /// The source.
    pub(super) postgres: Postgres,
    /// The target.
    pub(super) opensearch: OpenSearch,
    /// How bulk requests are formed.
    pub(super) bulk: Bulk,
    /// How windows are read.
    pub(super) backfill: Backfill,
    /// When to stop, pause or warn.
    pub(super) limits: Limits,
    /// The slot that keeps history for replay, whichever of size and age is reached first; or off.
    pub(super) bookmark: BookmarkOrOff,
    /// What is kept equal.
    pub(super) tables: Vec<Table>,
}

impl Default for Raw {
    fn default() -> Self {
        Raw {
            name: "pg2os".to_owned(),
            on_gap: OnGap::Resync,
            http: None,
            postgres: Postgres::default(),
            opensearch: OpenSearch::default(),
            bulk: Bulk::default(),
            backfill: Backfill::default(),
            limits: Limits::default(),
            bookmark: BookmarkOrOff::Kept(Bookmark::default()),
            tables: Vec::new(),
        }
    }
}

/// The PostgreSQL that is read.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Postgres {
    /// Host, or a list of hosts of which the one that is not in recovery is taken.
    pub(super) host: Option<OneOrMany>,
    /// Port.
    pub(super) port: u16,
    /// Database.
    pub(super) database: Option<String>,
    /// Role: needs REPLICATION, and SELECT on the tables.
    pub(super) user: Option<String>,
    /// File with the role, read again at every connect.
    pub(super) user_file: Option<String>,
    /// Password; better in a file or in PG_PASSWORD.
    pub(super) password: Option<String>,
    /// File with the password, read again at every connect.
    pub(super) password_file: Option<String>,
    /// TLS towards PostgreSQL.
    pub(super) tls: Tls,
    /// Replication slot; default: the name with - as _, prefixed pg2os_ unless it is pg2os or starts with pg2os_.
    pub(super) slot: Option<String>,
    /// Publication, or a list of them; default: the slot's name.
    pub(super) publication: Option<OneOrMany>,
    /// Host the windows are read from, if not the primary.
    pub(super) backfill_host: Option<String>,
}

impl Default for Postgres {
    fn default() -> Self {
        Postgres {
            host: None,
            port: 5432,
            database: None,
            user: None,
            user_file: None,
            password: None,
            password_file: None,
            tls: Tls::default(),
            slot: None,
            publication: None,
            backfill_host: None,
        }
    }
}

/// TLS towards one side.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    /// How much is asked of the server; default: prefer for PostgreSQL, verify-full for an https OpenSearch.
    pub(super) mode: Option<TlsMode>,
    /// Certificate authorities in PEM instead of the system's.
    pub(super) ca_file: Option<String>,
    /// Client certificate in PEM.
    pub(super) cert_file: Option<String>,
    /// Key of the client certificate in PEM.
    pub(super) key_file: Option<String>,
}

/// The OpenSearch that is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OpenSearch {
    /// URL, or a list of URLs; only these are dialled.
    pub(super) url: Option<OneOrMany>,
    /// User.
    pub(super) username: Option<String>,
    /// File with the user, read again at every connect.
    pub(super) username_file: Option<String>,
    /// Password; better in a file or in OS_PASSWORD.
    pub(super) password: Option<String>,
    /// File with the password, read again at every connect.
    pub(super) password_file: Option<String>,
    /// TLS towards OpenSearch.
    pub(super) tls: Tls,
    /// URL of an HTTP proxy; HTTP_PROXY and HTTPS_PROXY are ignored.
    pub(super) proxy: Option<String>,
    /// Index of checkpoints, epochs, tables and windows.
    pub(super) state_index: String,
    /// Index of refused documents.
    pub(super) dead_letter_index: String,
}

impl Default for OpenSearch {
    fn default() -> Self {
        OpenSearch {
            url: None,
            username: None,
            username_file: None,
            password: None,
            password_file: None,
            tls: Tls::default(),
            proxy: None,
            state_index: "pg2os-state".to_owned(),
            dead_letter_index: "pg2os-dead-letters".to_owned(),
        }
    }
}

/// How bulk requests are formed.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bulk {
    /// Requests in flight at once: auto, or 1 to 64.
    pub(super) lanes: Quantity,
    /// Most bytes of one bulk body: 64kB to 100MB.
    pub(super) bytes: Quantity,
    /// Age at which a batch is sent although it is not full.
    pub(super) flush_after: Quantity,
    /// A larger document is a dead letter.
    pub(super) max_document_bytes: Quantity,
}

impl Default for Bulk {
    fn default() -> Self {
        Bulk {
            lanes: "auto".into(),
            bytes: "5MB".into(),
            flush_after: "5ms".into(),
            max_document_bytes: "20MB".into(),
        }
    }
}

/// How windows are read.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Backfill {
    /// Windows read at the same time.
    pub(super) parallel: u64,
    /// Bytes per second that windows may read, as 20MB; or unlimited.
    pub(super) rate: Quantity,
    /// The stream beside the windows (overlap), or after them (first).
    pub(super) order: BackfillOrder,
    /// A window with more bytes of the table is split.
    pub(super) window_bytes: Quantity,
    /// A window that takes longer is split, so that no snapshot is held longer.
    pub(super) window_time: Quantity,
    /// Whether OpenSearch is to merge the segments of an index that was empty once it is filled.
    pub(super) force_merge: bool,
}

impl Default for Backfill {
    fn default() -> Self {
        Backfill {
            parallel: 2,
            rate: "unlimited".into(),
            order: BackfillOrder::Overlap,
            window_bytes: "1GB".into(),
            window_time: "5m".into(),
            force_merge: false,
        }
    }
}

/// When to stop, pause or warn.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    /// WAL the slot may hold back.
    pub(super) retained_wal: Quantity,
    /// What happens beyond it.
    pub(super) on_retained_wal: OnRetainedWal,
    /// Lag of the standby at which windows pause.
    pub(super) standby_lag: Quantity,
    /// Number of dead letters at which the pipeline stops.
    pub(super) dead_letters: u64,
    /// No request is executed later than this after it was sent.
    pub(super) late_request_horizon: Quantity,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            retained_wal: "10GB".into(),
            on_retained_wal: OnRetainedWal::Stop,
            standby_lag: "30s".into(),
            dead_letters: 10_000,
            late_request_horizon: "2m".into(),
        }
    }
}

/// A bookmark, or none.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum BookmarkOrOff {
    /// None.
    Off(Off),
    /// The slot and how much it keeps.
    Kept(Bookmark),
}

/// The word.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Off {
    /// No history is kept.
    Off,
}

/// The slot that keeps history for replay.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bookmark {
    /// Slot; default: the name of the replication slot and _bookmark.
    pub(super) slot: Option<String>,
    /// WAL that is kept.
    pub(super) keep: Quantity,
    /// Age of WAL that is kept.
    pub(super) keep_time: Quantity,
}

impl Default for Bookmark {
    fn default() -> Self {
        Bookmark { slot: None, keep: "1GB".into(), keep_time: "10m".into() }
    }
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(Raw).to_value();
    tidy(&mut schema);
    schema
});

/// The JSON schema of the configuration file.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// Takes defaults away that say nothing: `null`, and those of whole sections.
fn tidy(node: &mut Value) {
    match node {
        Value::Object(map) => {
            if map.get("default").is_some_and(|d| d.is_null() || d.is_object() || d.is_array()) {
                map.remove("default");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

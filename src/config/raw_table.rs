//! One entry of `tables` as it is typed: a part of the raw configuration.

use super::{
    OnSchemaChange, OnTruncate,
    raw::{End, IdColumns},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A table, a wildcard over tables, or a query.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    /// schema.table, quoted as in SQL where its case or characters ask for it; a partitioned table is named by its root.
    pub(super) table: Option<String>,
    /// Tables that a wildcard leaves out.
    pub(super) exclude: Option<Vec<String>>,
    /// A SELECT whose output rows are the documents.
    pub(super) query: Option<String>,
    /// The table of a query whose rows are the documents.
    pub(super) root: Option<String>,
    /// Index (alias) that is written; default: the table's name in lower case.
    pub(super) index: Option<String>,
    /// Columns whose text makes the document id; default: the primary key.
    pub(super) id: Option<IdColumns>,
    /// How the document id is made of these columns.
    pub(super) id_form: IdForm,
    /// Says that the id columns are unique although no index says so.
    pub(super) id_unique: Option<IdUnique>,
    /// How the table is divided; default: chosen from the catalog.
    pub(super) window: Option<Window>,
    /// Columns that are left out or renamed.
    pub(super) columns: Columns,
    /// Row filter: of the publication, of windows and of lookups.
    #[serde(rename = "where")]
    pub(super) filter: Option<String>,
    /// Column whose value routes the document to its shard.
    pub(super) routing: Option<String>,
    /// Settings of a new index.
    pub(super) settings: Map<String, Value>,
    /// Mapping of fields of a new index, by field: a type, or a whole field mapping.
    pub(super) mapping: Map<String, Value>,
    /// What happens when the table changes in a way the stream does not carry.
    pub(super) on_schema_change: OnSchemaChange,
    /// Are TRUNCATEs followed?
    pub(super) on_truncate: OnTruncate,
    /// Only inserts are followed: for a table without a key.
    pub(super) append_only: bool,
    /// Form of the documents.
    pub(super) documents: Documents,
    /// Details of `documents: spark`.
    pub(super) spark: Option<Spark>,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            table: None,
            exclude: None,
            query: None,
            root: None,
            index: None,
            id: None,
            id_form: IdForm::Plain,
            id_unique: None,
            window: None,
            columns: Columns::default(),
            filter: None,
            routing: None,
            settings: Map::new(),
            mapping: Map::new(),
            on_schema_change: OnSchemaChange::Resync,
            on_truncate: OnTruncate::Delete,
            append_only: false,
            documents: Documents::Plain,
            spark: None,
        }
    }
}

/// How a table is divided: by days of a date or timestamp column, or by values of an integer column.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Window {
    /// Date, timestamp or integer column.
    pub(super) column: Option<String>,
    /// Days of a window; default: 30.
    pub(super) days: Option<u64>,
    /// Values of an integer column in a window, instead of days.
    pub(super) rows: Option<u64>,
    /// First value, inclusive: a date, a timestamp, today, today+1d, -30d or an id; default: the column's minimum.
    pub(super) from: Option<End>,
    /// End, exclusive, in the same forms; default: past the column's maximum.
    pub(super) to: Option<End>,
}

/// Columns that are left out or renamed.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Columns {
    /// Columns that are left out.
    pub(super) exclude: Vec<String>,
    /// Field names of columns that do not keep their own.
    pub(super) rename: BTreeMap<String, String>,
}

/// Form of a document id.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum IdForm {
    /// PostgreSQL's text of the columns, joined by |.
    Plain,
    /// MD5 of the plain form.
    Md5,
    /// Spark's concat_ws.
    Spark,
    /// MD5 of Spark's concat_ws.
    SparkMd5,
}

/// See `id_unique`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum IdUnique {
    /// It is asserted.
    Asserted,
}

/// Form of the documents.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Documents {
    /// A field per column in the form that loses nothing.
    Plain,
    /// What opensearch-spark writes, for an index that a PySpark job made.
    Spark,
}

/// Details of `documents: spark`.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Spark {
    /// Time zone of the Spark session.
    pub(super) timezone: Option<String>,
    /// Spark types that columns were cast to, by column.
    pub(super) cast: BTreeMap<String, String>,
}

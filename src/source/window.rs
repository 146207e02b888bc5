//! Windows: parts of a table as conditions, and as texts for people. `division` and `divide` make them.

use super::{
    moment::{self, DAY, Moment, date_text, timestamp_text},
    query_error::{Doing, Result},
};
use crate::model::{Column, TableSchema, quote_identifier, quote_literal};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

/// Characters of a key's value in a label.
const LABEL: usize = 40;

/// What a window column holds, which decides how its bounds are counted and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `smallint`, `integer`, `bigint`: the value.
    Integer,
    /// `date`: days since 1970-01-01.
    Date,
    /// `timestamp`: microseconds since 1970-01-01 00:00.
    Timestamp,
    /// `timestamp with time zone`: the same in UTC.
    TimestampTz,
}

impl Kind {
    pub(super) fn of(column: &Column) -> Option<Kind> {
        match column.column_type.oid {
            20 | 21 | 23 => Some(Kind::Integer),
            1082 => Some(Kind::Date),
            1114 => Some(Kind::Timestamp),
            1184 => Some(Kind::TimestampTz),
            _ => None,
        }
    }

    pub(super) fn day(self) -> i128 {
        if self == Kind::Date { 1 } else { DAY }
    }

    /// The bound as a SQL literal (docs: "Date/Time Types", ISO 8601 input).
    pub(super) fn literal(self, bound: i128) -> String {
        match self {
            Kind::Integer => bound.to_string(),
            Kind::Date => format!("'{}'::pg_catalog.date", date_text(bound)),
            Kind::Timestamp => format!("'{}'::pg_catalog.timestamp", timestamp_text(bound, "")),
            Kind::TimestampTz => format!("'{}'::pg_catalog.timestamptz", timestamp_text(bound, "+00")),
        }
    }

    /// The bound for people: a midnight is a date.
    pub(super) fn text(self, bound: i128) -> String {
        match self {
            Kind::Integer => bound.to_string(),
            Kind::Date => date_text(bound),
            _ if bound.rem_euclid(DAY) == 0 => date_text(bound.div_euclid(DAY)),
            Kind::Timestamp => timestamp_text(bound, ""),
            Kind::TimestampTz => timestamp_text(bound, "+00"),
        }
    }

    /// The number of a value; `None` for the infinities, which lie in the open windows at the ends.
    pub(super) fn number(self, text: &str) -> Option<Option<i128>> {
        if self == Kind::Integer {
            return text.trim().parse::<i64>().ok().map(|n| Some(i128::from(n)));
        }
        Some(match moment::parse(text)? {
            Moment::Infinite => None,
            // A day is at or after 12:00 of the 1st if it is at or after the 2nd; below, the same.
            Moment::At(micros) if self == Kind::Date => Some(-(-micros).div_euclid(DAY)),
            Moment::At(micros) => Some(micros),
        })
    }
}

/// A column of a key, as literals of it need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Name.
    pub name: String,
    /// `format_type()` of its type.
    pub sql_type: String,
}

impl KeyColumn {
    /// The columns as a row, or a single one as it is.
    pub(super) fn row(columns: &[KeyColumn]) -> String {
        let names: Vec<String> = columns.iter().map(|c| quote_identifier(&c.name)).collect();
        if names.len() == 1 { names.concat() } else { format!("({})", names.join(", ")) }
    }

    fn literal(columns: &[KeyColumn], values: &[String]) -> String {
        let typed = |(c, v): (&KeyColumn, &String)| format!("{}::{}", quote_literal(v), c.sql_type);
        let values: Vec<String> = columns.iter().zip(values).map(typed).collect();
        if values.len() == 1 { values.concat() } else { format!("({})", values.join(", ")) }
    }
}

/// One window. It is kept in the state documents: older programs must read what newer ones write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowRange {
    /// The whole table.
    Whole,
    /// Rows whose column is NULL.
    Null {
        /// The column.
        column: String,
    },
    /// `from <= column < to`; an end that is `None` is open, and holds the infinity on its side too.
    Range {
        /// The column.
        column: String,
        /// What it holds.
        kind: Kind,
        /// First value.
        from: Option<i128>,
        /// Value after the last.
        to: Option<i128>,
    },
    /// Rows in these blocks of the table's file, or of each partition's. It holds for one file (`pg_class.relfilenode`).
    Blocks {
        /// First block.
        from: u32,
        /// Block after the last; an open end holds what the table grows by.
        to: Option<u32>,
    },
    /// `from <= key < to` for a key without NULLs, in the order of its columns; an end that is `None` is open.
    Keys {
        /// The key.
        columns: Vec<KeyColumn>,
        /// First key, as text.
        from: Option<Vec<String>>,
        /// Key after the last.
        to: Option<Vec<String>>,
    },
    /// What is in both: part of a window that its own column does not divide further.
    Within(Box<WindowRange>, Box<WindowRange>),
}

impl WindowRange {
    /// The window as a SQL condition; `None` for the whole table.
    pub fn predicate(&self) -> Option<String> {
        match self {
            WindowRange::Whole => None,
            WindowRange::Null { column } => Some(format!("{} IS NULL", quote_identifier(column))),
            WindowRange::Range { column, kind, from, to } => {
                let column = quote_identifier(column);
                let from = from.map(|b| format!("{column} >= {}", kind.literal(b)));
                let to = to.map(|b| format!("{column} < {}", kind.literal(b)));
                let both: Vec<String> = from.into_iter().chain(to).collect();
                Some(if both.is_empty() { format!("{column} IS NOT NULL") } else { both.join(" AND ") })
            }
            WindowRange::Blocks { from, to } => {
                // The planner reads such blocks only (TID range scan, PostgreSQL 14).
                let from = (*from > 0).then(|| format!("ctid >= '({from},0)'::pg_catalog.tid"));
                let to = to.map(|to| format!("ctid < '({to},0)'::pg_catalog.tid"));
                let both: Vec<String> = from.into_iter().chain(to).collect();
                (!both.is_empty()).then(|| both.join(" AND "))
            }
            WindowRange::Keys { columns, from, to } => {
                let row = KeyColumn::row(columns);
                let side = |sign, key: &Option<Vec<String>>| {
                    let key = key.as_ref()?;
                    Some(format!("{row} {sign} {}", KeyColumn::literal(columns, key)))
                };
                let both: Vec<String> = side(">=", from).into_iter().chain(side("<", to)).collect();
                (!both.is_empty()).then(|| both.join(" AND "))
            }
            WindowRange::Within(outer, inner) => {
                let parts = [outer, inner].map(|part| part.predicate());
                let parts: Vec<String> = parts.into_iter().flatten().map(|p| format!("({p})")).collect();
                (!parts.is_empty()).then(|| parts.join(" AND "))
            }
        }
    }

    /// The column and the ends of a range, for a search of documents; `None` where it is none.
    pub fn ends(&self) -> Option<(&str, Option<End>, Option<End>)> {
        let WindowRange::Range { column, kind, from, to } = self else { return None };
        let end = |bound: i128, up: i128| match kind {
            Kind::Integer => End::Number(bound),
            Kind::Date => End::Millis(bound * DAY / 1000),
            Kind::Timestamp | Kind::TimestampTz => End::Millis((bound + up).div_euclid(1000)),
        };
        Some((column, from.map(|b| end(b, 0)), to.map(|b| end(b, 999))))
    }

    /// The window for people and for the id of its state document: `event_date [2024-01-31,2024-03-01)`.
    pub fn label(&self) -> String {
        match self {
            WindowRange::Whole => "all".into(),
            WindowRange::Null { column } => format!("{column} null"),
            WindowRange::Range { column, kind, from, to } => {
                let text = |bound: &Option<i128>| bound.map(|b| kind.text(b)).unwrap_or_default();
                let open = if from.is_some() { '[' } else { '(' };
                format!("{column} {open}{},{})", text(from), text(to))
            }
            WindowRange::Blocks { from, to } => {
                format!("blocks [{from},{})", to.map(|to| to.to_string()).unwrap_or_default())
            }
            WindowRange::Keys { columns, from, to } => {
                let text = |key: &Option<Vec<String>>| -> String {
                    key.as_ref().map(|key| key.join("|").chars().take(LABEL).collect()).unwrap_or_default()
                };
                let open = if from.is_some() { '[' } else { '(' };
                format!("{} {open}{},{})", KeyColumn::row(columns).replace('"', ""), text(from), text(to))
            }
            WindowRange::Within(outer, inner) => format!("{}, {}", outer.label(), inner.label()),
        }
    }

    /// Does it hold for one file of the table only?
    pub fn is_by_blocks(&self) -> bool {
        match self {
            WindowRange::Blocks { .. } => true,
            WindowRange::Within(outer, inner) => outer.is_by_blocks() || inner.is_by_blocks(),
            _ => false,
        }
    }
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A value of an integer column.
    Number(i128),
    /// Milliseconds since 1970-01-01 00:00, rounded away from the range: OpenSearch's dates have no more.
    Millis(i128),
}

/// `FROM … WHERE …` for the rows of a table that fulfil all conditions. Inheritance children are tables of their own.
pub(super) fn from_where<'a>(
    table: &TableSchema,
    conditions: impl IntoIterator<Item = Option<&'a str>>,
) -> String {
    let only = if table.partitioned { "" } else { "ONLY " };
    let all: Vec<String> = conditions.into_iter().flatten().map(|c| format!("({c})")).collect();
    let condition = if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) };
    format!("FROM {only}{}{condition}", table.name.quoted())
}

/// Counts the rows of a window.
pub async fn count(
    client: &Client,
    table: &TableSchema,
    row_filter: Option<&str>,
    predicate: Option<&str>,
) -> Result<u64> {
    let from = from_where(table, [row_filter, predicate]);
    let sql = format!("SELECT pg_catalog.count(*) {from}");
    let row = client.query_one(&sql, &[]).await.doing(|| format!("counting rows of {}", table.name))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_typed_literals() {
        let range =
            |kind, from, to| WindowRange::Range { column: "c".into(), kind, from, to }.predicate().unwrap();
        assert_eq!(range(Kind::Integer, Some(-5), Some(7)), "\"c\" >= -5 AND \"c\" < 7");
        assert_eq!(range(Kind::Date, Some(-719_163), None), "\"c\" >= '0001-12-31 BC'::pg_catalog.date");
        assert_eq!(
            range(Kind::TimestampTz, None, Some(DAY)),
            "\"c\" < '1970-01-02 00:00:00+00'::pg_catalog.timestamptz"
        );
        assert_eq!(range(Kind::Timestamp, None, None), "\"c\" IS NOT NULL");
        assert_eq!(WindowRange::Null { column: "c".into() }.predicate().unwrap(), "\"c\" IS NULL");
    }

    #[test]
    fn blocks_and_keys_are_conditions_too_and_combine() {
        let blocks = |from, to| WindowRange::Blocks { from, to };
        assert_eq!(blocks(0, None).predicate(), None);
        let tail = "ctid >= '(7,0)'::pg_catalog.tid";
        assert_eq!(blocks(7, None).predicate().unwrap(), tail);
        let column = |name: &str, sql_type: &str| KeyColumn { name: name.into(), sql_type: sql_type.into() };
        let keys = |columns: &[KeyColumn], from: &[&str]| WindowRange::Keys {
            columns: columns.to_vec(),
            from: Some(from.iter().map(|v| (*v).to_owned()).collect()),
            to: None,
        };
        assert_eq!(keys(&[column("u", "uuid")], &["it's"]).predicate().unwrap(), "\"u\" >= 'it''s'::uuid");
        let two = keys(&[column("a", "text"), column("B", "integer")], &["x", "2"]);
        assert_eq!(two.predicate().unwrap(), "(\"a\", \"B\") >= ('x'::text, '2'::integer)");
        let within = WindowRange::Within(
            Box::new(WindowRange::Null { column: "d".into() }),
            Box::new(blocks(7, None)),
        );
        assert_eq!(within.predicate().unwrap(), format!("(\"d\" IS NULL) AND ({tail})"));
        assert!(within.is_by_blocks() && !two.is_by_blocks());
        assert_eq!(within.label(), "d null, blocks [7,)");
    }

    #[test]
    fn a_window_survives_its_state_document() {
        // 294276-12-31 lies past 2^63 microseconds after 1970.
        let range = WindowRange::Range {
            column: "c".into(),
            kind: Kind::Timestamp,
            from: Some(-210_866_803_200_000_000),
            to: Some(9_224_318_015_999_999_999),
        };
        let stored = serde_json::to_value(&range).unwrap();
        assert_eq!(serde_json::from_value::<WindowRange>(stored).unwrap(), range);
    }
}

//! Windows: how a table is divided for reading, so that every row is in exactly one.

use super::{
    moment::{self, DAY, Moment, date_text, timestamp_text},
    query_error::{Doing, QueryError, Result},
};
use crate::{
    config::{Window, WindowStep},
    model::{Column, TableSchema, quote_identifier},
};
use chrono::{DateTime, Utc};
use tokio_postgres::Client;

/// More windows than this are not planned: the step grows instead. One row of year 9999 would make 100,000 of them.
const MOST_WINDOWS: i128 = 10_000;

/// What a window column holds, which decides how its bounds are counted and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    fn of(column: &Column) -> Option<Kind> {
        match column.column_type.oid {
            20 | 21 | 23 => Some(Kind::Integer),
            1082 => Some(Kind::Date),
            1114 => Some(Kind::Timestamp),
            1184 => Some(Kind::TimestampTz),
            _ => None,
        }
    }

    fn day(self) -> i128 {
        if self == Kind::Date { 1 } else { DAY }
    }

    /// The bound as a SQL literal (docs: "Date/Time Types", ISO 8601 input).
    fn literal(self, bound: i128) -> String {
        match self {
            Kind::Integer => bound.to_string(),
            Kind::Date => format!("'{}'::pg_catalog.date", date_text(bound)),
            Kind::Timestamp => format!("'{}'::pg_catalog.timestamp", timestamp_text(bound, "")),
            Kind::TimestampTz => format!("'{}'::pg_catalog.timestamptz", timestamp_text(bound, "+00")),
        }
    }

    /// The bound for people: a midnight is a date.
    fn text(self, bound: i128) -> String {
        match self {
            Kind::Integer => bound.to_string(),
            Kind::Date => date_text(bound),
            _ if bound.rem_euclid(DAY) == 0 => date_text(bound.div_euclid(DAY)),
            Kind::Timestamp => timestamp_text(bound, ""),
            Kind::TimestampTz => timestamp_text(bound, "+00"),
        }
    }

    /// The number of a value; `None` for the infinities, which lie in the open windows at the ends.
    fn number(self, text: &str) -> Option<Option<i128>> {
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

/// One window.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The extent of a window column, as PostgreSQL's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Least finite value; `None` where there is none.
    pub min: Option<String>,
    /// Greatest finite value.
    pub max: Option<String>,
    /// May the column hold NULL?
    pub has_nulls: bool,
}

/// The windows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In ascending order, NULLs last.
    pub windows: Vec<WindowRange>,
    /// What was done differently from what was asked, and why.
    pub note: Option<String>,
}

/// A window setting for a table that has none, and the reason for it: the primary key if it is one integer, else a
/// date or timestamp of the primary key, else none (one window).
pub fn choose(table: &TableSchema) -> (Option<Window>, String) {
    let key = || table.primary_key.iter().filter_map(|name| table.column(name));
    let window =
        |column: &Column, step| Some(Window { column: column.name.clone(), step, from: None, to: None });
    let mut columns = key();
    if let (Some(only), None) = (columns.next(), columns.next())
        && Kind::of(only) == Some(Kind::Integer)
    {
        let reason = format!("{}: ranges of its primary key {}, an integer", table.name, only.name);
        return (window(only, WindowStep::Rows(1_000_000)), reason);
    }
    let dated = key().find(|c| c.not_null && Kind::of(c).is_some_and(|k| k != Kind::Integer));
    match dated {
        Some(column) => {
            let reason =
                format!("{}: steps of 30 days of {}, which is in its primary key", table.name, column.name);
            (window(column, WindowStep::Days(30)), reason)
        }
        None => {
            let reason = format!(
                "{}: one window for the whole table, as its primary key is neither one integer nor has a date or \
                 timestamp; set `window` to divide it",
                table.name
            );
            (None, reason)
        }
    }
}

/// Reads the extent of a window column. Infinities do not count: they would hide the ends of what can be divided.
pub async fn bounds(
    client: &Client,
    table: &TableSchema,
    column: &str,
    row_filter: Option<&str>,
) -> Result<Bounds> {
    let (column, kind) = window_column(table, column)?;
    let name = quote_identifier(&column.name);
    let from = format!("FROM {}{}", if table.partitioned { "" } else { "ONLY " }, table.name.quoted());
    let finite = if kind == Kind::Integer {
        format!("{name} IS NOT NULL")
    } else {
        format!("{name} > '-infinity' AND {name} < 'infinity'")
    };
    let filter = row_filter.map(|f| format!(" AND ({f})")).unwrap_or_default();
    // Two subqueries, so that each takes one step into an index of the column.
    let sql = format!(
        "SELECT (SELECT pg_catalog.min({name}) {from} WHERE {finite}{filter})::pg_catalog.text,
                (SELECT pg_catalog.max({name}) {from} WHERE {finite}{filter})::pg_catalog.text"
    );
    let row = client
        .query_one(&sql, &[])
        .await
        .doing(|| format!("reading the bounds of {}.{}", table.name, column.name))?;
    Ok(Bounds { min: row.get(0), max: row.get(1), has_nulls: !column.not_null })
}

/// Divides a table (`docs/architecture.md`, "Windows").
///
/// Without `from` and `to` the outer windows are open, so that a row beyond the bounds that were read is in one of them,
/// and NULLs have a window of their own; edges lie on a fixed grid, so that a later plan has the same ones. With `from` or
/// `to` the windows are exactly that range, without NULLs, and the grid begins at `from`.
pub fn plan(table: &TableSchema, window: &Window, bounds: &Bounds, now: DateTime<Utc>) -> Result<Plan> {
    let (column, kind) = window_column(table, &window.column)?;
    let refuse = |problem: String| QueryError::Window { table: table.name.clone(), problem };
    let step = match (window.step, kind) {
        (WindowStep::Rows(rows), Kind::Integer) => i128::from(rows.max(1)),
        (WindowStep::Days(_), Kind::Integer) => {
            return Err(refuse(format!("{} is an integer: use `rows`", column.name)));
        }
        (WindowStep::Days(days), _) => i128::from(days.max(1)) * kind.day(),
        (WindowStep::Rows(_), _) => {
            return Err(refuse(format!("{} is a date or timestamp: use `days`", column.name)));
        }
    };
    let limit = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => configured(kind, text, now).map(Some).ok_or_else(|| {
            let forms = match kind {
                Kind::Integer => "a whole number",
                _ => "a date, a timestamp, `today`, `today+1d` or `-30d`",
            };
            refuse(format!("`{name}: {text}` is not a value for {}: write {forms}", column.name))
        }),
    };
    let (from, to) = (limit("from", &window.from)?, limit("to", &window.to)?);
    if let (Some(f), Some(t)) = (from, to)
        && f >= t
    {
        return Err(refuse(format!("`from` ({}) is not before `to` ({})", kind.text(f), kind.text(t))));
    }
    let number = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => kind
            .number(text)
            .ok_or_else(|| QueryError::answer(format!("reading the bounds of {}", table.name), text.clone())),
    };
    let (mut edges, mut note) = (Vec::new(), None);
    if let (Some(min), Some(max)) = (number(&bounds.min)?, number(&bounds.max)?) {
        let low = from.map_or(min, |f| f.max(min));
        let high = to.map_or(max, |t| max.min(t - 1));
        let wider = ((high - low) / step / MOST_WINDOWS + 1).max(1);
        if wider > 1 {
            note = Some(format!(
                "{}: {} reaches from {} to {}; steps are {wider} times as long as configured, so that there are at most \
                 {MOST_WINDOWS} windows",
                table.name,
                column.name,
                kind.text(low),
                kind.text(high)
            ));
        }
        edges = grid(low, high, step * wider, from.unwrap_or(0));
    }
    let starts = std::iter::once(from).chain(edges.iter().copied().map(Some));
    let ends = edges.iter().copied().map(Some).chain([to]);
    let name = || column.name.clone();
    let mut windows: Vec<WindowRange> =
        starts.zip(ends).map(|(from, to)| WindowRange::Range { column: name(), kind, from, to }).collect();
    if bounds.has_nulls && from.is_none() && to.is_none() {
        windows.push(WindowRange::Null { column: name() });
    }
    Ok(Plan { windows, note })
}

/// The points `origin + n * step` above `low`, up to `high`.
fn grid(low: i128, high: i128, step: i128, origin: i128) -> Vec<i128> {
    let first = origin + ((low - origin).div_euclid(step) + 1) * step;
    std::iter::successors(Some(first), |edge| Some(edge + step)).take_while(|edge| *edge <= high).collect()
}

/// A value of `from` or `to`: one of the column's values, or midnights in UTC relative to `now` (`today`, `today-7d`, `-30d`).
fn configured(kind: Kind, text: &str, now: DateTime<Utc>) -> Option<i128> {
    if kind == Kind::Integer {
        return kind.number(text)?;
    }
    let today = i128::from(now.timestamp()).div_euclid(86_400);
    let relative = match text.trim().strip_prefix("today") {
        Some("") => return Some(today * kind.day()),
        Some(rest) => rest,
        None => text.trim(),
    };
    if let Some(days) = relative.strip_suffix('d')
        && days.starts_with(['+', '-'])
    {
        return days.parse::<i32>().ok().map(|d| (today + i128::from(d)) * kind.day());
    }
    kind.number(text)?
}

fn window_column<'a>(table: &'a TableSchema, column: &str) -> Result<(&'a Column, Kind)> {
    let refuse = |problem| QueryError::Window { table: table.name.clone(), problem };
    let found = table.column(column).ok_or_else(|| {
        refuse(format!("column `{column}` does not exist or is not published; name another"))
    })?;
    let kind = Kind::of(found).ok_or_else(|| {
        refuse(format!("column `{column}` is {}; take a date, timestamp or integer column", found.sql_type))
    })?;
    Ok((found, kind))
}

/// Does the column allow the configured window? Asks nobody.
///
/// # Errors
/// What is wrong with it.
pub fn check(table: &TableSchema, window: &Window, now: DateTime<Utc>) -> Result<()> {
    plan(table, window, &Bounds::default(), now).map(|_| ())
}

/// Counts the rows of a window.
pub async fn count(
    client: &Client,
    table: &TableSchema,
    row_filter: Option<&str>,
    predicate: Option<&str>,
) -> Result<u64> {
    let only = if table.partitioned { "" } else { "ONLY " };
    let conditions: Vec<String> =
        [row_filter, predicate].into_iter().flatten().map(|c| format!("({c})")).collect();
    let condition = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    let sql = format!("SELECT pg_catalog.count(*) FROM {only}{} WHERE {condition}", table.name.quoted());
    let row = client.query_one(&sql, &[]).await.doing(|| format!("counting rows of {}", table.name))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;

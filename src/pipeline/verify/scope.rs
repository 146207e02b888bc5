//! Scopes: rows and documents that belong together, so that they can be compared at once.
//!
//! A window of rows and the documents whose window field lies in its range. A row that moved is in the one and its stale
//! document in another: then both are found, and looked at by id. Where the index cannot search the field, the whole table
//! is one scope.

use crate::{
    config::Window,
    pipeline::{
        error::PipelineError,
        tables::Table,
        windows::{self, Manner, Range},
    },
    source::window::{End, WindowRange},
};
use chrono::DateTime;
use serde_json::{Map, Value, json};
use tokio_postgres::Client;

/// See the module.
#[derive(Debug, PartialEq)]
pub(in crate::pipeline) struct Scope {
    /// SQL conditions of its rows, each read in a snapshot of its own; `None` is the whole table.
    pub(in crate::pipeline) rows: Vec<Option<String>>,
    /// The query that finds its documents.
    pub(in crate::pipeline) documents: Value,
}

/// Divides `table` for a comparison with an index of `properties`, as it is divided for reading.
///
/// # Errors
/// A range that the table, or its index, cannot be restricted to.
pub(in crate::pipeline) async fn scopes(
    reader: &Client,
    table: &Table,
    configured: Option<Window>,
    range: &Range,
    properties: &Map<String, Value>,
) -> Result<Vec<Scope>, PipelineError> {
    let is_bounded = |from: &Option<String>, to: &Option<String>| from.is_some() || to.is_some();
    let bounded = is_bounded(&range.from, &range.to)
        || configured.as_ref().is_some_and(|window| is_bounded(&window.from, &window.to));
    // Documents are found by ranges of a column alone, so windows are not split further.
    let manner = Manner { is_streamed: false, most_bytes: u64::MAX };
    let windows =
        windows::divide(reader, table, configured, range, chrono::Utc::now(), manner).await?.windows;
    let column = windows.iter().find_map(|window| window.ends()).map(|(column, ..)| column.to_owned());
    let field = column.as_ref().and_then(|column| table.spec.field_name(column));
    match field.filter(|field| can_search(properties, field, &windows)) {
        Some(field) => Ok(by_window(&windows, field, bounded)),
        None if bounded => Err(PipelineError::Configuration(format!(
            "{}: a range cannot be compared, as index {} cannot search {} as a date or integer; leave out --from and --to \
             (and window.from and window.to) to compare the whole table",
            table.schema.name,
            table.target.index,
            column.unwrap_or_default()
        ))),
        None => Ok(vec![Scope {
            rows: windows.iter().map(WindowRange::predicate).collect(),
            documents: json!({ "match_all": {} }),
        }]),
    }
}

fn can_search(properties: &Map<String, Value>, field: &str, windows: &[WindowRange]) -> bool {
    let Some(mapping) = properties.get(field).filter(|mapping| mapping["index"] != json!(false)) else {
        return false;
    };
    let is_number = windows
        .iter()
        .filter_map(WindowRange::ends)
        .any(|(_, from, to)| matches!(from, Some(End::Number(_))) || matches!(to, Some(End::Number(_))));
    let is_time = windows
        .iter()
        .filter_map(WindowRange::ends)
        .any(|(_, from, to)| matches!(from, Some(End::Millis(_))) || matches!(to, Some(End::Millis(_))));
    match mapping["type"].as_str() {
        Some("date") => !is_number,
        Some("short" | "integer" | "long") => !is_time,
        _ => false,
    }
}

fn by_window(windows: &[WindowRange], field: &str, bounded: bool) -> Vec<Scope> {
    let mut scopes: Vec<Scope> = windows
        .iter()
        .filter_map(|window| {
            let (_, from, to) = window.ends()?;
            let mut range = Map::new();
            range.extend(from.and_then(text).map(|from| ("gte".to_owned(), from)));
            range.extend(to.and_then(text).map(|to| ("lt".to_owned(), to)));
            let documents = if range.is_empty() {
                json!({ "exists": { "field": field } })
            } else {
                if range.values().any(Value::is_string) {
                    range.insert("format".to_owned(), "strict_date_optional_time".into());
                }
                json!({ "range": { field: range } })
            };
            Some(Scope { rows: vec![window.predicate()], documents })
        })
        .collect();
    if !bounded {
        // Documents without a value are compared even where no row can be without one.
        let nulls = windows.iter().filter(|window| matches!(window, WindowRange::Null { .. }));
        let documents = json!({ "bool": { "must_not": { "exists": { "field": field } } } });
        scopes.push(Scope { rows: nulls.map(WindowRange::predicate).collect(), documents });
    }
    scopes
}

/// The end as it stands in a query; `None` where that cannot write it: then the range is open there, and what lies past it is
/// compared once more.
fn text(end: End) -> Option<Value> {
    match end {
        End::Number(number) => i64::try_from(number).ok().map(Value::from),
        End::Millis(millis) => {
            let instant = DateTime::from_timestamp_millis(i64::try_from(millis).ok()?)?;
            Some(instant.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::window::Kind;

    fn window(kind: Kind, from: Option<i128>, to: Option<i128>) -> WindowRange {
        WindowRange::Range { column: "d".into(), kind, from, to }
    }

    #[test]
    fn every_document_is_in_one_scope() {
        let windows = [
            window(Kind::Date, None, Some(19_723)),
            window(Kind::Date, Some(19_723), None),
            WindowRange::Null { column: "d".into() },
        ];
        let scopes = by_window(&windows, "f", false);
        let queries: Vec<_> = scopes.iter().map(|scope| scope.documents.clone()).collect();
        let format = "strict_date_optional_time";
        assert_eq!(
            queries,
            [
                json!({ "range": { "f": { "lt": "2024-01-01T00:00:00.000Z", "format": format } } }),
                json!({ "range": { "f": { "gte": "2024-01-01T00:00:00.000Z", "format": format } } }),
                json!({ "bool": { "must_not": { "exists": { "field": "f" } } } }),
            ]
        );
        assert_eq!(scopes[2].rows, [Some("\"d\" IS NULL".to_owned())]);
        let only = by_window(&[window(Kind::Integer, None, None)], "f", false);
        assert_eq!(only[0].documents, json!({ "exists": { "field": "f" } }));
        assert_eq!(only[1].rows, []);
        assert_eq!(by_window(&windows[..2], "f", true).len(), 2);
    }

    #[test]
    fn ends_are_rounded_away_from_the_range() {
        let ends = |kind, from, to| {
            let scope = &by_window(&[window(kind, Some(from), Some(to))], "f", true)[0].documents;
            (scope["range"]["f"]["gte"].clone(), scope["range"]["f"]["lt"].clone())
        };
        assert_eq!(ends(Kind::Integer, 1, 2), (json!(1), json!(2)));
        assert_eq!(
            ends(Kind::Timestamp, 1_500, 2_500),
            (json!("1970-01-01T00:00:00.001Z"), json!("1970-01-01T00:00:00.003Z"))
        );
        assert_eq!(ends(Kind::Date, -1, 0).0, json!("1969-12-31T00:00:00.000Z"));
    }

    #[test]
    fn a_field_is_searched_only_as_what_its_column_is() {
        let can = |mapping: Value, kind| {
            let properties = Map::from_iter([("f".to_owned(), mapping)]);
            can_search(&properties, "f", &[window(kind, Some(0), None)])
        };
        assert!(can(json!({"type": "date"}), Kind::Date) && can(json!({"type": "long"}), Kind::Integer));
        // A job of Spark writes dates as milliseconds.
        assert!(!can(json!({"type": "long"}), Kind::Date) && !can(json!({"type": "date"}), Kind::Integer));
        assert!(!can(json!({"type": "text"}), Kind::Date));
        assert!(!can(json!({"type": "date", "index": false}), Kind::Date));
        assert!(!can_search(&Map::new(), "f", &[]));
    }
}

//! The mapping of a new index, made from the columns of its table (OpenSearch docs: "Mappings and field types").

use super::{overrides, plan::TableSpec, spark, types};
use crate::{config::Documents, model::Column};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// A field that OpenSearch would refuse or change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadField {
    /// Its name.
    #[error(
        "column `{column}` cannot be a field called `{field}`: {why}; give it another name with columns.rename"
    )]
    Name {
        /// The column.
        column: String,
        /// Its field.
        field: String,
        /// What OpenSearch does with it.
        why: &'static str,
    },
    /// A type that takes none of the column's values.
    #[error("mapping.{field}: {why}")]
    Type {
        /// The field.
        field: String,
        /// What OpenSearch does with it, and the cure.
        why: &'static str,
    },
}

/// The `properties` of the mapping: a field per column, overridden by `overrides` (a type's name, or a whole mapping).
/// `knn`: has the cluster the k-NN plugin?
///
/// # Errors
/// All fields that OpenSearch would not take.
pub fn properties(
    spec: &TableSpec,
    columns: &[Column],
    overrides: &Map<String, Value>,
    knn: bool,
) -> Result<Map<String, Value>, Vec<BadField>> {
    let named: Vec<_> = columns.iter().filter_map(|c| Some((c, spec.field_name(&c.name)?))).collect();
    let has_sibling =
        |column: &Column| spec.documents == Documents::Plain && types::has_json_sibling(&column.column_type);
    let siblings = named.iter().filter(|(column, _)| has_sibling(column));
    let siblings: HashSet<String> = siblings.map(|(_, field)| sibling(field)).collect();
    let fields: HashSet<&str> = named.iter().map(|(_, field)| *field).collect();
    let (mut properties, mut bad) = (Map::new(), vec![]);
    for (column, field) in named {
        if let Some(why) = refusal(field).or_else(|| collision(field, &fields, &siblings, &properties)) {
            bad.push(BadField::Name { column: column.name.clone(), field: field.to_owned(), why });
            continue;
        }
        let given = overrides.get(field);
        if let Some(why) = given.and_then(|given| overrides::misfit(&column.column_type, given)) {
            bad.push(BadField::Type { field: field.to_owned(), why });
        }
        let mapping = match (given, spec.documents) {
            (Some(given), _) => overrides::mapping(given),
            (None, Documents::Spark) => spark::mapping(&spec.spark, column),
            (None, Documents::Plain) => types::mapping(&column.column_type, knn),
        };
        properties.insert(field.to_owned(), mapping);
        if has_sibling(column) {
            properties.insert(sibling(field), json!({"type": "object", "enabled": false}));
        }
    }
    if bad.is_empty() { Ok(properties) } else { Err(bad) }
}

fn sibling(field: &str) -> String {
    format!("{field}__json")
}

/// Tried against 2.19.6, the metadata fields one by one.
fn refusal(field: &str) -> Option<&'static str> {
    const METADATA: [&str; 13] = [
        "_data_stream_timestamp",
        "_doc_count",
        "_field_names",
        "_id",
        "_ignored",
        "_index",
        "_nested_path",
        "_primary_term",
        "_recovery_source",
        "_routing",
        "_seq_no",
        "_source",
        "_version",
    ];
    if field.trim().is_empty() {
        Some("an empty name is refused")
    } else if field.split('.').next().is_some_and(|first| METADATA.contains(&first)) {
        Some("it is one of OpenSearch's own metadata fields")
    } else if field.split('.').any(str::is_empty) {
        Some("a dot at its beginning, its end or beside another dot is refused or cut off")
    } else if field.split('.').any(|part| part.trim().is_empty()) {
        Some("only white space between two dots is refused")
    } else {
        None
    }
}

/// What is wrong with a field beside the others.
fn collision(
    field: &str,
    fields: &HashSet<&str>,
    siblings: &HashSet<String>,
    before: &Map<String, Value>,
) -> Option<&'static str> {
    let mut dots = field.match_indices('.').map(|(at, _)| &field[..at]);
    if siblings.contains(field) {
        Some("it is where values of another column go that its flat_object cannot take")
    } else if before.contains_key(field) {
        Some("another column has the same field")
    } else if dots.any(|object| fields.contains(object) || siblings.contains(object)) {
        Some("its dots make it part of an object that is another column's field")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ColumnType;

    fn column(name: &str, oid: u32) -> Column {
        Column {
            name: name.into(),
            column_type: ColumnType::scalar(oid, -1),
            sql_type: String::new(),
            not_null: false,
        }
    }

    fn column_of(bad: &BadField) -> &str {
        match bad {
            BadField::Name { column, .. } => column,
            BadField::Type { field, .. } => field,
        }
    }

    fn spec() -> TableSpec {
        TableSpec {
            exclude: vec!["x".into()],
            rename: vec![("ts".into(), "@timestamp".into())],
            ..TableSpec::default()
        }
    }

    #[test]
    fn a_mapping_has_a_field_per_column_with_names_and_overrides_applied() {
        let columns =
            [column("id", 20), column("ts", 1184), column("x", 25), column("p", 3802), column("k", 25)];
        let overrides = json!({"k": "keyword", "@timestamp": "date_nanos"});
        let properties = properties(&spec(), &columns, overrides.as_object().unwrap(), false).unwrap();
        let expected = json!({
            "id": {"type": "long", "coerce": false},
            "@timestamp": {"type": "date_nanos", "ignore_malformed": true},
            "p": {"type": "flat_object"},
            "p__json": {"type": "object", "enabled": false},
            "k": {"type": "keyword"},
        });
        assert_eq!(Value::Object(properties), expected);
    }

    #[test]
    fn every_field_name_that_opensearch_refuses_is_named() {
        let names = ["", " ", ".a", "a.", "a..b", "a. .b", "_id", "_source", "_seq_no.x"];
        let columns: Vec<Column> = names.iter().map(|n| column(n, 25)).collect();
        let bad = properties(&spec(), &columns, &Map::new(), false).unwrap_err();
        assert_eq!(bad.iter().map(column_of).collect::<Vec<_>>(), names);
        let taken = ["a.b", "a.c", "_x", "x._id", "*", "é"].map(|name| column(name, 25));
        assert!(properties(&spec(), &taken, &Map::new(), false).is_ok());
    }

    #[test]
    fn fields_that_would_get_in_each_others_way_are_named() {
        for (columns, expected) in [
            ([column("a", 25), column("a.b", 25)], "a.b"),
            ([column("a.b.c", 25), column("a", 20)], "a.b.c"),
            ([column("p", 3802), column("p__json", 25)], "p__json"),
            ([column("p__json.x", 20), column("p", 114)], "p__json.x"),
            ([column("ts", 1184), column("@timestamp", 1184)], "@timestamp"),
        ] {
            let bad = properties(&spec(), &columns, &Map::new(), false).unwrap_err();
            assert_eq!(bad.iter().map(column_of).collect::<Vec<_>>(), [expected]);
            assert!(bad[0].to_string().contains("columns.rename"), "{}", bad[0]);
        }
    }

    #[test]
    fn two_columns_of_one_field_and_types_that_take_nothing_are_named() {
        let columns = [column("ts", 25), column("@timestamp", 25), column("j", 114), column("j__json", 25)];
        let bad =
            properties(&spec(), &columns, json!({"j": "keyword"}).as_object().unwrap(), false).unwrap_err();
        let bad: Vec<String> = bad.iter().map(ToString::to_string).collect();
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad[0].contains("`@timestamp`") && bad[1].starts_with("mapping.j:"), "{bad:?}");
        assert!(bad[2].contains("`j__json`"), "{bad:?}");
    }
}

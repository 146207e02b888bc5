//! The mapping of a new index, made from the columns of its table (OpenSearch docs: "Mappings and field types").

use super::{overrides, plan::TableSpec, spark, types};
use crate::{config::Documents, model::Column};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

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
    /// Two columns would be one field.
    #[error(
        "columns `{first}` and `{second}` would both be the field `{field}`; set columns.rename of one of them"
    )]
    Twice {
        /// A column.
        first: String,
        /// Another one.
        second: String,
        /// The field of both.
        field: String,
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
///
/// # Errors
/// All fields that OpenSearch would not take.
pub fn properties(
    spec: &TableSpec,
    columns: &[Column],
    overrides: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<BadField>> {
    let (mut properties, mut owners, mut bad) = (Map::new(), HashMap::new(), vec![]);
    for source in columns {
        let Column { name: column, column_type, .. } = source;
        let Some(field) = spec.field_name(column) else { continue };
        if let Some(why) = refusal(field) {
            bad.push(BadField::Name { column: column.clone(), field: field.to_owned(), why });
            continue;
        }
        let given = overrides.get(field);
        if let Some(why) = given.and_then(|given| overrides::misfit(column_type, given)) {
            bad.push(BadField::Type { field: field.to_owned(), why });
        }
        let mapping = match (given, spec.documents) {
            (Some(given), _) => overrides::mapping(given),
            (None, Documents::Spark) => spark::mapping(&spec.spark, source),
            (None, Documents::Plain) => types::mapping(column_type),
        };
        let sibling = (spec.documents == Documents::Plain && types::has_json_sibling(column_type))
            .then(|| (format!("{field}__json"), json!({"type": "object", "enabled": false})));
        for (field, mapping) in [(field.to_owned(), mapping)].into_iter().chain(sibling) {
            if let Some(first) = owners.insert(field.clone(), column) {
                bad.push(BadField::Twice { first: first.clone(), second: column.clone(), field });
            } else {
                properties.insert(field, mapping);
            }
        }
    }
    if bad.is_empty() { Ok(properties) } else { Err(bad) }
}

fn refusal(field: &str) -> Option<&'static str> {
    const METADATA: [&str; 9] = [
        "_id",
        "_source",
        "_routing",
        "_index",
        "_version",
        "_seq_no",
        "_field_names",
        "_ignored",
        "_nested_path",
    ];
    if field.trim().is_empty() {
        Some("an empty name is refused")
    } else if METADATA.contains(&field) {
        Some("it is one of OpenSearch's own metadata fields")
    } else if field.split('.').any(str::is_empty) {
        Some("a dot at its beginning, its end or beside another dot is refused or cut off")
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
        let properties = properties(&spec(), &columns, overrides.as_object().unwrap()).unwrap();
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
        let names = ["", " ", ".a", "a.", "a..b", "_id", "_source"];
        let columns: Vec<Column> = names.iter().map(|n| column(n, 25)).collect();
        let bad = properties(&spec(), &columns, &Map::new()).unwrap_err();
        let column_of = |bad: &BadField| match bad {
            BadField::Name { column, .. } => column.clone(),
            other => panic!("{other}"),
        };
        assert_eq!(bad.iter().map(column_of).collect::<Vec<_>>(), names);
        assert!(properties(&spec(), &[column("a.b", 25), column("_x", 25)], &Map::new()).is_ok());
    }

    #[test]
    fn two_columns_of_one_field_and_types_that_take_nothing_are_named() {
        let columns = [column("ts", 25), column("@timestamp", 25), column("j", 114), column("j__json", 25)];
        let bad = properties(&spec(), &columns, json!({"j": "keyword"}).as_object().unwrap()).unwrap_err();
        let bad: Vec<String> = bad.iter().map(ToString::to_string).collect();
        assert_eq!(bad.len(), 3, "{bad:?}");
        assert!(bad[0].contains("`ts` and `@timestamp`") && bad[1].starts_with("mapping.j:"), "{bad:?}");
        assert!(bad[2].contains("`j` and `j__json`"), "{bad:?}");
    }
}

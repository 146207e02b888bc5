//! The mapping of a new index, made from the columns of its table (OpenSearch docs: "Mappings and field types").

use super::{plan::TableSpec, spark, types};
use crate::{config::Documents, model::Column};
use serde_json::{Map, Value, json};

/// A field name that OpenSearch would refuse or change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "column `{column}` cannot be a field called `{field}`: {why}; give it another name with columns.rename"
)]
pub struct BadFieldName {
    /// The column.
    pub column: String,
    /// Its field.
    pub field: String,
    /// What OpenSearch does with it.
    pub why: &'static str,
}

/// The `properties` of the mapping: a field per column, overridden by `overrides` (a type's name, or a whole mapping).
///
/// # Errors
/// All field names that OpenSearch would not take.
pub fn properties(
    spec: &TableSpec,
    columns: &[Column],
    overrides: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<BadFieldName>> {
    let (mut properties, mut bad) = (Map::new(), vec![]);
    for column in columns {
        let Some(field) = spec.field_name(&column.name) else { continue };
        if let Some(why) = refusal(field) {
            bad.push(BadFieldName { column: column.name.clone(), field: field.to_owned(), why });
            continue;
        }
        let mapping = match overrides.get(field) {
            Some(Value::String(name)) => json!({"type": name}),
            Some(whole) => whole.clone(),
            None if spec.documents == Documents::Spark => spark::mapping(&spec.spark, column),
            None => types::mapping(&column.column_type),
        };
        properties.insert(field.to_owned(), mapping);
        if spec.documents == Documents::Plain && types::has_json_sibling(&column.column_type) {
            properties.insert(format!("{field}__json"), json!({"type": "object", "enabled": false}));
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
    use crate::{config::IdForm, model::ColumnType};

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
            id: vec![],
            id_form: IdForm::Plain,
            exclude: vec!["x".into()],
            rename: vec![("ts".into(), "@timestamp".into())],
            documents: Documents::Plain,
            spark: Default::default(),
        }
    }

    #[test]
    fn a_mapping_has_a_field_per_column_with_names_and_overrides_applied() {
        let columns =
            [column("id", 20), column("ts", 1184), column("x", 25), column("p", 3802), column("k", 25)];
        let overrides = json!({"k": "keyword", "@timestamp": {"type": "date_nanos"}});
        let properties = properties(&spec(), &columns, overrides.as_object().unwrap()).unwrap();
        let expected = json!({
            "id": {"type": "long", "coerce": false},
            "@timestamp": {"type": "date_nanos"},
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
        assert_eq!(bad.iter().map(|b| b.column.as_str()).collect::<Vec<_>>(), names);
        assert!(properties(&spec(), &[column("a.b", 25), column("_x", 25)], &Map::new()).is_ok());
    }
}

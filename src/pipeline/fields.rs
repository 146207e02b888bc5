//! Fields of an index that follow the columns of its table: there before the first document that needs them.

use super::{error::PipelineError, tables::Table};
use crate::{
    map::{is_vector, properties},
    model::{Column, ColumnType},
    sink::{self, Client, Index},
};
use serde_json::{Map, Value};

/// Sees to it that the index of `table` has fields for `columns` of its definition in the stream.
///
/// # Errors
/// OpenSearch could not be asked. What it refuses is said and stays as it is: `dynamic: false` keeps documents with fields
/// that are not mapped.
pub(super) async fn follow_columns(
    client: &Client,
    table: &Table,
    columns: &[(String, ColumnType)],
) -> Result<(), PipelineError> {
    let (name, mut wanted) = (&table.schema.name, Map::new());
    let knn = columns.iter().any(|(_, column_type)| is_vector(column_type))
        && client.has_plugin("opensearch-knn").await?;
    for (column, column_type) in columns {
        let column = Column {
            name: column.clone(),
            column_type: column_type.clone(),
            sql_type: String::new(),
            not_null: false,
        };
        match properties(&table.spec, &[column], &table.overrides, knn) {
            Ok(fields) => wanted.extend(fields),
            Err(bad) => {
                for bad in bad {
                    tracing::warn!(table = %name, "{bad}; its rows become dead letters until then");
                }
            }
        }
    }
    let Some(index) = client.find_index(&table.target.index).await? else { return Ok(()) };
    extend(client, table, &index, &wanted).await
}

/// Adds to `index` what it lacks of `wanted`, and says what it has otherwise.
///
/// # Errors
/// As for [`follow_columns`].
pub(super) async fn extend(
    client: &Client,
    table: &Table,
    index: &Index,
    wanted: &Map<String, Value>,
) -> Result<(), PipelineError> {
    let (name, concrete) = (&table.schema.name, &index.concrete);
    let extension = match client.extend(index, wanted).await {
        Err(error) if error.class() == sink::Class::Fatal => {
            let fields: Vec<&String> = wanted.keys().filter(|f| !index.properties.contains_key(*f)).collect();
            tracing::warn!(
                table = %name, index = concrete, ?fields,
                "fields could not be added to the mapping ({error}): documents hold them, searches do not find them; put \
                 the mapping yourself, and touch the rows written meanwhile"
            );
            return Ok(());
        }
        extension => extension?,
    };
    if !extension.added.is_empty() {
        tracing::info!(table = %name, index = concrete, fields = ?extension.added, "fields added to the mapping");
    }
    // An index that was there before has its own mapping on purpose.
    for (field, there, wanted) in extension.other.iter().filter(|_| !table.adopted) {
        tracing::warn!(
            table = %name, index = concrete,
            "field {field} is mapped as {there}, where {wanted} is right now; a mapping cannot be changed in place: values \
             that {there} does not take become dead letters; to cure that give the table another `index` and the pipeline \
             another `name`, which fills a new index"
        );
    }
    Ok(())
}

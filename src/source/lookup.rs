//! Current rows by key.

use super::{
    copy::{copy_sql, read},
    floor::{ReadPoint, snapshot, wait_flushed},
    query_error::{Doing, QueryError, Result},
};
use crate::model::{TableSchema, quote_identifier, quote_literal};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio_postgres::Client;

/// Rows that a lookup found, and what its snapshot saw. A key without a row was deleted, or is filtered out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the rows are current for.
    pub read: ReadPoint,
    /// COPY lines, in no order.
    pub rows: Vec<Bytes>,
}

/// The COPY that reads the rows with these keys; a key has one value per id column, in PostgreSQL's text.
///
/// Values are cast to the column's declared type, so that the key's index is used. A NULL part is not equal to anything,
/// so such keys are asked for by IS NULL.
pub fn lookup_sql<C: AsRef<str>>(
    table: &TableSchema,
    columns: &[C],
    id: &[String],
    row_filter: Option<&str>,
    keys: &[Vec<Option<String>>],
) -> Result<String> {
    let predicate = key_predicate(table, id, keys)?;
    Ok(copy_sql(table, columns, row_filter, Some(&predicate)))
}

/// The condition that holds for the rows with these keys.
pub fn key_predicate(table: &TableSchema, id: &[String], keys: &[Vec<Option<String>>]) -> Result<String> {
    let mut types = Vec::with_capacity(id.len());
    for column in id {
        let known = table.column(column).ok_or_else(|| QueryError::IdColumn {
            table: table.name.clone(),
            column: column.clone(),
            problem: "is not published: look at the publication's column list".into(),
        })?;
        types.push(known.sql_type.as_str());
    }
    let names: Vec<String> = id.iter().map(|c| quote_identifier(c)).collect();
    let (mut whole, mut with_nulls) = (Vec::new(), Vec::new());
    for key in keys {
        if key.len() != id.len() {
            return Err(QueryError::answer(
                format!("looking up rows of {}", table.name),
                format!("{key:?} as a key"),
            ));
        }
        let literals =
            key.iter().zip(&types).map(|(v, t)| v.as_ref().map(|v| format!("{}::{t}", quote_literal(v))));
        match literals.clone().collect::<Option<Vec<_>>>() {
            Some(all) => whole.push(format!("({})", all.join(","))),
            None => {
                let parts = names.iter().zip(literals).map(|(name, literal)| match literal {
                    Some(literal) => format!("{name} = {literal}"),
                    None => format!("{name} IS NULL"),
                });
                with_nulls.push(format!("({})", parts.collect::<Vec<_>>().join(" AND ")));
            }
        }
    }
    let mut alternatives = with_nulls;
    if !whole.is_empty() {
        alternatives.insert(0, format!("({}) IN ({})", names.join(","), whole.join(",")));
    }
    Ok(if alternatives.is_empty() { "false".to_owned() } else { alternatives.join(" OR ") })
}

/// Runs a lookup in a transaction of its own, and returns when what it saw cannot be lost any more.
///
/// The caller keeps the number of keys small (rows are held in memory), and checks that the snapshot sees the event that
/// made it ask: the stream delivers a commit before it is visible. Where this future is dropped or fails, the connection
/// may be left in a transaction: drop it too.
pub async fn lookup(client: &Client, sql: &str) -> Result<Found> {
    let found = snapshot(client).await?;
    let rows = read(client, sql).await?.try_collect().await?;
    client.batch_execute("COMMIT").await.doing(|| "ending a lookup".into())?;
    wait_flushed(client, &found).await?;
    Ok(Found { read: found, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnType, ReplicaIdentity, TableName};

    fn table() -> TableSchema {
        let column = |name: &str, sql_type: &str| Column {
            name: name.into(),
            column_type: ColumnType::scalar(23, -1),
            sql_type: sql_type.into(),
            not_null: true,
        };
        TableSchema {
            oid: 1,
            name: TableName { schema: "public".into(), name: "t".into() },
            columns: vec![column("a", "integer"), column("b\"", "text")],
            primary_key: vec![],
            identity: ReplicaIdentity::Full,
            row_filter: None,
            partitioned: false,
            deferrable_id: false,
            estimated_rows: 0,
        }
    }

    #[test]
    fn keys_are_quoted_cast_and_asked_for_by_is_null() {
        let id = ["a".to_owned(), "b\"".to_owned()];
        let keys = [vec![Some("1".into()), Some("it's".into())], vec![Some("2".into()), None]];
        assert_eq!(
            lookup_sql(&table(), &["a"], &id, Some("a > 0"), &keys).unwrap(),
            "COPY (SELECT \"a\" FROM ONLY \"public\".\"t\" WHERE (a > 0) AND ((\"a\",\"b\"\"\") IN \
             (('1'::integer,'it''s'::text)) OR (\"a\" = '2'::integer AND \"b\"\"\" IS NULL))) TO STDOUT"
        );
        assert!(lookup_sql(&table(), &["a"], &id, None, &[]).unwrap().contains("(false)"));
        assert!(lookup_sql(&table(), &["a"], &id, None, &[vec![None]]).is_err());
        assert!(lookup_sql(&table(), &["a"], &["c".to_owned()], None, &[]).is_err());
    }
}

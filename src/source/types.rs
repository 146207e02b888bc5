//! Types of the database: domains down to their base type, arrays to their elements.

use super::query_error::{Doing, Result};
use crate::model::{ColumnType, TypeCatalog};
use std::collections::HashMap;
use tokio_postgres::Client;

/// A true array type is one that its element names as `typarray`: `int2vector` has elements too, but other text.
const TYPES: &str = "
WITH RECURSIVE t AS (
  SELECT oid, typtype, typbasetype, typtypmod, typelem FROM pg_catalog.pg_type WHERE oid = ANY($1)
  UNION
  SELECT n.oid, n.typtype, n.typbasetype, n.typtypmod, n.typelem
    FROM t JOIN pg_catalog.pg_type n ON n.oid IN (t.typbasetype, t.typelem)
)
SELECT t.oid, CASE WHEN t.typtype = 'd' THEN t.typbasetype END, t.typtypmod, e.oid
  FROM t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid";

/// One row of `pg_type`, as far as it matters here.
struct TypeRow {
    base: Option<u32>,
    modifier: i32,
    element: Option<u32>,
}

/// Resolves types by oid (docs: "pg_type"): a domain becomes its base type with the domain's modifier, an array gets its
/// element, to any depth (domains over arrays, arrays of domains). An oid that does not exist is left out.
pub async fn load_types(client: &Client, oids: &[u32]) -> Result<TypeCatalog> {
    let rows = client.query(TYPES, &[&oids]).await.doing(|| "reading pg_type".into())?;
    let types: HashMap<u32, TypeRow> = rows
        .iter()
        .map(|r| (r.get(0), TypeRow { base: r.get(1), modifier: r.get(2), element: r.get(3) }))
        .collect();
    Ok(oids
        .iter()
        .filter(|oid| types.contains_key(oid))
        .map(|oid| (*oid, resolve(&types, *oid, -1)))
        .collect())
}

/// Types cannot contain themselves except through composites, which are not entered, so this ends.
fn resolve(types: &HashMap<u32, TypeRow>, oid: u32, modifier: i32) -> ColumnType {
    match types.get(&oid) {
        Some(TypeRow { base: Some(base), modifier: own, .. }) => resolve(types, *base, *own),
        Some(TypeRow { element: Some(element), .. }) => {
            ColumnType { oid, modifier, element: Some(Box::new(resolve(types, *element, modifier))) }
        }
        _ => ColumnType::scalar(oid, modifier),
    }
}

/// Gives a column's own modifier to its type; an array's belongs to its elements too (`numeric(10,2)[]`).
pub(super) fn with_modifier(mut column_type: ColumnType, modifier: i32) -> ColumnType {
    if modifier >= 0 {
        column_type.modifier = modifier;
        column_type.element = column_type.element.map(|e| Box::new(with_modifier(*e, modifier)));
    }
    column_type
}

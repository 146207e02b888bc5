//! What the catalog says of all tables, for `init`: no right on them is needed.

use super::query_error::{Doing, Result};
use crate::model::TableName;
use tokio_postgres::Client;

/// A table that may be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name.
    pub name: TableName,
    /// Is it the root of a partitioned table?
    pub partitioned: bool,
    /// Rows as of the last ANALYZE; `None` where there was none.
    pub estimated_rows: Option<i64>,
    /// Columns of the primary key, in its order.
    pub primary_key: Vec<String>,
    /// Has it a replica identity, so that its UPDATE and DELETE can be published?
    pub has_identity: bool,
}

const INVENTORY: &str = "
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind = 'p',
       (SELECT pg_catalog.sum(l.reltuples)::pg_catalog.int8 FROM pg_catalog.pg_class l
         WHERE l.reltuples >= 0 AND l.relkind = 'r' AND (l.oid = c.oid OR l.oid = ANY(ARRAY(
               SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(c.oid) t)))),
       ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_index i
               CROSS JOIN LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, n)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
              WHERE i.indrelid = c.oid AND i.indisprimary AND k.n <= i.indnkeyatts ORDER BY k.n),
       CASE c.relreplident WHEN 'f' THEN true WHEN 'n' THEN false
            WHEN 'd' THEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
            ELSE EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident) END
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
   AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
 ORDER BY 1, 2";

/// Lists the tables that can be followed, as `catalog::list_tables` does.
///
/// # Errors
/// The query failed.
pub async fn inventory(client: &Client) -> Result<Vec<Listed>> {
    let rows = client.query(INVENTORY, &[]).await.doing(|| "listing tables".into())?;
    let listed = rows.iter().map(|row| Listed {
        name: TableName { schema: row.get(0), name: row.get(1) },
        partitioned: row.get(2),
        estimated_rows: row.get(3),
        primary_key: row.get(4),
        has_identity: row.get(5),
    });
    Ok(listed.collect())
}

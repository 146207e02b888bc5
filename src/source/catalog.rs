//! What the catalog and the publications say about one table.

use super::{
    query_error::{Doing, QueryError, Result},
    types::load_types,
};
use crate::model::{Column, ReplicaIdentity, TableName, TableSchema, quote_identifier};
use tokio_postgres::{Client, Row};

/// Partitions hold the rows, so a root's estimate is the sum over them; -1 means never analyzed (docs: "pg_class").
const CLASS: &str = "
SELECT c.oid, c.relkind::pg_catalog.text, c.relpersistence::pg_catalog.text,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       pg_catalog.row_security_active(c.oid),
       (CASE WHEN c.relkind = 'p' THEN coalesce(
          (SELECT pg_catalog.sum(p.reltuples) FROM pg_catalog.pg_partition_tree(c.oid) t
             JOIN pg_catalog.pg_class p ON p.oid = t.relid WHERE t.isleaf AND p.reltuples >= 0), -1)
        ELSE c.reltuples END)::pg_catalog.int8,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid),
       current_user::pg_catalog.text,
       (SELECT pg_catalog.string_agg(p.oid::pg_catalog.regclass::pg_catalog.text, ', ')
          FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class p ON p.oid = t.relid
         WHERE c.relkind = 'p' AND (p.relkind = 'f' OR t.isleaf AND p.relpersistence <> 'p'))
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::pg_catalog.text AND c.relname = $2::pg_catalog.text";

const COLUMNS: &str = "
SELECT a.attname::pg_catalog.text, a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod),
       a.attnotnull, a.attgenerated <> '', pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       a.attgenerated = 'v'
         OR a.attgenerated <> '' AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 180000
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// `attnames` and `rowfilter` came with PostgreSQL 15; through jsonb a column that is not there is NULL.
const PUBLISHED: &str = "
SELECT t.pubname::pg_catalog.text,
       ARRAY(SELECT pg_catalog.jsonb_array_elements_text(pg_catalog.to_jsonb(t)->'attnames') ORDER BY 1),
       pg_catalog.to_jsonb(t)->>'rowfilter'
  FROM pg_catalog.pg_publication_tables t
 WHERE t.pubname = ANY($1) AND t.schemaname = $2::pg_catalog.text AND t.tablename = $3::pg_catalog.text
 ORDER BY 1";

/// Key columns of the primary key (INCLUDE columns lie behind `indnkeyatts`).
const PRIMARY_KEY: &str = "
SELECT a.attname::pg_catalog.text
  FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, n), pg_catalog.pg_attribute a
 WHERE i.indrelid = $1 AND i.indisprimary AND k.n <= i.indnkeyatts
   AND a.attrelid = i.indrelid AND a.attnum = k.attnum
 ORDER BY k.n";

/// Identities of the relations that hold rows: of a partitioned table that is every leaf, because ALTER TABLE …
/// REPLICA IDENTITY does not descend and changes are logged with the leaf's. A deferrable key is none (`indimmediate`).
const IDENTITIES: &str = "
SELECT r.relreplident::pg_catalog.text,
       ARRAY(SELECT a.attname::pg_catalog.text
               FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, n),
                    pg_catalog.pg_attribute a
              WHERE i.indrelid = r.oid AND i.indimmediate AND i.indisvalid AND k.n <= i.indnkeyatts
                AND CASE r.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
                AND a.attrelid = i.indrelid AND a.attnum = k.attnum
              ORDER BY k.n)
  FROM pg_catalog.pg_class r
 WHERE r.oid = ANY(ARRAY(SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid) t
                          WHERE t.isleaf) || $1::pg_catalog.oid)
 ORDER BY r.relkind = 'p'";

/// Reads a table as it is published: its published columns, key, identity and row filter.
///
/// Where no publication of the list has the table, it is described with all columns that a new publication would send.
pub async fn load_table(
    client: &Client,
    schema: &str,
    name: &str,
    publications: &[String],
) -> Result<TableSchema> {
    let table = TableName { schema: schema.to_owned(), name: name.to_owned() };
    let doing = || format!("reading the catalog for {table}");
    let Some(class) = client.query_opt(CLASS, &[&schema, &name]).await.doing(doing)? else {
        let near = near_names(client, &table).await?;
        return Err(QueryError::NoTable { table, near });
    };
    let oid: u32 = class.get(0);
    let partitioned = must_be_followable(&table, class.get(1), class.get(2), class.get(8))?;
    let role: String = class.get(7);
    if class.get(6) {
        tracing::warn!(%table, "the table has inheritance children; their rows are not read, configure them by name");
    }

    let published = client.query(PUBLISHED, &[&publications, &schema, &name]).await.doing(doing)?;
    let published = agreement(&table, &published)?;
    let rows = client.query(COLUMNS, &[&oid]).await.doing(doing)?;
    let oids: Vec<u32> = rows.iter().map(|r| r.get(1)).collect();
    let types = load_types(client, &oids).await?;
    let mut columns = Vec::with_capacity(rows.len());
    let mut unreadable = Vec::new();
    for row in &rows {
        let name: String = row.get(0);
        // A virtual column is never sent, and before 18 no generated one, although the attnames of 15 have them; from 18
        // on the publication decides.
        let listed = match &published {
            Some(p) if !p.columns.is_empty() => p.columns.contains(&name) && !row.get::<_, bool>(7),
            _ => !row.get::<_, bool>(5),
        };
        if !listed {
            continue;
        }
        if !row.get::<_, bool>(6) {
            unreadable.push(name.clone());
        }
        let declared = row.get::<_, u32>(1);
        let column_type = types
            .get(&declared)
            .cloned()
            .ok_or_else(|| QueryError::answer(doing(), format!("type {declared} of column {name}")))?;
        columns.push(Column {
            column_type: column_type.with_modifier(row.get(2)),
            sql_type: row.get(3),
            not_null: row.get(4),
            name,
        });
    }
    must_be_readable(&table, &role, class.get(3), class.get(4), &unreadable)?;

    let primary_key = client.query(PRIMARY_KEY, &[&oid]).await.doing(doing)?;
    let identities = client.query(IDENTITIES, &[&oid]).await.doing(doing)?;
    Ok(TableSchema {
        oid,
        columns,
        primary_key: primary_key.iter().map(|r| r.get(0)).collect(),
        identity: common_identity(&identities, partitioned),
        row_filter: published.and_then(|p| p.filter),
        partitioned,
        deferrable_id: false,
        estimated_rows: class.get(5),
        name: table,
    })
}

/// The tables that can be followed: plain ones and roots of partitioned ones, in the database's own schemas.
pub async fn list_tables(client: &Client) -> Result<Vec<TableName>> {
    let sql = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
                  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                ORDER BY 1, 2";
    let rows = client.query(sql, &[]).await.doing(|| "listing tables".into())?;
    Ok(rows.iter().map(|row| TableName { schema: row.get(0), name: row.get(1) }).collect())
}

/// Names of all columns of a table, published or not.
pub async fn column_names(client: &Client, table: &TableSchema) -> Result<Vec<String>> {
    let rows = client.query(COLUMNS, &[&table.oid]).await;
    let rows = rows.doing(|| format!("reading the columns of {}", table.name))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Only plain and partitioned tables that write WAL can be published (docs: "CREATE PUBLICATION"). Is it partitioned?
/// `silent` are partitions without changes in the WAL.
fn must_be_followable(
    table: &TableName,
    relkind: &str,
    persistence: &str,
    silent: Option<&str>,
) -> Result<bool> {
    let refuse = |kind, cure: String| Err(QueryError::NotATable { table: table.clone(), kind, cure });
    let tables = || "name the tables it reads, or use `query` and `root`".to_owned();
    match (relkind, persistence) {
        ("r" | "p", "u") => refuse(
            "an unlogged table, whose changes are not in the WAL",
            format!("run ALTER TABLE {} SET LOGGED", table.quoted()),
        ),
        ("r" | "p", "t") => refuse("a temporary table", "name a permanent table".into()),
        ("r", _) => Ok(false),
        ("p", _) => match silent {
            None => Ok(true),
            Some(partitions) => refuse(
                "partitioned, with partitions whose changes are not in the WAL",
                format!(
                    "{partitions}: SET LOGGED if unlogged, DETACH if foreign; or name the other partitions one by one"
                ),
            ),
        },
        ("v", _) => refuse("a view, which has no changes of its own", tables()),
        ("m", _) => refuse("a materialized view, which cannot be published", tables()),
        ("f", _) => {
            refuse("a foreign table, whose changes are on another server", "run pg2os against it".into())
        }
        _ => refuse("not a table", "name a table".into()),
    }
}

fn must_be_readable(
    table: &TableName,
    role: &str,
    schema_usage: bool,
    row_security: bool,
    unreadable: &[String],
) -> Result<()> {
    let (mut what, mut sql) = (Vec::new(), Vec::new());
    let to = quote_identifier(role);
    if !schema_usage {
        what.push(format!("USAGE on schema {}", table.schema));
        sql.push(format!("GRANT USAGE ON SCHEMA {} TO {to};", quote_identifier(&table.schema)));
    }
    if !unreadable.is_empty() {
        what.push(format!("SELECT on {}", unreadable.join(", ")));
        sql.push(format!("GRANT SELECT ON {} TO {to};", table.quoted()));
    }
    if !sql.is_empty() {
        return Err(QueryError::NoSelect {
            table: table.clone(),
            role: role.to_owned(),
            what: what.join(", "),
            sql: sql.join(" "),
        });
    }
    if row_security {
        return Err(QueryError::RowSecurity {
            table: table.clone(),
            role: role.to_owned(),
            sql: format!("ALTER ROLE {to} BYPASSRLS;"),
        });
    }
    Ok(())
}

/// What the publications that have the table say about it.
struct Published {
    /// Published columns; empty where the server has no column lists (14).
    columns: Vec<String>,
    filter: Option<String>,
}

/// pgoutput refuses different column lists and joins different filters by OR: neither is what a reader expects.
fn agreement(table: &TableName, rows: &[Row]) -> Result<Option<Published>> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (columns, filter): (Vec<String>, Option<String>) = (first.get(1), first.get(2));
    for row in &rows[1..] {
        let differ = |what, ours: String, theirs: String| {
            Err(QueryError::PublicationsDiffer {
                table: table.clone(),
                what,
                first: format!("{}: {ours}", first.get::<_, String>(0)),
                second: format!("{}: {theirs}", row.get::<_, String>(0)),
            })
        };
        let (theirs, other): (Vec<String>, Option<String>) = (row.get(1), row.get(2));
        if theirs != columns {
            return differ("column lists", columns.join(", "), theirs.join(", "));
        }
        if other != filter {
            let text = |f: Option<String>| f.unwrap_or_else(|| "none".into());
            return differ("row filters", text(filter), text(other));
        }
    }
    Ok(Some(Published { columns, filter }))
}

/// The identity that all relations with rows have in common; the root's own counts only while it has no partitions.
fn common_identity(rows: &[Row], partitioned: bool) -> ReplicaIdentity {
    let leaves = if partitioned && rows.len() > 1 { &rows[..rows.len() - 1] } else { rows };
    let identity = |row: &Row| match (row.get::<_, String>(0).as_str(), row.get::<_, Vec<String>>(1)) {
        ("f", _) => ReplicaIdentity::Full,
        ("d" | "i", columns) if !columns.is_empty() => ReplicaIdentity::Columns(columns),
        _ => ReplicaIdentity::Nothing,
    };
    leaves.iter().map(identity).reduce(meet).unwrap_or(ReplicaIdentity::Nothing)
}

/// The old columns that are sent under both identities.
fn meet(a: ReplicaIdentity, b: ReplicaIdentity) -> ReplicaIdentity {
    use ReplicaIdentity::{Columns, Full, Nothing};
    match (a, b) {
        (Nothing, _) | (_, Nothing) => Nothing,
        (Full, other) | (other, Full) => other,
        (Columns(a), Columns(b)) => {
            let both: Vec<String> = a.into_iter().filter(|c| b.contains(c)).collect();
            if both.is_empty() { Nothing } else { Columns(both) }
        }
    }
}

/// Up to three tables whose names are close to the one that was not found.
async fn near_names(client: &Client, table: &TableName) -> Result<Vec<String>> {
    let sql = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                LIMIT 20000";
    let rows = client.query(sql, &[]).await.doing(|| "listing tables".into())?;
    let wanted = table.to_string();
    let mut near: Vec<(f64, String)> = rows
        .iter()
        .map(|r| {
            let (schema, name): (String, String) = (r.get(0), r.get(1));
            let full = format!("{schema}.{name}");
            let likeness =
                if name == table.name { 1.0 } else { strsim::normalized_damerau_levenshtein(&full, &wanted) };
            (likeness, full)
        })
        .filter(|(likeness, _)| *likeness > 0.7)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    Ok(near.into_iter().take(3).map(|(_, name)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_with_different_identities_have_only_what_they_share() {
        use ReplicaIdentity::{Columns, Full, Nothing};
        let columns = |names: &[&str]| Columns(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(meet(Full, columns(&["a"])), columns(&["a"]));
        assert_eq!(meet(columns(&["a", "b"]), columns(&["b", "c"])), columns(&["b"]));
        assert_eq!(meet(columns(&["a"]), columns(&["b"])), Nothing);
        assert_eq!(meet(Full, Nothing), Nothing);
        assert_eq!(meet(Full, Full), Full);
    }
}

//! The shapes of tables as the catalog has them, and what only their rows can tell about a change of shape.
//!
//! One look is one transaction (REPEATABLE READ, READ ONLY), so that its answers belong together.

use super::query_error::{Doing, QueryError, Result};
use crate::model::{Attribute, Lsn, Origin, Storage, TableName, TableShape, Xid};
use serde::Deserialize;
use tokio_postgres::Client;

/// A column's `attnum` -6 (`tableoid`) is written when the relation is made and never again. `attnames` and `rowfilter` of
/// a publication came with PostgreSQL 15; before, every column but the generated ones is sent.
/// Before 18 no generated column is sent, although `attnames` has them, and a virtual one never is.
const LOOK: &str = "
WITH published AS MATERIALIZED (
  SELECT t.schemaname, t.tablename, t.pubname, pg_catalog.to_jsonb(t)->>'rowfilter' AS filter,
         ARRAY(SELECT pg_catalog.jsonb_array_elements_text(pg_catalog.to_jsonb(t)->'attnames')) AS columns,
         pg_catalog.format('%s/%s/%s', p.oid, p.xmin, coalesce(r.oid, 0)) AS entry
    FROM pg_catalog.pg_publication_tables t
    JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname
    JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
    LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
   WHERE t.pubname = ANY($4)
)
SELECT pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text,
       (SELECT pg_catalog.jsonb_build_array(kn.nspname, k.relname)::pg_catalog.text
          FROM pg_catalog.pg_class k JOIN pg_catalog.pg_namespace kn ON kn.oid = k.relnamespace WHERE k.oid = w.known),
       (SELECT pg_catalog.jsonb_build_object(
          'oid', c.oid::pg_catalog.int8,
          'horizon', pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8,
          'filter', one.filter,
          'publications', (SELECT coalesce(pg_catalog.jsonb_agg(p.entry ORDER BY p.entry), '[]') FROM published p
                            WHERE p.schemaname = n.nspname AND p.tablename = c.relname),
          'primary_key', (SELECT coalesce(pg_catalog.jsonb_agg(k.attnum ORDER BY k.n), '[]')
             FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, n)
            WHERE i.indrelid = c.oid AND i.indisprimary AND k.n <= i.indnkeyatts),
          'attributes', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'number', a.attnum, 'name', a.attname, 'type_oid', a.atttypid::pg_catalog.int8,
               'sql_type', pg_catalog.format_type(a.atttypid, a.atttypmod),
               'published', CASE WHEN one.columns IS NULL THEN false WHEN one.columns = '{}' THEN a.attgenerated = ''
                                 ELSE a.attname = ANY(one.columns) AND NOT (a.attgenerated = 'v' OR a.attgenerated <> ''
                                   AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 180000) END,
               'labels', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(e.oid::pg_catalog.int8, e.enumlabel)
                                                               ORDER BY e.oid), '[]')
                  FROM pg_catalog.pg_type y JOIN pg_catalog.pg_enum e ON e.enumtypid IN (y.oid, y.typelem)
                 WHERE y.oid = a.atttypid)) ORDER BY a.attnum), '[]')
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
          'storage', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'oid', s.oid::pg_catalog.int8, 'name', pg_catalog.format('%s.%s', sn.nspname, s.relname),
               'file', s.relfilenode::pg_catalog.int8, 'leaf', s.relkind <> 'p',
               'changed_by', s.xmin::pg_catalog.text::pg_catalog.int8, 'made_by', m.xmin::pg_catalog.text::pg_catalog.int8,
               'parent', i.inhparent::pg_catalog.int8, 'joined_by', i.xmin::pg_catalog.text::pg_catalog.int8,
               'joined_at', i.cmin::pg_catalog.text::pg_catalog.int8) ORDER BY s.oid)
             FROM pg_catalog.pg_class s
             JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
             JOIN pg_catalog.pg_attribute m ON m.attrelid = s.oid AND m.attnum = -6
             LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = s.oid AND s.relispartition
            WHERE s.oid = c.oid OR s.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) t))
        )::pg_catalog.text
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN LATERAL (SELECT p.filter, p.columns FROM published p
                            WHERE p.schemaname = n.nspname AND p.tablename = c.relname ORDER BY p.pubname LIMIT 1) one ON true
       WHERE n.nspname = w.schema AND c.relname = w.name)
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]),
                  pg_catalog.unnest($3::pg_catalog.oid[])) WITH ORDINALITY w(schema, name, known, n) ORDER BY w.n";

/// How many transaction ids may be compared by `age()`, with room to spare (docs: "Preventing Transaction ID Wraparound
/// Failures").
const COMPARABLE: u64 = 1 << 30;

/// What stands under the name of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A table.
    Table(TableShape),
    /// Nothing; the table that is known has this name now.
    Renamed(TableName),
    /// Nothing, and the table that is known is gone.
    Gone,
}

/// What the catalog says about the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// In the order in which they were asked for.
    pub tables: Vec<Found>,
    /// The changes that it shows were sent once the stream has passed this position.
    pub at: Lsn,
}

#[derive(Deserialize)]
struct Shape {
    oid: u32,
    horizon: u64,
    filter: Option<String>,
    publications: Vec<String>,
    primary_key: Vec<i16>,
    attributes: Vec<Attribute>,
    storage: Vec<Relation>,
}

#[derive(Deserialize)]
struct Relation {
    oid: u32,
    name: String,
    file: u32,
    leaf: bool,
    changed_by: u32,
    made_by: u32,
    parent: Option<u32>,
    joined_by: Option<u32>,
    joined_at: Option<u32>,
}

/// Begins a look. The caller ends it with COMMIT, or drops the connection.
pub async fn begin(client: &Client) -> Result<()> {
    let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(sql).await.doing(|| "beginning to read the catalog".into())
}

/// Reads the shapes of `tables`, each with the oid that it is known by.
///
/// # Errors
/// The query failed.
pub async fn look(
    client: &Client,
    tables: &[(&TableName, Option<u32>)],
    publications: &[String],
) -> Result<Look> {
    let doing = || "reading the catalog".to_owned();
    let schemas: Vec<&str> = tables.iter().map(|(name, _)| name.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|(name, _)| name.name.as_str()).collect();
    let known: Vec<Option<u32>> = tables.iter().map(|(_, known)| *known).collect();
    let rows = client.query(LOOK, &[&schemas, &names, &known, &publications]).await.doing(doing)?;
    let (mut found, mut at) = (vec![], Lsn::ZERO);
    for row in &rows {
        let bad = |text: &str| QueryError::answer(doing(), text);
        let (lsn, now, shape): (String, Option<String>, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        at = lsn.parse().map_err(|_| bad(&lsn))?;
        found.push(match (shape, now) {
            (Some(json), _) => Found::Table(shape_of(serde_json::from_str(&json).map_err(|_| bad(&json))?)),
            (None, Some(json)) => {
                let (schema, name) = serde_json::from_str(&json).map_err(|_| bad(&json))?;
                Found::Renamed(TableName { schema, name })
            }
            (None, None) => Found::Gone,
        });
    }
    Ok(Look { tables: found, at })
}

fn shape_of(shape: Shape) -> TableShape {
    let storage = |relation: &Relation| {
        let mut links = vec![];
        let mut origin =
            Origin { changed_by: relation.changed_by, born_in: Some(relation.made_by), joined_at: 0 };
        let mut at = relation;
        // Up to the root: it is a partition of it from birth only if everything between is.
        while let Some(joined_by) = at.joined_by.filter(|_| at.oid != shape.oid) {
            links.push(joined_by);
            if joined_by != at.made_by {
                origin.born_in = None;
            } else if joined_by == relation.made_by {
                origin.joined_at = origin.joined_at.max(at.joined_at.unwrap_or(u32::MAX));
            }
            match shape.storage.iter().find(|above| Some(above.oid) == at.parent) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        Storage { oid: relation.oid, name: relation.name.clone(), file: relation.file, links, origin }
    };
    TableShape {
        oid: shape.oid,
        storage: shape.storage.iter().filter(|relation| relation.leaf).map(storage).collect(),
        attributes: shape.attributes,
        primary_key: shape.primary_key,
        publications: shape.publications,
        filter: shape.filter,
        horizon: Xid(shape.horizon),
    }
}

/// Have rows that were there a value in a column that was added since (`atthasmissing`; docs: "ALTER TABLE", "Notes")?
/// Partitions have it, their root has not.
pub async fn is_filled_by_default(client: &Client, shape: &TableShape, column: &str) -> Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = ANY($1) AND a.attname = $2
                AND a.atthasmissing)";
    let oids: Vec<u32> = shape.storage.iter().map(|s| s.oid).collect();
    let row = client.query_one(sql, &[&oids, &column]).await;
    Ok(row.doing(|| format!("asking for the default of column {column}"))?.get(0))
}

/// Has `partition` rows from before it was one? They were not sent.
///
/// Of one that was born as a partition only its own transaction can have written before that, in an earlier command. A
/// row that somebody deletes or locks may hide its command, so it counts.
pub async fn has_rows_from_before(
    client: &Client,
    table: &TableName,
    root: u32,
    partition: &Storage,
) -> Result<bool> {
    let Origin { born_in, joined_at, .. } = partition.origin;
    let before = match born_in {
        None => "true".to_owned(),
        Some(xid) => format!(
            "xmin::text = '{xid}' AND (cmin::text::pg_catalog.int8 < {joined_at} OR xmax::text <> '0')"
        ),
    };
    exists(client, table, root, partition, &before).await
}

/// Is a row still in `relation` that was there before `horizon`? Then its rows were moved (VACUUM FULL, CLUSTER, another
/// tablespace), which keeps the transaction that wrote them; TRUNCATE and ALTER TABLE leave no such row.
pub async fn has_rows_older_than(
    client: &Client,
    table: &TableName,
    shape: &TableShape,
    relation: &Storage,
    horizon: Xid,
) -> Result<bool> {
    if shape.horizon.0.saturating_sub(horizon.0) > COMPARABLE {
        return Ok(false);
    }
    let older = format!("pg_catalog.age(xmin) > pg_catalog.age('{}'::pg_catalog.xid)", horizon.0 as u32);
    exists(client, table, shape.oid, relation, &older).await
}

/// Asks through the root, on which the role has SELECT, for rows of one partition; its constraint spares the others.
async fn exists(
    client: &Client,
    table: &TableName,
    root: u32,
    relation: &Storage,
    condition: &str,
) -> Result<bool> {
    let doing = || format!("looking for rows of {}", relation.name);
    let (mut from, mut only) = (table.quoted(), String::new());
    if relation.oid == root {
        from.insert_str(0, "ONLY ");
    } else {
        let sql = "SELECT coalesce(pg_catalog.pg_get_partition_constraintdef($1), 'true')";
        let constraint: String = client.query_one(sql, &[&relation.oid]).await.doing(doing)?.get(0);
        only = format!("tableoid = '{}'::pg_catalog.oid AND ({constraint}) AND ", relation.oid);
    }
    let sql = format!("SELECT EXISTS (SELECT FROM {from} WHERE {only}({condition}))");
    Ok(client.query_one(&sql, &[]).await.doing(doing)?.get(0))
}

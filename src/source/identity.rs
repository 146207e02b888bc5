//! Ids against the table: every id column must come with each change, and no two rows may share an id.

use super::query_error::{Doing, QueryError, Result};
use crate::model::{ReplicaIdentity, TableSchema, quote_identifier, quote_literal};
use tokio_postgres::Client;

/// What the configuration says that relaxes the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRules<'a> {
    /// Only inserts are followed, so no old row is needed.
    pub append_only: bool,
    /// `id_unique: asserted`.
    pub unique_asserted: bool,
    /// The column that documents are routed by: old rows must carry it as they must carry the id.
    pub routing: Option<&'a str>,
}

/// When two rows cannot have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uniqueness {
    /// At no time.
    Immediate,
    /// When a transaction ends; within it rows may swap their ids.
    Deferrable,
}

/// A unique index of the table (docs: "pg_index").
struct UniqueIndex {
    name: String,
    columns: Vec<String>,
    immediate: bool,
    partial: bool,
    expressions: bool,
    /// Rows that are NULL in a key column could repeat.
    nulls_repeat: bool,
}

/// `indnullsnotdistinct` came with PostgreSQL 15; through jsonb a column that is not there is NULL.
const UNIQUE_INDEXES: &str = "
SELECT c.relname::pg_catalog.text, pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.n),
       i.indimmediate, i.indpred IS NOT NULL, i.indexprs IS NOT NULL,
       NOT pg_catalog.bool_and(a.attnotnull)
         AND NOT coalesce((pg_catalog.to_jsonb(i)->>'indnullsnotdistinct')::pg_catalog.bool, false)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY k(attnum, n) ON k.n <= i.indnkeyatts
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
 WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid
 GROUP BY c.relname, i.indexrelid, i.*
 ORDER BY bool_or(i.indisprimary) DESC, c.relname";

/// Checks the id columns (`docs/architecture.md`, "Ids") and the one of routing: each exists, is published and is in the
/// replica identity (docs: "Publication", "replica identity"); together the id columns cover a unique index that is not
/// partial and in which NULLs cannot repeat, unless uniqueness is asserted.
pub async fn check_id(
    client: &Client,
    table: &TableSchema,
    id: &[String],
    rules: IdRules<'_>,
) -> Result<Uniqueness> {
    if id.is_empty() {
        return Err(QueryError::NoId(table.name.clone()));
    }
    let key: Vec<String> = id.iter().cloned().chain(rules.routing.map(str::to_owned)).collect();
    for column in &key {
        if table.column(column).is_none() {
            return Err(unknown_column(client, table, column).await?);
        }
    }
    let outside: Vec<&str> = key.iter().map(String::as_str).filter(|c| !in_identity(table, c)).collect();
    if !outside.is_empty() && !rules.append_only {
        return Err(QueryError::IdNotInIdentity {
            table: table.name.clone(),
            columns: outside.join(", "),
            identity: describe(&table.identity),
            sql: identity_cure(client, table, &key).await?,
        });
    }
    let indexes = unique_indexes(client, table).await?;
    let covered = |i: &&UniqueIndex| !i.expressions && i.columns.iter().all(|c| id.contains(c));
    let whole: Vec<_> = indexes.iter().filter(covered).filter(|i| !i.partial && !i.nulls_repeat).collect();
    if whole.iter().any(|i| i.immediate) {
        return Ok(Uniqueness::Immediate);
    }
    if !whole.is_empty() {
        return Ok(Uniqueness::Deferrable);
    }
    if rules.unique_asserted {
        return Ok(Uniqueness::Immediate);
    }
    let found: Vec<String> = indexes
        .iter()
        .filter(covered)
        .map(|i| {
            let flaw = match i {
                UniqueIndex { partial: true, .. } => "is partial",
                _ => "lets rows repeat where a column is NULL (SET NOT NULL cures that)",
            };
            format!("{} {flaw}", quote_identifier(&i.name))
        })
        .collect();
    Err(QueryError::IdNotUnique {
        table: table.name.clone(),
        id: id.iter().map(|c| quote_identifier(c)).collect::<Vec<_>>().join(", "),
        found: if found.is_empty() { String::new() } else { format!(" ({})", found.join("; ")) },
    })
}

/// Does an UPDATE or DELETE send the old value of this column?
pub(super) fn in_identity(table: &TableSchema, column: &str) -> bool {
    match &table.identity {
        ReplicaIdentity::Full => true,
        ReplicaIdentity::Columns(columns) => columns.iter().any(|c| c == column),
        ReplicaIdentity::Nothing => false,
    }
}

/// The statement after which the columns are in the replica identity: by a unique index that has them all where there
/// is one (it must be immediate, whole, on plain NOT NULL columns; docs: "ALTER TABLE … REPLICA IDENTITY"), else FULL.
///
/// ALTER TABLE on a partitioned root does not reach its partitions, so there it is said for each of them.
pub(super) async fn identity_cure(
    client: &Client,
    table: &TableSchema,
    columns: &[String],
) -> Result<String> {
    let name = table.name.quoted();
    if table.partitioned {
        return Ok(format!(
            "DO $$ DECLARE leaf pg_catalog.regclass; BEGIN FOR leaf IN SELECT relid FROM pg_catalog.pg_partition_tree({}) \
             WHERE isleaf LOOP EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL', leaf); END LOOP; END $$; \
             (and for each partition that is made later)",
            quote_literal(&name)
        ));
    }
    let indexes = unique_indexes(client, table).await?;
    let fits = |i: &&UniqueIndex| {
        i.immediate
            && !i.partial
            && !i.expressions
            && columns.iter().all(|c| i.columns.contains(c))
            && i.columns.iter().all(|c| table.column(c).is_some_and(|c| c.not_null))
    };
    Ok(match indexes.iter().find(fits) {
        Some(index) if !columns.is_empty() => {
            format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {};", quote_identifier(&index.name))
        }
        _ => format!("ALTER TABLE {name} REPLICA IDENTITY FULL;"),
    })
}

async fn unique_indexes(client: &Client, table: &TableSchema) -> Result<Vec<UniqueIndex>> {
    let rows = client
        .query(UNIQUE_INDEXES, &[&table.oid])
        .await
        .doing(|| format!("reading the indexes of {}", table.name))?;
    Ok(rows
        .iter()
        .map(|r| UniqueIndex {
            name: r.get(0),
            columns: r.get(1),
            immediate: r.get(2),
            partial: r.get(3),
            expressions: r.get(4),
            nulls_repeat: r.get(5),
        })
        .collect())
}

async fn unknown_column(client: &Client, table: &TableSchema, column: &str) -> Result<QueryError> {
    let sql = "SELECT a.attgenerated <> '' FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = $1 AND a.attname = $2::pg_catalog.text AND a.attnum > 0 AND NOT a.attisdropped";
    let row = client
        .query_opt(sql, &[&table.oid, &column])
        .await
        .doing(|| format!("reading the columns of {}", table.name))?;
    let problem = match row.map(|r| r.get::<_, bool>(0)) {
        Some(true) => "is generated, and changes do not carry it: choose another column".to_owned(),
        Some(false) => "is not published: add it to the publication's column list".to_owned(),
        None => {
            let near = table
                .columns
                .iter()
                .map(|c| (strsim::normalized_damerau_levenshtein(&c.name, column), c))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .filter(|(likeness, _)| *likeness > 0.5);
            match near {
                Some((_, c)) => format!("does not exist: did you mean `{}`?", c.name),
                None => "does not exist: name a column of the table in `id`".to_owned(),
            }
        }
    };
    Ok(QueryError::IdColumn { table: table.name.clone(), column: column.to_owned(), problem })
}

pub(super) fn describe(identity: &ReplicaIdentity) -> String {
    match identity {
        ReplicaIdentity::Full => "all columns".into(),
        ReplicaIdentity::Columns(columns) => columns.join(", "),
        ReplicaIdentity::Nothing => "none".into(),
    }
}

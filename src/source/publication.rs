//! The publication: is it what the stream needs, and if not, make it or say what an administrator must run.

use super::{
    admin_sql::{self, render},
    identity::{describe, identity_cure},
    query_error::{Doing, QueryError, Result, describe_db},
    server::version_num,
};
use crate::model::{ReplicaIdentity, TableName, TableSchema, quote_identifier};
use std::collections::HashMap;
use tokio_postgres::{Client, SimpleQueryMessage, error::SqlState};

/// A table that has to be in the publication.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The table.
    pub table: &'a TableSchema,
    /// Its configured row filter; `None` takes the one in force.
    pub filter: Option<&'a str>,
}

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actions {
    /// Insert, update, delete and truncate.
    All,
    /// Insert and truncate, for tables without a replica identity (`append_only`): their UPDATE and DELETE go on working.
    InsertOnly,
}

impl Actions {
    fn publish(self) -> &'static str {
        match self {
            Actions::All => "insert, update, delete, truncate",
            Actions::InsertOnly => "insert, truncate",
        }
    }
}

/// What `ensure` found or did. After `Created` and `TableAdded` the tables concerned need a new floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicationState {
    /// It was there, with all tables.
    Existed,
    /// It was made.
    Created,
    /// Tables were added to it.
    TableAdded,
}

/// What is still to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it makes.
    pub state: PublicationState,
    /// The statement.
    pub sql: String,
}

/// Checks the publication and makes what is missing where our role may (docs: "CREATE PUBLICATION", "Notes": CREATE on
/// the database and ownership of the tables), else says the exact SQL.
pub async fn ensure(
    client: &Client,
    publication: &str,
    actions: Actions,
    tables: &[Wanted<'_>],
) -> Result<PublicationState> {
    let Some(missing) = inspect(client, publication, actions, tables).await? else {
        return Ok(PublicationState::Existed);
    };
    match client.batch_execute(&missing.sql).await {
        Ok(()) => {
            tracing::info!(publication, sql = missing.sql, "publication changed");
            Ok(missing.state)
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let said = error.as_db_error().map(describe_db).unwrap_or_default();
            Err(QueryError::NeedsAdministrator {
                what: match missing.state {
                    PublicationState::Created => {
                        format!("publication {publication} does not exist, and may not be made ({said})")
                    }
                    _ => format!("publication {publication} lacks tables, and may not be changed ({said})"),
                },
                sql: missing.sql,
            })
        }
        // Another instance was faster, or as fast: what it made is looked at like any other.
        Err(error)
            if error.code().is_some_and(|code| {
                [SqlState::DUPLICATE_OBJECT, SqlState::UNIQUE_VIOLATION].contains(code)
            }) =>
        {
            match inspect(client, publication, actions, tables).await? {
                None => Ok(PublicationState::Existed),
                Some(_) => Err(error).doing(|| format!("making publication {publication}")),
            }
        }
        Err(error) => Err(error).doing(|| format!("making publication {publication}")),
    }
}

/// In the order of `pg_publication`.
const ACTIONS: [&str; 4] = ["insert", "update", "delete", "truncate"];

fn harm(table: &TableName) -> String {
    format!("publishes update or delete, so those of {table}, which has no replica identity, fail")
}

/// Refuses a publication by which the application's own UPDATE and DELETE of one of these tables fail: they have no
/// replica identity, and belong into one of inserts alone.
///
/// # Errors
/// The first such table, with the statement that cures it.
pub async fn must_not_harm(client: &Client, publication: &str, tables: &[Wanted<'_>]) -> Result<()> {
    let sql = "SELECT puballtables FROM pg_catalog.pg_publication
                WHERE pubname = $1::pg_catalog.text AND (pubupdate OR pubdelete)";
    let found = client.query_opt(sql, &[&publication]).await;
    let Some(found) = found.doing(|| format!("reading publication {publication}"))? else { return Ok(()) };
    let harmed = tables.iter().map(|w| w.table).find(|table| table.identity == ReplicaIdentity::Nothing);
    let Some(table) = harmed else { return Ok(()) };
    let sql = if found.get(0) {
        identity_cure(client, table, &[]).await?
    } else {
        let only = if table.partitioned { "" } else { "ONLY " };
        let (publication, table) = (quote_identifier(publication), table.name.quoted());
        format!("ALTER PUBLICATION {publication} DROP TABLE {only}{table};")
    };
    Err(QueryError::Publication { publication: publication.to_owned(), problem: harm(&table.name), sql })
}

/// Is there such a publication?
pub async fn exists(client: &Client, publication: &str) -> Result<bool> {
    let sql = "SELECT FROM pg_catalog.pg_publication WHERE pubname = $1::pg_catalog.text";
    let found = client.query_opt(sql, &[&publication]).await;
    Ok(found.doing(|| format!("reading publication {publication}"))?.is_some())
}

/// The row filter that windows and lookups of a table with `where` follow: the one in force, where a publication has
/// the table, else the configured one, which will be in force.
///
/// # Errors
/// It is no condition on the table, would make the application's own UPDATE and DELETE fail, or differs from the one in
/// force.
pub async fn filter_to_follow(
    client: &Client,
    publications: &[String],
    wanted: Wanted<'_>,
    actions: Actions,
) -> Result<Option<String>> {
    let name = &wanted.table.name;
    must_be_valid_filter(client, &wanted, actions, version_num(client).await?).await?;
    let sql = "SELECT FROM pg_catalog.pg_publication_tables
                WHERE pubname = ANY($1) AND schemaname = $2::pg_catalog.text AND tablename = $3::pg_catalog.text";
    let found = client.query(sql, &[&publications, &name.schema, &name.name]).await;
    if found.doing(|| format!("reading the publications of {name}"))?.is_empty() {
        return Ok(wanted.filter.map(str::to_owned));
    }
    must_be_same_filter(client, &wanted, wanted.table.row_filter.as_deref(), actions).await?;
    Ok(wanted.table.row_filter.clone())
}

/// The tables of a publication; roots where it publishes by its partition roots.
pub async fn tables_of(client: &Client, publication: &str) -> Result<Vec<TableName>> {
    let sql = "SELECT schemaname::pg_catalog.text, tablename::pg_catalog.text
                 FROM pg_catalog.pg_publication_tables WHERE pubname = $1";
    let rows = client.query(sql, &[&publication]).await;
    let rows = rows.doing(|| format!("reading the tables of publication {publication}"))?;
    Ok(rows.iter().map(|row| TableName { schema: row.get(0), name: row.get(1) }).collect())
}

/// `pg_publication.oid` and name of all publications, in order: one that was made again has another number.
pub async fn oids(client: &Client) -> Result<Vec<(u32, String)>> {
    let sql = "SELECT oid, pubname::pg_catalog.text FROM pg_catalog.pg_publication ORDER BY oid";
    let rows = client.query(sql, &[]).await.doing(|| "looking for the publications".into())?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Checks the publication without changing anything: `None` where it is as it must be. Nothing is proposed by which the
/// application's own UPDATE or DELETE would fail.
pub async fn inspect(
    client: &Client,
    publication: &str,
    actions: Actions,
    tables: &[Wanted<'_>],
) -> Result<Option<Missing>> {
    let doing = || format!("reading publication {publication}");
    let version = version_num(client).await?;
    for wanted in tables {
        must_be_publishable(client, wanted, actions, version).await?;
        must_come_under_its_name(client, publication, wanted, tables).await?;
    }
    let sql = "SELECT pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate
                 FROM pg_catalog.pg_publication WHERE pubname = $1::pg_catalog.text";
    let Some(found) = client.query_opt(sql, &[&publication]).await.doing(doing)? else {
        let template = match actions {
            Actions::All => admin_sql::PUBLICATION,
            Actions::InsertOnly => admin_sql::PUBLICATION_APPEND,
        };
        let tables = table_list(tables.iter());
        let sql = render(template, &[("publication", publication), ("tables", &tables)]);
        return Ok(Some(Missing { state: PublicationState::Created, sql }));
    };
    let wrong = |problem: String, option: &str| {
        let sql = format!("ALTER PUBLICATION {} SET ({option});", quote_identifier(publication));
        Err(QueryError::Publication { publication: publication.to_owned(), problem, sql })
    };
    let sends = |action: &str| ACTIONS.iter().zip(1..).any(|(a, i)| *a == action && found.get::<_, bool>(i));
    let (mut all, mut lacks) = (ACTIONS.to_vec(), ACTIONS.to_vec());
    all.retain(|action| sends(action) || actions.publish().contains(action));
    lacks.retain(|action| !sends(action) && actions.publish().contains(action));
    if !lacks.is_empty() {
        return wrong(
            format!("does not publish {}", lacks.join(", ")),
            &format!("publish = '{}'", all.join(", ")),
        );
    }
    let harmed = tables.iter().find(|w| w.table.identity == ReplicaIdentity::Nothing);
    if let Some(w) = harmed
        && (sends("update") || sends("delete"))
    {
        return wrong(harm(&w.table.name), &format!("publish = '{}'", actions.publish()));
    }
    if let Some(w) = tables.iter().find(|w| w.table.partitioned)
        && !found.get::<_, bool>(0)
    {
        return wrong(
            format!("sends the partitions of {} one by one under their own names", w.table.name),
            "publish_via_partition_root = true",
        );
    }
    let sql = "SELECT t.schemaname::pg_catalog.text, t.tablename::pg_catalog.text, pg_catalog.to_jsonb(t)->>'rowfilter'
                 FROM pg_catalog.pg_publication_tables t
                WHERE t.pubname = $1::pg_catalog.text AND t.tablename::pg_catalog.text = ANY($2)";
    let names: Vec<&str> = tables.iter().map(|w| w.table.name.name.as_str()).collect();
    let rows = client.query(sql, &[&publication, &names]).await.doing(doing)?;
    let published: HashMap<(String, String), Option<String>> =
        rows.iter().map(|r| ((r.get(0), r.get(1)), r.get(2))).collect();
    let mut absent = Vec::new();
    for wanted in tables {
        let name = (wanted.table.name.schema.clone(), wanted.table.name.name.clone());
        match published.get(&name) {
            None => absent.push(wanted),
            Some(in_force) => must_be_same_filter(client, wanted, in_force.as_deref(), actions).await?,
        }
    }
    if absent.is_empty() {
        return Ok(None);
    }
    let list = table_list(absent.into_iter());
    let sql = render(admin_sql::PUBLICATION_ADD, &[("publication", publication), ("tables", &list)]);
    Ok(Some(Missing { state: PublicationState::TableAdded, sql }))
}

/// `ONLY` keeps inheritance children out, whose rows are read under their own names; partitions come with their root.
fn table_list<'a>(tables: impl Iterator<Item = &'a Wanted<'a>>) -> String {
    let entry = |w: &Wanted<'_>| {
        let only = if w.table.partitioned { "" } else { "ONLY " };
        let filter = w.filter.map(|f| format!(" WHERE ({f})")).unwrap_or_default();
        format!("{only}{}{filter}", w.table.name.quoted())
    };
    tables.map(entry).collect::<Vec<_>>().join(", ")
}

/// With publish_via_partition_root the changes of a partition come under the name of its topmost ancestor that is
/// published (docs: "CREATE PUBLICATION"), and never under its own.
async fn must_come_under_its_name(
    client: &Client,
    publication: &str,
    wanted: &Wanted<'_>,
    tables: &[Wanted<'_>],
) -> Result<()> {
    let name = &wanted.table.name;
    let sql = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
                      EXISTS (SELECT FROM pg_catalog.pg_publication_tables t WHERE t.pubname = $2::pg_catalog.text
                                 AND t.schemaname = n.nspname AND t.tablename = c.relname)
                 FROM pg_catalog.pg_partition_ancestors($1::pg_catalog.oid) a
                 JOIN pg_catalog.pg_class c ON c.oid = a.relid
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE a.relid <> $1::pg_catalog.oid";
    let rows = client.query(sql, &[&wanted.table.oid, &publication]).await;
    for row in rows.doing(|| format!("reading the ancestors of {name}"))? {
        let root = TableName { schema: row.get(0), name: row.get(1) };
        if row.get(2) || tables.iter().any(|other| other.table.name == root) {
            return Err(QueryError::NotATable {
                table: name.clone(),
                kind: "a partition of a table that is published too, and its changes come under that name",
                cure: format!("name {root} only"),
            });
        }
    }
    Ok(())
}

async fn must_be_publishable(
    client: &Client,
    wanted: &Wanted<'_>,
    actions: Actions,
    version: i32,
) -> Result<()> {
    let table = wanted.table;
    if actions == Actions::All && table.identity == ReplicaIdentity::Nothing {
        let sql = identity_cure(client, table, &[]).await?;
        return Err(QueryError::NoIdentity { table: table.name.clone(), sql });
    }
    must_be_valid_filter(client, wanted, actions, version).await
}

async fn must_be_valid_filter(
    client: &Client,
    wanted: &Wanted<'_>,
    actions: Actions,
    version: i32,
) -> Result<()> {
    let table = wanted.table;
    let Some(filter) = wanted.filter else { return Ok(()) };
    if version < 150_000 {
        return Err(QueryError::Filter {
            table: table.name.clone(),
            problem: "row filters need PostgreSQL 15 or later: remove it, or upgrade the server".into(),
        });
    }
    if let Err(error) = client.prepare(&filter_probe(table, filter, "*")).await {
        let Some(said) = error.as_db_error() else {
            return Err(error).doing(|| format!("checking the row filter of {}", table.name));
        };
        let problem = format!("`{filter}` is not a condition on its columns: {}", describe_db(said));
        return Err(QueryError::Filter { table: table.name.clone(), problem });
    }
    filter_must_fit_identity(client, table, filter, actions).await
}

/// With update or delete published, a filter on a column outside the replica identity makes the application's own UPDATE
/// and DELETE fail (42P10; docs: "Row Filters"). Which columns it uses the server says itself: it is asked to parse the
/// filter over the identity's columns alone.
async fn filter_must_fit_identity(
    client: &Client,
    table: &TableSchema,
    filter: &str,
    actions: Actions,
) -> Result<()> {
    let (Actions::All, ReplicaIdentity::Columns(columns)) = (actions, &table.identity) else { return Ok(()) };
    let columns = columns.iter().map(|c| quote_identifier(c)).collect::<Vec<_>>().join(", ");
    match client.prepare(&filter_probe(table, filter, &columns)).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
            let all: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
            Err(QueryError::Filter {
                table: table.name.clone(),
                problem: format!(
                    "`{filter}` uses a column outside the replica identity ({}), so the application's own UPDATE and \
                     DELETE would fail (42P10); run as its owner: {}",
                    describe(&table.identity),
                    identity_cure(client, table, &all).await?
                ),
            })
        }
        Err(error) => Err(error).doing(|| format!("checking the row filter of {}", table.name)),
    }
}

fn filter_probe(table: &TableSchema, filter: &str, columns: &str) -> String {
    let (name, alias) = (table.name.quoted(), quote_identifier(&table.name.name));
    format!("SELECT 1 FROM (SELECT {columns} FROM {name}) AS {alias} WHERE ({filter})")
}

/// The configured filter against the one in force. The server prints its own form of a filter, so two texts are compared
/// by the plans of the same query under each.
async fn must_be_same_filter(
    client: &Client,
    wanted: &Wanted<'_>,
    in_force: Option<&str>,
    actions: Actions,
) -> Result<()> {
    let table = wanted.table;
    if let Some(in_force) = in_force {
        filter_must_fit_identity(client, table, in_force, actions).await?;
    }
    let Some(configured) = wanted.filter else { return Ok(()) };
    let same = match in_force {
        None => false,
        Some(in_force) => {
            in_force == configured
                || explain(client, table, in_force).await? == explain(client, table, configured).await?
        }
    };
    if same {
        return Ok(());
    }
    let in_force = in_force.map_or("none".to_owned(), |f| format!("`{f}`"));
    Err(QueryError::Filter {
        table: table.name.clone(),
        problem: format!(
            "`{configured}` is configured, but {in_force} is in force in the publication: remove `where` to take that, or \
             ALTER PUBLICATION … SET TABLE … WHERE ({configured}) and resync the table"
        ),
    })
}

async fn explain(client: &Client, table: &TableSchema, filter: &str) -> Result<Vec<String>> {
    let only = if table.partitioned { "" } else { "ONLY " };
    let sql =
        format!("EXPLAIN (VERBOSE, COSTS OFF) SELECT 1 FROM {only}{} WHERE ({filter})", table.name.quoted());
    let lines =
        client.simple_query(&sql).await.doing(|| format!("comparing row filters of {}", table.name))?;
    Ok(lines
        .iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect())
}

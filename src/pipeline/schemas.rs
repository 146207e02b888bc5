//! The configured tables as the source has them, and what keeps them from being followed.

use super::error::PipelineError;
use crate::{
    config::{self, Config, TableColumns, unknown_columns},
    map::{self, TableSpec, spark_problems},
    model::{TableName, TableSchema},
    source::{
        QueryError, catalog, division,
        identity::{self, IdRules, Uniqueness},
        publication::{self, Actions, Wanted},
        server,
        slot::SlotState,
    },
};

/// Is the server one that can be streamed from? Returns its `server_version_num`.
///
/// # Errors
/// It is a standby, or does not write what logical decoding needs.
pub async fn check_server(control: &tokio_postgres::Client) -> Result<i32, PipelineError> {
    let facts = server::server_facts(control).await?;
    if facts.wal_level != "logical" {
        return Err(PipelineError::Configuration(format!(
            "wal_level is `{}`, so changes cannot be streamed; run ALTER SYSTEM SET wal_level = 'logical' and restart \
             PostgreSQL (under Patroni: patronictl edit-config, postgresql.parameters.wal_level)",
            facts.wal_level
        )));
    }
    if facts.version_num < 140_000 {
        return Err(PipelineError::Configuration(format!(
            "PostgreSQL {} is too old; pg2os needs 14 or later",
            facts.version_num / 10_000
        )));
    }
    Ok(facts.version_num)
}

/// Is the slot ours to use?
///
/// # Errors
/// It was made for another plugin or database.
pub fn check_slot(name: &str, slot: Option<&SlotState>, database: &str) -> Result<(), PipelineError> {
    let Some(slot) = slot else { return Ok(()) };
    let wrong = if slot.plugin.as_deref() != Some("pgoutput") {
        format!("its plugin is {}, not pgoutput", slot.plugin.as_deref().unwrap_or("none (a physical slot)"))
    } else if slot.database.as_deref() != Some(database) {
        format!("it belongs to database {}", slot.database.as_deref().unwrap_or("?"))
    } else {
        return Ok(());
    };
    Err(PipelineError::Configuration(format!(
        "postgres.slot: {name} cannot be used: {wrong}; name another slot"
    )))
}

/// The configuration with the tables that its wildcards stand for now.
///
/// # Errors
/// Tables that cannot be followed under their names.
pub async fn expanded(control: &tokio_postgres::Client, config: &Config) -> Result<Config, PipelineError> {
    if config.wildcards.is_empty() {
        return Ok(config.clone());
    }
    let catalog = catalog::list_tables(control).await?;
    for wildcard in &config.wildcards {
        if !catalog.iter().any(|name| wildcard.covers(name)) {
            let (place, pattern) = (&wildcard.settings.place, &wildcard.settings.wildcard);
            tracing::warn!(place, pattern, "no table matches this entry");
        }
    }
    config.expanded(&catalog).map_err(|problems| PipelineError::Configuration(problems.to_string()))
}

/// The tables that the configuration stands for.
pub(super) fn names(config: &Config) -> Vec<TableName> {
    config.tables.iter().map(config::Table::qualified).collect()
}

/// What keeps a table from being followed.
#[derive(Clone, Debug)]
pub struct TableProblem {
    /// The entry of the table, as `tables[2]`.
    pub place: String,
    /// What is wrong, and where, with its cure.
    pub text: String,
    /// The statement that cures it, where there is one.
    pub sql: Option<String>,
}

/// Reads every configured table as it is; nothing is made.
///
/// # Errors
/// All problems of all tables at once.
pub async fn schemas(
    control: &tokio_postgres::Client,
    config: &Config,
) -> Result<Vec<TableSchema>, PipelineError> {
    let (schemas, problems) = look(control, config).await?;
    if problems.is_empty() {
        return Ok(schemas.into_iter().map(|(_, schema)| schema).collect());
    }
    let problems: Vec<String> = problems.into_iter().map(|problem| problem.text).collect();
    Err(PipelineError::Configuration(problems.join("\n")))
}

/// Reads every configured table that can be read, and notes what keeps tables from being followed.
///
/// # Errors
/// The connection is lost.
pub(super) async fn look<'a>(
    control: &tokio_postgres::Client,
    config: &'a Config,
) -> Result<(Vec<(&'a config::Table, TableSchema)>, Vec<TableProblem>), PipelineError> {
    let (mut schemas, mut problems) = (vec![], vec![]);
    for table in &config.tables {
        match schema(control, config, table, &mut problems).await {
            Ok(schema) => schemas.push((table, schema)),
            Err(error) => transient_or(error, table, "", &mut problems)?,
        }
    }
    let names_columns =
        |t: &config::Table| !(t.exclude_columns.is_empty() && t.rename.is_empty() && t.mapping.is_empty());
    if problems.is_empty() && config.tables.iter().any(names_columns) {
        let mut columns = vec![];
        for (table, schema) in schemas.iter().filter(|(t, _)| names_columns(t)) {
            let published = schema.columns.iter().map(|c| c.name.clone()).collect();
            columns.push(TableColumns {
                table,
                all: catalog::column_names(control, schema).await?,
                published,
            });
        }
        let unknown = unknown_columns(&columns);
        problems.extend(unknown.iter().map(|what| TableProblem {
            place: what.place.clone(),
            text: what.to_string(),
            sql: None,
        }));
    }
    Ok((schemas, problems))
}

/// Reads one table, and notes what keeps it from being followed.
async fn schema(
    control: &tokio_postgres::Client,
    config: &Config,
    table: &config::Table,
    problems: &mut Vec<TableProblem>,
) -> Result<TableSchema, QueryError> {
    let publications = config.postgres.all_publications();
    let mut schema = catalog::load_table(control, &table.schema, &table.name, &publications).await?;
    let rules = IdRules {
        append_only: table.append_only,
        unique_asserted: table.id_unique_asserted,
        routing: table.routing.as_deref(),
    };
    if table.id.is_none() && schema.primary_key.is_empty() {
        let text = format!(
            "{}: {} has no primary key; set `id` to columns that identify a row, or add a primary key{}",
            table.place,
            schema.name,
            way_out(table)
        );
        problems.push(TableProblem { place: table.place.clone(), text, sql: None });
    } else {
        match identity::check_id(control, &schema, &id_of(table, &schema), rules).await {
            Ok(unique) => schema.deferrable_id = unique == Uniqueness::Deferrable,
            Err(error) => transient_or(error, table, "", problems)?,
        }
    }
    let odd = spark_problems(&spec_of(table, &schema), &schema.columns);
    problems.extend(odd.iter().map(|problem| TableProblem {
        place: table.place.clone(),
        text: format!("{}.{problem}", table.place),
        sql: None,
    }));
    if let Some(window) = &table.window
        && let Err(error) = division::check(&schema, window, chrono::Utc::now())
    {
        transient_or(error, table, ".window", problems)?;
    }
    if table.filter.is_some() {
        let actions = if table.append_only { Actions::InsertOnly } else { Actions::All };
        let wanted = Wanted { table: &schema, filter: table.filter.as_deref() };
        match publication::filter_to_follow(control, &publications, wanted, actions).await {
            Ok(filter) => schema.row_filter = filter,
            Err(error) => transient_or(error, table, "", problems)?,
        }
    }
    Ok(schema)
}

/// A lost connection ends the look-around; anything else is one more problem to report.
fn transient_or(
    error: QueryError,
    table: &config::Table,
    key: &str,
    problems: &mut Vec<TableProblem>,
) -> Result<(), QueryError> {
    if error.is_transient() {
        return Err(error);
    }
    let text = format!("{}{key}: {error}{}", table.place, way_out(table));
    let sql = error.sql().map(str::to_owned);
    problems.push(TableProblem { place: table.place.clone(), text, sql });
    Ok(())
}

/// What else can be done about a table that nobody has named.
fn way_out(table: &config::Table) -> String {
    let Some(pattern) = &table.wildcard else { return String::new() };
    let name = table.qualified().quoted();
    format!(
        " ({pattern} matches it: `exclude: ['{name}']` leaves it out; an entry of its own may say `id`, or `append_only: \
         true`, which follows inserts alone and needs no replica identity)"
    )
}

pub(super) fn id_of(table: &config::Table, schema: &TableSchema) -> Vec<String> {
    table.id.clone().unwrap_or_else(|| schema.primary_key.clone())
}

pub(super) fn spec_of(table: &config::Table, schema: &TableSchema) -> TableSpec {
    let geo_points = table.mapping.iter().filter(|(_, given)| map::is_geo_point(given));
    TableSpec {
        id: id_of(table, schema),
        id_form: table.id_form,
        exclude: table.exclude_columns.clone(),
        rename: table.rename.clone(),
        routing: table.routing.clone(),
        geo_points: geo_points.map(|(field, _)| field.clone()).collect(),
        documents: table.documents,
        spark: table.spark.clone(),
    }
}

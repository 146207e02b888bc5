//! Before a session: servers, publication, tables, indices and their states looked at, and made where they are missing.

use super::{
    bootstrap::Work,
    error::PipelineError,
    fields, renamed,
    tables::{Table, Tables},
};
use crate::{
    config::{self, Config, TableColumns, unknown_columns},
    lanes::{TableNo, Target},
    map::{self, TableSpec, is_vector, properties, spark_advice, spark_problems},
    model::{Epochs, TableName, TableSchema, Version},
    sink::{
        self, Client, EpochRecord, IndexDefinition, Owner, SinkError, StateStore, TableRecord, TableState,
        Versions,
    },
    source::{
        QueryError, catalog,
        identity::{self, IdRules, Uniqueness},
        publication::{self, Actions, Wanted},
        replication::SystemIdentity,
        server,
        slot::SlotState,
        window,
    },
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Tables that are known on both sides.
pub struct Prepared {
    /// All of them.
    pub tables: Tables,
    /// Those that are not live yet.
    pub work: Vec<Work>,
    /// The indices behind them.
    pub indices: Vec<sink::Index>,
}

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

/// Reads every configured table as it is; nothing is made.
///
/// # Errors
/// All problems of all tables at once.
pub async fn schemas(
    control: &tokio_postgres::Client,
    config: &Config,
) -> Result<Vec<TableSchema>, PipelineError> {
    let (mut schemas, mut problems) = (vec![], vec![]);
    for table in &config.tables {
        match schema(control, config, table, &mut problems).await {
            Ok(schema) => schemas.push(schema),
            Err(error) => transient_or(error, table, "", &mut problems)?,
        }
    }
    let names_columns =
        |t: &config::Table| !(t.exclude_columns.is_empty() && t.rename.is_empty() && t.mapping.is_empty());
    if problems.is_empty() && config.tables.iter().any(names_columns) {
        let mut columns = vec![];
        for (table, schema) in config.tables.iter().zip(&schemas).filter(|(t, _)| names_columns(t)) {
            let published = schema.columns.iter().map(|c| c.name.clone()).collect();
            columns.push(TableColumns {
                table,
                all: catalog::column_names(control, schema).await?,
                published,
            });
        }
        problems.extend(unknown_columns(&columns).iter().map(ToString::to_string));
    }
    if problems.is_empty() { Ok(schemas) } else { Err(PipelineError::Configuration(problems.join("\n"))) }
}

/// Reads one table, and notes what keeps it from being followed.
async fn schema(
    control: &tokio_postgres::Client,
    config: &Config,
    table: &config::Table,
    problems: &mut Vec<String>,
) -> Result<TableSchema, QueryError> {
    let publications = config.postgres.all_publications();
    let mut schema = catalog::load_table(control, &table.schema, &table.name, &publications).await?;
    let rules = IdRules {
        append_only: table.append_only,
        unique_asserted: table.id_unique_asserted,
        routing: table.routing.as_deref(),
    };
    if table.id.is_none() && schema.primary_key.is_empty() {
        problems.push(format!(
            "{}: {} has no primary key; set `id` to columns that identify a row, or add a primary key{}",
            table.place,
            schema.name,
            way_out(table)
        ));
    } else {
        match identity::check_id(control, &schema, &id_of(table, &schema), rules).await {
            Ok(unique) => schema.deferrable_id = unique == Uniqueness::Deferrable,
            Err(error) => transient_or(error, table, "", problems)?,
        }
    }
    let odd = spark_problems(&spec_of(table, &schema), &schema.columns);
    problems.extend(odd.iter().map(|problem| format!("{}.{problem}", table.place)));
    if let Some(window) = &table.window
        && let Err(error) = window::check(&schema, window, chrono::Utc::now())
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
    problems: &mut Vec<String>,
) -> Result<(), QueryError> {
    if error.is_transient() {
        return Err(error);
    }
    problems.push(format!("{}{key}: {error}{}", table.place, way_out(table)));
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

fn id_of(table: &config::Table, schema: &TableSchema) -> Vec<String> {
    table.id.clone().unwrap_or_else(|| schema.primary_key.clone())
}

fn spec_of(table: &config::Table, schema: &TableSchema) -> TableSpec {
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

/// Joins configuration and catalog, sees to it that every table has its index, and reads the tables' states.
///
/// # Errors
/// Field names or indices that cannot be, with their cures.
pub async fn tables(
    config: &Config,
    client: &Client,
    state: &StateStore,
    schemas: Vec<TableSchema>,
    server: &SystemIdentity,
) -> Result<Prepared, PipelineError> {
    let (mut tables, mut work, mut indices) = (Tables::default(), vec![], vec![]);
    let vectors = schemas.iter().flat_map(|schema| &schema.columns).any(|c| is_vector(&c.column_type));
    let knn = vectors && client.has_plugin("opensearch-knn").await?;
    for (configured, schema) in config.tables.iter().zip(schemas) {
        let name = schema.name.to_string();
        let number = tables.next();
        let (mut table, properties) = join(configured, schema, number, knn)?;
        let mut stored = state.table(&name).await?.map(|stored| stored.record);
        if stored.is_none() {
            stored = renamed::take_over(config, client, state, configured, &table.schema).await?;
        }
        if let Some(record) = stored.as_ref().filter(|record| record.index != configured.index) {
            // Before the other index is made or claimed.
            return Err(PipelineError::Configuration(format!(
                "{name} has been kept in index {} so far, and is configured for {} now; give the pipeline another `name` \
                 to fill a new index, or set the old one",
                record.index, configured.index
            )));
        }
        let owner = Owner {
            pipeline: config.name.clone(),
            source: sink::Source {
                system_identifier: server.system_id.clone(),
                database: server.database.clone(),
                table: name.clone(),
            },
        };
        let definition = IndexDefinition { properties, settings: configured.settings.clone() };
        let index = client.ensure_index(&configured.index, &definition, &owner).await;
        let index = index.map_err(|error| refused(configured, error))?;
        table.adopted = index.is_adopted();
        if index.created {
            tracing::info!(index = index.concrete, alias = index.name, table = name, "index created");
        } else {
            fields::extend(client, &table, &index, &definition.properties).await?;
        }
        if configured.documents == config::Documents::Plain
            && let Some(advice) = spark_advice(&table.spec, &table.schema.columns, &index.properties)
        {
            tracing::warn!(index = index.concrete, table = name, "{}: {advice}", configured.place);
        }
        let record = table_record(client, state, stored, &index, &table).await?;
        tables.push(table);
        let (window, append_only) = (configured.window.clone(), configured.append_only);
        work.push(Work { table: number, record, window, append_only });
        indices.push(index);
    }
    Ok(Prepared { tables, work, indices })
}

/// Joins the configuration and the catalog's description of one table; also the fields of a new index in a cluster with or
/// without the k-NN plugin.
///
/// # Errors
/// Columns that give no fields or ids.
pub fn join(
    configured: &config::Table,
    schema: TableSchema,
    number: TableNo,
    knn: bool,
) -> Result<(Table, Map<String, Value>), PipelineError> {
    let spec = spec_of(configured, &schema);
    let properties = properties(&spec, &schema.columns, &configured.mapping, knn)
        .map_err(|bad| PipelineError::fields(&configured.place, &bad))?;
    let target = Target::new(number, &configured.index);
    let mut table = Table::new(target, schema, spec, configured.on_truncate)
        .map_err(|missing| PipelineError::id_column(&configured.place, &missing))?;
    table.append_only = configured.append_only;
    table.overrides = configured.mapping.clone();
    table.on_schema_change = configured.on_schema_change;
    Ok((table, properties))
}

/// Names the key by which OpenSearch refuses a new index.
fn refused(configured: &config::Table, error: SinkError) -> PipelineError {
    let SinkError::Refused { status: 400, kind, reason, .. } = &error else { return error.into() };
    let key = if kind == "mapper_parsing_exception" { "mapping" } else { "settings" };
    let given = if key == "mapping" { &configured.mapping } else { &configured.settings };
    if given.is_empty() {
        return error.into();
    }
    PipelineError::Configuration(format!(
        "{}.{key}: OpenSearch refuses to make index {} so: {reason}; correct that key",
        configured.place, configured.index
    ))
}

/// The state that a table is in, or a new one where its settings or its index are others than when it was filled.
async fn table_record(
    client: &Client,
    state: &StateStore,
    stored: Option<TableRecord>,
    index: &sink::Index,
    table: &Table,
) -> Result<TableRecord, PipelineError> {
    let (name, digest) = (table.schema.name.to_string(), digest(table));
    let new = |sweep| TableRecord {
        table: name.clone(),
        index: index.name.clone(),
        index_uuid: index.uuid.clone(),
        state: TableState::New,
        digest: digest.clone(),
        sweep,
        floor: None,
        relfilenode: None,
    };
    let Some(record) = stored else {
        let has_documents = has_documents(client, index).await?;
        if table.adopted && has_documents {
            tracing::warn!(
                index = index.concrete,
                table = name,
                "the index was there before and is taken over as it is: rows replace the documents with their ids, \
                 documents without a row stay, and so does the mapping"
            );
        }
        // Durable at once: whoever goes on after a kill must know that nothing but the stream has written this index.
        let record = new(has_documents && !table.adopted);
        state.write_table(&record).await?;
        return Ok(record);
    };
    if record.index_uuid != index.uuid {
        tracing::warn!(
            table = name,
            index = index.name,
            "the index was made anew since; the table is read again"
        );
        return Ok(new(has_documents(client, index).await?));
    }
    if record.digest != digest {
        tracing::warn!(
            table = name,
            "columns, filter or id settings are others than when the index was filled; the table is read again"
        );
        return Ok(new(true));
    }
    Ok(record)
}

/// Notes of tables that are not configured any more that nothing follows them: should one be configured again, what
/// changed meanwhile never came. Their indices stay as they are.
///
/// # Errors
/// The state could not be read or written.
pub async fn let_go_of_others(state: &StateStore, tables: &Tables) -> Result<(), PipelineError> {
    let followed: Vec<String> = tables.iter().map(|table| table.schema.name.to_string()).collect();
    for stored in state.tables().await? {
        let record = stored.record;
        if followed.contains(&record.table) || record.state == TableState::New {
            continue;
        }
        tracing::warn!(
            table = record.table,
            index = record.index,
            "the table is not configured any more; its index stays and is not followed"
        );
        let record = TableRecord { state: TableState::New, floor: None, sweep: true, ..record };
        state.write_table(&record).await?;
    }
    Ok(())
}

/// Has the index documents that may have no row? A process that was killed right after it made one has left none.
async fn has_documents(client: &Client, index: &sink::Index) -> Result<bool, PipelineError> {
    if index.created {
        return Ok(false);
    }
    client.refresh(&index.concrete).await?;
    Ok(client.count(&index.concrete).await? > 0)
}

/// What a table's documents depend on. Other columns of the table do not count: what they need is a schema change.
fn digest(table: &Table) -> String {
    let Table { spec, schema, append_only, .. } = table;
    hex_digest(&format!("{spec:?}|{:?}|{:?}|{append_only}", schema.row_filter, schema.partitioned))
}

/// **M12**: what the ordinals of changes depend on. Which changes are published is decoded as it was when they were made,
/// so only the names of the publications count.
pub fn fingerprint(publications: &[String], tables: &Tables, version_num: i32) -> String {
    const ORDINAL_SCHEME: u32 = 1;
    let keys: Vec<_> = tables
        .iter()
        .map(|t| (t.schema.name.to_string(), t.spec.key_columns().collect::<Vec<_>>(), t.append_only))
        .collect();
    hex_digest(&format!("{ORDINAL_SCHEME}|{}|{publications:?}|{keys:?}", version_num / 10_000))
}

fn hex_digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).fold(String::new(), |mut hex, byte| {
        use std::fmt::Write;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The epochs of the pipeline; one without state begins above every version that its indices hold.
///
/// # Errors
/// State or indices could not be read or written.
pub async fn epochs(
    client: &Client,
    state: &StateStore,
    indices: &[sink::Index],
) -> Result<EpochRecord, PipelineError> {
    if let Some(stored) = state.epochs().await? {
        return Ok(stored.record);
    }
    let mut highest = Version(0);
    for index in indices.iter().filter(|index| !index.created) {
        let mut listing = Versions::of(client, &index.concrete).await?;
        while let Some(page) = listing.next_page().await? {
            highest = page.iter().map(|d| d.version).max().unwrap_or_default().max(highest);
        }
    }
    let record = EpochRecord { list: Epochs::beginning_with(1 + highest.epoch())?, repair: None };
    state.write_epochs(&record).await?;
    Ok(record)
}

//! Before a session: servers, publication, tables, indices and their states looked at, and made where they are missing.

use super::{
    bootstrap::Work,
    error::PipelineError,
    fields, renamed,
    tables::{Table, Tables},
};
use crate::{
    config::{self, Config},
    lanes::{TableNo, Target},
    map::{TableSpec, properties},
    model::{Epochs, TableName, TableSchema, Version},
    sink::{
        self, Client, EpochRecord, IndexDefinition, Owner, StateStore, TableRecord, TableState, Versions,
    },
    source::{
        catalog,
        identity::{self, IdRules},
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

/// Is the server one that can be streamed from?
///
/// # Errors
/// It is a standby, or does not write what logical decoding needs.
pub async fn check_server(control: &tokio_postgres::Client) -> Result<(), PipelineError> {
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
    Ok(())
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

/// Sees to it that the publication has the tables; returns them as they are published.
///
/// # Errors
/// The publication lacks something that only somebody else may change.
pub async fn published(
    control: &tokio_postgres::Client,
    config: &Config,
    schemas: Vec<TableSchema>,
) -> Result<Vec<TableSchema>, PipelineError> {
    let wanted: Vec<Wanted<'_>> = schemas
        .iter()
        .zip(&config.tables)
        .map(|(table, configured)| Wanted { table, filter: configured.filter.as_deref() })
        .collect();
    // Tables may be spread over several publications of an administrator; only a single one is made and completed.
    let [publication] = &config.postgres.publications[..] else {
        check_publications(control, &config.postgres.publications, &wanted).await?;
        return Ok(schemas);
    };
    let found = publication::ensure(control, publication, Actions::All, &wanted).await?;
    if found == publication::PublicationState::Existed {
        return Ok(schemas);
    }
    // Columns and filter may differ now that the tables are published.
    self::schemas(control, config).await
}

/// Is every table in one of several publications, published as pg2os needs it?
async fn check_publications(
    control: &tokio_postgres::Client,
    publications: &[String],
    wanted: &[Wanted<'_>],
) -> Result<(), PipelineError> {
    let mut unpublished: Vec<&TableName> = wanted.iter().map(|w| &w.table.name).collect();
    for publication in publications {
        let names = publication::tables_of(control, publication).await?;
        let wanted: Vec<_> = wanted.iter().filter(|w| names.contains(&w.table.name)).copied().collect();
        if let Some(missing) = publication::inspect(control, publication, Actions::All, &wanted).await? {
            return Err(PipelineError::Configuration(format!(
                "publication {publication} does not publish what pg2os needs; run as its owner: {}",
                missing.sql
            )));
        }
        unpublished.retain(|name| !names.contains(name));
    }
    if unpublished.is_empty() {
        return Ok(());
    }
    let list =
        |text: fn(&TableName) -> String| unpublished.iter().map(|n| text(n)).collect::<Vec<_>>().join(", ");
    Err(PipelineError::Configuration(format!(
        "no publication of postgres.publication ({}) has {}, so its changes would never come; run as its owner: ALTER \
         PUBLICATION … ADD TABLE {}",
        publications.join(", "),
        list(TableName::to_string),
        list(TableName::quoted)
    )))
}

/// The tables that the configuration stands for.
pub(super) fn names(config: &Config) -> Vec<TableName> {
    config
        .tables
        .iter()
        .map(|table| TableName { schema: table.schema.clone(), name: table.name.clone() })
        .collect()
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
        let loaded = catalog::load_table(control, &table.schema, &table.name, &config.postgres.publications);
        match loaded.await {
            Ok(schema) => {
                let rules = IdRules { append_only: false, unique_asserted: table.id_unique_asserted };
                if table.id.is_none() && schema.primary_key.is_empty() {
                    problems.push(format!(
                        "{}: {} has no primary key; set `id` to columns that identify a row, or add a primary key",
                        table.place, schema.name
                    ));
                } else if let Err(error) =
                    identity::check_id(control, &schema, &id_of(table, &schema), rules).await
                {
                    transient_or(error, &table.place, &mut problems)?;
                }
                if let Some(window) = &table.window
                    && let Err(error) = window::check(&schema, window, chrono::Utc::now())
                {
                    problems.push(format!("{}.window: {error}", table.place));
                }
                schemas.push(schema);
            }
            Err(error) => transient_or(error, &table.place, &mut problems)?,
        }
    }
    if problems.is_empty() { Ok(schemas) } else { Err(PipelineError::Configuration(problems.join("\n"))) }
}

/// A lost connection ends the look-around; anything else is one more problem to report.
fn transient_or(
    error: crate::source::QueryError,
    place: &str,
    problems: &mut Vec<String>,
) -> Result<(), PipelineError> {
    if error.is_transient() {
        return Err(error.into());
    }
    problems.push(format!("{place}: {error}"));
    Ok(())
}

fn id_of(table: &config::Table, schema: &TableSchema) -> Vec<String> {
    table.id.clone().unwrap_or_else(|| schema.primary_key.clone())
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
    for (configured, schema) in config.tables.iter().zip(schemas) {
        let name = schema.name.to_string();
        let number = tables.next();
        let (mut table, properties) = join(configured, schema, number)?;
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
        let index = client.ensure_index(&configured.index, &definition, &owner).await?;
        table.adopted = index.is_adopted();
        if index.created {
            tracing::info!(index = index.concrete, alias = index.name, table = name, "index created");
        } else {
            fields::extend(client, &table, &index, &definition.properties).await?;
        }
        let record = table_record(client, state, stored, &index, &table).await?;
        tables.push(table);
        work.push(Work { table: number, record, window: configured.window.clone() });
        indices.push(index);
    }
    Ok(Prepared { tables, work, indices })
}

/// Joins the configuration and the catalog's description of one table; also the fields of a new index.
///
/// # Errors
/// Columns that give no fields or ids.
pub fn join(
    configured: &config::Table,
    schema: TableSchema,
    number: TableNo,
) -> Result<(Table, Map<String, Value>), PipelineError> {
    let spec = TableSpec {
        id: id_of(configured, &schema),
        id_form: configured.id_form,
        exclude: configured.exclude_columns.clone(),
        rename: configured.rename.clone(),
    };
    let properties = properties(&spec, &schema.columns, &configured.mapping)
        .map_err(|bad| PipelineError::fields(&configured.place, &bad))?;
    let target = Target::new(number, &configured.index);
    let mut table = Table::new(target, schema, spec, configured.on_truncate)
        .map_err(|missing| PipelineError::id_column(&configured.place, &missing))?;
    table.overrides = configured.mapping.clone();
    table.on_schema_change = configured.on_schema_change;
    Ok((table, properties))
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
    let text = format!("{:?}|{:?}|{:?}", table.spec, table.schema.row_filter, table.schema.partitioned);
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

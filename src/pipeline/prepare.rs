//! Before a session: servers, publication, tables, indices and their states looked at, and made where they are missing.

use super::{
    bootstrap::Work,
    error::PipelineError,
    fields, renamed,
    schemas::spec_of,
    tables::{Copy, Table, Tables},
};
use crate::{
    config::{self, Config, OnGap},
    lanes::{TableNo, Target},
    map::{is_vector, properties, spark_advice},
    model::{Epochs, TableSchema, Version},
    sink::{
        self, Client, EpochRecord, IndexDefinition, Owner, SinkError, StateStore, TableRecord, TableState,
        Versions, is_other_copy,
    },
    source::replication::SystemIdentity,
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
        table.copy = Copy { uuid: index.uuid.clone(), history: client.history(&index.concrete).await? };
        if let Some(other) = stored.as_ref().and_then(|record| other_copy(record, &table.copy))
            && config.on_gap == OnGap::Stop
        {
            return Err(PipelineError::Gap(format!(
                "index {} of table {name} {other}; on_gap is `stop`: run `pg2os resync --table {name}`, or set \
                 on_gap: resync to have it read again beside the stream",
                index.concrete
            )));
        }
        let record = table_record(client, state, stored, &index, &table).await?;
        let may_be_empty = !table.adopted && record.state != TableState::Live;
        let is_empty = may_be_empty && !has_documents(client, &index).await?;
        tables.push(table);
        let (window, append_only) = (configured.window.clone(), configured.append_only);
        work.push(Work { table: number, record, window, append_only, is_empty });
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
        index_history: table.copy.history.clone(),
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
    if let Some(other) = other_copy(&record, &table.copy) {
        tracing::warn!(table = name, index = index.name, "the index {other}; the table is read again");
        return Ok(new(has_documents(client, index).await?));
    }
    if record.digest != digest {
        tracing::warn!(
            table = name,
            "columns, filter or id settings are others than when the index was filled; the table is read again"
        );
        return Ok(new(true));
    }
    if record.index_history.is_none() && table.copy.history.is_some() {
        let record = TableRecord { index_history: table.copy.history.clone(), ..record };
        state.write_table(&record).await?;
        return Ok(record);
    }
    Ok(record)
}

/// What happened to an index since its table was filled, in words (G4); `None` where it is the same.
fn other_copy(record: &TableRecord, now: &Copy) -> Option<&'static str> {
    if record.index_uuid != now.uuid {
        return Some("was deleted or made anew since it was filled");
    }
    let restored = is_other_copy(record.index_history.as_deref()?, now.history.as_deref()?);
    restored.then_some("was restored from an older copy since it was filled")
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

//! `pg2os check`: both servers are asked for all that could be in the way, and `check` judges it. Nothing is made or changed.

use super::{error::PipelineError, prepare, schemas};
use crate::{
    check::{self, Cure, Finding, opensearch, postgres, tables::IndexFacts},
    config::{self, Config, Documents},
    lanes::TableNo,
    map::{is_vector, spark_advice},
    model::TableSchema,
    sink::{self, Client, SinkError},
    source::{
        self, QueryError, copy, floor, preflight,
        publication::{self, Actions, Wanted},
        replication::ReplicationConnection,
    },
};
use futures_util::TryStreamExt;
use serde_json::{Map, Value};

/// Rows whose ids are looked for in an index that was there before.
const SAMPLES: u32 = 20;

/// Everything that was found, the worst first.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut found = vec![];
    let client = cluster(config, &mut found).await;
    if let Err(error) = source(config, client.as_ref(), &mut found).await {
        found.push(unanswered("postgres", &error));
    }
    found.sort_by_key(|finding| finding.severity);
    found
}

fn unanswered(check: &'static str, error: &PipelineError) -> Finding {
    Finding::error(check, error.to_string(), Cure::Advice("do as said, and check again".into()))
}

/// OpenSearch, where it answers.
async fn cluster(config: &Config, found: &mut Vec<Finding>) -> Option<Client> {
    let asked = async {
        let client = Client::new(&config.opensearch)?;
        Ok::<_, SinkError>((client.cluster_facts().await?, client))
    };
    match asked.await {
        Ok((facts, client)) => {
            found.extend(opensearch::cluster(&facts));
            for index in [&config.opensearch.state_index, &config.opensearch.dead_letter_index] {
                if let Err(error) = client.find_index(index).await {
                    found.push(unanswered("opensearch", &error.into()));
                }
            }
            Some(client)
        }
        Err(error) => {
            found.push(unanswered("opensearch", &error.into()));
            None
        }
    }
}

/// PostgreSQL, and each table with its index.
async fn source(
    config: &Config,
    client: Option<&Client>,
    found: &mut Vec<Finding>,
) -> Result<(), PipelineError> {
    let name = format!("pg2os {} check", config.name);
    let (control, host) = match source::sql::connect_primary(&config.postgres, &name).await {
        Ok(connected) => connected,
        // PgBouncer refuses the startup parameter `options` (its docs: ignore_startup_parameters).
        Err(error) if error.to_string().contains("unsupported startup parameter") => {
            found.push(postgres::pooler_finding(&error.to_string(), config));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let facts = preflight::primary_facts(&control, &config.postgres.slot).await?;
    found.extend(postgres::primary(&facts, config));
    let others = config.postgres.hosts.iter().filter(|other| **other != host);
    let mut standbys = vec![];
    for other in others.chain(&config.postgres.backfill_host) {
        standbys.extend(preflight::standby_facts(&config.postgres, other, &name).await);
    }
    found.extend(postgres::standbys(&standbys, &facts, config));
    if facts.server.is_replication_role {
        found.extend(replication(config, &name).await);
    }

    let config = match schemas::expanded(&control, config).await {
        Ok(config) => config,
        Err(PipelineError::Configuration(problem)) => {
            found.push(check::tables::table(&problem, None));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let (schemas, problems) = schemas::look(&control, &config).await?;
    found.extend(problems.iter().map(|problem| check::tables::table(&problem.text, problem.sql.as_deref())));
    let is_sound = |table: &config::Table| !problems.iter().any(|p| p.place == table.place);
    // What is wrong with a table itself was said.
    let schemas: Vec<_> = schemas.into_iter().filter(|(table, _)| is_sound(table)).collect();
    publications(&control, &config, &schemas, found).await?;
    let Some(client) = client else { return Ok(()) };
    for (table, schema) in schemas {
        match index(&control, client, table, schema).await {
            Ok(Some(facts)) => found.extend(check::tables::index(&facts, &config.name)),
            Ok(None) => {}
            Err(error) => found.push(unanswered("index", &error)),
        }
    }
    Ok(())
}

/// Is the login let in for replication, too? Roles and pg_hba.conf may say otherwise.
async fn replication(config: &Config, name: &str) -> Option<Finding> {
    let (settings, name) = (config.postgres.clone(), name.to_owned());
    let connecting = tokio::task::spawn_blocking(move || {
        ReplicationConnection::connect(&settings, &name, None)?.identify_system().map(|_| ())
    });
    match connecting.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(unanswered("replication", &error.into())),
        Err(_) => Some(unanswered("replication", &PipelineError::Ended("connecting"))),
    }
}

/// Are the tables published as they must be?
async fn publications(
    control: &tokio_postgres::Client,
    config: &Config,
    schemas: &[(&config::Table, TableSchema)],
    found: &mut Vec<Finding>,
) -> Result<(), PipelineError> {
    let wanted = |append_only: bool| -> Vec<Wanted<'_>> {
        let tables = schemas.iter().filter(|(t, _)| t.append_only == append_only);
        tables.map(|(t, table)| Wanted { table, filter: t.filter.as_deref() }).collect()
    };
    let [main] = &config.postgres.publications[..] else {
        for publication in &config.postgres.publications {
            if !publication::exists(control, publication).await? {
                let reason = format!("publication {publication} does not exist");
                let cure = Cure::Advice("make it, or take it out of postgres.publication".into());
                found.push(Finding::error("publication", reason, cure));
            }
        }
        return Ok(());
    };
    let published = publication::tables_of(control, main).await?;
    // A publication of an administrator may have `append_only` tables, too.
    let apart = wanted(true).into_iter().filter(|w| !published.contains(&w.table.name)).collect();
    let append = config.postgres.append_publication.as_ref();
    let both = [(Some(main), Actions::All, wanted(false)), (append, Actions::InsertOnly, apart)];
    for (publication, actions, tables) in both {
        let Some(name) = publication.filter(|_| !tables.is_empty()) else { continue };
        match publication::inspect(control, name, actions, &tables).await {
            Ok(None) => {}
            Ok(Some(missing)) => {
                let oids: Vec<u32> = tables.iter().map(|w| w.table.oid).collect();
                let may = preflight::may_publish(control, name, &oids).await?;
                found.push(check::tables::publication(name, &missing.sql, may));
            }
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error @ QueryError::NoIdentity { .. }) => {
                found.push(check::tables::table(&error.to_string(), error.sql()));
            }
            Err(error) => {
                let cure = error.sql().map_or_else(
                    || Cure::Advice("do as said, as the publication's owner".into()),
                    |sql| Cure::Sql(sql.to_owned()),
                );
                found.push(Finding::error("publication", error.to_string(), cure));
            }
        }
    }
    Ok(())
}

/// The index of a table, where it is there already.
async fn index(
    control: &tokio_postgres::Client,
    client: &Client,
    configured: &config::Table,
    schema: TableSchema,
) -> Result<Option<IndexFacts>, PipelineError> {
    let knn = schema.columns.iter().any(|column| is_vector(&column.column_type))
        && client.has_plugin("opensearch-knn").await?;
    let (table, wanted) = prepare::join(configured, schema, TableNo(0), knn)?;
    let Some(index) = client.find_index(&configured.index).await? else { return Ok(None) };
    let adopted = index.is_adopted() || index.owner().is_none();
    let mut facts = IndexFacts {
        place: configured.place.clone(),
        table: table.schema.name.to_string(),
        index: index.concrete.clone(),
        owner: index.owner(),
        adopted,
        other_types: other_types(&index, &wanted),
        blocks: client.write_blocks(&index.concrete).await?,
        ..IndexFacts::default()
    };
    if configured.documents == Documents::Plain {
        facts.spark_advice = spark_advice(&table.spec, &table.schema.columns, &index.properties);
    }
    if adopted {
        facts.any_id = client.any_id(&index.concrete).await?;
        let columns: Vec<&str> = table.schema.columns.iter().map(|c| c.name.as_str()).collect();
        let filter = table.schema.row_filter.as_deref();
        let sql = copy::sample_sql(&table.schema, &columns, filter, None, SAMPLES);
        floor::snapshot(control).await?;
        let lines: Vec<_> = copy::read(control, &sql).await?.try_collect().await?;
        control.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
        facts.sample_ids = lines.iter().filter_map(|line| Some(table.sample(line).ok()?.0)).collect();
        facts.samples_found = client.count_ids(&index.concrete, &facts.sample_ids).await?;
    }
    Ok(Some(facts))
}

/// Fields that the index has otherwise than a new one would.
fn other_types(index: &sink::Index, wanted: &Map<String, Value>) -> Vec<(String, String, String)> {
    let type_of = |field: &Value| field["type"].as_str().unwrap_or("object").to_owned();
    let differs = |(name, wanted): (&String, &Value)| {
        let there = type_of(index.properties.get(name)?);
        (there != type_of(wanted)).then(|| (name.clone(), there, type_of(wanted)))
    };
    wanted.iter().filter_map(differs).collect()
}

//! The publications of the configured tables: made and completed where that is ours to do, else looked at.

use super::{error::PipelineError, schemas};
use crate::{
    config::Config,
    model::{TableName, TableSchema},
    source::{
        QueryError,
        publication::{self, Actions, PublicationState, Wanted},
    },
};

/// Sees to it that publications have the tables; returns these as they are published, and the publications to stream.
///
/// # Errors
/// A publication lacks something that only somebody else may change.
pub(super) async fn published(
    control: &tokio_postgres::Client,
    config: &Config,
    schemas: Vec<TableSchema>,
) -> Result<(Vec<TableSchema>, Vec<String>), PipelineError> {
    let wanted = |append_only: bool| -> Vec<Wanted<'_>> {
        let tables = schemas.iter().zip(&config.tables).filter(|(_, t)| t.append_only == append_only);
        tables.map(|(table, t)| Wanted { table, filter: t.filter.as_deref() }).collect()
    };
    let (followed, append_only) = (wanted(false), wanted(true));
    // Tables may be spread over several publications of an administrator; only a single one is made and completed.
    let [main] = &config.postgres.publications[..] else {
        let publications = &config.postgres.publications;
        check_publications(control, publications, &followed, &append_only).await?;
        return Ok((schemas, publications.clone()));
    };
    let mut made = Made::default();
    let names = publication::tables_of(control, main).await?;
    // A publication of all tables, or of an administrator, may have them already.
    let (here, apart): (Vec<_>, Vec<_>) =
        append_only.into_iter().partition(|w| names.contains(&w.table.name));
    if !here.is_empty() {
        must_send_inserts(control, main, &here).await?;
    }
    if !followed.is_empty() {
        made.note(publication::ensure(control, main, Actions::All, &followed).await)?;
    }
    let mut publications = vec![];
    if !followed.is_empty() || !here.is_empty() {
        publications.push(main.clone());
    }
    if let Some(name) = config.postgres.append_publication.as_ref().filter(|_| !apart.is_empty()) {
        made.note(publication::ensure(control, name, Actions::InsertOnly, &apart).await)?;
        publications.push(name.clone());
    }
    if made.nothing()? {
        return Ok((schemas, publications));
    }
    // Columns and filter may differ now that the tables are published.
    Ok((schemas::schemas(control, config).await?, publications))
}

/// What became of the publications: an administrator hears of all that is missing at once.
#[derive(Default)]
struct Made {
    any: bool,
    what: Vec<String>,
    sql: Vec<String>,
}

impl Made {
    fn note(&mut self, result: Result<PublicationState, QueryError>) -> Result<(), QueryError> {
        match result {
            Ok(state) => self.any |= state != PublicationState::Existed,
            Err(QueryError::NeedsAdministrator { what, sql }) => {
                self.what.push(what);
                self.sql.push(sql);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn nothing(self) -> Result<bool, QueryError> {
        if self.what.is_empty() {
            return Ok(!self.any);
        }
        Err(QueryError::NeedsAdministrator { what: self.what.join("; "), sql: self.sql.join("\n") })
    }
}

/// Does a publication that has `append_only` tables send their inserts, without harm to the application?
async fn must_send_inserts(
    control: &tokio_postgres::Client,
    name: &str,
    append_only: &[Wanted<'_>],
) -> Result<(), PipelineError> {
    publication::must_not_harm(control, name, append_only).await?;
    must_be_complete(name, publication::inspect(control, name, Actions::InsertOnly, append_only).await?)
}

fn must_be_complete(name: &str, missing: Option<publication::Missing>) -> Result<(), PipelineError> {
    match missing {
        None => Ok(()),
        Some(missing) => Err(PipelineError::Configuration(format!(
            "publication {name} does not publish what pg2os needs; run as its owner: {}",
            missing.sql
        ))),
    }
}

/// Is every table in one of several publications, published as pg2os needs it?
async fn check_publications(
    control: &tokio_postgres::Client,
    publications: &[String],
    followed: &[Wanted<'_>],
    append_only: &[Wanted<'_>],
) -> Result<(), PipelineError> {
    let mut unpublished: Vec<&TableName> =
        followed.iter().chain(append_only).map(|w| &w.table.name).collect();
    for publication in publications {
        let names = publication::tables_of(control, publication).await?;
        let here = |w: &&Wanted<'_>| names.contains(&w.table.name);
        let followed: Vec<_> = followed.iter().filter(here).copied().collect();
        let append_only: Vec<_> = append_only.iter().filter(here).copied().collect();
        if !followed.is_empty() {
            let missing = publication::inspect(control, publication, Actions::All, &followed).await?;
            must_be_complete(publication, missing)?;
        }
        if !append_only.is_empty() {
            must_send_inserts(control, publication, &append_only).await?;
        }
        if !publication::exists(control, publication).await? {
            return Err(PipelineError::Configuration(format!(
                "postgres.publication: {publication} does not exist; make it, or take it out of the list"
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

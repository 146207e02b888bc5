//! Retrying dead letters: their rows are read again by key, and their documents made so. What is refused again is a dead
//! letter again; what succeeds resolves its letter.

use super::{beside::Beside, error::PipelineError, progress::Progress, session::ended};
use crate::{
    config::Config,
    lanes::TableNo,
    map::plain_of_key,
    sink::{self, DeadLetters, StoredLetter},
};
use std::{collections::BTreeMap, sync::Arc};

/// The dead letters of the pipeline, oldest first, with their documents.
///
/// # Errors
/// OpenSearch.
pub async fn letters(config: &Config) -> Result<(Option<DeadLetters>, Vec<StoredLetter>), PipelineError> {
    let client = sink::Client::new(&config.opensearch)?;
    client.info().await?;
    let index = &config.opensearch.dead_letter_index;
    let store = DeadLetters::find(&client, index, &config.name).await?;
    let letters = match &store {
        Some(store) => store.list(true).await?,
        None => vec![],
    };
    Ok((store, letters))
}

/// Plain id and routing.
type DocumentOf = (Vec<u8>, Vec<u8>);

/// Retries `letters`; returns how many of them have no table in the configuration, and were left alone.
///
/// # Errors
/// Whatever stands in the way; what was not retried is still there.
pub async fn retry(config: Arc<Config>, letters: &[StoredLetter]) -> Result<usize, PipelineError> {
    let (writer, _, mut lanes) = Beside::open(config, "retry", Arc::new(Progress::default())).await?;
    let mut by_table: BTreeMap<TableNo, Vec<DocumentOf>> = BTreeMap::new();
    let mut unknown = 0;
    for letter in letters {
        let found = writer.tables.find_qualified(&letter.table);
        let Some(no) = found.filter(|no| writer.tables.get(*no).target.index == letter.index) else {
            unknown += 1;
            continue;
        };
        let key = &writer.tables.get(no).spec.id;
        let values: Vec<Option<&str>> =
            key.iter().map(|column| letter.key.get(column).and_then(|value| value.as_str())).collect();
        by_table
            .entry(no)
            .or_default()
            .push((plain_of_key(&values), letter.routing.clone().unwrap_or_default().into_bytes()));
    }
    let client = writer.reader().await?;
    let retrying = async {
        for (no, documents) in &by_table {
            let documents: Vec<(&[u8], &[u8])> =
                documents.iter().map(|(id, routing)| (id.as_slice(), routing.as_slice())).collect();
            writer.rewrite(&client, *no, &documents).await?;
        }
        writer.finish().await?;
        Ok(unknown)
    };
    tokio::select! {
        result = retrying => result,
        Some(result) = lanes.join_next() => Err(ended(result, "a lane")),
    }
}

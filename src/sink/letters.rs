//! The dead letters that are there: listed, found, removed.

use super::{
    client::Client,
    dead_letter::{ActionKind, DeadLetters, document_id},
    error::{Result, SinkError},
    outcome::{Answer, Outcome},
    scroll::Scroll,
};
use crate::model::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};

const PAGE: usize = 1000;
/// Letters of one request that removes them.
const REMOVED_AT_ONCE: usize = 5000;

/// A dead letter as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredLetter {
    /// Index (alias) name.
    pub index: String,
    /// `_id` of the document.
    pub id: String,
    /// Qualified table.
    pub table: String,
    /// Key columns and their text; null is NULL.
    pub key: Map<String, Value>,
    /// What the document is routed by; none where that is its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<String>,
    /// Index or delete.
    pub action: ActionKind,
    /// Version of the action.
    pub version: Version,
    /// Why it was refused.
    pub error: LetterError,
    /// When, RFC 3339.
    pub time: String,
    /// The document as far as it is kept; left out of lists.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Is there more of the document than is kept?
    #[serde(default)]
    pub truncated: bool,
}

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterError {
    /// OpenSearch's error type, or ours.
    #[serde(rename = "type")]
    pub kind: String,
    /// The reason.
    pub reason: String,
}

/// Which document a letter is about, and the version of the action that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterOf {
    /// Index (alias) name.
    pub index: String,
    /// `_id` of the document.
    pub id: String,
    /// A letter at or below it is resolved.
    pub version: Version,
}

impl DeadLetters {
    /// The letters of `pipeline` in `index`, where there is such an index; nothing is made.
    pub async fn find(client: &Client, index: &str, pipeline: &str) -> Result<Option<DeadLetters>> {
        Ok(client.find_index(index).await?.map(|found| DeadLetters {
            client: client.clone(),
            index: index.to_owned(),
            require_alias: found.is_alias,
            pipeline: pipeline.to_owned(),
        }))
    }

    /// All letters, oldest first, with their documents where `bodies` says so.
    pub async fn list(&self, bodies: bool) -> Result<Vec<StoredLetter>> {
        self.client.refresh(&self.index).await?;
        let search = json!({
            "query": { "term": { "pipeline": self.pipeline } },
            "_source": { "excludes": if bodies { &[][..] } else { &["body"] } },
        });
        let mut scroll = Scroll::new(&self.client, &self.index, search, PAGE);
        let mut letters = vec![];
        while let Some(hits) = scroll.next_page().await? {
            for hit in hits {
                let json = hit.source.as_deref().map_or("", RawValue::get);
                let letter: StoredLetter =
                    serde_json::from_str(json).map_err(|error| SinkError::Unreadable {
                        id: hit.id.clone(),
                        index: self.index.clone(),
                        detail: error.to_string(),
                    })?;
                letters.push(letter);
            }
        }
        letters.sort_by(|a, b| (&a.time, &a.index, &a.id).cmp(&(&b.time, &b.index, &b.id)));
        Ok(letters)
    }

    /// Removes letters; a later one of the same document stays. They are gone when it returns `Ok`.
    pub async fn remove(&self, letters: &[LetterOf]) -> Result<()> {
        for some in letters.chunks(REMOVED_AT_ONCE) {
            let mut body = String::new();
            for letter in some {
                let action = json!({ "delete": {
                    "_index": self.index,
                    "_id": document_id(&letter.index, &letter.id),
                    "version": letter.version,
                    "version_type": "external_gte",
                }});
                body.push_str(&action.to_string());
                body.push('\n');
            }
            let failed = |reason: String| SinkError::DeadLetter { index: self.index.clone(), reason };
            match self.client.bulk(body.into(), some.len(), |_| true, self.require_alias).await {
                Answer::AllDone => {}
                Answer::Items(items) => {
                    let bad = items.into_iter().find_map(|(_, outcome)| match outcome {
                        Outcome::Done | Outcome::Conflict { .. } => None,
                        Outcome::Retry(reason)
                        | Outcome::Unknown(reason)
                        | Outcome::ServerError(reason)
                        | Outcome::Target(reason) => Some(reason),
                        Outcome::Rejected { kind, reason } => Some(format!("{kind}: {reason}")),
                    });
                    if let Some(reason) = bad {
                        return Err(failed(reason));
                    }
                }
                Answer::TooLarge => return Err(failed("HTTP 413".to_owned())),
                Answer::BadRequest(reason)
                | Answer::Credentials(reason)
                | Answer::Busy(reason)
                | Answer::Overloaded(reason)
                | Answer::Cut(reason)
                | Answer::Unknown(reason) => return Err(failed(reason)),
            }
        }
        Ok(())
    }
}

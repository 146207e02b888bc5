//! Dead letters: actions that OpenSearch refuses for their own fault, kept with the reason (G1, G8).

use super::{
    cause::truncate,
    client::Client,
    error::{Result, SinkError},
    outcome::{Answer, Outcome},
    record::{now, sha256_hex},
};
use crate::model::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Most bytes of a refused document that are kept, for people to look at: retries read the row again by its key.
const BODY_BYTES: usize = 32 << 10;
/// Most bytes of one request, as the smallest hosted clusters take 10 MB.
const REQUEST_BYTES: usize = 4 << 20;

/// What an action was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// A document was to be written.
    Index,
    /// A document was to be deleted.
    Delete,
}

/// An action that cannot be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Index (alias) name.
    pub index: String,
    /// `_id` of the document.
    pub id: String,
    /// What routes it, where that is not its id.
    pub routing: Option<String>,
    /// Qualified table.
    pub table: String,
    /// Key columns and their text; `None` is NULL.
    pub key: Vec<(String, Option<String>)>,
    /// Index or delete.
    pub action: ActionKind,
    /// Version of the action.
    pub version: Version,
    /// OpenSearch's error type, or ours.
    pub error_type: String,
    /// The reason.
    pub reason: String,
    /// The document; empty for a delete.
    pub body: Vec<u8>,
}

/// The dead letters of one pipeline.
pub struct DeadLetters {
    pub(super) client: Client,
    pub(super) index: String,
    pub(super) require_alias: bool,
    pub(super) pipeline: String,
}

impl DeadLetters {
    /// Opens the dead letters of `pipeline` in `index`, which is made if it is not there.
    ///
    /// No letter may be refused in its turn: keywords leave longer values unindexed, and `key`, whose values have any
    /// length, is kept but not indexed; a row is found by its `id`.
    pub async fn open(client: &Client, index: &str, pipeline: &str) -> Result<DeadLetters> {
        let keyword = json!({ "type": "keyword", "ignore_above": 8191 });
        let mappings = json!({
            "dynamic": false,
            "properties": {
                "pipeline": keyword, "index": keyword, "id": keyword, "routing": keyword, "table": keyword, "action": keyword,
                "key": { "type": "object", "enabled": false },
                "version": { "type": "long" },
                "error": { "properties": { "type": keyword, "reason": { "type": "text" } } },
                "time": { "type": "date" },
                "body": { "type": "keyword", "index": false, "doc_values": false },
                "truncated": { "type": "boolean" },
            },
        });
        let settings = json!({
            "index.number_of_shards": 1,
            "index.auto_expand_replicas": "0-1",
            "index.gc_deletes": "10m",
        });
        let found = client.ensure_alias(index, &settings, &mappings).await?;
        Ok(DeadLetters {
            client: client.clone(),
            index: index.to_owned(),
            require_alias: found.is_alias,
            pipeline: pipeline.to_owned(),
        })
    }

    /// Letters of `pipeline` in `index`, as of its last refresh; none where there is no such index.
    pub async fn count_of(client: &Client, index: &str, pipeline: &str) -> Result<u64> {
        match client.find_index(index).await? {
            Some(found) => client.count_where(&found.concrete, "pipeline", pipeline).await,
            None => Ok(0),
        }
    }

    /// Stores letters. When it returns `Ok` they are durable, or a later letter of the same document is; otherwise some
    /// may be, and the same call can be made again.
    pub async fn write(&self, letters: &[DeadLetter]) -> Result<()> {
        let (mut body, mut actions) = (Vec::new(), 0);
        for letter in letters {
            let lines = self.lines(letter);
            if actions > 0 && body.len() + lines.len() > REQUEST_BYTES {
                self.send(std::mem::take(&mut body), std::mem::take(&mut actions)).await?;
            }
            body.extend_from_slice(lines.as_bytes());
            actions += 1;
        }
        if actions > 0 { self.send(body, actions).await } else { Ok(()) }
    }

    async fn send(&self, body: Vec<u8>, actions: usize) -> Result<()> {
        let failed = |reason: String| Err(SinkError::DeadLetter { index: self.index.clone(), reason });
        match self.client.bulk(body.into(), actions, |_| false, self.require_alias).await {
            Answer::AllDone => Ok(()),
            Answer::Items(items) => {
                for (_, outcome) in items {
                    match outcome {
                        Outcome::Done | Outcome::Conflict { .. } => {}
                        Outcome::Retry(reason)
                        | Outcome::Unknown(reason)
                        | Outcome::ServerError(reason)
                        | Outcome::Target(reason) => {
                            return failed(reason);
                        }
                        Outcome::Rejected { kind, reason } => return failed(format!("{kind}: {reason}")),
                    }
                }
                Ok(())
            }
            Answer::TooLarge => failed("HTTP 413: it takes no request of 4 MiB".to_owned()),
            Answer::BadRequest(reason)
            | Answer::Credentials(reason)
            | Answer::Busy(reason)
            | Answer::Overloaded(reason)
            | Answer::Cut(reason)
            | Answer::Unknown(reason) => failed(reason),
        }
    }

    /// Action line and source line.
    fn lines(&self, letter: &DeadLetter) -> String {
        let mut body =
            String::from_utf8_lossy(&letter.body[..letter.body.len().min(BODY_BYTES + 4)]).into_owned();
        let truncated = truncate(&mut body, BODY_BYTES);
        let key: Map<String, Value> =
            letter.key.iter().map(|(column, text)| (column.clone(), text.clone().into())).collect();
        let action = json!({ "index": {
            "_index": self.index,
            "_id": document_id(&letter.index, &letter.id),
            "version": letter.version.0,
            "version_type": "external_gte",
        }});
        let document = json!({
            "pipeline": self.pipeline,
            "index": letter.index,
            "id": letter.id,
            "routing": letter.routing,
            "table": letter.table,
            "key": key,
            "action": letter.action,
            "version": letter.version,
            "error": { "type": letter.error_type, "reason": letter.reason },
            "time": now(),
            "body": body,
            "truncated": truncated,
        });
        format!("{action}\n{document}\n")
    }
}

/// One letter for each document: a later one replaces it. An index name holds no NUL, so no two documents share an id.
pub(super) fn document_id(index: &str, id: &str) -> String {
    sha256_hex(format!("{index}\0{id}").as_bytes())
}

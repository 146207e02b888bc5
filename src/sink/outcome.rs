//! Reading of bulk answers: what became of a request, and of each action in it. Pure (guarantees G1 and G8).
//!
//! A status alone does not say whose fault a failure is: causes in the target that would hit every document must not
//! turn documents into dead letters, and a document's own fault must not stop a lane.

use super::cause::{self, Cause};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use std::{borrow::Cow, fmt};

/// Parameters of every bulk request (OpenSearch docs: "Bulk").
///
/// - `filter_path` keeps `status` of every item, and so its position: with `items.*.error` alone only failing items come
///   back, without position or id. 42 bytes an item instead of 163.
/// - `timeout`: how long the request waits for a primary that is not active; the default is a minute, for all items.
pub const BULK_PARAMETERS: &str =
    "filter_path=errors,items.*.status,items.*.result,items.*.error&timeout=10s";

/// What became of a bulk request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Every action is done.
    AllDone,
    /// The actions (by position) that are not plainly done, conflicts included; the others are done.
    Items(Vec<(usize, Outcome)>),
    /// 413: nothing was executed, split the request.
    TooLarge,
    /// 400 for the whole request: nothing was executed, split to find the action that is refused.
    BadRequest(String),
    /// Nothing was executed, for a cause outside of the documents: 401, 403 (also a block of the whole cluster), or a
    /// refusal by something that is not OpenSearch (a load balancer's 404, 405, 400 in HTML). Say it loudly, retry.
    Credentials(String),
    /// Nothing was executed because the cluster is not ready (503) or not reachable: retry.
    Busy(String),
    /// 429 for the whole request: nothing was executed, the cluster has no room for it now. Retry, smaller.
    Overloaded(String),
    /// It may have been executed, may still be, or not: time-out (504 too), an answer that is not one. The same request
    /// again; its deletes are in doubt (**M5**).
    Unknown(String),
    /// The same, where the connection ended with the request in it (a gateway tells that with 502), or the server failed
    /// over it (500): a document in it may have ended a node.
    Cut(String),
}

impl Answer {
    /// Those of the request's actions, `part`, that may have been executed, or still be, with no answer that says so.
    pub fn doubtful<'a>(&self, part: &'a [u32]) -> Cow<'a, [u32]> {
        match self {
            Answer::Unknown(_) | Answer::Cut(_) => Cow::Borrowed(part),
            Answer::Items(items) => {
                let unknown = items.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Unknown(_)));
                unknown.filter_map(|(position, _)| part.get(*position).copied()).collect()
            }
            _ => Cow::Borrowed(&[]),
        }
    }
}

/// What became of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is applied.
    Done,
    /// A document with a higher version is there: as good as done (design rule "a 409 is success").
    Conflict {
        /// The version that is there, where the answer says it; above the server's WAL position it is an alarm.
        current: Option<u64>,
    },
    /// 429: it was not executed; try again for ever.
    Retry(String),
    /// 503, or a 5xx for a node that is gone: the node that was asked passed the action on to the shard's, which did not answer
    /// and may still execute it, as it does when it was only stopped. Try again for ever; a delete after it is in doubt
    /// (**M5**).
    Unknown(String),
    /// Another 5xx, as of a failing ingest pipeline: a bounded number of retries, then a dead letter.
    ServerError(String),
    /// A cause in the target that hits every document: the lane stops loudly and retries until it is cured.
    Target(String),
    /// The document's own fault: a dead letter.
    Rejected {
        /// OpenSearch's error type.
        kind: String,
        /// Its reason, with the innermost cause.
        reason: String,
    },
}

/// Reads the answer to a bulk request of `actions` actions; `is_delete(i)` says what action `i` was.
///
/// An answer with another number of items than actions, or of other kinds, is [`Answer::Unknown`]: an action whose source
/// line got lost at the end of the body is dropped without a word (200, `errors: false`, one item fewer).
pub fn read_bulk_answer(
    http_status: u16,
    body: &[u8],
    actions: usize,
    is_delete: impl Fn(usize) -> bool,
) -> Answer {
    match http_status {
        200 => read_items(body, actions, is_delete),
        413 => Answer::TooLarge,
        400 => match cause::whole_request(body) {
            Some(cause) => Answer::BadRequest(cause.describe_with_kind()),
            None => Answer::Credentials(whole(400, body)),
        },
        429 if cause::whole_request(body).is_some_and(|cause| cause.can_never_fit()) => Answer::TooLarge,
        429 => Answer::Overloaded(whole(http_status, body)),
        503 => Answer::Busy(whole(http_status, body)),
        300..=499 => Answer::Credentials(whole(http_status, body)),
        500 | 502 => Answer::Cut(whole(http_status, body)),
        _ => Answer::Unknown(whole(http_status, body)),
    }
}

/// The text of a whole-request failure.
fn whole(status: u16, body: &[u8]) -> String {
    let text =
        cause::whole_request(body).map_or_else(|| cause::excerpt(body), |cause| cause.describe_with_kind());
    format!("HTTP {status}: {text}")
}

fn read_items(body: &[u8], actions: usize, is_delete: impl Fn(usize) -> bool) -> Answer {
    let answer: BulkAnswer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(error) => {
            return Answer::Unknown(format!("not a bulk answer ({error}): {}", cause::excerpt(body)));
        }
    };
    if answer.items.len() != actions {
        return Answer::Unknown(format!("{} items came back for {actions} actions", answer.items.len()));
    }
    let mut others = Vec::new();
    for (position, item) in answer.items.iter().enumerate() {
        let delete = is_delete(position);
        if (item.action == "delete") != delete {
            return Answer::Unknown(format!("item {position} is an answer to `{}`, not ours", item.action));
        }
        match classify(item, delete) {
            Outcome::Done => {}
            outcome => others.push((position, outcome)),
        }
    }
    match (others.is_empty(), answer.errors) {
        (true, false) => Answer::AllDone,
        (true, true) => Answer::Unknown("the answer says `errors: true`, but no item failed".to_owned()),
        (false, _) => Answer::Items(others),
    }
}

fn classify(item: &Item<'_>, is_delete: bool) -> Outcome {
    let none = Cause::default();
    let cause = item.error.as_ref().unwrap_or(&none);
    let kind = cause.kind.as_deref().unwrap_or_default();
    let told = || format!("HTTP {}: {}", item.status, cause.describe_with_kind());
    match item.status {
        200..=299 if item.error.is_none() => Outcome::Done,
        // An `index_not_found_exception` is a 404 as well, for a delete too, and is no success.
        404 if is_delete && item.result == Some("not_found") && item.error.is_none() => Outcome::Done,
        409 if kind == "version_conflict_engine_exception" => {
            Outcome::Conflict { current: cause.reason.as_deref().and_then(current_version) }
        }
        429 => Outcome::Retry(told()),
        503 => Outcome::Unknown(told()),
        500..=599 if is_nodes_fault(kind) => Outcome::Unknown(told()),
        500..=599 => Outcome::ServerError(told()),
        400 if !is_targets_fault(kind, cause.reason.as_deref().unwrap_or_default()) => {
            Outcome::Rejected { kind: kind.to_owned(), reason: cause.describe() }
        }
        _ => Outcome::Target(told()),
    }
}

/// Is a 5xx of an item the fault of nodes, disks or the network, which no document cures or causes? (OpenSearch retries a
/// primary that moves by itself; what comes out of that after `timeout` is the last failure.)
fn is_nodes_fault(kind: &str) -> bool {
    const KINDS: [&str; 20] = [
        "already_closed_exception",
        "cluster_manager_not_discovered_exception",
        "connect_transport_exception",
        "e_o_f_exception",
        "engine_closed_exception",
        "engine_creation_failure_exception",
        "flush_failed_engine_exception",
        "i_o_exception",
        "master_not_discovered_exception",
        "no_node_available_exception",
        "no_such_file_exception",
        "node_closed_exception",
        "node_disconnected_exception",
        "node_not_connected_exception",
        "primary_shard_closed_exception",
        "receive_timeout_transport_exception",
        "recovery_engine_exception",
        "send_request_transport_exception",
        "timeout_exception",
        "translog_exception",
    ];
    KINDS.contains(&kind)
}

/// Is a 400 of an item the fault of the index, not of the document? Reasons are compared at their beginning, where
/// no text of the user stands.
fn is_targets_fault(kind: &str, reason: &str) -> bool {
    const KINDS: [&str; 6] = [
        "index_closed_exception",
        "invalid_index_name_exception",
        "routing_missing_exception",
        "cluster_block_exception",
        "security_exception",
        "index_not_found_exception",
    ];
    const ILLEGAL_ARGUMENTS: [&str; 5] = [
        "no write index is defined for alias",
        "only write ops with an op_type of create are allowed in data streams",
        "index request with op_type=index and no if_primary_term and if_seq_no set targeting backing indices",
        "pipeline with id [",
        "Limit of total fields [",
    ];
    KINDS.contains(&kind)
        || kind == "illegal_argument_exception"
            && ILLEGAL_ARGUMENTS.iter().any(|text| reason.starts_with(text))
}

/// The version in `[id]: version conflict, current version [100] is higher than the one provided [99]`. From the end, as
/// an id may hold any text.
fn current_version(reason: &str) -> Option<u64> {
    let (_, tail) = reason.rsplit_once("current version [")?;
    tail.split_once(']')?.0.parse().ok()
}

#[derive(Deserialize)]
struct BulkAnswer<'a> {
    errors: bool,
    #[serde(borrow)]
    items: Vec<Item<'a>>,
}

/// `{"index": {"status": 201, "result": "created"}}`.
struct Item<'a> {
    action: &'a str,
    status: u16,
    result: Option<&'a str>,
    error: Option<Cause>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            status: u16,
            #[serde(borrow, default)]
            result: Option<&'a str>,
            #[serde(default)]
            error: Option<Cause>,
        }
        struct OneEntry;
        impl<'de> Visitor<'de> for OneEntry {
            type Value = Item<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one action")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let (action, Fields { status, result, error }) = map
                    .next_entry::<&str, Fields<'de>>()?
                    .ok_or_else(|| M::Error::custom("an empty item"))?;
                if map.next_key::<&str>()?.is_some() {
                    return Err(M::Error::custom("an item with two actions"));
                }
                Ok(Item { action, status, result, error })
            }
        }
        deserializer.deserialize_map(OneEntry)
    }
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;

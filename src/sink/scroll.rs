//! Reading all hits of a search, page by page (OpenSearch docs: "Scroll").

use super::{
    client::{Client, Request, Shards, encode},
    error::Result,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// How long the server keeps the search between two pages; each page begins it anew.
const KEEP: &str = "5m";

/// One document that was found; what is filled depends on the search.
#[derive(Debug, Deserialize)]
pub(super) struct Hit {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(rename = "_version")]
    pub(super) version: Option<i64>,
    #[serde(rename = "_routing")]
    pub(super) routing: Option<String>,
    #[serde(rename = "_seq_no")]
    pub(super) seq_no: Option<i64>,
    #[serde(rename = "_primary_term")]
    pub(super) primary_term: Option<i64>,
    #[serde(rename = "_source")]
    pub(super) source: Option<Box<RawValue>>,
}

/// A search that is read page by page.
pub(super) struct Scroll {
    client: Client,
    index: String,
    state: State,
}

enum State {
    New { search: Value, size: usize },
    Open { scroll_id: String, size: usize },
    Done,
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "_scroll_id")]
    scroll_id: String,
    #[serde(flatten)]
    shards: Shards,
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

impl Scroll {
    /// A scroll over what `search` finds in `index`, `size` hits at a time, in the order of the index, which is the
    /// fastest.
    pub(super) fn new(client: &Client, index: &str, mut search: Value, size: usize) -> Self {
        search["size"] = size.into();
        search["sort"] = json!(["_doc"]);
        Scroll { client: client.clone(), index: index.to_owned(), state: State::New { search, size } }
    }

    /// The next hits; `None` at the end. An answer that lacks some shards is an error, never a shorter list.
    pub(super) async fn next_page(&mut self) -> Result<Option<Vec<Hit>>> {
        let (request, size) = match &self.state {
            State::Done => return Ok(None),
            State::New { search, size } => {
                let path = format!(
                    "/{}/_search?scroll={KEEP}&allow_partial_search_results=false",
                    encode(&self.index)
                );
                (Request::new(Method::POST, path).json(search), *size)
            }
            State::Open { scroll_id, size } => {
                let body = json!({ "scroll": KEEP, "scroll_id": scroll_id });
                (Request::new(Method::POST, "/_search/scroll").json(&body), *size)
            }
        };
        let page: Page = self.client.call(request).await?;
        self.state = State::Open { scroll_id: page.scroll_id, size };
        page.shards.check(&self.index)?;
        if page.hits.hits.len() < size {
            self.close().await;
        }
        Ok(Some(page.hits.hits).filter(|hits| !hits.is_empty()))
    }

    /// Frees what the server keeps. It would do so itself after a while, so a failure is no error.
    pub(super) async fn close(&mut self) {
        if let State::Open { scroll_id, .. } = std::mem::replace(&mut self.state, State::Done) {
            let request = Request::new(Method::DELETE, "/_search/scroll");
            let answer = self.client.call::<Value>(request.json(&json!({ "scroll_id": scroll_id }))).await;
            if let Err(error) = answer {
                tracing::debug!(%error, index = self.index, "a scroll was not cleared");
            }
        }
    }
}

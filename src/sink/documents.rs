//! Whole documents of an index: listed page by page, and read by id. `_source` is the bytes that were sent.

use super::{
    client::{Client, Request, encode},
    error::{Result, SinkError},
    scroll::{Hit, Scroll},
};
use crate::model::Version;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// A document of an index.
#[derive(Debug, Clone)]
pub struct Document {
    /// `_id`.
    pub id: String,
    /// Routing it was written with; empty where it is routed by its id.
    pub routing: String,
    /// `_version`, as in [`Listed`](super::Listed).
    pub version: Version,
    source: Option<Box<RawValue>>,
}

impl Document {
    /// The JSON that was sent; empty where the index does not keep it.
    pub fn source(&self) -> &[u8] {
        self.source.as_deref().map_or(b"", |source| source.get().as_bytes())
    }
}

impl From<Hit> for Document {
    fn from(hit: Hit) -> Self {
        Document {
            id: hit.id,
            routing: hit.routing.unwrap_or_default(),
            version: version_of(hit.version),
            source: hit.source,
        }
    }
}

fn version_of(version: Option<i64>) -> Version {
    Version(version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0))
}

/// The documents that a query finds, as they were at the beginning of the listing.
pub struct Documents(Scroll);

impl Documents {
    /// Begins to list what `query` finds in `index`, `page` documents at a time, which have to fit an answer together
    /// ([`SinkError::TooLong`]). What was written since the last refresh is not listed.
    pub fn of(client: &Client, index: &str, query: &Value, page: usize) -> Documents {
        let search = json!({ "version": true, "query": query });
        Documents(Scroll::new(client, index, search, page))
    }

    /// The next documents; `None` at the end.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Document>>> {
        let page = self.0.next_page().await;
        if page.is_err() {
            self.0.close().await;
        }
        Ok(page?.map(|hits| hits.into_iter().map(Document::from).collect()))
    }
}

impl Client {
    /// Up to `most` (10,000) documents of those that `query` finds, at random, without their content (OpenSearch docs:
    /// "Function score", `random_score`).
    pub async fn sample(&self, index: &str, query: &Value, most: usize) -> Result<Vec<Document>> {
        #[derive(Deserialize)]
        struct Answer {
            hits: Hits,
        }
        #[derive(Deserialize)]
        struct Hits {
            hits: Vec<Hit>,
        }
        let search = json!({
            "size": most.min(10_000),
            "version": true,
            "_source": false,
            "query": { "function_score": { "query": query, "random_score": {}, "boost_mode": "replace" } },
        });
        let path = format!("/{}/_search?allow_partial_search_results=false", encode(index));
        let answer: Answer = self.call(Request::new(Method::POST, path).json(&search)).await?;
        Ok(answer.hits.hits.into_iter().map(Document::from).collect())
    }

    /// The documents with these ids and routings, as they are now, also where no search sees them yet (OpenSearch docs:
    /// "Multi-get document").
    pub async fn documents(&self, index: &str, ids: &[(&str, &str)]) -> Result<Vec<Option<Document>>> {
        #[derive(Deserialize)]
        struct Answer {
            docs: Vec<Found>,
        }
        #[derive(Deserialize)]
        struct Found {
            #[serde(rename = "_id")]
            id: String,
            #[serde(default)]
            found: bool,
            error: Option<Value>,
            #[serde(rename = "_version")]
            version: Option<i64>,
            #[serde(rename = "_routing")]
            routing: Option<String>,
            #[serde(rename = "_source")]
            source: Option<Box<RawValue>>,
        }
        let wanted: Vec<Value> = ids
            .iter()
            .map(|(id, routing)| match *routing {
                "" => json!({ "_id": id }),
                routing => json!({ "_id": id, "routing": routing }),
            })
            .collect();
        let path = format!("/{}/_mget", encode(index));
        let request = Request::new(Method::POST, path).json(&json!({ "docs": wanted }));
        let answer: Answer = match self.call(request).await {
            Err(SinkError::TooLong { .. }) if ids.len() > 1 => {
                let (first, rest) = ids.split_at(ids.len() / 2);
                let mut documents = Box::pin(self.documents(index, first)).await?;
                documents.extend(Box::pin(self.documents(index, rest)).await?);
                return Ok(documents);
            }
            answer => answer?,
        };
        if answer.docs.len() != ids.len() || answer.docs.iter().any(|found| found.error.is_some()) {
            return Err(SinkError::Partial { index: index.to_owned(), failed: 1 });
        }
        let document = |found: Found| {
            found.found.then(|| Document {
                id: found.id,
                routing: found.routing.unwrap_or_default(),
                version: version_of(found.version),
                source: found.source,
            })
        };
        Ok(answer.docs.into_iter().map(document).collect())
    }
}

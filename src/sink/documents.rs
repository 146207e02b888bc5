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
            version: Version(hit.version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0)),
            source: hit.source,
        }
    }
}

/// The documents that a query finds, as they were at the beginning of the listing.
pub struct Documents(Scroll);

impl Documents {
    /// Begins to list what `query` finds in `index`, `page` documents at a time, which have to fit an answer together
    /// ([`SinkError::TooLong`]). The index is refreshed first.
    pub async fn of(client: &Client, index: &str, query: &Value, page: usize) -> Result<Documents> {
        client.refresh(index).await?;
        let search = json!({ "version": true, "query": query });
        Ok(Documents(Scroll::new(client, index, search, page)))
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
    /// The documents with these ids and routings, as they are now, also where no search sees them yet (OpenSearch docs:
    /// "Multi-get document").
    pub async fn documents(&self, index: &str, ids: &[(&str, &str)]) -> Result<Vec<Option<Document>>> {
        #[derive(Deserialize)]
        struct Answer {
            docs: Vec<Found>,
        }
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            found: bool,
            error: Option<Value>,
            #[serde(flatten)]
            hit: Hit,
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
        Ok(answer.docs.into_iter().map(|found| found.found.then(|| found.hit.into())).collect())
    }
}

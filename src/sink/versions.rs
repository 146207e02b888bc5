//! Which documents an index holds, and at which versions: for TRUNCATE (**M11**) and for the sweep (**M6**).
//!
//! `_version` cannot be queried or sorted, only returned; a scroll by `_doc` lists 400,000 documents a second.

use super::{client::Client, error::Result, scroll::Scroll};
use crate::model::Version;
use serde_json::{Value, json};

/// The most that OpenSearch gives in one page (`index.max_result_window`).
const PAGE: usize = 10_000;

/// A document of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `_id`.
    pub id: String,
    /// `_version`; 0 where it wrapped below zero after the highest one, which is lower than every version of ours.
    pub version: Version,
    /// Routing it was written with: a delete without it would miss the document.
    pub routing: Option<String>,
}

impl Listed {
    /// What a delete must carry; empty where the document is routed by its id.
    pub fn routing(&self) -> &[u8] {
        self.routing.as_deref().unwrap_or_default().as_bytes()
    }
}

/// The documents of an index as they were at the beginning of the listing, page by page.
pub struct Versions(Scroll);

impl Versions {
    /// Begins to list `index`. It is refreshed first, so that everything written before is listed. Name the index itself,
    /// not its alias, where deletes follow.
    pub async fn of(client: &Client, index: &str) -> Result<Versions> {
        Self::of_query(client, index, &json!({ "match_all": {} })).await
    }

    /// The same of the documents that `query` finds.
    pub async fn of_query(client: &Client, index: &str, query: &Value) -> Result<Versions> {
        client.refresh(index).await?;
        let search = json!({ "version": true, "_source": false, "query": query });
        Ok(Versions(Scroll::new(client, index, search, PAGE)))
    }

    /// The next documents; `None` at the end. After an error the listing has to begin anew.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Listed>>> {
        let Some(hits) = self.0.next_page().await? else { return Ok(None) };
        let listed = hits.into_iter().map(|hit| Listed {
            id: hit.id,
            version: Version(hit.version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0)),
            routing: hit.routing,
        });
        Ok(Some(listed.collect()))
    }

    /// Ends the listing early. After the last page it is not needed.
    pub async fn close(mut self) {
        self.0.close().await;
    }
}

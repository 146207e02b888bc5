//! OpenSearch over plain HTTP, beside the client of the program.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone)]
pub(crate) struct OpenSearch {
    url: String,
    http: reqwest::Client,
}

/// A document as it lies in its index.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    #[serde(rename = "_id")]
    id: String,
    /// External version.
    #[serde(rename = "_version")]
    pub(crate) version: u64,
    /// The bytes that were indexed.
    #[serde(rename = "_source")]
    pub(crate) source: Box<RawValue>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "_scroll_id")]
    scroll_id: String,
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Document>,
}

impl OpenSearch {
    pub(crate) fn new(url: &str) -> OpenSearch {
        // The builder wants a provider, though no test speaks TLS to OpenSearch.
        let _ = rustls::crypto::ring::default_provider().install_default();
        OpenSearch { url: url.to_owned(), http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// A request: its status and body.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Writes a document whose bytes are `source`.
    pub(crate) async fn put_source(&self, index: &str, id: &str, source: String) {
        let mut url = reqwest::Url::parse(&self.url).unwrap();
        url.path_segments_mut().unwrap().extend([index, "_doc", id]);
        let request = self.http.put(url).header("content-type", "application/json").body(source);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{index}/{id}: {}", answer.text().await.unwrap());
    }

    /// A request that must succeed.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> String {
        let (status, text) = self.ask(method, path, body).await;
        assert!(status < 300, "{method} {path}: {status} {text}");
        text
    }

    /// Number of documents of an index.
    pub(crate) async fn count(&self, index: &str) -> u64 {
        self.call("POST", &format!("/{index}/_refresh"), Value::Null).await;
        let answer: Value =
            serde_json::from_str(&self.call("GET", &format!("/{index}/_count"), Value::Null).await).unwrap();
        answer["count"].as_u64().unwrap()
    }

    /// Every document of an index by id; none where the index is not there yet.
    pub(crate) async fn documents(&self, index: &str) -> BTreeMap<String, Document> {
        if self.ask("POST", &format!("/{index}/_refresh"), Value::Null).await.0 == 404 {
            return BTreeMap::new();
        }
        let first = json!({"size": 5000, "version": true, "sort": ["_doc"]});
        let mut text = self.call("POST", &format!("/{index}/_search?scroll=1m"), first).await;
        let mut documents = BTreeMap::new();
        loop {
            let page: Page = serde_json::from_str(&text).unwrap();
            let scroll = json!({"scroll": "1m", "scroll_id": page.scroll_id});
            if page.hits.hits.is_empty() {
                self.call("DELETE", "/_search/scroll", json!({"scroll_id": page.scroll_id})).await;
                return documents;
            }
            for document in page.hits.hits {
                documents.insert(document.id.clone(), document);
            }
            text = self.call("POST", "/_search/scroll", scroll).await;
        }
    }

    /// One document's fields; `None` where it is not there, or the index is being made.
    pub(crate) async fn document(&self, index: &str, id: &str) -> Option<Value> {
        let (status, text) = self.ask("GET", &format!("/{index}/_doc/{id}"), Value::Null).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(matches!(status, 200 | 404 | 503), "{status} {text}");
        answer.get("_source").cloned()
    }

    pub(super) async fn delete_indices(&self, prefix: &str) {
        self.call("DELETE", &format!("/{prefix}*?expand_wildcards=all"), Value::Null).await;
    }
}

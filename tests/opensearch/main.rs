//! The OpenSearch side against a real server, and against a socket where a fault must be forced.
//!
//! Run by `make test`, which starts a server and sets PG2OS_TEST_OS_URL. Each test has its own index names, so all run
//! beside each other.

#![allow(clippy::unwrap_used)]

mod bulk;
mod faults;
mod indices;
mod state;

use pg2os::{
    config::{Credential, OpenSearch, Tls, TlsMode},
    sink::{Answer, Client, Outcome},
};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

/// A test's own corner of the cluster; its indices are deleted when it ends well.
struct Corner {
    url: String,
    prefix: String,
    client: Client,
    http: reqwest::Client,
}

fn config(urls: &[&str]) -> OpenSearch {
    OpenSearch {
        urls: urls.iter().map(|&url| url.to_owned()).collect(),
        username: None,
        password: None,
        tls: Tls { mode: TlsMode::VerifyFull, ca_file: None, cert_file: None, key_file: None },
        proxy: None,
        state_index: "pg2os-state".to_owned(),
        dead_letter_index: "pg2os-dead-letters".to_owned(),
    }
}

fn login(user: &str, password: Credential) -> OpenSearch {
    OpenSearch {
        username: Some(Credential::Value(user.to_owned().into())),
        password: Some(password),
        ..config(&["http://127.0.0.1:1"])
    }
}

fn server_url() -> String {
    std::env::var("PG2OS_TEST_OS_URL")
        .expect("PG2OS_TEST_OS_URL is not set: run `make test`, which starts the servers")
}

fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Corner {
    fn new(name: &str) -> Corner {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        install_tls_provider();
        let url = server_url();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        Corner {
            prefix: format!("t-sink-{name}-{}-{time}-{number}", std::process::id()),
            client: Client::new(&config(&[&url])).unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            url,
        }
    }

    /// The name of an index of this test.
    fn index(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A request beside the client under test. Its body, whatever its status.
    async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    /// Makes an index with these settings and properties.
    async fn make(&self, name: &str, settings: Value, mappings: Value) -> String {
        let index = self.index(name);
        let body = json!({"settings": settings, "mappings": mappings});
        let answer = self.ask("PUT", &format!("/{index}"), body).await;
        assert_eq!(answer["acknowledged"], true, "{answer}");
        index
    }

    async fn bulk(&self, lines: &[Value]) -> Answer {
        self.bulk_text(&lines.iter().map(|line| format!("{line}\n")).collect::<String>()).await
    }

    /// Sends text as it is; an action for each line that looks like one.
    async fn bulk_text(&self, text: &str) -> Answer {
        let actions: Vec<bool> = text
            .lines()
            .filter(|line| line.contains("\"_index\""))
            .map(|line| line.contains("\"delete\""))
            .collect();
        self.client.bulk(text.to_owned().into(), actions.len(), |i| actions[i], false).await
    }

    /// The outcome of one action.
    async fn outcome(&self, lines: &[Value]) -> Outcome {
        match self.bulk(lines).await {
            Answer::Items(mut items) if items.len() == 1 => items.remove(0).1,
            Answer::AllDone => Outcome::Done,
            answer => panic!("{answer:?}"),
        }
    }

    async fn clean(&self) {
        let answer = self.ask("DELETE", &format!("/{}*", self.prefix), Value::Null).await;
        assert_eq!(answer["acknowledged"], true, "{answer}");
    }
}

/// The lines of an index action at an external version.
fn write(index: &str, id: &str, version: u64, source: Value) -> [Value; 2] {
    [
        json!({"index": {"_index": index, "_id": id, "version": version, "version_type": "external_gte"}}),
        source,
    ]
}

/// The line of a delete action at an external version.
fn delete(index: &str, id: &str, version: u64) -> [Value; 1] {
    [json!({"delete": {"_index": index, "_id": id, "version": version, "version_type": "external_gte"}})]
}

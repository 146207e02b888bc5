//! The HTTP client: sends one request to one of the configured nodes and reads its answer.

use super::{
    connect::{self, Login},
    error::{Result, SinkError},
};
use crate::config::{Credential, OpenSearch};
use bytes::{Bytes, BytesMut};
use reqwest::{Method, header};
use secrecy::ExposeSecret;
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fmt::Write as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// No answer to us is longer; memory stays bounded (G6) whatever the other side sends.
const ANSWER_BYTES: usize = 64 << 20;

/// An OpenSearch cluster. Clones share connections and credentials.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    config: OpenSearch,
    /// Index of the URL in use; after a failure the next one is.
    current: AtomicUsize,
    session: RwLock<Session>,
}

/// What is read from files, and read again when it may have changed.
#[derive(Clone)]
struct Session {
    http: reqwest::Client,
    login: Login,
}

/// What the cluster says of itself (`GET /`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Version number, for example `2.19.6`.
    pub version: String,
    /// Name of the cluster.
    pub cluster: String,
}

/// One request.
pub(super) struct Request {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Bytes,
    timeout: Duration,
}

/// Status and body of an answer.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Bytes,
    url: String,
}

impl Request {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Request {
            method,
            path: path.into(),
            content_type: "application/json",
            body: Bytes::new(),
            timeout: REQUEST_TIMEOUT,
        }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn json(self, body: &serde_json::Value) -> Self {
        self.body(body.to_string())
    }

    pub(super) fn body(mut self, json: String) -> Self {
        self.body = json.into();
        self
    }

    pub(super) fn lines(mut self, body: Bytes) -> Self {
        self.body = body;
        self.content_type = "application/x-ndjson";
        self
    }

    pub(super) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Method and path without parameters, for messages.
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path.split('?').next().unwrap_or_default())
    }
}

impl Client {
    /// A client of the configured nodes; nothing is dialled yet. It needs rustls's process-wide provider only where a
    /// URL is https.
    pub fn new(config: &OpenSearch) -> Result<Client> {
        if config.urls.is_empty() {
            return Err(SinkError::Configuration("opensearch.url is missing".to_owned()));
        }
        for url in &config.urls {
            let parsed = reqwest::Url::parse(url).ok().filter(|url| {
                matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty()
            });
            if parsed.is_none() {
                return Err(SinkError::Configuration(
                    "opensearch.url is not of the form http(s)://host:port; credentials belong in `username` and `password_file`"
                        .to_owned(),
                ));
            }
        }
        let session = Session { http: connect::http_client(config)?, login: connect::login(config)? };
        Ok(Client(Arc::new(Inner {
            config: config.clone(),
            current: AtomicUsize::new(0),
            session: RwLock::new(session),
        })))
    }

    /// Asks the cluster what it is; an error where it is not OpenSearch.
    ///
    /// With `compatibility.override_main_response_version` OpenSearch says that it is 7.10.2 and leaves `distribution`
    /// out; the tagline stays (OpenSearch docs: "Clients", compatibility).
    pub async fn info(&self) -> Result<Info> {
        #[derive(Deserialize)]
        struct Version {
            number: String,
            distribution: Option<String>,
        }
        #[derive(Deserialize)]
        struct Root {
            cluster_name: String,
            version: Version,
            #[serde(default)]
            tagline: String,
        }
        let root: Root = self.call(Request::get("/").timeout(Duration::from_secs(10))).await?;
        if root.version.distribution.as_deref() == Some("opensearch") || root.tagline.contains("OpenSearch") {
            return Ok(Info { version: root.version.number, cluster: root.cluster_name });
        }
        let found = match root.version.distribution {
            Some(distribution) => format!("{distribution} {}", root.version.number),
            None => format!("Elasticsearch {}", root.version.number),
        };
        Err(SinkError::NotOpenSearch { url: self.url(), found })
    }

    /// Has a node of the cluster this plugin (OpenSearch docs: "CAT plugins")? Whoever may not ask does without.
    pub async fn has_plugin(&self, component: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Plugin {
            component: String,
        }
        match self.call::<Vec<Plugin>>(Request::get("/_cat/plugins?h=component&format=json")).await {
            Ok(plugins) => Ok(plugins.iter().any(|plugin| plugin.component == component)),
            Err(SinkError::Forbidden { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes all that was written to `index` visible to searches (OpenSearch docs: "Refresh index").
    pub async fn refresh(&self, index: &str) -> Result<()> {
        let path = format!("/{}/_refresh", encode(index));
        let answer: Shards = self.call(Request::new(Method::POST, path)).await?;
        answer.check(index)
    }

    /// Number of documents in `index` that searches see.
    pub async fn count(&self, index: &str) -> Result<u64> {
        self.count_by(index, &serde_json::json!({})).await
    }

    /// Number of documents whose keyword `field` is `value`.
    pub async fn count_where(&self, index: &str, field: &str, value: &str) -> Result<u64> {
        self.count_by(index, &serde_json::json!({ "query": { "term": { field: value } } })).await
    }

    async fn count_by(&self, index: &str, query: &serde_json::Value) -> Result<u64> {
        #[derive(Deserialize)]
        struct Count {
            count: u64,
            #[serde(flatten)]
            shards: Shards,
        }
        let request = Request::new(Method::POST, format!("/{}/_count", encode(index))).json(query);
        let answer: Count = self.call(request).await?;
        answer.shards.check(index)?;
        Ok(answer.count)
    }

    /// Sends a request; anything but a 2xx whose body is `T` is an error.
    pub(super) async fn call<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        let response = self.call_any(&request).await?;
        match response.status {
            200..=299 => {
                serde_json::from_slice(&response.body).map_err(|_| self.not_understood(&request, &response))
            }
            _ => Err(self.failure(&request, &response)),
        }
    }

    /// The same for a document, whose absence is a 404 with a body of the same form.
    pub(super) async fn call_document<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        let response = self.call_any(&request).await?;
        match (response.status, serde_json::from_slice(&response.body)) {
            (200 | 404, Ok(document)) => Ok(document),
            (200, Err(_)) => Err(self.not_understood(&request, &response)),
            _ => Err(self.failure(&request, &response)),
        }
    }

    /// Sends a request, once more with new credentials where they are refused and have changed.
    async fn call_any(&self, request: &Request) -> Result<Response> {
        let response = self.send(request).await?;
        match response.status {
            401 | 403 if self.renew() => self.send(request).await,
            _ => Ok(response),
        }
    }

    fn failure(&self, request: &Request, response: &Response) -> SinkError {
        let in_files = [&self.0.config.username, &self.0.config.password]
            .into_iter()
            .any(|credential| matches!(credential, Some(Credential::File(_))));
        SinkError::from_answer(&response.url, request.name(), response.status, &response.body, in_files)
    }

    fn not_understood(&self, request: &Request, response: &Response) -> SinkError {
        SinkError::NotOpenSearchAnswer {
            url: response.url.clone(),
            request: request.name(),
            status: response.status,
            excerpt: super::cause::excerpt(&response.body),
        }
    }

    /// Sends a request to the node in use. Where no connection can be made, and so nothing was sent, the other nodes are
    /// tried in turn. An answer of any status is a success here.
    pub(super) async fn send(&self, request: &Request) -> Result<Response> {
        let nodes = self.0.config.urls.len();
        let first = self.0.current.load(Ordering::Relaxed);
        let mut tried = 1;
        loop {
            let node = (first + tried - 1) % nodes;
            let answer = self.send_to(&self.0.config.urls[node], request).await;
            match answer {
                Ok(response) if !matches!(response.status, 502..=504) => return Ok(response),
                Ok(response) => {
                    self.leave(node);
                    return Ok(response);
                }
                Err(error) => {
                    self.leave(node);
                    self.renew();
                    if !error.was_never_sent() || tried == nodes {
                        return Err(error);
                    }
                    tracing::warn!(%error, "trying the next node");
                    tried += 1;
                }
            }
        }
    }

    async fn send_to(&self, url: &str, request: &Request) -> Result<Response> {
        let Session { http, login } = self.session();
        let mut builder = http
            .request(request.method.clone(), format!("{url}{}", request.path))
            .timeout(request.timeout)
            .body(request.body.clone());
        if !request.body.is_empty() {
            builder = builder.header(header::CONTENT_TYPE, request.content_type);
        }
        if let Some((user, password)) = &login {
            builder = builder.basic_auth(user.expose_secret(), Some(password.expose_secret()));
        }
        let failed = |error| transport_error(url, error);
        let mut response = builder.send().await.map_err(failed)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(SinkError::TooLong { url: url.to_owned(), limit: ANSWER_BYTES });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status: response.status().as_u16(), body: body.freeze(), url: url.to_owned() })
    }

    /// Reads credentials and certificates again. Have the credentials changed?
    pub(super) fn renew(&self) -> bool {
        let config = &self.0.config;
        let has_tls_files = config.tls.ca_file.is_some() || config.tls.cert_file.is_some();
        let old = self.session();
        let renewed = connect::login(config).and_then(|login| {
            let http = if has_tls_files { connect::http_client(config)? } else { old.http.clone() };
            Ok(Session { http, login })
        });
        match renewed {
            Ok(session) => {
                let changed = connect::differ(&old.login, &session.login);
                *self.0.session.write().unwrap_or_else(PoisonError::into_inner) = session;
                changed
            }
            Err(error) => {
                tracing::error!(%error, "the credentials read before stay in use");
                false
            }
        }
    }

    fn session(&self) -> Session {
        self.0.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other requests go to the next node from now on.
    fn leave(&self, node: usize) {
        let next = (node + 1) % self.0.config.urls.len();
        // Somebody else may have left it already.
        let _ = self.0.current.compare_exchange(node, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn url(&self) -> String {
        self.0.config.urls[self.0.current.load(Ordering::Relaxed)].clone()
    }
}

fn transport_error(url: &str, error: reqwest::Error) -> SinkError {
    let (is_builder, is_connect, is_timeout) = (error.is_builder(), error.is_connect(), error.is_timeout());
    let (url, detail) = (url.to_owned(), connect::chain(&error.without_url()));
    if is_builder {
        SinkError::Configuration(format!("opensearch.url: no request can be made ({detail})"))
    } else if !is_connect {
        SinkError::NoAnswer { url, detail, cut: !is_timeout }
    } else if detail.contains("certificate") || detail.contains("InvalidContentType") {
        SinkError::Tls { url, detail }
    } else {
        SinkError::Unreachable { url, detail }
    }
}

/// `_shards` of an answer.
#[derive(Deserialize)]
pub(super) struct Shards {
    #[serde(rename = "_shards")]
    shards: ShardCounts,
}

#[derive(Deserialize)]
struct ShardCounts {
    failed: u64,
}

impl Shards {
    /// An answer for a part of the shards only would be taken for the whole.
    pub(super) fn check(&self, index: &str) -> Result<()> {
        match self.shards.failed {
            0 => Ok(()),
            failed => Err(SinkError::Partial { index: index.to_owned(), failed }),
        }
    }
}

/// Percent-encodes one segment of a path or one value of a parameter (RFC 3986: all but the unreserved characters).
pub(super) fn encode(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

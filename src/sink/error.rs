//! Errors of the OpenSearch side: which of them a retry can help, and what cures the others.

use super::cause::{self, Cause};
use crate::model::{Lsn, VersionError};

/// Can a retry help?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Yes, perhaps (exit code 1).
    Transient,
    /// No: configuration, or a state that somebody has to look at (exit code 2).
    Fatal,
}

/// What went wrong with OpenSearch.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// No connection: the request was certainly not sent.
    #[error(
        "OpenSearch at {url} cannot be reached ({detail}); check `opensearch.url` and that the cluster is up"
    )]
    Unreachable {
        /// The URL.
        url: String,
        /// What the system says.
        detail: String,
    },
    /// The TLS handshake failed: the request was certainly not sent.
    #[error("no TLS with {url} ({detail}); {}", tls_cure(detail))]
    Tls {
        /// The URL.
        url: String,
        /// What rustls says.
        detail: String,
    },
    /// The connection was cut or the answer did not come in time: the request may have been executed.
    #[error(
        "no answer from OpenSearch at {url} ({detail}){}",
        if url.starts_with("http:") { "; if that port speaks TLS, write https:// in `opensearch.url`" } else { "" }
    )]
    NoAnswer {
        /// The URL.
        url: String,
        /// What the system says.
        detail: String,
        /// Did the connection end, and not the time?
        cut: bool,
    },
    /// The answer is longer than the memory that is kept for one.
    #[error("OpenSearch at {url} answers with more than {limit} bytes at once")]
    TooLong {
        /// The URL.
        url: String,
        /// The most that is taken.
        limit: usize,
    },
    /// 401.
    #[error(
        "OpenSearch at {url} refuses the credentials (HTTP 401: {reason}); check `opensearch.username` and `opensearch.password_file`"
    )]
    Unauthorized {
        /// The URL.
        url: String,
        /// What it says.
        reason: String,
        /// Are credentials in files, which may be rotated at any moment?
        in_files: bool,
    },
    /// 403: the cluster, or an index, is blocked.
    #[error("OpenSearch at {url} does not take {request} for now (HTTP 403: {reason}); lift the block")]
    Blocked {
        /// The URL.
        url: String,
        /// Method and path.
        request: String,
        /// What it says.
        reason: String,
    },
    /// 403: a permission is missing.
    #[error(
        "OpenSearch at {url} forbids {request} (HTTP 403: {reason}); give the role of `opensearch.username` this permission"
    )]
    Forbidden {
        /// The URL.
        url: String,
        /// Method and path.
        request: String,
        /// What it says.
        reason: String,
    },
    /// 429, 502, 503, 504: the cluster, or the load balancer before it, cannot now.
    #[error("OpenSearch at {url} is busy or not ready (HTTP {status}: {reason})")]
    Busy {
        /// The URL.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        reason: String,
    },
    /// What came is no answer of OpenSearch.
    #[error(
        "{url} does not answer as OpenSearch does ({request}: HTTP {status}, `{excerpt}`); check that `opensearch.url` is the cluster and not a dashboard, proxy or login page"
    )]
    NotOpenSearchAnswer {
        /// The URL.
        url: String,
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// Beginning of the body.
        excerpt: String,
    },
    /// It is another product.
    #[error("{url} is {found}; pg2os writes to OpenSearch 2 and 3 only")]
    NotOpenSearch {
        /// The URL.
        url: String,
        /// What it says of itself.
        found: String,
    },
    /// OpenSearch refused a request and said why.
    #[error("OpenSearch refused {request} (HTTP {status}): {reason}")]
    Refused {
        /// Method and path.
        request: String,
        /// HTTP status.
        status: u16,
        /// Its error type.
        kind: String,
        /// Its reason.
        reason: String,
    },
    /// The configuration, or a file that it names, cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The index belongs to another pipeline or source.
    #[error(
        "index {index} is filled by pipeline `{pipeline}` from {source_name}; give this table another `index`, or delete that index if it is not needed any more"
    )]
    Owned {
        /// Concrete index.
        index: String,
        /// Its pipeline.
        pipeline: String,
        /// Its source, in words.
        source_name: String,
    },
    /// A state document was changed by somebody else: another instance of this pipeline is, or was, at work.
    #[error(
        "state document `{id}` was changed by {owner}: another instance of this pipeline is at work; this one stops writing"
    )]
    Superseded {
        /// Document.
        id: String,
        /// Who wrote it.
        owner: String,
    },
    /// A state document has a format that this program does not know.
    #[error(
        "state document `{id}` has format {format}: it was written by a newer pg2os; run that version again, or a newer one"
    )]
    NewerFormat {
        /// Document.
        id: String,
        /// Its format.
        format: u64,
    },
    /// A state document cannot be read.
    #[error(
        "state document `{id}` in {index} cannot be read ({detail}); restore it from a snapshot, or delete it and run `pg2os resync`"
    )]
    Unreadable {
        /// Document.
        id: String,
        /// State index.
        index: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A dead letter could not be stored.
    #[error("a dead letter cannot be stored in {index}: {reason}; the position does not move until it can")]
    DeadLetter {
        /// Index.
        index: String,
        /// Why.
        reason: String,
    },
    /// A search answered for a part of its shards only.
    #[error("a search of {index} failed on {failed} shards; try again when the index is green")]
    Partial {
        /// Index.
        index: String,
        /// Number of shards.
        failed: u64,
    },
    /// No version can be given to a position that is to be stored.
    #[error("position {lsn} cannot be stored: {source}")]
    Version {
        /// Position.
        lsn: Lsn,
        /// Why.
        source: VersionError,
    },
}

/// Result of the OpenSearch side.
pub type Result<T, E = SinkError> = std::result::Result<T, E>;

impl SinkError {
    /// Can a retry help?
    pub fn class(&self) -> Class {
        use SinkError::*;
        match self {
            Unreachable { .. }
            | NoAnswer { .. }
            | TooLong { .. }
            | Busy { .. }
            | Blocked { .. }
            | NotOpenSearchAnswer { .. }
            | DeadLetter { .. }
            | Partial { .. }
            | Superseded { .. }
            | Unauthorized { in_files: true, .. } => Class::Transient,
            Refused { status, .. } if *status >= 500 => Class::Transient,
            Tls { .. }
            | Unauthorized { .. }
            | Forbidden { .. }
            | NotOpenSearch { .. }
            | Refused { .. }
            | Configuration(_)
            | Owned { .. }
            | NewerFormat { .. }
            | Unreadable { .. }
            | Version { .. } => Class::Fatal,
        }
    }

    /// Is it certain that the request never left?
    pub(crate) fn was_never_sent(&self) -> bool {
        matches!(self, SinkError::Unreachable { .. } | SinkError::Tls { .. } | SinkError::Configuration(_))
    }

    /// Did the connection end with the request in it?
    pub(super) fn was_cut(&self) -> bool {
        matches!(self, SinkError::NoAnswer { cut: true, .. })
    }

    /// Has OpenSearch answered with this error type (`index_not_found_exception`, …)?
    pub fn is_refusal(&self, error_type: &str) -> bool {
        matches!(self, SinkError::Refused { kind, .. } if kind == error_type)
    }

    /// The error of an answer whose status is no success.
    pub(super) fn from_answer(
        url: &str,
        request: String,
        status: u16,
        body: &[u8],
        in_files: bool,
    ) -> SinkError {
        let url = url.to_owned();
        let told = cause::whole_request(body);
        let reason = told.as_ref().map_or_else(|| cause::excerpt(body), Cause::describe_with_kind);
        match (status, told) {
            (401, _) => SinkError::Unauthorized { url, reason, in_files },
            (403, Some(cause)) if cause.kind.as_deref() == Some("cluster_block_exception") => {
                SinkError::Blocked { url, request, reason }
            }
            (403, _) => SinkError::Forbidden { url, request, reason },
            (429 | 502 | 503 | 504, _) => SinkError::Busy { url, status, reason },
            (_, Some(cause)) => {
                SinkError::Refused { request, status, kind: cause.kind.clone().unwrap_or_default(), reason }
            }
            (_, None) => SinkError::NotOpenSearchAnswer { url, request, status, excerpt: reason },
        }
    }
}

fn tls_cure(detail: &str) -> &'static str {
    if detail.contains("InvalidContentType") {
        "that port does not speak TLS: write http:// in `opensearch.url`"
    } else {
        "check `opensearch.tls.ca_file` and that the certificate is made out to this host name"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_failed_are_told_apart() {
        let error = |status, body: &str| {
            SinkError::from_answer("http://h:9200", "GET /x".to_owned(), status, body.as_bytes(), false)
        };
        let refused =
            error(400, r#"{"error":{"type":"illegal_argument_exception","reason":"r"},"status":400}"#);
        assert!(refused.is_refusal("illegal_argument_exception") && refused.class() == Class::Fatal);
        assert!(matches!(error(401, "Unauthorized"), SinkError::Unauthorized { .. }));
        assert!(matches!(error(403, r#"{"Message":"no"}"#), SinkError::Forbidden { .. }));
        let blocked = error(403, r#"{"error":{"type":"cluster_block_exception","reason":"r"},"status":403}"#);
        assert!(blocked.to_string().ends_with("lift the block") && blocked.class() == Class::Transient);
        assert_eq!(error(503, "OpenSearch Security not initialized.").class(), Class::Transient);
        let html = error(404, "<html>nginx</html>");
        assert_eq!(
            html.to_string(),
            "http://h:9200 does not answer as OpenSearch does (GET /x: HTTP 404, `<html>nginx</html>`); check that `opensearch.url` is the cluster and not a dashboard, proxy or login page"
        );
    }

    #[test]
    fn wrong_credentials_in_files_may_be_rotated_and_given_ones_stay_wrong() {
        let error =
            |in_files| SinkError::from_answer("u", "GET /".to_owned(), 401, b"Unauthorized", in_files);
        assert_eq!(error(true).class(), Class::Transient);
        assert_eq!(error(false).class(), Class::Fatal);
    }
}

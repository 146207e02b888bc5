//! What an OpenSearch error answer says, in one line. Pure.

use serde::Deserialize;

/// Most bytes of a reason that are kept: enough to act on, too few to fill logs and dead letters.
const REASON_BYTES: usize = 4096;

/// `type`, `reason` and `caused_by` of an error (OpenSearch docs: "Bulk", "Common REST parameters").
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Cause {
    #[serde(rename = "type", default)]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    caused_by: Option<Box<Cause>>,
}

impl Cause {
    /// The reason and the innermost cause, which is the one that names the value (a `mapper_parsing_exception` alone
    /// only says that some field failed to parse).
    pub(crate) fn describe(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or("no reason given");
        let mut innermost = None;
        let mut cause = self.caused_by.as_deref();
        while let Some(inner) = cause {
            innermost = inner.reason.as_deref().or(innermost);
            cause = inner.caused_by.as_deref();
        }
        let mut text = reason.to_owned();
        if let Some(inner) = innermost.filter(|inner| !reason.contains(inner)) {
            text.push_str(": ");
            text.push_str(inner);
        }
        truncate(&mut text, REASON_BYTES);
        text
    }

    /// `type: reason`.
    pub(crate) fn describe_with_kind(&self) -> String {
        match &self.kind {
            Some(kind) => format!("{kind}: {}", self.describe()),
            None => self.describe(),
        }
    }
}

/// The error of a request that failed as a whole; `None` where the body is not an OpenSearch error (an HTML page of a
/// load balancer, plain text, nothing).
pub(crate) fn whole_request(body: &[u8]) -> Option<Cause> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Error {
        Object(Cause),
        // Old style: `{"error":"no handler found for uri …"}`.
        Text(String),
    }
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    match serde_json::from_slice::<Body>(body).ok()?.error {
        Error::Object(cause) if cause.kind.is_none() && cause.reason.is_none() => None,
        Error::Object(cause) => Some(cause),
        Error::Text(reason) => Some(Cause { reason: Some(reason), ..Cause::default() }),
    }
}

/// The beginning of a body that was not understood, on one line, for messages.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        return "(empty answer)".to_owned();
    }
    truncate(&mut text, 200);
    text
}

/// Cuts `text` to at most `bytes` bytes at a character boundary. Was it cut?
pub(crate) fn truncate(text: &mut String, bytes: usize) -> bool {
    let cut = text.len() > bytes;
    if cut {
        let boundary = (0..=bytes).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(boundary.unwrap_or(0));
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_cause_is_told() {
        let body = br#"{"error":{"root_cause":[],"type":"mapper_parsing_exception","reason":"failed to parse field [n]",
            "caused_by":{"type":"a","reason":"outer","caused_by":{"type":"b","reason":"For input string: \"x\""}}},"status":400}"#;
        let cause = whole_request(body).unwrap();
        assert_eq!(
            cause.describe_with_kind(),
            "mapper_parsing_exception: failed to parse field [n]: For input string: \"x\""
        );
    }

    #[test]
    fn an_old_style_error_is_text_and_other_bodies_are_none() {
        assert_eq!(whole_request(br#"{"error":"no handler"}"#).unwrap().describe_with_kind(), "no handler");
        for body in [&b"<html>502</html>"[..], b"", b"{}", b"Unauthorized", br#"{"error":{}}"#, b"[[["] {
            assert!(whole_request(body).is_none(), "{body:?}");
        }
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let mut text = "aä".to_owned();
        assert!(truncate(&mut text, 2));
        assert_eq!(text, "a");
        assert!(!truncate(&mut text, 2));
        assert_eq!(excerpt(b"<html>\n  <b>x"), "<html> <b>x");
    }
}

//! What an OpenSearch error answer says, in one line. Pure.

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::value::RawValue;
use std::fmt;

/// Most bytes of a reason that are kept: enough to act on, too few to fill logs and dead letters.
const REASON_BYTES: usize = 4096;

/// `type`, `reason` and `caused_by` of an error (OpenSearch docs: "Bulk", "Common REST parameters").
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Cause {
    #[serde(rename = "type", default)]
    pub(crate) kind: Option<String>,
    #[serde(default, deserialize_with = "lossy")]
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

    /// Does a 429 say that the request would not fit into an idle cluster either? Indexing pressure names the operation's
    /// own bytes beside the limit, the parent circuit breaker the new bytes.
    pub(crate) fn can_never_fit(&self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        let number = |name: &str| {
            let (_, tail) = reason.split_once(name)?;
            let digits = tail.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse::<u64>().ok()
        };
        let over =
            |own: &str, limit: &str| number(own).zip(number(limit)).is_some_and(|(own, most)| own > most);
        over("operation_bytes=", "max_coordinating_and_primary_bytes=")
            || over("new bytes reserved: [", "which is larger than the limit of [")
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
    struct Body<'a> {
        #[serde(borrow)]
        error: &'a RawValue,
    }
    // Old style: `{"error":"no handler found for uri …"}`.
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text(#[serde(deserialize_with = "lossy")] Option<String>);

    let error = serde_json::from_slice::<Body<'_>>(body).ok()?.error.get();
    let cause = serde_json::from_str::<Cause>(error).or_else(|_| {
        serde_json::from_str::<Text>(error).map(|Text(reason)| Cause { reason, ..Cause::default() })
    });
    cause.ok().filter(|cause| cause.kind.is_some() || cause.reason.is_some())
}

/// A text that may hold half a surrogate pair: a reason quotes the user's values, JSON can say `"\ud800"`, and
/// OpenSearch repeats it. Read strictly, the whole answer would be lost for it.
fn lossy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Lossy;
    impl<'de> Visitor<'de> for Lossy {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or null")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            // serde_json gives such texts as bytes only.
            deserializer.deserialize_bytes(self)
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
        }
    }
    deserializer.deserialize_option(Lossy)
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
    fn a_429_says_whether_waiting_can_help() {
        let fits_never =
            |reason: &str| Cause { reason: Some(reason.to_owned()), ..Cause::default() }.can_never_fit();
        let pressure = |own, max| {
            format!(
                "rejected execution of coordinating operation [coordinating_and_primary_bytes=90, replica_bytes=0, all_bytes=90, \
                 coordinating_operation_bytes={own}, max_coordinating_and_primary_bytes={max}]"
            )
        };
        assert!(fits_never(&pressure(101, 100)) && !fits_never(&pressure(100, 100)));
        let breaker = |new| {
            format!(
                "[parent] Data too large, data for [<http_request>] would be [1066665472/1017.2mb], which is larger than the limit of \
                 [1020054732/972.7mb], real usage: [1066665280/1017.2mb], new bytes reserved: [{new}/192b], usages [request=0/0b]"
            )
        };
        assert!(fits_never(&breaker(1_020_054_733_u64)) && !fits_never(&breaker(192)));
        assert!(!fits_never("") && !fits_never("operation_bytes=, max_coordinating_and_primary_bytes=x"));
    }

    #[test]
    fn an_old_style_error_is_text_and_other_bodies_are_none() {
        assert_eq!(whole_request(br#"{"error":"no handler"}"#).unwrap().describe_with_kind(), "no handler");
        for body in [&b"<html>502</html>"[..], b"", b"{}", b"Unauthorized", br#"{"error":{}}"#, b"[[["] {
            assert!(whole_request(body).is_none(), "{body:?}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_does_not_spoil_an_answer() {
        for body in
            [r#"{"error":{"reason":"a\uD800b","caused_by":{"reason":null}}}"#, r#"{"error":"a\uD800b"}"#]
        {
            let text = whole_request(body.as_bytes()).unwrap().describe();
            assert!(text.starts_with('a') && text.ends_with('b'), "{text}");
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

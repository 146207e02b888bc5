//! Every answer that was seen from a real server, literally, and answers that no server should give.

use super::*;
use proptest::prelude::*;

/// The outcome of one action whose item is `{"index"|"delete": <fields>}`.
fn outcome(is_delete: bool, fields: &str) -> Outcome {
    let action = if is_delete { "delete" } else { "index" };
    let body = format!(r#"{{"errors":true,"items":[{{"{action}":{fields}}}]}}"#);
    match read_bulk_answer(200, body.as_bytes(), 1, |_| is_delete) {
        Answer::Items(mut items) => items.remove(0).1,
        answer => panic!("{answer:?}"),
    }
}

fn item_error(status: u16, kind: &str, reason: &str) -> Outcome {
    let error =
        serde_json::json!({"type": kind, "reason": reason, "index": "i", "shard": "0", "index_uuid": "u"});
    outcome(false, &format!(r#"{{"status":{status},"error":{error}}}"#))
}

#[test]
fn an_answer_without_errors_is_done_when_its_items_are_all_there() {
    let body = br#"{"errors":false,"items":[{"index":{"result":"created","status":201}},{"delete":{"result":"not_found","status":404}},
        {"index":{"result":"noop","status":200}},{"delete":{"result":"deleted","status":200}}]}"#;
    let is_delete = |i| i % 2 == 1;
    assert_eq!(read_bulk_answer(200, body, 4, is_delete), Answer::AllDone);
    for actions in [0, 3, 5] {
        assert!(matches!(read_bulk_answer(200, body, actions, is_delete), Answer::Unknown(_)), "{actions}");
    }
    assert!(matches!(read_bulk_answer(200, body, 4, |_| false), Answer::Unknown(_)));
    assert!(matches!(read_bulk_answer(200, body, 4, |i| i % 2 == 0), Answer::Unknown(_)));
}

#[test]
fn a_whole_request_that_failed_is_told_by_its_status_and_whether_opensearch_answers() {
    let error = |kind: &str| format!(r#"{{"error":{{"type":"{kind}","reason":"r"}},"status":0}}"#);
    let html = "<html><body>nginx</body></html>".to_owned();
    for (status, body, expected) in [
        (400, error("action_request_validation_exception"), "BadRequest"),
        (400, r#"{"error":"old style","status":400}"#.to_owned(), "BadRequest"),
        (400, html.clone(), "Credentials"),
        (401, "Unauthorized".to_owned(), "Credentials"),
        (403, error("security_exception"), "Credentials"),
        (403, error("cluster_block_exception"), "Credentials"),
        (404, html.clone(), "Credentials"),
        (405, r#"{"error":"Incorrect HTTP method","status":405}"#.to_owned(), "Credentials"),
        (406, error("media_type"), "Credentials"),
        (301, String::new(), "Credentials"),
        (413, String::new(), "TooLarge"),
        (413, html.clone(), "TooLarge"),
        (429, error("rejected_execution_exception"), "Overloaded"),
        (429, error("circuit_breaking_exception"), "Overloaded"),
        (429, html.clone(), "Overloaded"),
        (503, "OpenSearch Security not initialized.".to_owned(), "Busy"),
        (503, html.clone(), "Busy"),
        (502, html.clone(), "Cut"),
        (504, html.clone(), "Unknown"),
        (500, error("null_pointer_exception"), "Cut"),
        (200, html, "Unknown"),
        (200, String::new(), "Unknown"),
        (200, r#"{"errors":false,"items":[{"index":{"status":201"#.to_owned(), "Unknown"),
        (200, r#"{"errors":true,"items":[{"index":{"status":201}}]}"#.to_owned(), "Unknown"),
        (200, r#"{"items":[{"index":{"status":201}}]}"#.to_owned(), "Unknown"),
        (200, r#"{"errors":false,"items":[{"index":{}}]}"#.to_owned(), "Unknown"),
        (200, r#"{"errors":false,"items":[{}]}"#.to_owned(), "Unknown"),
        (
            200,
            r#"{"errors":false,"items":[{"index":{"status":200},"delete":{"status":200}}]}"#.to_owned(),
            "Unknown",
        ),
        (204, String::new(), "Unknown"),
    ] {
        let answer = read_bulk_answer(status, body.as_bytes(), 1, |_| false);
        assert!(format!("{answer:?}").starts_with(expected), "{status} {body}: {answer:?}");
    }
    let Answer::Busy(reason) = read_bulk_answer(503, b"OpenSearch Security not initialized.", 1, |_| false)
    else {
        panic!()
    };
    assert_eq!(reason, "HTTP 503: OpenSearch Security not initialized.");
}

#[test]
fn a_version_conflict_says_what_is_there() {
    let conflict = |reason: &str| item_error(409, "version_conflict_engine_exception", reason);
    assert_eq!(
        conflict("[1]: version conflict, current version [100] is higher than the one provided [99]"),
        Outcome::Conflict { current: Some(100) }
    );
    assert_eq!(
        conflict(
            "[current version [7] x]: version conflict, current version [9223372036854775807] is higher than the one provided [1]"
        ),
        Outcome::Conflict { current: Some(i64::MAX as u64) }
    );
    for reason in
        ["[1]: version conflict, required seqNo [1], primary term [1]", "current version [-1] is", ""]
    {
        assert_eq!(conflict(reason), Outcome::Conflict { current: None });
    }
    assert!(matches!(item_error(409, "other_exception", "current version [1]"), Outcome::Target(_)));
}

#[test]
fn a_missing_document_is_success_only_for_a_delete_and_a_missing_index_never() {
    let missing = r#"{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index [i] and [require_alias] request flag is [true] and [i] is not an alias"}}"#;
    assert!(matches!(outcome(true, missing), Outcome::Target(_)));
    assert!(matches!(outcome(false, missing), Outcome::Target(_)));
    assert!(matches!(outcome(false, r#"{"status":404,"result":"not_found"}"#), Outcome::Target(_)));
    assert!(matches!(outcome(true, r#"{"status":404}"#), Outcome::Target(_)));
}

#[test]
fn causes_in_the_target_stop_the_lane() {
    for (status, kind, reason) in [
        (403, "security_exception", "no permissions for [indices:data/write/index] and User [name=u]"),
        (403, "cluster_block_exception", "index [i] blocked by: [FORBIDDEN/8/index write (api)];"),
        (403, "index_closed_exception", "closing"),
        (404, "index_not_found_exception", "no such index [i]"),
        (400, "index_closed_exception", "closed"),
        (400, "invalid_index_name_exception", "Invalid index name [Bad], must be lowercase"),
        (400, "routing_missing_exception", "routing is required for [i]/[1]"),
        (
            400,
            "illegal_argument_exception",
            "no write index is defined for alias [a]. The write index may be",
        ),
        (
            400,
            "illegal_argument_exception",
            "only write ops with an op_type of create are allowed in data streams",
        ),
        (400, "illegal_argument_exception", "pipeline with id [nope] does not exist"),
        (400, "illegal_argument_exception", "Limit of total fields [5] has been exceeded"),
        (405, "unknown_exception", ""),
        (418, "", ""),
        (0, "", ""),
    ] {
        let outcome = item_error(status, kind, reason);
        assert!(matches!(outcome, Outcome::Target(_)), "{status} {kind}: {outcome:?}");
    }
}

#[test]
fn faults_of_the_document_are_rejections() {
    for (kind, reason) in [
        ("mapper_parsing_exception", "failed to parse field [n] of type [integer]"),
        (
            "strict_dynamic_mapping_exception",
            "mapping set to strict, dynamic introduction of [x] within [_doc]",
        ),
        ("illegal_argument_exception", "Document contains at least one immense term in field=\"k\""),
        ("illegal_argument_exception", "if _id is specified it must not be empty"),
        ("illegal_argument_exception", "field name Limit of total fields [5] is the user's"),
        ("mapper_parsing_exception", "Limit of total fields [5] is a user's text here"),
        ("a_future_exception", ""),
    ] {
        assert_eq!(
            item_error(400, kind, reason),
            Outcome::Rejected { kind: kind.to_owned(), reason: reason.to_owned() }
        );
    }
    let half_a_pair = r#"{"status":400,"error":{"type":"mapper_parsing_exception","reason":"Preview: '\uD800'","caused_by":{"type":"number_format_exception","reason":"For input string: \"\uD800\""}}}"#;
    assert!(matches!(outcome(false, half_a_pair), Outcome::Rejected { .. }));
    let nested = r#"{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse","caused_by":{"type":"illegal_argument_exception","reason":"The depth of the field has exceeded the allowed limit of [20]"}}}"#;
    let Outcome::Rejected { reason, .. } = outcome(false, nested) else { panic!() };
    assert_eq!(reason, "failed to parse: The depth of the field has exceeded the allowed limit of [20]");
}

#[test]
fn busy_items_are_retried_and_other_server_errors_a_bounded_number_of_times() {
    for (status, kind) in [
        (429, "rejected_execution_exception"),
        (429, "cluster_block_exception"),
        (429, "circuit_breaking_exception"),
    ] {
        assert!(matches!(item_error(status, kind, "r"), Outcome::Retry(_)), "{status}");
    }
    for (status, kind) in
        [(503, "unavailable_shards_exception"), (500, "node_disconnected_exception"), (500, "i_o_exception")]
    {
        assert!(matches!(item_error(status, kind, "r"), Outcome::Unknown(_)), "{status}");
    }
    assert_eq!(
        item_error(500, "fail_processor_exception", "no"),
        Outcome::ServerError("HTTP 500: fail_processor_exception: no".to_owned())
    );
}

#[test]
fn positions_are_those_of_the_request() {
    let body = br#"{"errors":true,"items":[{"index":{"status":200}},{"index":{"status":429,"error":{"type":"t","reason":"r"}}},{"delete":{"status":404,"result":"not_found"}},
        {"index":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"current version [3]"}}}]}"#;
    let Answer::Items(items) = read_bulk_answer(200, body, 4, |i| i == 2) else { panic!() };
    assert_eq!(items[0], (1, Outcome::Retry("HTTP 429: t: r".to_owned())));
    assert_eq!(items[1], (3, Outcome::Conflict { current: Some(3) }));
    assert_eq!(items.len(), 2);
}

#[test]
fn m5_in_doubt_is_what_a_node_may_still_execute() {
    let part = [4, 7, 9];
    let items = vec![
        (0, Outcome::Retry("429".into())),
        (1, Outcome::Unknown("503".into())),
        (2, Outcome::Conflict { current: None }),
    ];
    assert_eq!(*Answer::Items(items).doubtful(&part), [7]);
    for whole in [Answer::Unknown, Answer::Cut] {
        assert_eq!(*whole("x".into()).doubtful(&part), part);
    }
    for none in
        [Answer::AllDone, Answer::TooLarge, Answer::Overloaded("429".into()), Answer::Busy("503".into())]
    {
        assert!(none.doubtful(&part).is_empty());
    }
}

proptest! {
    #[test]
    fn bytes_from_outside_never_panic_and_are_never_all_done(status: u16, body: Vec<u8>, actions in 0usize..5) {
        prop_assert_ne!(read_bulk_answer(status, &body, actions, |_| false), Answer::AllDone);
        prop_assert_ne!(read_bulk_answer(200, &body, actions, |_| false), Answer::AllDone);
    }

    #[test]
    fn all_done_needs_one_good_item_an_action(
        statuses in prop::collection::vec(prop_oneof![Just(200u16), Just(201), Just(404), 0u16..700], 0..6),
        actions in 0usize..6,
        cut in 0usize..200,
    ) {
        let items: Vec<_> = statuses.iter().map(|s| serde_json::json!({"index": {"status": s}})).collect();
        let body = serde_json::json!({"errors": false, "items": items}).to_string();
        let all_good = statuses.iter().all(|s| (200..300).contains(s));
        let answer = read_bulk_answer(200, body.as_bytes(), actions, |_| false);
        prop_assert_eq!(answer == Answer::AllDone, all_good && statuses.len() == actions);
        // A cut answer is never believed.
        if cut < body.len() {
            let cut = read_bulk_answer(200, &body.as_bytes()[..cut], actions, |_| false);
            prop_assert!(matches!(cut, Answer::Unknown(_)));
        }
    }
}

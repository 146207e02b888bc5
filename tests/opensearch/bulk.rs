//! Bulk requests: every outcome that one node can be made to give.

use crate::{Corner, delete, write};
use pg2os::{
    model::Version,
    sink::{Answer, Outcome, Versions},
};
use serde_json::{Value, json};

fn is_target(outcome: &Outcome, text: &str) -> bool {
    matches!(outcome, Outcome::Target(reason) if reason.contains(text))
}

fn is_rejected(outcome: &Outcome, error_type: &str, text: &str) -> bool {
    matches!(outcome, Outcome::Rejected { kind, reason } if kind == error_type && reason.contains(text))
}

#[tokio::test]
async fn versions_decide_and_conflicts_say_what_is_there() {
    let corner = Corner::new("versions");
    let index = corner.make("i", json!({}), json!({})).await;
    let lines = [
        &write(&index, "1", 100, json!({}))[..],
        &write(&index, "1", 99, json!({})),
        &write(&index, "1", 100, json!({})),
        &delete(&index, "2", 50),
        &write(&index, "2", 49, json!({})),
        &write(&index, "current version [7]", 9, json!({})),
        &write(&index, "current version [7]", 8, json!({})),
    ]
    .concat();
    let expected = [(1, Some(100)), (4, Some(50)), (6, Some(9))]
        .map(|(position, current)| (position, Outcome::Conflict { current }));
    assert_eq!(corner.bulk(&lines).await, Answer::Items(expected.to_vec()));
    assert_eq!(corner.bulk(&delete(&index, "never there", 1)).await, Answer::AllDone);
    // The highest version there is; one more is refused as a whole.
    assert_eq!(corner.bulk(&write(&index, "3", i64::MAX as u64, json!({}))).await, Answer::AllDone);
    let above = corner.bulk(&write(&index, "3", 1 << 63, json!({}))).await;
    assert!(matches!(above, Answer::BadRequest(_)), "{above:?}");
    corner.clean().await;
}

#[tokio::test]
async fn faults_of_a_document_are_told_with_their_innermost_cause() {
    let corner = Corner::new("documents");
    let properties = json!({"n": {"type": "integer"}, "k": {"type": "keyword"}, "d": {"type": "date"}});
    let index = corner.make("i", json!({}), json!({"properties": properties})).await;
    let strict = corner.make("s", json!({}), json!({"dynamic": "strict"})).await;
    let shallow = corner.make("d", json!({"index.mapping.depth.limit": 2}), json!({})).await;
    let huge = "x".repeat(33_000);
    for (index, source, kind, text) in [
        (&index, json!({"n": "abc"}), "mapper_parsing_exception", "For input string: \"abc\""),
        (&index, json!({"n": 1u64 << 40}), "mapper_parsing_exception", "out of range"),
        (&index, json!({"n": {"a": 1}}), "mapper_parsing_exception", ""),
        (&index, json!({"d": "infinity"}), "mapper_parsing_exception", "infinity"),
        (&index, json!({"": 1}), "mapper_parsing_exception", ""),
        (&index, json!({"_id": 1}), "mapper_parsing_exception", "metadata field"),
        (&index, json!({"k": huge}), "illegal_argument_exception", "immense term"),
        (&strict, json!({"x": 1}), "strict_dynamic_mapping_exception", "[x]"),
        (&shallow, json!({"a": {"b": {"c": {"d": 1}}}}), "", ""),
    ] {
        let outcome = corner.outcome(&write(index, "1", 1, source.clone())).await;
        let Outcome::Rejected { kind: found, .. } = &outcome else { panic!("{source}: {outcome:?}") };
        assert!(is_rejected(&outcome, if kind.is_empty() { found } else { kind }, text), "{outcome:?}");
    }
    for broken in ["{\"n\":1", "{\"n\":1,\"n\":2}", "[1]", "{\"n\":\"\\ud800\"}", ""] {
        let action = &write(&index, "1", 1, Value::Null)[0];
        let Answer::Items(items) = corner.bulk_text(&format!("{action}\n{broken}\n")).await else {
            panic!("{broken}")
        };
        assert!(is_rejected(&items[0].1, "mapper_parsing_exception", ""), "{broken}: {items:?}");
    }
    let empty_id = corner.outcome(&[json!({"index": {"_index": index, "_id": ""}}), json!({})]).await;
    assert!(is_rejected(&empty_id, "illegal_argument_exception", ""), "{empty_id:?}");
    corner.clean().await;
}

#[tokio::test]
async fn causes_in_the_target_are_not_the_documents_fault() {
    let corner = Corner::new("target");
    let closed = corner.make("closed", json!({}), json!({})).await;
    corner.ask("POST", &format!("/{closed}/_close"), Value::Null).await;
    let blocked = corner.make("blocked", json!({"index.blocks.write": true}), json!({})).await;
    let small = corner.make("small", json!({"index.mapping.total_fields.limit": 2}), json!({})).await;
    let routed = corner.make("routed", json!({}), json!({"_routing": {"required": true}})).await;
    let piped = corner.make("piped", json!({"index.default_pipeline": "t-sink-none"}), json!({})).await;
    let alias = corner.index("alias");
    for part in ["a", "b"] {
        let part = corner.make(part, json!({}), json!({})).await;
        corner.ask("PUT", &format!("/{part}/_alias/{alias}"), Value::Null).await;
    }
    for (index, text) in [
        (&closed, "index_closed_exception"),
        (&blocked, "cluster_block_exception"),
        (&small, "Limit of total fields [2]"),
        (&routed, "routing_missing_exception"),
        (&piped, "pipeline with id"),
        (&alias, "no write index"),
        (&corner.index("Bad"), "invalid_index_name_exception"),
    ] {
        let outcome = corner.outcome(&write(index, "1", 1, json!({"a": 1, "b": 2, "c": 3}))).await;
        assert!(is_target(&outcome, text), "{index}: {outcome:?}");
    }
    for index in [&closed, &blocked, &routed, &alias] {
        let outcome = corner.outcome(&delete(index, "1", 1)).await;
        assert!(matches!(outcome, Outcome::Target(_)), "{index}: {outcome:?}");
    }
    // An index that is gone: neither is it made by accident, nor does a delete count as done.
    let lines =
        [&write(&corner.index("gone"), "1", 1, json!({}))[..], &delete(&corner.index("gone"), "1", 1)];
    let body: String = lines.concat().iter().map(|line| format!("{line}\n")).collect();
    let Answer::Items(items) = corner.client.bulk(body.into(), 2, |i| i == 1, true).await else { panic!() };
    assert!(
        items.len() == 2 && items.iter().all(|(_, o)| is_target(o, "index_not_found_exception")),
        "{items:?}"
    );
    corner.clean().await;
}

#[tokio::test]
async fn a_data_stream_takes_no_documents_of_ours() {
    let corner = Corner::new("stream");
    let name = corner.index("ds");
    let template = json!({"index_patterns": [format!("{name}*")], "data_stream": {}});
    corner.ask("PUT", &format!("/_index_template/{name}"), template).await;
    corner.ask("PUT", &format!("/_data_stream/{name}"), Value::Null).await;
    let backing = format!(".ds-{name}-000001");
    for lines in [
        &write(&name, "1", 1, json!({"@timestamp": 1}))[..],
        &delete(&name, "1", 1),
        &write(&backing, "1", 1, json!({"@timestamp": 1})),
    ] {
        let outcome = corner.outcome(lines).await;
        assert!(matches!(outcome, Outcome::Target(_)), "{lines:?}: {outcome:?}");
    }
    let error = corner.client.find_index(&name).await.unwrap_err();
    assert!(error.to_string().contains("data stream"), "{error}");
    corner.ask("DELETE", &format!("/_data_stream/{name}"), Value::Null).await;
    corner.ask("DELETE", &format!("/_index_template/{name}"), Value::Null).await;
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let corner = Corner::new("flood");
    let settings = json!({"index.blocks.read_only_allow_delete": true});
    let index = corner.make("i", settings, json!({})).await;
    for lines in [&write(&index, "1", 1, json!({}))[..], &delete(&index, "1", 1)] {
        let outcome = corner.outcome(lines).await;
        assert!(matches!(&outcome, Outcome::Retry(reason) if reason.contains("429")), "{outcome:?}");
    }
    corner.clean().await;
}

#[tokio::test]
async fn a_shard_that_is_not_there_is_waited_for() {
    let corner = Corner::new("shard");
    let index = corner.index("i");
    // A shard that no node may have: it never starts.
    let settings = json!({"index.routing.allocation.require._name": "no-such-node"});
    corner.ask("PUT", &format!("/{index}?wait_for_active_shards=0"), json!({"settings": settings})).await;
    let outcome = corner.outcome(&write(&index, "1", 1, json!({}))).await;
    assert!(
        matches!(&outcome, Outcome::Unknown(reason) if reason.contains("unavailable_shards_exception")),
        "{outcome:?}"
    );
    corner.clean().await;
}

#[tokio::test]
async fn a_failing_pipeline_is_a_server_error() {
    let corner = Corner::new("pipeline");
    let pipeline = corner.index("p");
    let processors = json!({"processors": [{"fail": {"message": "no"}}]});
    corner.ask("PUT", &format!("/_ingest/pipeline/{pipeline}"), processors).await;
    let index = corner.make("i", json!({"index.default_pipeline": pipeline}), json!({})).await;
    let outcome = corner.outcome(&write(&index, "1", 1, json!({}))).await;
    assert!(
        matches!(&outcome, Outcome::ServerError(reason) if reason.contains("fail_processor")),
        "{outcome:?}"
    );
    corner.clean().await;
    corner.ask("DELETE", &format!("/_ingest/pipeline/{pipeline}"), Value::Null).await;
}

#[tokio::test]
async fn a_request_that_is_refused_as_a_whole_executes_nothing() {
    let corner = Corner::new("whole");
    let index = corner.make("i", json!({}), json!({})).await;
    let good = write(&index, "good", 1, json!({}));
    let long_id = "x".repeat(513);
    let bad = [
        write(&index, &long_id, 1, json!({})).to_vec(),
        vec![json!({"update": {"_index": index, "_id": "1", "version": 1}}), json!({"doc": {}})],
        vec![json!({"index": {"_index": index, "_id": "1", "_version": 1}}), json!({})],
        vec![json!({"delete": {"_index": index, "_id": ""}})],
        vec![json!({"index": {"_id": "1"}}), json!({})],
    ];
    for bad in bad {
        let answer = corner.bulk(&[&good[..], &bad].concat()).await;
        assert!(matches!(answer, Answer::BadRequest(_)), "{bad:?}: {answer:?}");
    }
    assert!(matches!(corner.bulk_text("").await, Answer::BadRequest(_)));
    assert_eq!(corner.bulk(&write(&index, &"ä".repeat(256), 1, json!({}))).await, Answer::AllDone);
    assert_eq!(corner.bulk(&delete(&index, &long_id, 1)).await, Answer::AllDone);
    corner.client.refresh(&index).await.unwrap();
    assert_eq!(corner.client.count(&index).await.unwrap(), 1);
    corner.clean().await;
}

#[tokio::test]
async fn a_request_over_the_servers_limit_is_told_as_such() {
    let corner = Corner::new("large");
    // `http.max_content_length` is 100 MB unless configured.
    let body = vec![b' '; 105 << 20];
    assert_eq!(corner.client.bulk(body.into(), 1, |_| false, false).await, Answer::TooLarge);
}

#[tokio::test]
async fn an_action_that_is_dropped_without_a_word_is_noticed() {
    let corner = Corner::new("dropped");
    let index = corner.make("i", json!({}), json!({})).await;
    // The last action has lost its source line.
    let [action, source] = write(&index, "1", 1, json!({}));
    let lost = &write(&index, "2", 1, json!({}))[0];
    let answer = corner.bulk_text(&format!("{action}\n{source}\n{lost}\n")).await;
    assert!(
        matches!(&answer, Answer::Unknown(reason) if reason.contains("1 items came back for 2")),
        "{answer:?}"
    );
    corner.clean().await;
}

#[tokio::test]
async fn all_documents_are_listed_with_their_versions() {
    let corner = Corner::new("listing");
    let index =
        corner.make("i", json!({"index.refresh_interval": -1, "index.number_of_shards": 2}), json!({})).await;
    let versions = |n: u64| (1 << 53) + n;
    for batch in (0..25_000u64).collect::<Vec<_>>().chunks(5000) {
        let lines: Vec<_> =
            batch.iter().flat_map(|&n| write(&index, &n.to_string(), versions(n), json!({"n": n}))).collect();
        assert_eq!(corner.bulk(&lines).await, Answer::AllDone);
    }
    assert_eq!(corner.bulk(&delete(&index, "7", versions(8))).await, Answer::AllDone);
    let routed = json!({"index": {"_index": index, "_id": "r", "routing": "t", "version": 5, "version_type": "external_gte"}});
    assert_eq!(corner.bulk(&[routed, json!({})]).await, Answer::AllDone);

    let mut pages = Versions::of(&corner.client, &index).await.unwrap();
    let mut listed = Vec::new();
    let mut count = 0;
    while let Some(page) = pages.next_page().await.unwrap() {
        count += 1;
        listed.extend(page);
    }
    assert_eq!((count, listed.len()), (3, 25_000));
    for one in &listed {
        let (version, routing) = match one.id.as_str() {
            "r" => (5, Some("t")),
            id => (versions(id.parse().unwrap()), None),
        };
        assert_eq!((one.version, one.routing.as_deref()), (Version(version), routing), "{}", one.id);
    }
    assert!(pages.next_page().await.unwrap().is_none());

    let mut pages = Versions::of(&corner.client, &index).await.unwrap();
    pages.next_page().await.unwrap();
    pages.close().await;
    let mut nothing =
        Versions::of(&corner.client, &corner.make("empty", json!({}), json!({})).await).await.unwrap();
    assert!(nothing.next_page().await.unwrap().is_none());
    assert!(Versions::of(&corner.client, &corner.index("gone")).await.is_err());
    corner.clean().await;
}

//! Indices and dead letters.

use crate::{Corner, write};
use pg2os::{
    model::Version,
    sink::{ActionKind, Class, DeadLetter, DeadLetters, IndexDefinition, Owner, SinkError, Source},
};
use serde_json::{Map, Value, json};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn owner(pipeline: &str, table: &str) -> Owner {
    Owner {
        pipeline: pipeline.to_owned(),
        source: Source {
            system_identifier: "7512345678901234567".to_owned(),
            database: "d".to_owned(),
            table: table.to_owned(),
        },
    }
}

fn definition() -> IndexDefinition {
    IndexDefinition {
        properties: object(json!({"n": {"type": "long"}})),
        settings: object(json!({"number_of_replicas": 0, "index": {"refresh_interval": "7s"}})),
    }
}

#[tokio::test]
async fn a_new_index_stands_behind_an_alias_and_is_found_again() {
    let corner = Corner::new("ensure");
    let name = corner.index("events");
    let (definition, owner) = (definition(), owner("p", "public.events"));
    let made = corner.client.ensure_index(&name, &definition, &owner).await.unwrap();
    assert!(made.created && made.is_alias && made.concrete == format!("{name}-000001"), "{made:?}");
    let again = corner.client.ensure_index(&name, &definition, &owner).await.unwrap();
    assert!(!again.created && again.is_alias && again.uuid == made.uuid, "{again:?}");
    assert_eq!(again.properties, definition.properties);

    let found = corner.ask("GET", &format!("/{name}?flat_settings=true"), Value::Null).await;
    let index = &found[&made.concrete];
    assert_eq!(index["aliases"][&name]["is_write_index"], true);
    assert_eq!(index["mappings"]["dynamic"], "false");
    assert_eq!(
        index["mappings"]["_meta"]["pg2os"],
        json!({"format": 1, "pipeline": "p", "source": {"system_identifier": "7512345678901234567", "database": "d", "table": "public.events"}})
    );
    for (setting, value) in [
        ("index.gc_deletes", "10m"),
        ("index.mapping.total_fields.limit", "1000"),
        ("index.number_of_replicas", "0"),
        ("index.refresh_interval", "7s"),
    ] {
        assert_eq!(index["settings"][setting], value, "{setting}");
    }
    corner.client.add_fields(&name, &object(json!({"m": {"type": "keyword"}}))).await.unwrap();
    let wider = corner.client.find_index(&name).await.unwrap().unwrap();
    assert_eq!(wider.properties.len(), 2);
    assert!(wider.owner().is_some());
    corner.clean().await;
}

#[tokio::test]
async fn instances_that_start_together_make_one_index() {
    let corner = Corner::new("together");
    let name = corner.index("events");
    let (definition, owner) = (definition(), owner("p", "public.events"));
    let both = tokio::join!(
        corner.client.ensure_index(&name, &definition, &owner),
        corner.client.ensure_index(&name, &definition, &owner)
    );
    let (a, b) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!(a.uuid, b.uuid);
    corner.clean().await;
}

#[tokio::test]
async fn an_index_of_another_pipeline_or_source_is_refused() {
    let corner = Corner::new("owned");
    let name = corner.index("events");
    let first = corner.client.ensure_index(&name, &definition(), &owner("p", "public.events")).await.unwrap();
    for other in [owner("q", "public.events"), owner("p", "public.others")] {
        let error = corner.client.ensure_index(&name, &definition(), &other).await.unwrap_err();
        assert!(matches!(&error, SinkError::Owned { pipeline, .. } if pipeline == "p"), "{error:?}");
        assert_eq!(error.class(), Class::Fatal);
        assert!(error.to_string().contains("give this table another `index`"), "{error}");
    }
    // Until somebody says that it is the same.
    let other = owner("p", "public.renamed");
    corner.client.claim(&first, &other).await.unwrap();
    corner.client.ensure_index(&name, &definition(), &other).await.unwrap();
    corner.clean().await;
}

#[tokio::test]
async fn a_concrete_index_is_taken_over_as_it_is() {
    let corner = Corner::new("taken");
    let mappings = json!({"_meta": {"theirs": 1}, "properties": {"n": {"type": "text"}}});
    let name = corner.make("spark", json!({}), mappings).await;
    let taken = corner.client.ensure_index(&name, &definition(), &owner("p", "t")).await.unwrap();
    assert!(!taken.created && !taken.is_alias && taken.concrete == name, "{taken:?}");
    let found = corner.ask("GET", &format!("/{name}"), Value::Null).await;
    let mappings = &found[&name]["mappings"];
    assert_eq!(mappings["properties"], json!({"n": {"type": "text"}}));
    assert_eq!(mappings["_meta"]["theirs"], 1);
    let error = corner.client.ensure_index(&name, &definition(), &owner("q", "t")).await.unwrap_err();
    assert!(matches!(error, SinkError::Owned { .. }), "{error:?}");
    corner.clean().await;
}

#[tokio::test]
async fn what_opensearch_refuses_is_told_in_its_words() {
    let corner = Corner::new("illegal");
    let p = owner("p", "t");
    let error = corner.client.ensure_index(&corner.index("Upper"), &definition(), &p).await.unwrap_err();
    assert!(error.to_string().contains("must be lowercase"), "{error}");
    assert_eq!(error.class(), Class::Fatal);
    let bad = IndexDefinition { properties: object(json!({"n": {"type": "lnog"}})), ..definition() };
    let error = corner.client.ensure_index(&corner.index("bad"), &bad, &p).await.unwrap_err();
    assert!(error.to_string().contains("lnog"), "{error}");
    let bad = IndexDefinition { settings: object(json!({"number_of_shardz": 1})), ..definition() };
    let error = corner.client.ensure_index(&corner.index("bad"), &bad, &p).await.unwrap_err();
    assert!(error.to_string().contains("number_of_shardz"), "{error}");
    // An index is left over, its alias is not.
    let name = corner.index("left");
    corner.make("left-000001", json!({}), json!({})).await;
    let error = corner.client.ensure_index(&name, &definition(), &p).await.unwrap_err();
    assert!(error.to_string().contains("the alias"), "{error}");
    // A pattern is no name.
    assert!(corner.client.find_index(&format!("{}*", corner.prefix)).await.unwrap().is_none());
    corner.clean().await;
}

#[tokio::test]
async fn an_alias_of_several_indices_needs_a_write_index() {
    let corner = Corner::new("several");
    let alias = corner.index("alias");
    for (part, write) in [("a", false), ("b", false), ("c", true)] {
        let index = corner.make(part, json!({}), json!({})).await;
        let before = corner.client.find_index(&alias).await;
        if write {
            assert!(before.unwrap_err().to_string().contains("is_write_index"));
        }
        corner.ask("PUT", &format!("/{index}/_alias/{alias}"), json!({"is_write_index": write})).await;
    }
    let found = corner.client.find_index(&alias).await.unwrap().unwrap();
    assert!(found.is_alias && found.concrete == corner.index("c"), "{found:?}");
    corner.clean().await;
}

fn letter(id: &str, version: u64) -> DeadLetter {
    DeadLetter {
        routing: None,
        index: "events".to_owned(),
        id: id.to_owned(),
        table: "public.events".to_owned(),
        key: vec![("a.b".to_owned(), Some("1".to_owned())), (String::new(), None)],
        action: ActionKind::Index,
        version: Version(version),
        error_type: "mapper_parsing_exception".to_owned(),
        reason: "r".to_owned(),
        body: b"{\"n\":1}".to_vec(),
    }
}

#[tokio::test]
async fn dead_letters_are_kept_once_per_document_and_never_refused() {
    let corner = Corner::new("letters");
    let name = corner.index("dead");
    let letters = DeadLetters::open(&corner.client, &name, "p").await.unwrap();
    letters.write(&[]).await.unwrap();
    let awkward = DeadLetter {
        key: vec![("k".to_owned(), Some("x".repeat(100_000)))],
        table: "t".repeat(40_000),
        error_type: "e".repeat(40_000),
        reason: "ä ".repeat(40_000),
        body: [vec![b'x'; (32 << 10) - 1], "ää".repeat(40_000).into_bytes(), vec![0xff]].concat(),
        action: ActionKind::Delete,
        ..letter(&"y".repeat(40_000), 5)
    };
    let many: Vec<_> =
        (0..300).map(|n| DeadLetter { body: vec![1; 40_000], ..letter(&n.to_string(), 1) }).collect();
    letters.write(&[letter("one", 10), awkward]).await.unwrap();
    letters.write(&many).await.unwrap();
    // A later letter of the document stays.
    letters.write(&[DeadLetter { reason: "old".to_owned(), ..letter("one", 9) }]).await.unwrap();
    letters.write(&[DeadLetter { reason: "new".to_owned(), ..letter("one", 11) }]).await.unwrap();
    corner.client.refresh(&name).await.unwrap();
    assert_eq!(corner.client.count(&name).await.unwrap(), 302);

    let found =
        corner.ask("POST", &format!("/{name}/_search"), json!({"query": {"term": {"id": "one"}}})).await;
    let hit = &found["hits"]["hits"][0];
    assert_eq!(hit["_id"].as_str().unwrap().len(), 64);
    let source = &hit["_source"];
    assert_eq!(source["error"], json!({"type": "mapper_parsing_exception", "reason": "new"}));
    assert_eq!(source["key"], json!({"a.b": "1", "": null}));
    assert_eq!((&source["version"], &source["action"]), (&json!(11), &json!("index")));
    assert_eq!((&source["body"], &source["truncated"]), (&json!("{\"n\":1}"), &json!(false)));
    let found = corner
        .ask("POST", &format!("/{name}/_search"), json!({"query": {"term": {"action": "delete"}}}))
        .await;
    let source = &found["hits"]["hits"][0]["_source"];
    assert_eq!(
        (source["body"].as_str().unwrap().len(), &source["truncated"]),
        ((32 << 10) - 1, &json!(true))
    );
    corner.clean().await;
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_stored_is_an_error() {
    let corner = Corner::new("lost");
    let name = corner.index("dead");
    let letters = DeadLetters::open(&corner.client, &name, "p").await.unwrap();
    corner.ask("PUT", &format!("/{name}/_settings"), json!({"index.blocks.write": true})).await;
    let error = letters.write(&[letter("1", 1)]).await.unwrap_err();
    assert!(
        matches!(error, SinkError::DeadLetter { .. }) && error.to_string().contains("cluster_block"),
        "{error}"
    );
    // Gone, it is not made anew with a guessed mapping.
    corner.ask("DELETE", &format!("/{name}-000001"), Value::Null).await;
    assert!(letters.write(&[letter("1", 1)]).await.is_err());
    assert!(corner.client.find_index(&name).await.unwrap().is_none());
    let other = corner.make("other", json!({}), json!({})).await;
    corner.bulk(&write(&other, "1", 1, json!({}))).await;
    corner.clean().await;
}

#[tokio::test]
async fn fields_that_are_missing_are_added_and_others_told_even_beyond_the_limit_of_fields() {
    let corner = Corner::new("extend");
    let name = corner.index("events");
    let definition = IndexDefinition {
        settings: object(json!({"mapping.total_fields.limit": 2, "number_of_replicas": 0})),
        ..definition()
    };
    let index = corner.client.ensure_index(&name, &definition, &owner("p", "public.events")).await.unwrap();
    let wanted = json!({
        "n": {"type": "text"},
        "a": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
        "a__json": {"type": "object", "enabled": false},
    });
    let extension = corner.client.extend(&index, &object(wanted.clone())).await.unwrap();
    assert_eq!(extension.added, ["a", "a__json"]);
    assert_eq!(extension.other, [("n".to_owned(), "long".to_owned(), "text".to_owned())]);
    let wider = corner.client.find_index(&name).await.unwrap().unwrap();
    let again = corner.client.extend(&wider, &object(wanted)).await.unwrap();
    assert_eq!((again.added, again.other), (vec![], extension.other));
}

//! Values at the limits of PostgreSQL, and at those of OpenSearch: they arrive, whole, on all three ways.

use crate::ways::{Column, assert_documents};

/// A column whose values go where flat_object, or another mapping, takes them.
fn column(name: &str, sql_type: &str, values: Vec<(String, String)>) -> Column {
    Column {
        name: name.to_owned(),
        field: name.to_owned(),
        sql_type: sql_type.to_owned(),
        mapping: None,
        values: values.into_iter().map(|(sql, json)| (sql, Some(json))).collect(),
    }
}

/// The same with values that go into the sibling field.
fn beside(name: &str, sql_type: &str, values: Vec<(String, String)>) -> Column {
    Column { field: format!("{name}__json"), ..column(name, sql_type, values) }
}

fn nested(open: &str, inside: &str, close: &str, depth: usize) -> String {
    format!("{}{inside}{}", open.repeat(depth), close.repeat(depth))
}

#[tokio::test]
async fn numbers_of_every_length_arrive() {
    let (long, small) = ("9".repeat(131_072), format!("0.{}1", "0".repeat(16_382)));
    let edge = "1".repeat(1000);
    let numerics = vec![
        ("repeat('9', 131072)::numeric".to_owned(), format!("\"{long}\"")),
        ("('-' || repeat('9', 131072) || '.5')::numeric".to_owned(), format!("\"-{long}.5\"")),
        ("('0.' || repeat('0', 16382) || '1')::numeric".to_owned(), format!("\"{small}\"")),
        ("repeat('1', 1000)::numeric".to_owned(), edge.clone()),
        ("('-' || repeat('1', 1000))::numeric".to_owned(), format!("\"-{edge}\"")),
    ];
    let all = numerics.iter().map(|(sql, _)| sql.as_str()).collect::<Vec<_>>().join(",");
    let all_json = numerics.iter().map(|(_, json)| json.as_str()).collect::<Vec<_>>().join(",");
    let in_json = [
        ("('[' || repeat('9', 131072) || ', 1]')::TYPE".to_owned(), format!(r#"{{"value":["{long}",1]}}"#)),
        ("('{\"a\": -' || repeat('1', 1000) || '}')::TYPE".to_owned(), format!(r#"{{"a":"-{edge}"}}"#)),
        ("('{\"a\": ' || repeat('1', 1000) || '}')::TYPE".to_owned(), format!(r#"{{"a":{edge}}}"#)),
    ];
    // The first number is longer than a term of a flat_object.
    let typed = |name: &str, at: std::ops::Range<usize>| {
        in_json[at].iter().map(|(sql, json)| (sql.replace("TYPE", name), json.clone())).collect::<Vec<_>>()
    };
    let columns = [
        column("numeric", "numeric", numerics),
        column("scaled", "numeric(15,15)", vec![("0.999999999999999".into(), "0.999999999999999".into())]),
        column("array", "numeric[]", vec![(format!("ARRAY[{all}]"), format!("[{all_json}]"))]),
        beside("long json", "json", typed("json", 0..1)),
        beside("long jsonb", "jsonb", typed("jsonb", 0..1)),
        column("json", "json", typed("json", 1..3)),
        column("jsonb", "jsonb", typed("jsonb", 1..3)),
    ];
    assert_documents("", &columns).await;
}

#[tokio::test]
async fn large_and_deep_values_arrive() {
    let array = |depth| nested("[", "", "]", depth);
    let object = |depth| nested("{\"a\":", "1", "}", depth);
    let wrapped = |json: String| format!("{{\"value\":{json}}}");
    let sql = |json: &str, name: &str| format!("'{json}'::{name}");
    let numbers = (1..=150_000).map(|n: u32| n.to_string()).collect::<Vec<_>>().join(",");
    let long = "x".repeat(40_000);
    let ones = vec!["1"; 8000].join(",");
    let path = "k".repeat(10_000);
    let many = "SELECT string_agg(g::text, ',') FROM generate_series(1, 150000) g";
    let mut columns = vec![
        column(
            "1 MiB",
            "jsonb",
            vec![(format!("('{{\"a\": [' || ({many}) || ']}}')::jsonb"), format!("{{\"a\":[{numbers}]}}"))],
        ),
        column(
            "bytes",
            "bytea",
            vec![("decode(repeat('00', 3 << 19), 'hex')".into(), format!("\"{}\"", "A".repeat(2 << 20)))],
        ),
        column(
            "bits",
            "bit varying",
            vec![("repeat('1', 40000)::varbit".into(), format!("\"{}\"", "1".repeat(40_000)))],
        ),
        column("text", "text", vec![("repeat('x', 40000)".into(), format!("\"{long}\""))]),
        column(
            "texts",
            "text[]",
            vec![("ARRAY[repeat('x', 40000), NULL]".into(), format!("[\"{long}\",null]"))],
        ),
        beside(
            "long hstore",
            "hstore",
            vec![("hstore('a', repeat('x', 40000))".into(), format!("{{\"a\":\"{long}\"}}"))],
        ),
        beside(
            "long pair",
            "pair",
            vec![("ROW(1, repeat('x', 40000))".into(), format!("{{\"n\":1,\"t\":\"{long}\"}}"))],
        ),
        beside(
            "with json",
            "with_json",
            vec![(format!("ROW('{}')", array(500)), format!("{{\"j\":{}}}", wrapped(array(500))))],
        ),
        column(
            "with jsons",
            "with_json[]",
            vec![(
                format!("ARRAY[ROW('{}'), NULL]::with_json[]", array(897)),
                format!("[{{\"j\":{}}},null]", wrapped(array(897))),
            )],
        ),
    ];
    for name in ["json", "jsonb"] {
        let values =
            vec![(sql(&array(99), name), wrapped(array(99))), (sql(&object(100), name), object(100))];
        columns.push(column(&format!("flat {name}"), name, values));
        let values = vec![
            (sql(&array(100), name), wrapped(array(100))),
            (sql(&array(899), name), wrapped(array(899))),
            (sql(&object(900), name), object(900)),
            (
                format!("('{{\"a\": \"' || repeat('x', 40000) || '\"}}')::{name}"),
                format!("{{\"a\":\"{long}\"}}"),
            ),
            (
                format!("('{{\"' || repeat('k', 40000) || '\": {{}}}}')::{name}"),
                format!("{{\"{}\":{{}}}}", "k".repeat(40_000)),
            ),
            // 80 MB of terms, which end a node of 512 MB.
            (format!("'{{\"{path}\": [{ones}]}}'::{name}"), format!("{{\"{path}\":[{ones}]}}")),
        ];
        columns.push(beside(&format!("deep {name}"), name, values));
        let values =
            vec![(format!("ARRAY['{}']::{name}[]", array(898)), format!("[{}]", wrapped(array(898))))];
        columns.push(column(&format!("{name}s"), &format!("{name}[]"), values));
    }
    let setup =
        "CREATE EXTENSION hstore; CREATE TYPE pair AS (n int, t text); CREATE TYPE with_json AS (j jsonb);";
    assert_documents(setup, &columns).await;
}

#[tokio::test]
async fn text_with_every_code_point_arrives() {
    let text: String = (1..=u32::from(char::MAX)).filter_map(char::from_u32).collect();
    let as_postgresql = serde_json::to_string(&text).unwrap();
    let json = as_postgresql.replacen("\\b", "\\u0008", 1).replacen("\\f", "\\u000c", 1);
    let sql = "(SELECT string_agg(chr(g), '' ORDER BY g) FROM generate_series(1, 1114111) g WHERE g NOT BETWEEN 55296 AND 57343)";
    let columns = [
        column("text", "text", vec![(sql.to_owned(), json.clone())]),
        column("texts", "text[]", vec![(format!("ARRAY[{sql}]"), format!("[{json}]"))]),
        beside(
            "jsonb",
            "jsonb",
            vec![(format!("to_jsonb({sql})"), format!("{{\"value\":{as_postgresql}}}"))],
        ),
    ];
    assert_documents("", &columns).await;
}

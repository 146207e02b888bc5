//! The table of types against the servers: each type by itself, and arrays of it.

use crate::{
    support::servers::Servers,
    table::{MAPPINGS, SETUP, TABLE, TypeRow},
    ways::{Column, assert_documents},
};
use pg2os::model::quote_literal;
use serde_json::{Value, json};

/// Types that not every server has: a query that fails or finds nothing there, and what must be made elsewhere.
const OPTIONAL: [(&str, &str, &str); 2] = [
    ("vector(3)", "SELECT FROM pg_available_extensions WHERE name = 'vector'", "CREATE EXTENSION vector;"),
    ("xml", "SELECT '<a/>'::xml", ""),
];

/// The mapping called `name`.
pub(crate) fn mapping(name: &str) -> Value {
    if let Some(bound) = name.strip_prefix("range of ") {
        let mut bound = mapping(bound);
        // Text has no such parameter, and refuses nothing.
        if bound["type"] != "text" {
            bound["ignore_malformed"] = json!(true);
        }
        return json!({"properties": {"gt": bound, "gte": bound, "lt": bound, "lte": bound}});
    }
    let (_, json) = MAPPINGS.iter().find(|(known, _)| *known == name).unwrap();
    serde_json::from_str(json).unwrap()
}

fn literal(row: &TypeRow, text: &str) -> String {
    format!("{}::{}", quote_literal(text), row.sql)
}

fn scalar(row: &TypeRow) -> Column {
    let values = row
        .values
        .iter()
        .map(|(text, json)| (literal(row, text), (!json.is_empty()).then(|| (*json).to_owned())));
    Column {
        name: row.sql.to_owned(),
        field: row.sql.to_owned(),
        sql_type: row.sql.to_owned(),
        mapping: Some(mapping(row.mapping)),
        values: values.collect(),
    }
}

/// Arrays of all values, with NULLs, in two dimensions, with a lower bound of its own, and without elements.
fn array(row: &TypeRow) -> Column {
    let elements: Vec<(String, &str)> = row
        .values
        .iter()
        .map(|(text, json)| (literal(row, text), if json.is_empty() { "null" } else { json }))
        .chain([("NULL".to_owned(), "null")])
        .collect();
    let list = |elements: Vec<&str>| elements.join(",");
    let sql = list(elements.iter().map(|(sql, _)| sql.as_str()).collect());
    let json = list(elements.iter().map(|(_, json)| *json).collect());
    let (first, first_json) = (&elements[0].0, elements[0].1);
    let sql_type = format!("{}[]", row.sql);
    let values = [
        (format!("ARRAY[{sql}]"), format!("[{json}]")),
        (format!("ARRAY[ARRAY[{sql}], ARRAY[{sql}]]"), format!("[[{json}],[{json}]]")),
        (format!("array_fill({first}, ARRAY[2], ARRAY[-3])"), format!("[{first_json},{first_json}]")),
        ("'{}'".to_owned(), "[]".to_owned()),
        (format!("ARRAY[ARRAY[ARRAY[{first}]]]"), format!("[[[{first_json}]]]")),
    ];
    let of_array = if row.mapping == "flat_object" { "not indexed" } else { row.mapping };
    Column {
        name: sql_type.clone(),
        field: sql_type.clone(),
        mapping: Some(mapping(of_array)),
        values: values.map(|(sql, json)| (format!("{sql}::{sql_type}"), Some(json))).to_vec(),
        sql_type,
    }
}

#[tokio::test]
async fn every_type_and_arrays_of_it_become_the_same_documents_on_all_ways() {
    let client = crate::support::connect(Servers::shared().pg_port, "postgres").await;
    let (mut setup, mut columns) = (SETUP.to_owned(), vec![]);
    for row in TABLE {
        if let Some((_, probe, more)) = OPTIONAL.iter().find(|(name, ..)| *name == row.sql) {
            if client.query(*probe, &[]).await.is_ok_and(|found| !found.is_empty()) {
                setup += more;
            } else {
                eprintln!("this server has no {}", row.sql);
                continue;
            }
        }
        columns.extend([scalar(row), array(row)]);
    }
    assert_documents(&setup, &columns).await;
}

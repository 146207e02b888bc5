//! One table with values, taken through a window, the stream and a lookup by key.

use crate::support::{World, in_world};
use pg2os::model::quote_identifier;
use serde_json::{Map, Value, json, value::RawValue};
use std::collections::BTreeMap;

/// A column, and what each of its values becomes.
pub(crate) struct Column {
    /// Column.
    pub(crate) name: String,
    /// Field of the document: the column's name, or that of its sibling for what a flat_object cannot take.
    pub(crate) field: String,
    /// Type in SQL.
    pub(crate) sql_type: String,
    /// The mapping of its field, where that is looked at.
    pub(crate) mapping: Option<Value>,
    /// A SQL expression, and its JSON; `None` where the field is left out.
    pub(crate) values: Vec<(String, Option<String>)>,
}

impl Column {
    fn expected(&self, row: usize) -> Option<&str> {
        self.values.get(row)?.1.as_deref()
    }
}

/// Rows of the stream and of lookups have the ids of the window's rows, plus these.
const STREAMED: usize = 1_000_000;
const LOOKED_UP: usize = 2_000_000;
/// SQL of the value of `big`, which lies out of line.
pub(crate) const BIG_VALUE: &str = "repeat('0123456789', 500)";

/// A table that [`through_all_ways`] takes: an UPDATE of `n` sends a row without `big`, which only a lookup completes.
pub(crate) fn create_table(columns: &[String]) -> String {
    format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, big text, {});
         ALTER TABLE t ALTER big SET STORAGE EXTERNAL;",
        columns.join(", ")
    )
}

/// Inserts a row for each place in the lists of values, and expects exactly these documents from all three ways.
pub(crate) async fn assert_documents(setup: &str, columns: &[Column]) {
    let rows = columns.iter().map(|c| c.values.len()).max().unwrap();
    let names: Vec<String> = columns.iter().map(|c| quote_identifier(&c.name)).collect();
    let definitions: Vec<String> =
        names.iter().zip(columns).map(|(name, c)| format!("{name} {}", c.sql_type)).collect();
    let mut sql = format!("{setup}\n{}", create_table(&definitions));
    for row in 0..rows {
        let value = |c: &Column| c.values.get(row).map_or("NULL", |(sql, _)| sql).to_owned();
        let values: Vec<String> = columns.iter().map(value).collect();
        let (names, values) = (names.join(", "), values.join(", "));
        sql += &format!("INSERT INTO t (id, big, {names}) VALUES ({row}, {BIG_VALUE}, {values});\n");
    }
    in_world(&sql, async |world| {
        let documents = through_all_ways(world).await;
        assert_eq!(documents.len(), rows);
        let mut wrong = vec![];
        for (row, document) in documents.into_iter().enumerate() {
            let big = format!("\"big\":\"{}\"", "0123456789".repeat(500));
            let fields =
                columns.iter().filter_map(|c| Some(format!(",{}:{}", json!(c.field), c.expected(row)?)));
            if document != format!("{big}{}}}", fields.collect::<String>()) {
                wrong.extend(differences(row, &document, columns));
            }
        }
        let mapping = mapping(world).await;
        for column in columns {
            let (found, expected) = (mapping.get(&column.field), column.mapping.as_ref());
            if expected.is_some() && found != expected {
                wrong.push(format!("mapping of {}: expected {expected:?}, found {found:?}", column.name));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    })
    .await;
}

fn differences(row: usize, document: &str, columns: &[Column]) -> Vec<String> {
    let document = format!("{{{document}");
    let found: BTreeMap<String, &RawValue> = serde_json::from_str(&document).unwrap();
    let show = |text: Option<&str>| text.map_or("nothing".to_owned(), |t| t.chars().take(300).collect());
    let mut wrong = vec![];
    for column in columns {
        let (expected, found) = (column.expected(row), found.get(&column.field).map(|v| v.get()));
        if expected != found {
            let sql = column.values.get(row).map(|(sql, _)| sql.as_str());
            wrong.push(format!(
                "{} from {}:\n  expected {}\n  found    {}",
                column.name,
                show(sql),
                show(expected),
                show(found)
            ));
        }
    }
    if wrong.is_empty() { vec![format!("row {row} has other fields, or another order")] } else { wrong }
}

/// Follows the table `t`, whose rows are there already, lets the same rows come by the stream and by lookups, and returns
/// the documents in the order of their ids, from `big` on. They are the same bytes whatever way they came.
pub(crate) async fn through_all_ways(world: &World) -> Vec<String> {
    let followed = [world.followed("t", &["id"])];
    let config = world.config(&followed, "");
    world.catch_up(&config).await;
    let columns = "SELECT string_agg(quote_ident(attname), ',' ORDER BY attnum) FROM pg_attribute
                    WHERE attrelid = 't'::regclass AND attnum > 1 AND NOT attisdropped";
    let columns = world.value(columns).await.unwrap();
    let copy = |offset| {
        format!("INSERT INTO t (id, {columns}) SELECT id + {offset}, {columns} FROM t WHERE id < {STREAMED};")
    };
    let update = format!("UPDATE t SET n = 1 WHERE id >= {LOOKED_UP};");
    world.sql(&copy(STREAMED)).await;
    world.sql(&copy(LOOKED_UP)).await;
    world.sql(&update).await;
    world.catch_up(&config).await;

    let letters = world.dead_letters().await;
    assert!(letters.is_empty(), "refused: {}", letters[0]);
    let found = world.os.documents(&followed[0].index).await;
    let document = |id: usize, n: u8| {
        let text = found[&id.to_string()].source.get();
        text.strip_prefix(&format!("{{\"id\":{id},\"n\":{n},"))
            .unwrap_or_else(|| panic!("{text:.100}"))
            .to_owned()
    };
    let mut documents = vec![];
    for id in 0..found.len() / 3 {
        let of_window = document(id, 0);
        assert_eq!(document(STREAMED + id, 0), of_window, "from the stream and from a window");
        assert_eq!(document(LOOKED_UP + id, 1), of_window, "from a lookup and from a window");
        documents.push(of_window);
    }
    documents
}

/// `properties` of the index of table `t`.
pub(crate) async fn mapping(world: &World) -> Map<String, Value> {
    let answer = world.os.call("GET", &format!("/{}/_mapping", world.index("t")), Value::Null).await;
    let answer: Map<String, Value> = serde_json::from_str(&answer).unwrap();
    let index = answer.values().next().unwrap();
    index["mappings"]["properties"].as_object().unwrap().clone()
}

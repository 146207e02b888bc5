//! What the indices must hold, told by PostgreSQL itself: nothing of the program's own mapping is used here.
//!
//! `row_to_json` prints digits as PostgreSQL does. Left to do: NULL columns are left out, a timestamptz ends in `Z`,
//! a JSON root that is no object becomes `{"value": …}`. Numbers are compared as the text of their digits.

use super::{Followed, PATIENCE, World, quoted};
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio_postgres::{Client, SimpleQueryMessage};

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Differences that are shown.
const SHOWN: usize = 5;

impl World {
    /// Every document of every index is a row of its table, field by field, and the other way round.
    pub(crate) async fn assert_equal(&self, tables: &[Followed]) {
        let mut differences = vec![];
        for followed in tables {
            differences.extend(self.differences(followed).await);
        }
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), {
            differences.truncate(SHOWN);
            differences.join("\n")
        });
    }

    /// Waits until they are equal.
    pub(crate) async fn becomes_equal(&self, tables: &[Followed]) {
        self.becomes_equal_within(PATIENCE, tables).await;
    }

    /// Waits until they are equal, but not for ever.
    pub(crate) async fn becomes_equal_within(&self, patience: Duration, tables: &[Followed]) {
        let mut left = vec![String::new()];
        let begun = Instant::now();
        while !left.is_empty() {
            assert!(begun.elapsed() < patience, "{} differences stay, as\n{}", left.len(), left[0]);
            tokio::time::sleep(Duration::from_millis(50)).await;
            left.clear();
            for followed in tables {
                left.extend(self.differences(followed).await);
            }
        }
    }

    async fn differences(&self, followed: &Followed) -> Vec<String> {
        let rows = rows(&self.connect().await, followed).await;
        let documents = self.os.documents(&followed.index).await;
        let mut differences = vec![];
        for id in rows.keys().chain(documents.keys()).collect::<BTreeSet<_>>() {
            let expected = rows.get(id);
            let found = documents.get(id).map(|document| canonical(document.source.get()));
            if expected != found.as_ref() {
                let version = documents.get(id).map_or(0, |document| document.version);
                let (epoch, lsn, ordinal) =
                    (version >> 53, (version >> 10 & ((1 << 43) - 1)) << 3, version & 1023);
                let shorten = |text: Option<&String>| match text {
                    None => "nothing".to_owned(),
                    Some(text) => text.chars().take(600).collect(),
                };
                differences.push(format!(
                    "{} {id:?} (document of epoch {epoch}, {:X}/{:X}, ordinal {ordinal})\n  row      {}\n  document {}",
                    followed.table,
                    lsn >> 32,
                    lsn & 0xffff_ffff,
                    shorten(expected),
                    shorten(found.as_ref())
                ));
            }
        }
        differences
    }
}

/// Every row of a table by the id of its document, in canonical JSON.
async fn rows(client: &Client, followed: &Followed) -> BTreeMap<String, String> {
    let rows = &followed.rows;
    let described = client.prepare(&format!("SELECT * FROM {rows} t")).await.unwrap();
    let types =
        described.columns().iter().map(|c| (c.name().to_owned(), c.type_().name().to_owned())).collect();
    let sql = format!("SELECT {}, row_to_json(t)::text FROM {rows} t", id_sql(&followed.id));
    let messages = client.simple_query(&sql).await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0).unwrap().to_owned(), row.get(1).unwrap())),
        _ => None,
    });
    rows.map(|(id, json)| (id, canonical(&document(json, &types)))).collect()
}

/// The plain id, and its hash where OpenSearch would not take it.
fn id_sql(columns: &[String]) -> String {
    let plain = match columns {
        [only] => format!("coalesce({}::text, '\\N')", quoted(only)),
        several => {
            let escaped = |c: &String| {
                format!(r"coalesce(replace(replace({}::text, '\', '\\'), '|', '\|'), '\N')", quoted(c))
            };
            several.iter().map(escaped).collect::<Vec<_>>().join(" || '|' || ")
        }
    };
    format!(
        "(SELECT CASE WHEN octet_length(i) BETWEEN 1 AND 512 THEN i \
         ELSE encode(sha256(convert_to(i, 'UTF8')), 'hex') END FROM (SELECT {plain} i) plain)"
    )
}

fn document(row: &str, types: &BTreeMap<String, String>) -> String {
    let row: Fields<'_> = serde_json::from_str(row).unwrap();
    let fields = row.iter().filter(|(_, value)| value.get() != "null").map(|(name, value)| {
        let value = value.get();
        let value = match types[name].as_str() {
            "timestamptz" => value.replace("+00:00", "Z"),
            "json" | "jsonb" if !value.starts_with('{') => format!("{{\"value\":{value}}}"),
            _ => value.to_owned(),
        };
        format!("{}:{value}", serde_json::json!(name))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// JSON with its keys sorted, without white space, strings in one spelling, and numbers as they were.
pub(crate) fn canonical(json: &str) -> String {
    let json = json.trim();
    match json.as_bytes()[0] {
        b'{' => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
            let fields = fields.iter().map(|(name, value)| format!("{name:?}:{}", canonical(value.get())));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).unwrap();
            let items = items.iter().map(|item| canonical(item.get()));
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
        b'"' => format!("{:?}", serde_json::from_str::<String>(json).unwrap()),
        _ => json.to_owned(),
    }
}

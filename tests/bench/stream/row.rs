//! The row that is measured with: twelve columns, 334 bytes as a pgoutput message.

use pg2os::{
    config::{Documents, IdForm, OnTruncate},
    lanes::Target,
    map::{self, TableSpec},
    model::{Column, ReplicaIdentity, TableName, TableSchema, TypeCatalog},
    pipeline::tables::{Table, Tables},
};
use std::error::Error;

/// Oid of the relation in messages that no server made.
pub(crate) const RELATION: u32 = 16_384;
/// Length of the Insert message of every row.
const MESSAGE: usize = 334;

/// Name, type oid and type modifier of the columns.
const COLUMNS: [(&str, u32, i32); 12] = [
    ("id", 20, -1),
    ("at", 1184, -1),
    ("day", 1082, -1),
    ("customer", 25, -1),
    ("price", 1700, (12 << 16 | 2) + 4),
    ("payload", 3802, -1),
    ("paid", 16, -1),
    ("uid", 2950, -1),
    ("quantity", 23, -1),
    ("ratio", 701, -1),
    ("note", 25, -1),
    ("labels", 1009, -1),
];

/// PostgreSQL's text of row `n`; the note fills the message up to its length.
pub(crate) fn values(n: u64) -> [String; 12] {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (hour, minute, second) = (n / 3600 % 24, n / 60 % 60, n % 60);
    let mut row = [
        (10_000_000 + n).to_string(),
        format!("2024-01-{:02} {hour:02}:{minute:02}:{second:02}.{:05}1+00", n % 28 + 1, mixed % 100_000),
        format!("2024-02-{:02}", n % 28 + 1),
        format!("customer {:08x}", mixed >> 32),
        format!("{}.{:02}", mixed % 90_000, n % 100),
        format!(
            "{{\"kind\": \"order\", \"step\": {}, \"total\": {}, \"channel\": \"web shop\", \"express\": true}}",
            n % 9,
            mixed % 10_000
        ),
        if n.is_multiple_of(3) { "t".to_owned() } else { "f".to_owned() },
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            n as u32,
            mixed as u16,
            mixed >> 52,
            n & 0xfff,
            mixed >> 16
        ),
        (n % 1000).to_string(),
        format!("{}.123456789", mixed % 1000),
        String::new(),
        "{fragile,\"two words\",north}".to_owned(),
    ];
    let filled: usize = 8 + row.iter().map(|value| 5 + value.len()).sum::<usize>();
    let text = if n.is_multiple_of(8) { "he said \"now\" " } else { "nothing to say " };
    row[10] = text.chars().cycle().take(MESSAGE.saturating_sub(filled)).collect();
    row
}

/// The Insert message of row `n` (PostgreSQL docs: "Logical Replication Message Formats").
pub(crate) fn insert(n: u64, out: &mut Vec<u8>) {
    out.push(b'I');
    out.extend(RELATION.to_be_bytes());
    out.push(b'N');
    out.extend((COLUMNS.len() as u16).to_be_bytes());
    for value in values(n) {
        out.push(b't');
        out.extend((value.len() as u32).to_be_bytes());
        out.extend(value.as_bytes());
    }
}

/// The Relation message of the table.
pub(crate) fn relation() -> Vec<u8> {
    let mut message = b"R".to_vec();
    message.extend(RELATION.to_be_bytes());
    message.extend(b"public\0t\0d");
    message.extend((COLUMNS.len() as u16).to_be_bytes());
    for (name, oid, modifier) in COLUMNS {
        message.push(u8::from(name == "id"));
        message.extend(name.as_bytes());
        message.push(0);
        message.extend(oid.to_be_bytes());
        message.extend(modifier.to_be_bytes());
    }
    message
}

/// The table as a session would know it from the catalog.
pub(crate) fn tables() -> Result<Tables, Box<dyn Error>> {
    let types = TypeCatalog::new();
    let columns = COLUMNS.map(|(name, oid, modifier)| (name.to_owned(), map::resolve(oid, modifier, &types)));
    let spec = TableSpec {
        id: vec!["id".into()],
        id_form: IdForm::Plain,
        exclude: vec![],
        rename: vec![],
        documents: Documents::Plain,
        spark: Default::default(),
    };
    let schema = TableSchema {
        oid: RELATION,
        name: TableName { schema: "public".into(), name: "t".into() },
        columns: columns
            .into_iter()
            .map(|(name, column_type)| Column {
                not_null: name == "id",
                name,
                column_type,
                sql_type: String::new(),
            })
            .collect(),
        primary_key: vec!["id".into()],
        identity: ReplicaIdentity::Columns(vec!["id".into()]),
        row_filter: None,
        partitioned: false,
        estimated_rows: 0,
    };
    let mut tables = Tables::default();
    let target = Target::new(tables.next(), "t");
    tables.push(Table::new(target, schema, spec, OnTruncate::Delete)?);
    Ok(tables)
}

//! What the walsender sends: bytes of pgoutput, protocol version 1.

use crate::postgres::{Commit, Event, Row};

/// `pg_class.oid` of the table, and of one that is not configured.
pub const TABLE: u32 = 7;
const OTHER: u32 = 8;

pub fn begin(commit: &Commit) -> Vec<u8> {
    let mut m = vec![b'B'];
    m.extend(commit.start.to_be_bytes());
    m.extend(0_u64.to_be_bytes());
    m.extend((commit.xid as u32).to_be_bytes());
    m
}

pub fn commit(commit: &Commit) -> Vec<u8> {
    let mut m = vec![b'C', 0];
    m.extend(commit.start.to_be_bytes());
    m.extend(commit.end.to_be_bytes());
    m.extend(0_u64.to_be_bytes());
    m
}

/// Descriptions of both tables.
pub fn relations() -> [Vec<u8>; 2] {
    [(TABLE, "t"), (OTHER, "other")].map(|(oid, name)| {
        let mut m = vec![b'R'];
        m.extend(oid.to_be_bytes());
        m.extend(format!("public\0{name}\0d\0\x04").as_bytes());
        for (key, column, column_type) in [(1, "id", 23_u32), (0, "a", 20), (0, "t", 25), (0, "w", 23)] {
            m.push(key);
            m.extend(column.as_bytes());
            m.push(0);
            m.extend(column_type.to_be_bytes());
            m.extend((-1_i32).to_be_bytes());
        }
        m
    })
}

pub fn change(event: &Event) -> Vec<u8> {
    match event {
        Event::Insert(id, row) => with_new(b'I', None, *id, row, false),
        Event::Update { old, id, row, unchanged } => with_new(b'U', *old, *id, row, *unchanged),
        Event::Delete(id) => {
            let mut m = vec![b'D'];
            m.extend(TABLE.to_be_bytes());
            key(&mut m, *id);
            m
        }
        Event::Truncate => {
            let mut m = vec![b'T'];
            m.extend(1_u32.to_be_bytes());
            m.push(0);
            m.extend(TABLE.to_be_bytes());
            m
        }
        Event::Foreign => {
            let mut m = vec![b'I'];
            m.extend(OTHER.to_be_bytes());
            m.extend(b"N\0\x04nnnn");
            m
        }
    }
}

fn with_new(kind: u8, old: Option<usize>, id: usize, row: &Row, unchanged: bool) -> Vec<u8> {
    let mut m = vec![kind];
    m.extend(TABLE.to_be_bytes());
    if let Some(old) = old {
        key(&mut m, old);
    }
    m.extend(b"N\0\x04");
    text(&mut m, id as u32);
    text(&mut m, row.a);
    if unchanged {
        m.push(b'u');
    } else {
        text(&mut m, row.t);
    }
    text(&mut m, u32::from(row.w));
    m
}

fn key(m: &mut Vec<u8>, id: usize) {
    m.extend(b"K\0\x04");
    text(m, id as u32);
    m.extend(b"nnn");
}

fn text(m: &mut Vec<u8>, number: u32) {
    let text = number.to_string();
    m.push(b't');
    m.extend((text.len() as u32).to_be_bytes());
    m.extend(text.as_bytes());
}

//! Messages of pgoutput: what is understood can be said again in the same bytes (PostgreSQL docs: "Logical Replication
//! Message Formats"), and takes no more memory than its bytes justify.

use super::input::Input;
use pg2os::{
    decode::{Decoder, Message, OldRow, Relation, RelationIdentity},
    model::{Cell, Row, Value},
};

pub(crate) fn target(data: &[u8]) {
    let mut decoder = Decoder::default();
    match data.split_first() {
        // The same decoder for one message after the other, as for a stream.
        Some((b'+', rest)) => {
            let mut input = Input(rest);
            for _ in 0..2 {
                let message = generate(&mut input);
                check(&mut decoder, &message);
                assert!(decoder.decode(&message).is_ok(), "{message:02x?}");
                for end in 0..message.len().min(200) {
                    assert!(decoder.decode(&message[..end]).is_err(), "cut at {end}: {message:02x?}");
                }
            }
        }
        _ => {
            check(&mut decoder, data);
            check(&mut decoder, &data[data.len() / 2..]);
        }
    }
}

fn check(decoder: &mut Decoder, data: &[u8]) {
    let Ok(message) = decoder.decode(data) else { return };
    match message {
        Message::Insert { relation, new } => {
            assert_eq!([b"I", &relation.to_be_bytes()[..], b"N", &tuple(&new)].concat(), data);
        }
        Message::Update { relation, old, new } => {
            let old = old.as_ref().map(old_row).unwrap_or_default();
            assert_eq!([b"U", &relation.to_be_bytes()[..], &old, b"N", &tuple(&new)].concat(), data);
        }
        Message::Delete { relation, old } => {
            assert_eq!([b"D", &relation.to_be_bytes()[..], &old_row(&old)].concat(), data);
        }
        Message::Begin { commit_lsn, commit_time, xid } => {
            let fields = [&commit_lsn.0.to_be_bytes()[..], &commit_time.to_be_bytes(), &xid.to_be_bytes()];
            assert_eq!([b"B", &fields.concat()[..]].concat(), data);
        }
        Message::Commit { commit_lsn, end_lsn } => {
            assert_eq!(data.len(), 26);
            assert_eq!([commit_lsn.0.to_be_bytes(), end_lsn.0.to_be_bytes()].concat(), data[2..18]);
        }
        Message::Relation(relation) => check_relation(&relation, data),
        Message::Truncate { relations } => {
            let oids: Vec<u8> = relations.iter().flat_map(|oid| oid.to_be_bytes()).collect();
            let count = (relations.len() as u32).to_be_bytes();
            assert_eq!([b"T", &count[..], &data[5..6], &oids].concat(), data);
            assert!(relations.capacity() * 4 <= 2 * data.len());
        }
        Message::Type => assert!(data[0] == b'Y' && data.ends_with(b"\0")),
        Message::Origin => assert!(data[0] == b'O' && data.ends_with(b"\0")),
        Message::Logical => assert_eq!(data[0], b'M'),
    }
}

fn check_relation(relation: &Relation, data: &[u8]) {
    assert!(relation.columns.capacity() <= data.len());
    // What is no UTF-8 in a name, as in a database of encoding SQL_ASCII, is read with replacement characters.
    let names = relation.columns.iter().map(|column| &column.name).chain([&relation.schema, &relation.name]);
    if names.into_iter().any(|name| name.contains('\u{fffd}')) {
        return;
    }
    let schema = if relation.schema == "pg_catalog" { "" } else { &relation.schema };
    let identity = match relation.identity {
        RelationIdentity::Default => b'd',
        RelationIdentity::Nothing => b'n',
        RelationIdentity::Full => b'f',
        RelationIdentity::Index => b'i',
    };
    let mut said = [b"R", &relation.oid.to_be_bytes()[..]].concat();
    // The schema pg_catalog is the empty string, and may be spelt out.
    let spelt_out = data.get(5..16) == Some(b"pg_catalog\0");
    said.extend(if spelt_out { "pg_catalog" } else { schema }.as_bytes());
    said.extend([&b"\0"[..], relation.name.as_bytes(), b"\0"].concat());
    said.push(identity);
    said.extend((relation.columns.len() as u16).to_be_bytes());
    for column in &relation.columns {
        // Only the lowest bit of the flags has a meaning.
        let flags = data[said.len()];
        assert_eq!(flags & 1 == 1, column.key);
        said.push(flags);
        said.extend([column.name.as_bytes(), b"\0"].concat());
        said.extend([column.type_oid.to_be_bytes(), column.modifier.to_be_bytes()].concat());
    }
    assert_eq!(said, data);
}

fn old_row(old: &OldRow<'_>) -> Vec<u8> {
    let kind: &[u8] = if matches!(old, OldRow::Key(_)) { b"K" } else { b"O" };
    [kind, &tuple(&old.row())].concat()
}

/// TupleData of a row.
fn tuple(row: &Row<'_>) -> Vec<u8> {
    let mut said = (row.len() as u16).to_be_bytes().to_vec();
    for i in 0..row.len() {
        match row.value(i) {
            Value::Null => said.push(b'n'),
            Value::Unchanged => said.push(b'u'),
            Value::Text(text) => {
                said.push(b't');
                said.extend((text.len() as u32).to_be_bytes());
                said.extend(text);
            }
        }
    }
    said
}

/// An Insert of `cells`.
pub(super) fn insert(cells: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = vec![];
    let mut places = vec![];
    for cell in cells {
        let start = bytes.len() as u32;
        bytes.extend(cell.iter().flatten());
        places.push(match cell {
            Some(_) => Cell::Text { start, end: bytes.len() as u32 },
            None => Cell::Null,
        });
    }
    [&b"I\0\0\0\x01N"[..], &tuple(&Row { bytes: &bytes, cells: &places })].concat()
}

/// A valid message of any kind.
fn generate(input: &mut Input<'_>) -> Vec<u8> {
    let kind = b"IUUDBCRTYOM"[input.below(11)];
    let mut message = vec![kind];
    let name = |input: &mut Input<'_>| {
        let mut name: Vec<u8> = input.text().iter().map(|byte| b'!' + byte % 90).collect();
        name.push(0);
        name
    };
    match kind {
        b'I' | b'U' | b'D' => {
            message.extend((input.number() as u32).to_be_bytes());
            let old = input.byte();
            if kind == b'D' || kind == b'U' && old & 1 == 1 {
                message.push(if old & 2 == 2 { b'K' } else { b'O' });
                generate_tuple(input, &mut message);
            }
            if kind != b'D' {
                message.push(b'N');
                generate_tuple(input, &mut message);
            }
        }
        b'B' => message.extend((0..20).map(|_| input.byte())),
        b'C' => message.extend((0..25).map(|_| input.byte())),
        b'T' => {
            let count = input.below(9) as u32;
            message.extend(count.to_be_bytes());
            message.push(input.byte());
            message.extend((0..4 * count).map(|_| input.byte()));
        }
        b'Y' => {
            message.extend([input.number().to_be_bytes()[..4].to_vec(), name(input), name(input)].concat());
        }
        b'O' => message.extend([input.number().to_be_bytes().to_vec(), name(input)].concat()),
        b'M' => {
            message.push(input.byte());
            message.extend([input.number().to_be_bytes().to_vec(), name(input)].concat());
            let content = input.text();
            message.extend((content.len() as u32).to_be_bytes());
            message.extend(content);
        }
        _ => {
            message.extend([input.number().to_be_bytes()[..4].to_vec(), name(input), name(input)].concat());
            message.push(b"dnfi"[input.below(4)]);
            let count = input.below(9) as u16;
            message.extend(count.to_be_bytes());
            for _ in 0..count {
                message.push(input.byte());
                message.extend(name(input));
                message.extend(input.number().to_be_bytes());
            }
        }
    }
    message
}

fn generate_tuple(input: &mut Input<'_>, message: &mut Vec<u8>) {
    let count = input.below(7) as u16;
    message.extend(count.to_be_bytes());
    for _ in 0..count {
        match input.byte() % 4 {
            0 => message.push(b'n'),
            1 => message.push(b'u'),
            _ => {
                let text = input.text();
                message.push(b't');
                message.extend((text.len() as u32).to_be_bytes());
                message.extend(text);
            }
        }
    }
}

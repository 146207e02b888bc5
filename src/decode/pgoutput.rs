//! The messages of pgoutput, protocol version 1 (PostgreSQL docs: "Logical Replication Message Formats").

use super::{DecodeError, cursor::Cursor};
use crate::model::{Cell, Lsn, Row};

/// A table as the stream describes it, before its first change and after every change of its definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `pg_class.oid` (of the root under `publish_via_partition_root`).
    pub oid: u32,
    /// Schema; the protocol sends the empty string for `pg_catalog`.
    pub schema: String,
    /// Table.
    pub name: String,
    /// Replica identity at the time of the change.
    pub identity: RelationIdentity,
    /// Published columns.
    pub columns: Vec<RelationColumn>,
}

/// `pg_class.relreplident`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationIdentity {
    /// The primary key.
    Default,
    /// No old columns.
    Nothing,
    /// All old columns.
    Full,
    /// The columns of an index.
    Index,
}

/// A column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Is it part of the replica identity?
    pub key: bool,
    /// Name.
    pub name: String,
    /// Type; the oid of a domain where the column has one.
    pub type_oid: u32,
    /// Type modifier, -1 for none.
    pub modifier: i32,
}

/// The old row of an UPDATE or DELETE.
#[derive(Clone, Copy, Debug)]
pub enum OldRow<'a> {
    /// Only the columns of the replica identity; the others are NULL.
    Key(Row<'a>),
    /// All columns, out-of-line values included (identity FULL).
    Full(Row<'a>),
}

impl<'a> OldRow<'a> {
    /// Gives `new` the values that it has as unchanged, where this old row of the same message has them. Which those are
    /// its kind does not tell: under a partition root the kind is the root's, and the values are the partition's.
    pub fn complete(&self, new: &Row<'_>, cells: &mut Vec<Cell>) {
        let old = self.row().cells;
        cells.clear();
        cells.extend(new.cells.iter().enumerate().map(|(i, cell)| match (cell, old.get(i)) {
            // Out-of-line values are not NULL.
            (Cell::Unchanged, Some(text @ Cell::Text { .. })) => *text,
            _ => *cell,
        }));
    }

    /// The cells, whichever kind it is.
    pub fn row(&self) -> Row<'a> {
        match self {
            OldRow::Key(row) | OldRow::Full(row) => *row,
        }
    }
}

/// One pgoutput message. Rows borrow the message's bytes and the decoder's buffers.
#[derive(Debug)]
pub enum Message<'a> {
    /// A transaction begins.
    Begin {
        /// Start of its commit record: what versions are made from. Known before the first change.
        commit_lsn: Lsn,
        /// Commit time, µs since 2000-01-01 UTC.
        commit_time: i64,
        /// Transaction id, 32 bits of it.
        xid: u32,
    },
    /// A transaction ends.
    Commit {
        /// Start of the commit record.
        commit_lsn: Lsn,
        /// End of the commit record: what positions are made from.
        end_lsn: Lsn,
    },
    /// The transaction was replicated from elsewhere.
    Origin,
    /// A type that is not built in; its Relation follows.
    Type,
    /// A table's definition.
    Relation(Relation),
    /// A row was inserted.
    Insert {
        /// The table.
        relation: u32,
        /// The row.
        new: Row<'a>,
    },
    /// A row was changed.
    Update {
        /// The table.
        relation: u32,
        /// The old row, if the identity changed or is FULL.
        old: Option<OldRow<'a>>,
        /// The new row.
        new: Row<'a>,
    },
    /// A row was deleted.
    Delete {
        /// The table.
        relation: u32,
        /// Its identity.
        old: OldRow<'a>,
    },
    /// Tables were emptied.
    Truncate {
        /// The tables.
        relations: Vec<u32>,
    },
    /// `pg_logical_emit_message`; not asked for, ignored.
    Logical,
}

/// Decodes messages, reusing its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Decoder {
    new: Vec<Cell>,
    old: Vec<Cell>,
}

impl Decoder {
    /// Decodes the payload of one XLogData message.
    ///
    /// # Errors
    /// Any departure from the protocol; the stream cannot go on after it.
    pub fn decode<'a>(&'a mut self, data: &'a [u8]) -> Result<Message<'a>, DecodeError> {
        let mut c = Cursor::new(data);
        let message = match c.u8("the message type")? {
            b'I' => {
                let relation = c.u32("Insert")?;
                expect(&mut c, b'N', "tuple of an Insert")?;
                tuple(&mut c, &mut self.new)?;
                Message::Insert { relation, new: Row { bytes: data, cells: &self.new } }
            }
            b'U' => {
                let relation = c.u32("Update")?;
                let mut kind = c.u8("Update")?;
                let mut old = None;
                if let b'K' | b'O' = kind {
                    tuple(&mut c, &mut self.old)?;
                    let row = Row { bytes: data, cells: &self.old };
                    old = Some(if kind == b'K' { OldRow::Key(row) } else { OldRow::Full(row) });
                    kind = c.u8("Update")?;
                }
                if kind != b'N' {
                    return Err(DecodeError::UnexpectedTag { what: "tuple of an Update", tag: kind });
                }
                tuple(&mut c, &mut self.new)?;
                Message::Update { relation, old, new: Row { bytes: data, cells: &self.new } }
            }
            b'D' => {
                let relation = c.u32("Delete")?;
                let kind = c.u8("Delete")?;
                tuple(&mut c, &mut self.old)?;
                let row = Row { bytes: data, cells: &self.old };
                let old = match kind {
                    b'K' => OldRow::Key(row),
                    b'O' => OldRow::Full(row),
                    tag => return Err(DecodeError::UnexpectedTag { what: "tuple of a Delete", tag }),
                };
                Message::Delete { relation, old }
            }
            b'B' => Message::Begin {
                commit_lsn: Lsn(c.u64("Begin")?),
                commit_time: c.u64("Begin")? as i64,
                xid: c.u32("Begin")?,
            },
            b'C' => {
                c.u8("Commit")?;
                let commit_lsn = Lsn(c.u64("Commit")?);
                let end_lsn = Lsn(c.u64("Commit")?);
                c.u64("Commit")?;
                Message::Commit { commit_lsn, end_lsn }
            }
            b'R' => Message::Relation(relation(&mut c)?),
            b'T' => {
                let count = c.u32("Truncate")? as usize;
                c.u8("Truncate")?;
                if count > c.remaining() / 4 {
                    return Err(DecodeError::Truncated("Truncate"));
                }
                let relations = (0..count).map(|_| c.u32("Truncate")).collect::<Result<_, _>>()?;
                Message::Truncate { relations }
            }
            b'Y' => {
                c.u32("Type")?;
                c.string("the schema of a Type")?;
                c.string("the name of a Type")?;
                Message::Type
            }
            b'O' => {
                c.u64("Origin")?;
                c.string("the name of an Origin")?;
                Message::Origin
            }
            b'M' => {
                c.u8("Message")?;
                c.u64("Message")?;
                c.string("the prefix of a Message")?;
                let length = c.u32("Message")? as usize;
                c.take(length, "Message")?;
                Message::Logical
            }
            tag => return Err(DecodeError::UnexpectedTag { what: "message type", tag }),
        };
        c.end()?;
        Ok(message)
    }
}

fn expect(c: &mut Cursor<'_>, wanted: u8, what: &'static str) -> Result<(), DecodeError> {
    match c.u8(what)? {
        tag if tag == wanted => Ok(()),
        tag => Err(DecodeError::UnexpectedTag { what, tag }),
    }
}

/// Reads TupleData into `cells`; the cells point into the message.
fn tuple(c: &mut Cursor<'_>, cells: &mut Vec<Cell>) -> Result<(), DecodeError> {
    let columns = usize::from(c.u16("the column count of a tuple")?);
    cells.clear();
    // A column takes at least one byte, so this reservation is bounded by the message.
    cells.reserve(columns.min(c.remaining()));
    for _ in 0..columns {
        cells.push(match c.u8("a column")? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            b't' => {
                let length = c.u32("the length of a column")? as usize;
                let start = c.position();
                c.take(length, "a column")?;
                // A message is at most 1 GiB, so positions fit.
                Cell::Text { start: start as u32, end: (start + length) as u32 }
            }
            tag => return Err(DecodeError::UnexpectedTag { what: "kind of a column", tag }),
        });
    }
    Ok(())
}

fn relation(c: &mut Cursor<'_>) -> Result<Relation, DecodeError> {
    let oid = c.u32("Relation")?;
    let schema = match &*c.string("the schema of a Relation")? {
        "" => "pg_catalog".to_owned(),
        schema => schema.to_owned(),
    };
    let name = c.string("the name of a Relation")?.into_owned();
    let identity = match c.u8("the replica identity of a Relation")? {
        b'd' => RelationIdentity::Default,
        b'n' => RelationIdentity::Nothing,
        b'f' => RelationIdentity::Full,
        b'i' => RelationIdentity::Index,
        tag => return Err(DecodeError::UnexpectedTag { what: "replica identity", tag }),
    };
    let count = usize::from(c.u16("Relation")?);
    let mut columns = Vec::with_capacity(count.min(c.remaining()));
    for _ in 0..count {
        columns.push(RelationColumn {
            key: c.u8("a column of a Relation")? & 1 != 0,
            name: c.string("the name of a column")?.into_owned(),
            type_oid: c.u32("a column of a Relation")?,
            modifier: c.u32("a column of a Relation")? as i32,
        });
    }
    Ok(Relation { oid, schema, name, identity, columns })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::model::Value;
    use proptest::prelude::*;

    fn text(out: &mut Vec<u8>, value: &str) {
        out.push(b't');
        out.extend((value.len() as u32).to_be_bytes());
        out.extend(value.as_bytes());
    }

    #[test]
    fn an_update_with_a_changed_key_and_an_unchanged_toast_value() {
        let mut m = b"U\0\0\0\x07K\0\x02".to_vec();
        text(&mut m, "1");
        m.extend(b"nN\0\x02");
        text(&mut m, "10");
        m.push(b'u');
        let mut decoder = Decoder::default();
        let Message::Update { relation: 7, old: Some(OldRow::Key(old)), new } = decoder.decode(&m).unwrap()
        else {
            panic!("not an update")
        };
        assert_eq!((old.value(0), old.value(1)), (Value::Text(b"1"), Value::Null));
        assert_eq!((new.value(0), new.value(1)), (Value::Text(b"10"), Value::Unchanged));
        assert_eq!(new.value(2), Value::Null);
    }

    #[test]
    fn an_old_row_gives_the_values_that_it_has() {
        let text = Cell::Text { start: 0, end: 1 };
        let new = Row {
            bytes: b"x",
            cells: &[Cell::Unchanged, text, Cell::Unchanged, Cell::Null, Cell::Unchanged],
        };
        let old = Row { bytes: b"x", cells: &[text, Cell::Null, Cell::Null, text] };
        for old in [OldRow::Key(old), OldRow::Full(old)] {
            let mut cells = vec![Cell::Null];
            old.complete(&new, &mut cells);
            assert_eq!(cells, [text, text, Cell::Unchanged, Cell::Null, Cell::Unchanged]);
        }
    }

    #[test]
    fn a_relation_says_its_identity_and_key_columns() {
        let mut m = b"R\0\0\0\x09public\0t\0d\0\x02".to_vec();
        m.extend(b"\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\0\x19\0\0\0\x08");
        let mut decoder = Decoder::default();
        let Message::Relation(r) = decoder.decode(&m).unwrap() else { panic!("not a relation") };
        assert_eq!((r.oid, r.schema.as_str(), r.name.as_str()), (9, "public", "t"));
        assert_eq!(r.identity, RelationIdentity::Default);
        assert!(r.columns[0].key && !r.columns[1].key);
        assert_eq!((r.columns[1].type_oid, r.columns[1].modifier), (25, 8));
    }

    #[test]
    fn begin_and_commit_carry_their_positions() {
        let mut m = vec![b'B'];
        m.extend(0x16_B374_D848_u64.to_be_bytes());
        m.extend(5_u64.to_be_bytes());
        m.extend(77_u32.to_be_bytes());
        let mut decoder = Decoder::default();
        let Message::Begin { commit_lsn, xid, commit_time } = decoder.decode(&m).unwrap() else { panic!() };
        assert_eq!((commit_lsn, xid, commit_time), (Lsn(0x16_B374_D848), 77, 5));
        m.pop();
        assert_eq!(decoder.decode(&m).unwrap_err(), DecodeError::Truncated("Begin"));
        m.extend([0, 0]);
        assert_eq!(decoder.decode(&m).unwrap_err(), DecodeError::TrailingBytes(1));
    }

    #[test]
    fn a_length_beyond_the_message_allocates_nothing_and_is_an_error() {
        let mut decoder = Decoder::default();
        assert!(decoder.decode(b"T\xff\xff\xff\xff\0").is_err());
        assert!(decoder.decode(b"I\0\0\0\x01N\xff\xff").is_err());
        assert!(decoder.decode(b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff").is_err());
        assert!(decoder.new.capacity() <= 64);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_give_a_message_or_a_typed_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            let _ = decoder.decode(&bytes);
            prop_assert!(decoder.new.capacity() + decoder.old.capacity() <= 2 * bytes.len().max(4));
        }

        #[test]
        fn bytes_that_begin_like_a_message_never_panic(
            tag in proptest::sample::select(b"IUDBCRTYOM".to_vec()),
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut message = vec![tag];
            message.extend(bytes);
            let _ = Decoder::default().decode(&message);
        }
    }
}

//! The shape of a table: what the catalog says about it that decides whether its documents still agree with its rows.
//!
//! Some changes of a table send nothing through the stream. They all leave a trace here: kept durable, and compared with
//! the catalog again and again.

use super::Xid;
use serde::{Deserialize, Serialize};

/// The shape of one table when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape {
    /// `pg_class.oid`: another one means that the table was made anew.
    pub oid: u32,
    /// Columns by `attnum`, which a column keeps when it gets another name.
    pub attributes: Vec<Attribute>,
    /// `attnum` of the primary key's columns.
    pub primary_key: Vec<i16>,
    /// The relations that hold the rows: the table itself, or its partitions at every level.
    pub storage: Vec<Storage>,
    /// How the publications have the table: an entry ceases to be there when its changes ceased to be sent.
    pub publications: Vec<String>,
    /// Row filter of the publication.
    pub filter: Option<String>,
    /// Every transaction below it had ended when the shape was read.
    pub horizon: Xid,
}

impl TableShape {
    /// Does it say the same as `other`, whenever they were read?
    pub fn says_the_same(&self, other: &TableShape) -> bool {
        let same = |(a, b): (&Storage, &Storage)| Storage { origin: b.origin, ..a.clone() } == *b;
        self.oid == other.oid
            && self.attributes == other.attributes
            && self.primary_key == other.primary_key
            && self.publications == other.publications
            && self.filter == other.filter
            && self.storage.len() == other.storage.len()
            && self.storage.iter().zip(&other.storage).all(same)
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// `attnum`.
    pub number: i16,
    /// Name.
    pub name: String,
    /// Declared type.
    pub type_oid: u32,
    /// `format_type()` of it.
    pub sql_type: String,
    /// Is it sent?
    pub published: bool,
    /// Labels of an enum by `pg_enum.oid`, which a label keeps when it gets another text.
    pub labels: Vec<(u32, String)>,
}

/// A relation with rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Qualified name.
    pub name: String,
    /// `pg_class.relfilenode`: another one means that all rows were written anew, or removed.
    pub file: u32,
    /// The transactions that made it a partition, from its own parent up to the root; others when it came back.
    pub links: Vec<u32>,
    /// What is of use only while it is fresh.
    #[serde(skip)]
    pub origin: Origin,
}

/// Where a relation comes from; transaction ids are 32 bits wide, as catalog rows carry them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Origin {
    /// The transaction that changed its row of `pg_class` last: the one that gave it its file, or a later one.
    pub changed_by: u32,
    /// A partition that was made as one (`CREATE TABLE … PARTITION OF`, or both in one transaction): by this transaction.
    pub born_in: Option<u32>,
    /// The command of that transaction that made it, or what it belongs to, a partition.
    pub joined_at: u32,
}

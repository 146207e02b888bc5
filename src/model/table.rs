//! What the catalog says about a table.

use std::{collections::HashMap, fmt};

/// A table's qualified name, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Table.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl TableName {
    /// The name quoted for SQL: `"public"."events"`.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// Quotes an identifier for SQL (docs: "Identifiers and Key Words").
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string literal for SQL; right under `standard_conforming_strings` on and off, as the `E` form is used
/// where there is a backslash (docs: "String Constants").
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// The type of a column with domains resolved to their base type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// `pg_type.oid` of the base type.
    pub oid: u32,
    /// `atttypmod` (or the domain's `typtypmod`); -1 for none. For numeric it holds precision and scale.
    pub modifier: i32,
    /// What it is made of.
    pub structure: Structure,
}

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Nothing else: built-in and enumerated types, and whatever is only known by its text.
    Scalar,
    /// A base type that belongs to an extension, by its name (`pg_type.typname`): its oid differs between databases.
    Extension(String),
    /// An array.
    Array {
        /// Type of the elements.
        element: Box<ColumnType>,
        /// `pg_type.typdelim` of the element type: a comma nearly always, a semicolon for box.
        delimiter: u8,
    },
    /// A range over this type.
    Range(Box<ColumnType>),
    /// A multirange whose ranges are over this type.
    Multirange(Box<ColumnType>),
    /// A composite type: its attributes that are not dropped, in order.
    Composite(Vec<(String, ColumnType)>),
}

impl ColumnType {
    /// A type that is made of no others.
    pub fn scalar(oid: u32, modifier: i32) -> Self {
        ColumnType { oid, modifier, structure: Structure::Scalar }
    }

    /// An array of `element` with commas between the elements.
    pub fn array(oid: u32, modifier: i32, element: ColumnType) -> Self {
        let structure = Structure::Array { element: Box::new(element), delimiter: b',' };
        ColumnType { oid, modifier, structure }
    }

    /// Element type where the type is an array.
    pub fn element(&self) -> Option<&ColumnType> {
        match &self.structure {
            Structure::Array { element, .. } => Some(element),
            _ => None,
        }
    }

    /// The type with a column's own modifier; an array's belongs to its elements too (`numeric(10,2)[]`).
    #[must_use]
    pub fn with_modifier(mut self, modifier: i32) -> Self {
        if modifier >= 0 {
            self.modifier = modifier;
            if let Structure::Array { element, .. } = &mut self.structure {
                let scalar = ColumnType::scalar(0, -1);
                **element = std::mem::replace(&mut **element, scalar).with_modifier(modifier);
            }
        }
        self
    }
}

/// Types of the database that the table of types does not know, by oid: domains (as their base type), enums, ranges,
/// composites, types of extensions, arrays of them.
pub type TypeCatalog = HashMap<u32, ColumnType>;

/// A column that is published and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type, resolved.
    pub column_type: ColumnType,
    /// `format_type()` of the declared type, for casts in lookups by key.
    pub sql_type: String,
    /// Is the column declared NOT NULL?
    pub not_null: bool,
}

/// Which old columns UPDATE and DELETE send (docs: "ALTER TABLE … REPLICA IDENTITY").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The columns of the primary key or of the chosen index.
    Columns(Vec<String>),
    /// All columns.
    Full,
    /// None: UPDATE and DELETE cannot be published.
    Nothing,
}

/// A table as the catalog and its publication describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// `pg_class.oid`; the root's oid for a partitioned table.
    pub oid: u32,
    /// Name.
    pub name: TableName,
    /// Published columns in table order.
    pub columns: Vec<Column>,
    /// Columns of the primary key; empty where there is none.
    pub primary_key: Vec<String>,
    /// Replica identity.
    pub identity: ReplicaIdentity,
    /// Row filter of the publication as SQL, if it has one (PostgreSQL 15 and later).
    pub row_filter: Option<String>,
    /// Is it partitioned?
    pub partitioned: bool,
    /// Is the id unique only when a transaction ends? Two rows may then share it within one.
    pub deferrable_id: bool,
    /// `pg_class.reltuples`: the planner's estimate of the number of rows; below 0 where never analyzed.
    pub estimated_rows: i64,
}

impl TableSchema {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_literals_are_quoted_for_sql() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(TableName { schema: "S".into(), name: "t".into() }.quoted(), "\"S\".\"t\"");
    }
}

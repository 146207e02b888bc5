//! Types of the database: domains down to their base type, everything else down to what it is made of.

use super::query_error::{Doing, Result};
use crate::model::{ColumnType, Structure, TypeCatalog};
use std::collections::HashMap;
use tokio_postgres::Client;

/// The types of `$1` and all that they are made of. A true array type is one that its element names as `typarray`:
/// `int2vector` has elements too, but other text. Extensions may own any type; only base types are told apart by it.
const TYPES: &str = "
WITH RECURSIVE t AS (
  SELECT oid FROM pg_catalog.pg_type WHERE oid = ANY($1)
  UNION
  SELECT part.oid FROM t JOIN pg_catalog.pg_type o ON o.oid = t.oid, LATERAL (
    SELECT pg_catalog.unnest(ARRAY[o.typbasetype, o.typelem])
    UNION SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE o.oid IN (r.rngtypid, r.rngmultitypid)
    UNION SELECT a.atttypid FROM pg_catalog.pg_attribute a
           WHERE o.typtype = 'c' AND a.attrelid = o.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ) part(oid) WHERE part.oid <> 0
)
SELECT o.oid, o.typtype::pg_catalog.text, o.typbasetype, o.typtypmod, e.oid, e.typdelim::pg_catalog.text, r.rngsubtype,
       CASE WHEN o.typtype = 'b' AND EXISTS (SELECT FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = o.oid AND d.deptype = 'e')
            THEN o.typname::pg_catalog.text END,
       a.names, a.types, a.modifiers
  FROM t JOIN pg_catalog.pg_type o ON o.oid = t.oid
  LEFT JOIN pg_catalog.pg_type e ON e.oid = o.typelem AND e.typarray = o.oid
  LEFT JOIN pg_catalog.pg_range r ON o.oid IN (r.rngtypid, r.rngmultitypid)
  LEFT JOIN LATERAL (
    SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum), pg_catalog.array_agg(a.atttypid ORDER BY a.attnum),
           pg_catalog.array_agg(a.atttypmod ORDER BY a.attnum)
      FROM pg_catalog.pg_attribute a
     WHERE o.typtype = 'c' AND a.attrelid = o.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ) a(names, types, modifiers) ON true";

/// Composites nest as deep as their definitions do and share parts, so a tree of them can be larger than memory. What is
/// deeper or more than this is known by its text only.
const DEEPEST: usize = 30;
const MOST_PARTS: usize = 20_000;

/// One row of `pg_type`, as far as it matters here.
enum TypeRow {
    Domain { base: u32, modifier: i32 },
    Array { element: u32, delimiter: u8 },
    Range { subtype: u32 },
    Multirange { subtype: u32 },
    Composite(Vec<(String, u32, i32)>),
    Extension(String),
    Scalar,
}

impl TypeRow {
    fn of(row: &tokio_postgres::Row) -> TypeRow {
        let (element, delimiter): (Option<u32>, Option<String>) = (row.get(4), row.get(5));
        let delimiter = delimiter.and_then(|d| d.bytes().next()).unwrap_or(b',');
        let (subtype, extension): (Option<u32>, Option<String>) = (row.get(6), row.get(7));
        match (row.get::<_, String>(1).as_str(), element, subtype, extension) {
            ("d", ..) => TypeRow::Domain { base: row.get(2), modifier: row.get(3) },
            ("r", _, Some(subtype), _) => TypeRow::Range { subtype },
            ("m", _, Some(subtype), _) => TypeRow::Multirange { subtype },
            ("c", ..) => TypeRow::Composite(attributes(row.get(8), row.get(9), row.get(10))),
            (_, Some(element), ..) => TypeRow::Array { element, delimiter },
            (.., Some(name)) => TypeRow::Extension(name),
            _ => TypeRow::Scalar,
        }
    }
}

/// A composite type without attributes has NULL for all three.
fn attributes(
    names: Option<Vec<String>>,
    types: Option<Vec<u32>>,
    modifiers: Option<Vec<i32>>,
) -> Vec<(String, u32, i32)> {
    let (names, types) = (names.unwrap_or_default(), types.unwrap_or_default());
    names.into_iter().zip(types).zip(modifiers.unwrap_or_default()).map(|((n, t), m)| (n, t, m)).collect()
}

/// Resolves types by oid (docs: "pg_type", "pg_range", "pg_attribute"): a domain becomes its base type with the domain's
/// modifier, anything else gets its parts, to any depth that occurs. An oid that does not exist is left out.
pub async fn load_types(client: &Client, oids: &[u32]) -> Result<TypeCatalog> {
    let rows = client.query(TYPES, &[&oids]).await.doing(|| "reading pg_type".into())?;
    let types: HashMap<u32, TypeRow> = rows.iter().map(|r| (r.get(0), TypeRow::of(r))).collect();
    let known = oids.iter().filter(|oid| types.contains_key(oid));
    Ok(known.map(|oid| (*oid, resolve(&types, *oid, -1, DEEPEST, &mut { MOST_PARTS }))).collect())
}

fn resolve(
    types: &HashMap<u32, TypeRow>,
    oid: u32,
    modifier: i32,
    depth: usize,
    parts: &mut usize,
) -> ColumnType {
    if depth == 0 || *parts == 0 {
        return ColumnType::scalar(oid, modifier);
    }
    *parts -= 1;
    let mut part = |oid, modifier| Box::new(resolve(types, oid, modifier, depth - 1, parts));
    let structure = match types.get(&oid) {
        Some(TypeRow::Domain { base, modifier }) => return *part(*base, *modifier),
        Some(TypeRow::Array { element, delimiter }) => {
            Structure::Array { element: part(*element, modifier), delimiter: *delimiter }
        }
        Some(TypeRow::Range { subtype }) => Structure::Range(part(*subtype, -1)),
        Some(TypeRow::Multirange { subtype }) => Structure::Multirange(part(*subtype, -1)),
        Some(TypeRow::Composite(attributes)) => Structure::Composite(
            attributes.iter().map(|(name, oid, modifier)| (name.clone(), *part(*oid, *modifier))).collect(),
        ),
        Some(TypeRow::Extension(name)) => Structure::Extension(name.clone()),
        Some(TypeRow::Scalar) | None => Structure::Scalar,
    };
    ColumnType { oid, modifier, structure }
}

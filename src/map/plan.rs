//! How the rows of one table become ids and documents: made once per definition of the table, used for every row,
//! whether it comes from the stream, a window or a lookup.

use super::{
    document::{self, Field, Refusal},
    id::{self, KeyColumn, MissingKey},
    spark::{self, SparkId},
    types::{self, Encoding},
};
use crate::{
    config::{Documents, IdForm, Spark},
    model::{Cell, ColumnType, Row, TableSchema, Value},
};

/// What the configuration and the catalog decided about a table, whatever its columns are at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSpec {
    /// Key columns of the id, in order.
    pub id: Vec<String>,
    /// Form of the id.
    pub id_form: IdForm,
    /// Columns that are left out of the document.
    pub exclude: Vec<String>,
    /// Field names of columns that do not keep their own.
    pub rename: Vec<(String, String)>,
    /// Form of the documents.
    pub documents: Documents,
    /// The job whose ids or documents are reproduced.
    pub spark: Spark,
}

impl TableSpec {
    /// The field of column `name`; `None` where it is left out.
    pub fn field_name<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        if self.exclude.iter().any(|e| e == name) {
            return None;
        }
        Some(self.rename.iter().find(|(from, _)| from == name).map_or(name, |(_, to)| to))
    }
}

/// A definition of the table that gives no ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("id column {0} is not among the published columns of the table")]
pub struct MissingIdColumn(pub String);

/// The plan of one definition of a table.
#[derive(Debug, Clone)]
pub struct TablePlan {
    oid: u32,
    fields: Vec<Field>,
    key: Vec<KeyColumn>,
    id_form: IdForm,
    /// How Spark's forms of the id are made.
    spark_id: Option<SparkId>,
}

/// Reusable buffers of one row's id.
#[derive(Debug, Default)]
pub struct IdBuffers {
    /// The plain id: what ordinals are counted by and keys are found again by.
    pub plain: Vec<u8>,
    /// The document id.
    pub id: Vec<u8>,
}

impl TablePlan {
    /// The plan for rows whose cells stand for `columns`, in this order.
    ///
    /// # Errors
    /// An id column that is not there.
    pub fn new(
        spec: &TableSpec,
        oid: u32,
        columns: &[(String, ColumnType)],
    ) -> Result<Self, MissingIdColumn> {
        let fields = columns
            .iter()
            .enumerate()
            .filter_map(|(i, (name, ty))| {
                let field = spec.field_name(name)?;
                Some(match spec.documents {
                    Documents::Plain => Field::new(i, field, ty),
                    Documents::Spark => {
                        Field::encoded(i, field, spark::encoding(&spec.spark, name, ty), false)
                    }
                })
            })
            .collect();
        let key = spec
            .id
            .iter()
            .map(|name| {
                let column = columns.iter().position(|(c, _)| c == name);
                let column = column.ok_or_else(|| MissingIdColumn(name.clone()))?;
                let boolean = types::encoding(&columns[column].1) == Encoding::Boolean;
                Ok(KeyColumn { column, boolean })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let spark_id = matches!(spec.id_form, IdForm::Spark | IdForm::SparkMd5).then(|| {
            let types: Vec<&ColumnType> = key.iter().map(|k: &KeyColumn| &columns[k.column].1).collect();
            spark::id(&spec.spark, &types)
        });
        Ok(TablePlan { oid, fields, key, id_form: spec.id_form, spark_id })
    }

    /// The plan for rows that are read with all columns of `schema`, in order: windows and lookups.
    ///
    /// # Errors
    /// An id column that is not there.
    pub fn of_schema(spec: &TableSpec, schema: &TableSchema) -> Result<Self, MissingIdColumn> {
        let columns: Vec<_> =
            schema.columns.iter().map(|c| (c.name.clone(), c.column_type.clone())).collect();
        TablePlan::new(spec, schema.oid, &columns)
    }

    /// `pg_class.oid` of the table, or of its root.
    pub fn oid(&self) -> u32 {
        self.oid
    }

    /// Fills `buffers` with the ids of `row`.
    ///
    /// # Errors
    /// A key value that the stream did not send.
    pub fn write_id(&self, row: &Row<'_>, buffers: &mut IdBuffers) -> Result<(), MissingKey> {
        buffers.plain.clear();
        id::write_plain(&self.key, row, &mut buffers.plain)?;
        let only_null =
            self.spark_id.is_some() && self.key.iter().all(|k| row.value(k.column) == Value::Null);
        self.make_id(&buffers.plain, only_null, &mut buffers.id);
        Ok(())
    }

    /// Fills `id` with the document id that belongs to a plain one.
    pub fn id_of_plain(&self, plain: &[u8], id: &mut Vec<u8>) {
        let only_null = self.spark_id.as_ref().is_some_and(|spark| spark.is_only_null(plain));
        self.make_id(plain, only_null, id);
    }

    fn make_id(&self, plain: &[u8], only_null: bool, id: &mut Vec<u8>) {
        id.clear();
        match &self.spark_id {
            Some(_) if only_null => {}
            Some(spark) => spark.write(plain, id),
            None => id.extend_from_slice(plain),
        }
        match self.id_form {
            IdForm::Md5 | IdForm::SparkMd5 => id::replace_by_md5(id, 0),
            IdForm::Spark => id::replace_invalid(id),
            IdForm::Plain => {}
        }
        id::replace_unfit(id, 0);
    }

    /// Key column values of `row`, for a lookup.
    pub fn key_values(&self, row: &Row<'_>) -> Vec<Option<String>> {
        let text = |c: &KeyColumn| match row.value(c.column) {
            Value::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            Value::Null | Value::Unchanged => None,
        };
        self.key.iter().map(text).collect()
    }

    /// Is a value of the document missing from `row`, so that it must be looked up?
    pub fn is_incomplete(&self, row: &Row<'_>) -> bool {
        self.fields.iter().any(|f| row.value(f.column) == Value::Unchanged)
    }

    /// Appends the document of `row` and returns how many values JSON has no form for.
    ///
    /// # Errors
    /// No document that OpenSearch could take.
    pub fn write_document(&self, row: &Row<'_>, out: &mut Vec<u8>) -> Result<u32, Refusal> {
        document::write_document(&self.fields, row, out)
    }

    /// Appends the document of `row` if it has one of at most `most` bytes; returns the number of values left out.
    ///
    /// # Errors
    /// The reason why the row becomes a dead letter; `out` holds what was made of it.
    pub fn write_fitting_document(
        &self,
        row: &Row<'_>,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Result<u32, String> {
        let start = out.len();
        let omitted = self.write_document(row, out).map_err(|refusal| refusal.to_string())?;
        let bytes = out.len() - start;
        if bytes > most {
            return Err(format!("the document has {bytes} bytes; bulk.max_document_bytes is {most}"));
        }
        Ok(omitted)
    }

    /// Takes key values that `new` lacks from `old`, and under identity FULL every unchanged value (both rows lie in
    /// the bytes of one message).
    pub fn complete(&self, new: &Row<'_>, old: &Row<'_>, old_is_full: bool, cells: &mut Vec<Cell>) {
        cells.clear();
        cells.extend_from_slice(new.cells);
        for (i, cell) in cells.iter_mut().enumerate() {
            let is_key = self.key.iter().any(|k| k.column == i);
            if *cell == Cell::Unchanged && (old_is_full || is_key) {
                *cell = old.cells.get(i).copied().unwrap_or(Cell::Null);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(id_form: IdForm) -> TablePlan {
        let spec = TableSpec {
            id: vec!["b".into(), "a".into()],
            id_form,
            exclude: vec!["secret".into()],
            rename: vec![("v".into(), "@v".into())],
            documents: Documents::Plain,
            spark: Spark::default(),
        };
        let columns = [("a", 23), ("b", 16), ("v", 25), ("secret", 25)]
            .map(|(n, oid)| (n.to_owned(), ColumnType::scalar(oid, -1)));
        TablePlan::new(&spec, 1, &columns).unwrap()
    }

    const CELLS: [Cell; 4] = [
        Cell::Text { start: 0, end: 1 },
        Cell::Text { start: 1, end: 2 },
        Cell::Text { start: 2, end: 3 },
        Cell::Unchanged,
    ];

    #[test]
    fn id_and_document_follow_the_configuration() {
        let row = Row { bytes: b"7tx", cells: &CELLS };
        let (mut ids, mut out) = (IdBuffers::default(), vec![]);
        let plain = plan(IdForm::Plain);
        plain.write_id(&row, &mut ids).unwrap();
        assert_eq!((ids.plain.as_slice(), ids.id.as_slice()), (&b"true|7"[..], &b"true|7"[..]));
        plain.write_document(&row, &mut out).unwrap();
        assert_eq!(out, br#"{"a":7,"b":true,"@v":"x"}"#);
        assert!(!plain.is_incomplete(&row), "a column that is left out may be missing");
        assert_eq!(plain.key_values(&row), [Some("t".to_owned()), Some("7".to_owned())]);
        plan(IdForm::Md5).write_id(&row, &mut ids).unwrap();
        assert_eq!((ids.plain.as_slice(), ids.id.len()), (&b"true|7"[..], 32));
    }

    #[test]
    fn an_old_row_completes_the_new_one() {
        let new = Row { bytes: b"7tx8", cells: &[Cell::Unchanged, CELLS[1], Cell::Unchanged, Cell::Null] };
        let old = Row { bytes: b"7tx8", cells: &CELLS };
        let mut cells = vec![];
        let plan = plan(IdForm::Plain);
        plan.complete(&new, &old, false, &mut cells);
        assert_eq!(cells, [CELLS[0], CELLS[1], Cell::Unchanged, Cell::Null]);
        plan.complete(&new, &old, true, &mut cells);
        assert_eq!(cells, [CELLS[0], CELLS[1], CELLS[2], Cell::Null]);
    }

    #[test]
    fn a_missing_id_column_is_named() {
        let spec = TableSpec {
            id: vec!["x".into()],
            id_form: IdForm::Plain,
            exclude: vec![],
            rename: vec![],
            documents: Documents::Plain,
            spark: Spark::default(),
        };
        assert_eq!(TablePlan::new(&spec, 1, &[]).unwrap_err(), MissingIdColumn("x".into()));
    }
}

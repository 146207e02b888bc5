//! How the rows of one table become ids and documents: made once per definition of the table, used for every row,
//! whether it comes from the stream, a window or a lookup.

use super::{
    document::{self, Field, Refusal},
    id::{self, KeyColumn, MissingKey},
    overrides,
    spark::{self, SparkId},
    types::{self, Encoding},
};
use crate::{
    config::{Documents, IdForm, Spark},
    model::{ColumnType, Row, TableSchema, Value},
};
use std::str::Utf8Error;

/// What the configuration and the catalog decided about a table, whatever its columns are at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableSpec {
    /// Key columns of the id, in order.
    pub id: Vec<String>,
    /// Form of the id.
    pub id_form: IdForm,
    /// Columns that are left out of the document.
    pub exclude: Vec<String>,
    /// Field names of columns that do not keep their own.
    pub rename: Vec<(String, String)>,
    /// Column whose value routes the document to its shard.
    pub routing: Option<String>,
    /// Fields that `mapping` makes geo_points.
    pub geo_points: Vec<String>,
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

    /// The columns that every action needs: those of the id, and the one it is routed by.
    pub fn key_columns(&self) -> impl Iterator<Item = &String> {
        self.id.iter().chain(&self.routing)
    }

    fn field(&self, column: usize, name: &str, field: &str, column_type: &ColumnType) -> Field {
        let is_plain = self.documents == Documents::Plain;
        let encoding = if self.geo_points.iter().any(|f| f == field) {
            overrides::geo_point(column_type)
        } else if is_plain {
            types::encoding(column_type)
        } else {
            spark::encoding(&self.spark, name, column_type)
        };
        Field::new(column, field, encoding)
    }
}

/// A definition of the table that gives no ids, or no routing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {0} of `id` or `routing` is not among the published columns of the table")]
pub struct MissingIdColumn(pub String);

/// The plan of one definition of a table.
#[derive(Debug, Clone)]
pub struct TablePlan {
    oid: u32,
    fields: Vec<Field>,
    key: Vec<KeyColumn>,
    routing: Option<KeyColumn>,
    id_form: IdForm,
    /// How Spark's forms of the id are made.
    spark_id: Option<SparkId>,
}

/// Reusable buffers of where one row's document is.
#[derive(Debug, Default)]
pub struct IdBuffers {
    /// The plain id: what ordinals are counted by and keys are found again by.
    pub plain: Vec<u8>,
    /// The document id.
    pub id: Vec<u8>,
    /// What routes the document to its shard; empty for its id.
    pub routing: Vec<u8>,
}

impl TablePlan {
    /// The plan for rows whose cells stand for `columns`, in this order.
    ///
    /// # Errors
    /// An id or routing column that is not there.
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
                Some(spec.field(i, name, field, ty))
            })
            .collect();
        let key_column = |name: &String| {
            let column = columns.iter().position(|(c, _)| c == name);
            let column = column.ok_or_else(|| MissingIdColumn(name.clone()))?;
            let boolean = types::encoding(&columns[column].1) == Encoding::Boolean;
            Ok(KeyColumn { column, boolean })
        };
        let key = spec.id.iter().map(key_column).collect::<Result<Vec<_>, _>>()?;
        let routing = spec.routing.as_ref().map(key_column).transpose()?;
        let spark_id = matches!(spec.id_form, IdForm::Spark | IdForm::SparkMd5).then(|| {
            let types: Vec<&ColumnType> = key.iter().map(|k: &KeyColumn| &columns[k.column].1).collect();
            spark::id(&spec.spark, &types)
        });
        Ok(TablePlan { oid, fields, key, routing, id_form: spec.id_form, spark_id })
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

    /// Fills `buffers` with the ids and the routing of `row`.
    ///
    /// # Errors
    /// A key value that the stream did not send; the routing counts as the last.
    pub fn write_id(&self, row: &Row<'_>, buffers: &mut IdBuffers) -> Result<(), MissingKey> {
        buffers.plain.clear();
        id::write_plain(&self.key, row, &mut buffers.plain)?;
        let only_null =
            self.spark_id.is_some() && self.key.iter().all(|k| row.value(k.column) == Value::Null);
        self.make_id(&buffers.plain, only_null, &mut buffers.id);
        buffers.routing.clear();
        match &self.routing {
            Some(column) => id::write_routing(column, row, &mut buffers.routing)
                .map_err(|_| MissingKey { position: self.key.len() }),
            None => Ok(()),
        }
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
    ///
    /// # Errors
    /// A value that no SQL text can hold.
    pub fn key_values(&self, row: &Row<'_>) -> Result<Vec<Option<String>>, Utf8Error> {
        let text = |c: &KeyColumn| match row.value(c.column) {
            Value::Text(text) => std::str::from_utf8(text).map(|text| Some(text.to_owned())),
            Value::Null | Value::Unchanged => Ok(None),
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
        let document = out.get(start..).unwrap_or_default();
        if document.len() > most {
            let bytes = document.len();
            return Err(format!("the document has {bytes} bytes; bulk.max_document_bytes is {most}"));
        }
        if simdutf8::basic::from_utf8(document).is_err() {
            return Err(format!(
                "{} is not UTF-8, which a database of encoding SQL_ASCII lets in; correct the value in the row",
                self.not_utf8(row)
            ));
        }
        Ok(omitted)
    }

    fn not_utf8(&self, row: &Row<'_>) -> String {
        let fields = self.fields.iter().filter(
            |f| matches!(row.value(f.column), Value::Text(text) if std::str::from_utf8(text).is_err()),
        );
        let names: Vec<&str> = fields.map(|f| f.name.as_str()).collect();
        format!("the text of {}", names.join(", "))
    }

    /// The first key column that is NULL in `row`, by its position in the key.
    pub fn null_key(&self, row: &Row<'_>) -> Option<usize> {
        self.key.iter().position(|c| row.value(c.column) == Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cell;

    fn plan(id_form: IdForm) -> TablePlan {
        let spec = TableSpec {
            id: vec!["b".into(), "a".into()],
            id_form,
            exclude: vec!["secret".into()],
            rename: vec![("v".into(), "@v".into())],
            ..TableSpec::default()
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
        assert_eq!(plain.key_values(&row).unwrap(), [Some("t".to_owned()), Some("7".to_owned())]);
        plan(IdForm::Md5).write_id(&row, &mut ids).unwrap();
        assert_eq!((ids.plain.as_slice(), ids.id.len()), (&b"true|7"[..], 32));
    }

    #[test]
    fn text_that_is_not_utf_8_makes_no_document_and_no_key() {
        let (plan, mut ids, mut out) = (plan(IdForm::Plain), IdBuffers::default(), b"before".to_vec());
        let row = Row { bytes: b"7t\xe4", cells: &CELLS };
        let reason = plan.write_fitting_document(&row, 100, &mut out).unwrap_err();
        assert!(reason.starts_with("the text of @v is not UTF-8"), "{reason}");
        assert!(plan.key_values(&row).is_ok());
        let row = Row { bytes: b"\xe4tx", cells: &CELLS };
        assert!(plan.key_values(&row).is_err());
        plan.write_id(&row, &mut ids).unwrap();
        assert_eq!(ids.id.len(), 64, "a digest takes the place of an id that is no text");
    }

    #[test]
    fn a_missing_id_column_is_named() {
        let spec = TableSpec { id: vec!["x".into()], ..TableSpec::default() };
        assert_eq!(TablePlan::new(&spec, 1, &[]).unwrap_err(), MissingIdColumn("x".into()));
    }
}

//! Validates the entries of `tables`, each by itself and against each other.

use super::{
    Bound, IdForm, Table, Window, WindowStep, names,
    raw::{End, IdColumns, Raw},
    raw_table,
    validate::Findings,
};
use std::collections::HashMap;

/// Days of a window that says nothing.
const DAYS: u64 = 30;

/// The tables that are well formed; their derived defaults are written back.
pub(super) fn validate(v: &mut Findings, raw: &mut Raw) -> Vec<Table> {
    if raw.tables.is_empty() {
        v.add("tables", "is missing or empty", "list at least one table: - table: public.events (--table)");
    }
    let mut tables = Vec::new();
    for (i, entry) in raw.tables.iter_mut().enumerate() {
        tables.extend(table(v, format!("tables[{i}]"), entry));
    }
    let mut names = HashMap::new();
    let mut indices = HashMap::from([
        (raw.opensearch.state_index.clone(), "opensearch.state_index".to_owned()),
        (raw.opensearch.dead_letter_index.clone(), "opensearch.dead_letter_index".to_owned()),
    ]);
    for table in &tables {
        let place = &table.place;
        if let Some(first) = names.insert((&table.schema, &table.name), place) {
            let what = format!("{}.{} is also {first}", table.schema, table.name);
            v.add(format!("{place}.table"), what, "keep one of the two entries");
        }
        let index = format!("{place}.index");
        if let Some(first) = indices.insert(table.index.clone(), index.clone()) {
            let what = format!("{:?} is also the index of {first}", table.index);
            v.add(&index, what, format!("set {index} to another name: an index has one source"));
        }
    }
    tables
}

fn table(v: &mut Findings, place: String, raw: &mut raw_table::Table) -> Option<Table> {
    let at = |key: &str| format!("{place}.{key}");
    let id = match &raw.id {
        Some(IdColumns::Columns(columns)) => Some(columns.list()),
        _ => None,
    };
    if let Some(id) = &id {
        columns(v, &at("id"), id);
        if id.is_empty() {
            v.add(at("id"), "is an empty list", "name columns, or leave it out for the primary key");
        }
    } else if raw.id_unique.is_some() {
        v.add(at("id_unique"), "asserts nothing without id", "name the id columns, or leave it out");
    }
    let window = raw.window.as_mut().and_then(|raw| window(v, &at("window"), raw));
    columns(v, &at("columns.exclude"), &raw.columns.exclude);
    rename(v, &at("columns.rename"), &raw.columns);
    if raw.filter.as_ref().is_some_and(|filter| filter.trim().is_empty()) {
        v.add(at("where"), "is empty", "write a condition, or leave it out");
    }
    let name = match raw.table.as_deref() {
        Some(name) => names::table_name(name).map_err(|(what, cure)| v.add(at("table"), what, cure)).ok(),
        None if raw.query.is_some() => None,
        None => {
            v.add(at("table"), "is missing", "name the table: schema.table");
            None
        }
    };
    let derived = raw.index.is_none();
    if raw.index.is_none() {
        raw.index = name.as_ref().map(|(_, table)| table.to_lowercase());
    }
    let index = raw.index.clone().unwrap_or_default();
    if !derived || name.is_some() {
        v.fine(
            &at("index"),
            names::index_name(&index),
            &format!("set {} to a name OpenSearch takes", at("index")),
        );
    }
    let (schema, name) = name?;
    Some(Table {
        schema,
        name,
        index,
        id,
        id_form: if matches!(raw.id_form, raw_table::IdForm::Md5) { IdForm::Md5 } else { IdForm::Plain },
        id_unique_asserted: raw.id_unique.is_some(),
        window,
        exclude_columns: raw.columns.exclude.clone(),
        rename: raw.columns.rename.clone().into_iter().collect(),
        filter: raw.filter.clone(),
        settings: raw.settings.clone(),
        mapping: raw.mapping.clone(),
        on_schema_change: raw.on_schema_change,
        on_truncate: raw.on_truncate,
        place,
    })
}

/// Column names: none empty, none twice.
fn columns(v: &mut Findings, place: &str, columns: &[String]) {
    for (i, column) in columns.iter().enumerate() {
        if column.is_empty() {
            v.add(place, "has an empty column name", "name the column");
        } else if columns[..i].contains(column) {
            v.add(place, format!("names {column:?} twice"), "name it once");
        }
    }
}

fn rename(v: &mut Findings, place: &str, columns: &raw_table::Columns) {
    let mut fields = HashMap::new();
    for (column, field) in &columns.rename {
        v.fine(place, names::field_name(field), "choose another field name");
        if let Some(other) = fields.insert(field, column) {
            let what = format!("gives {other:?} and {column:?} the same field {field:?}");
            v.add(place, what, "give each its own");
        }
        if columns.exclude.contains(column) {
            v.add(place, format!("renames {column:?}, which is left out"), "take it out of one of the two");
        }
    }
}

fn window(v: &mut Findings, place: &str, raw: &mut raw_table::Window) -> Option<Window> {
    let column = raw.column.clone().filter(|column| !column.is_empty());
    if column.is_none() {
        v.add(format!("{place}.column"), "is missing", "name a date, timestamp or integer column");
    }
    if raw.days.is_none() && raw.rows.is_none() {
        raw.days = Some(DAYS);
    }
    let step = match (raw.days, raw.rows) {
        (Some(_), Some(_)) => {
            v.add(place, "has both days and rows", "keep days for dates, or rows for integers");
            None
        }
        (_, Some(rows)) => (rows > 0).then_some(WindowStep::Rows(rows)).or_else(|| {
            v.add(format!("{place}.rows"), "0 is out of range", "say 1 or more");
            None
        }),
        (days, None) => {
            let days = days.unwrap_or(DAYS);
            // A century is one window for practical purposes, and keeps date arithmetic in range.
            let fitting = u32::try_from(days).ok().filter(|days| (1..=36_525).contains(days));
            let checked = fitting.map(WindowStep::Days).ok_or(format!("{days} is out of range"));
            v.fine(&format!("{place}.days"), checked, "say 1 to 36525")
        }
    };
    let from = bound(v, &format!("{place}.from"), raw.from.as_ref(), step);
    let to = bound(v, &format!("{place}.to"), raw.to.as_ref(), step);
    let reversed = match (&from, &to) {
        (Some(Bound::Id(from)), Some(Bound::Id(to))) => from >= to,
        (Some(Bound::Today(from)), Some(Bound::Today(to))) => from >= to,
        // Plain dates of equal length compare as text.
        (Some(Bound::Time(from)), Some(Bound::Time(to))) => from.len() == 10 && to.len() == 10 && from >= to,
        _ => false,
    };
    if reversed {
        v.add(format!("{place}.to"), "is not after from", "to is exclusive: give a later end");
    }
    let text = |end: &Option<End>| {
        end.as_ref().map(|end| match end {
            End::Number(number) => number.to_string(),
            End::Text(text) => text.trim().to_owned(),
        })
    };
    Some(Window { column: column?, step: step?, from: text(&raw.from), to: text(&raw.to) })
}

fn bound(v: &mut Findings, place: &str, end: Option<&End>, step: Option<WindowStep>) -> Option<Bound> {
    let parsed = match end? {
        End::Number(number) => Ok(Bound::Id(*number)),
        End::Text(text) => Bound::parse(text),
    };
    let bound = v.fine(place, parsed, "write one of these")?;
    match (&bound, step) {
        (Bound::Id(id), Some(WindowStep::Days(_))) => {
            v.add(
                place,
                format!("{id} is an id, but the windows are days"),
                "give a date, or rows instead of days",
            );
        }
        (Bound::Time(_) | Bound::Today(_), Some(WindowStep::Rows(_))) => {
            v.add(
                place,
                "is a date, but the windows are ranges of ids",
                "give an id, or days instead of rows",
            );
        }
        _ => {}
    }
    Some(bound)
}

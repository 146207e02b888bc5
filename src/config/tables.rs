//! Validates the entries of `tables`, each by itself and against each other.

use super::{
    Bound, Documents, IdForm, Table, TablePattern, Wildcard, Window, WindowStep, names,
    pattern::is_wildcard,
    raw::{End, IdColumns, Raw},
    raw_table, spark,
    validate::Findings,
};
use std::collections::HashMap;

/// Days of a window that says nothing.
const DAYS: u64 = 30;

/// What an entry is about.
enum Entry {
    Table(Table),
    Wildcard(Wildcard),
}

/// The entries that are well formed; their derived defaults are written back.
pub(super) fn validate(v: &mut Findings, raw: &mut Raw) -> (Vec<Table>, Vec<Wildcard>) {
    if raw.tables.is_empty() {
        v.add("tables", "is missing or empty", "list at least one table: - table: public.events (--table)");
    }
    let (mut tables, mut wildcards) = (Vec::new(), Vec::new());
    for (i, raw) in raw.tables.iter_mut().enumerate() {
        match entry(v, format!("tables[{i}]"), raw) {
            Some(Entry::Table(table)) => tables.push(table),
            Some(Entry::Wildcard(wildcard)) => wildcards.push(wildcard),
            None => {}
        }
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
    (tables, wildcards)
}

fn entry(v: &mut Findings, place: String, raw: &mut raw_table::Table) -> Option<Entry> {
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
    for (key, text, cure) in [
        ("where", &raw.filter, "write a condition, or leave it out"),
        ("routing", &raw.routing, "name a column, or leave it out"),
    ] {
        if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            v.add(at(key), "is empty", cure);
        }
    }
    let spark = spark::validate(v, &place, raw);
    for (field, given) in &raw.mapping {
        if !given.is_string() && !given.is_object() {
            let cure = "give a type, as keyword, or a field mapping, as { type: keyword }";
            v.add(at(&format!("mapping.{field}")), "is neither a type nor a field mapping", cure);
        }
    }
    let typed = raw.table.clone();
    let wildcard = typed.filter(|name| is_wildcard(name));
    let (schema, name) = match (raw.table.as_deref(), &wildcard) {
        (Some(_), Some(_)) => Default::default(),
        (Some(name), None) => {
            let read = names::table_name(name).map_err(|(what, cure)| v.add(at("table"), what, cure));
            read.unwrap_or_default()
        }
        (None, _) => {
            if raw.query.is_none() {
                v.add(at("table"), "is missing", "name the table: schema.table");
            }
            Default::default()
        }
    };
    if wildcard.is_some() && raw.index.is_some() {
        let cure = "leave it out, or give the table an entry of its own with its index";
        v.add(at("index"), "belongs to one table, and the entry stands for many", cure);
    } else if wildcard.is_none() {
        index(v, &at("index"), &name, &mut raw.index);
    }
    let table = Table {
        place: place.clone(),
        schema,
        name,
        wildcard: wildcard.clone(),
        index: raw.index.clone().unwrap_or_default(),
        id,
        id_form: id_form(raw.id_form),
        id_unique_asserted: raw.id_unique.is_some(),
        window,
        exclude_columns: raw.columns.exclude.clone(),
        rename: raw.columns.rename.clone().into_iter().collect(),
        filter: raw.filter.clone(),
        routing: raw.routing.clone(),
        append_only: raw.append_only,
        settings: raw.settings.clone(),
        mapping: raw.mapping.clone(),
        on_truncate: raw.on_truncate,
        on_schema_change: raw.on_schema_change,
        documents: documents(&raw.documents),
        spark,
    };
    let excluded = raw.exclude.as_deref().unwrap_or_default();
    match wildcard {
        None if raw.exclude.is_some() => {
            let cure = "leave it out; columns are left out by columns.exclude";
            v.add(at("exclude"), "belongs to a table with *", cure);
            None
        }
        None => (!table.name.is_empty()).then_some(Entry::Table(table)),
        Some(text) => {
            let tables = pattern(v, &at("table"), &text);
            let place = at("exclude");
            let exclude: Vec<_> = excluded.iter().map(|text| pattern(v, &place, text)).collect();
            let exclude = exclude.into_iter().collect::<Option<_>>()?;
            Some(Entry::Wildcard(Wildcard { tables: tables?, exclude, settings: table }))
        }
    }
}

fn pattern(v: &mut Findings, place: &str, text: &str) -> Option<TablePattern> {
    TablePattern::parse(text).map_err(|(what, cure)| v.add(place, what, cure)).ok()
}

/// Derives the index of table `name` where none is given, and checks it.
fn index(v: &mut Findings, place: &str, name: &str, raw: &mut Option<String>) {
    if raw.is_none() && !name.is_empty() {
        *raw = Some(name.to_lowercase());
    }
    if let Some(index) = raw {
        v.fine(place, names::index_name(index), &format!("set {place} to a name OpenSearch takes"));
    }
}

fn id_form(raw: raw_table::IdForm) -> IdForm {
    match raw {
        raw_table::IdForm::Plain => IdForm::Plain,
        raw_table::IdForm::Md5 => IdForm::Md5,
        raw_table::IdForm::Spark => IdForm::Spark,
        raw_table::IdForm::SparkMd5 => IdForm::SparkMd5,
    }
}

fn documents(raw: &raw_table::Documents) -> Documents {
    match raw {
        raw_table::Documents::Plain => Documents::Plain,
        raw_table::Documents::Spark => Documents::Spark,
    }
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

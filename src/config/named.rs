//! Columns that the configuration names, against those that the tables have. A name that is misspelt, or that a column
//! had before it was renamed, must not be passed over: it may be the one that is to be left out.

use super::{
    Table,
    problem::{Problem, one_of},
};

/// A table as the catalog describes it.
#[derive(Debug)]
pub struct TableColumns<'a> {
    /// Its configuration.
    pub table: &'a Table,
    /// All of its columns.
    pub all: Vec<String>,
    /// Those that are published.
    pub published: Vec<String>,
}

impl TableColumns<'_> {
    fn fields(&self) -> impl Iterator<Item = &String> {
        let Table { exclude_columns, rename, .. } = self.table;
        let renamed = |column| rename.iter().find(|(from, _)| from == column).map_or(column, |(_, to)| to);
        self.published.iter().filter(|column| !exclude_columns.contains(column)).map(renamed)
    }
}

/// Columns of `columns.exclude` and `columns.rename`, and fields of `mapping`, that no table of their entry has.
pub fn unknown_columns(tables: &[TableColumns<'_>]) -> Vec<Problem> {
    let mut problems = vec![];
    let mut places: Vec<&str> = tables.iter().map(|t| t.table.place.as_str()).collect();
    places.dedup();
    for place in places {
        let entry: Vec<_> = tables.iter().filter(|t| t.table.place == place).collect();
        let Some(table) = entry.first().map(|t| t.table) else { continue };
        let columns: Vec<&String> = entry.iter().flat_map(|t| &t.all).collect();
        let fields: Vec<&String> = entry.iter().flat_map(|t| t.fields()).collect();
        let named = [
            ("columns.exclude", table.exclude_columns.iter().collect::<Vec<_>>(), "column", &columns),
            ("columns.rename", table.rename.iter().map(|(from, _)| from).collect(), "column", &columns),
            ("mapping", table.mapping.keys().collect(), "field", &fields),
        ];
        for (key, names, kind, known) in named {
            for name in names.into_iter().filter(|name| !known.contains(name)) {
                let what = format!("there is no {kind} {name:?}");
                let mut known: Vec<String> = known.iter().map(|name| (*name).clone()).collect();
                known.sort_unstable();
                known.dedup();
                let cure = format!("{} (or take it out)", one_of(name, known.into_iter()));
                problems.push(Problem::new(format!("{place}.{key}"), what, cure));
            }
        }
    }
    problems
}

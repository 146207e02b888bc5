//! Entries that stand for many tables (`sales.*`), and what becomes of them when the catalog is known.

use super::{
    Config, Table, names,
    pattern::TablePattern,
    problem::{Problem, Problems},
};
use crate::model::TableName;
use std::collections::HashMap;

/// An entry with a pattern in place of a table's name.
#[derive(Debug, Clone)]
pub struct Wildcard {
    /// The pattern.
    pub tables: TablePattern,
    /// What it leaves out.
    pub exclude: Vec<TablePattern>,
    /// What the entry says of each of its tables; schema, name and index are theirs.
    pub settings: Table,
}

impl Wildcard {
    /// Is this table one of the entry's?
    pub fn covers(&self, table: &TableName) -> bool {
        self.tables.matches(table) && !self.exclude.iter().any(|pattern| pattern.matches(table))
    }

    /// The table as an entry of its own.
    pub fn table(&self, name: &TableName) -> Table {
        Table {
            schema: name.schema.clone(),
            name: name.name.clone(),
            index: name.name.to_lowercase(),
            ..self.settings.clone()
        }
    }
}

impl Config {
    /// The configuration whose `tables` are those that [`expand`] gives.
    ///
    /// # Errors
    /// As for [`expand`].
    pub fn expanded(&self, catalog: &[TableName]) -> Result<Config, Problems> {
        Ok(Config { tables: expand(self, catalog)?, ..self.clone() })
    }
}

/// The tables that are meant where `catalog` lists the tables of the database: those with an entry of their own, and
/// those that a wildcard covers. An entry of its own goes before wildcards. Tables that an earlier expansion has put into
/// `config` do not count, so the answer for a later catalog can be compared with it.
///
/// # Errors
/// Tables that two wildcards cover, or whose index would have no name of its own; no table at all.
pub fn expand(config: &Config, catalog: &[TableName]) -> Result<Vec<Table>, Problems> {
    let mut tables: Vec<Table> = config.tables.iter().filter(|t| t.wildcard.is_none()).cloned().collect();
    let mut problems = vec![];
    let mut known: HashMap<TableName, String> =
        tables.iter().map(|t| (t.qualified(), t.place.clone())).collect();
    let mut indices: HashMap<String, String> =
        [&config.opensearch.state_index, &config.opensearch.dead_letter_index]
            .into_iter()
            .map(|index| (index.clone(), "pg2os itself".to_owned()))
            .chain(tables.iter().map(|t| (t.index.clone(), t.qualified().to_string())))
            .collect();
    let own = known.clone();
    for wildcard in &config.wildcards {
        for name in catalog.iter().filter(|name| wildcard.covers(name) && !own.contains_key(name)) {
            let table = wildcard.table(name);
            let mut problem = |what: String| {
                let cure = format!("exclude {name} there, or give it an entry of its own with an `index`");
                problems.push(Problem::new(format!("{}.table", table.place), what, cure));
            };
            if let Some(other) = known.insert(name.clone(), table.place.clone()) {
                problem(format!("{name} is matched by {other} too"));
                continue;
            }
            if let Err(what) = names::index_name(&table.index) {
                problem(what);
            } else if let Some(other) = indices.insert(table.index.clone(), name.to_string()) {
                problem(format!("{name} would be index {:?}, which is that of {other}", table.index));
            }
            tables.push(table);
        }
    }
    if tables.is_empty() && problems.is_empty() {
        let cure = "correct the pattern, or make a table first";
        problems.push(Problem::new("tables", "no table of the database matches", cure));
    }
    if problems.is_empty() { Ok(tables) } else { Err(Problems(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};
    use std::path::PathBuf;

    fn config(tables: &str) -> Config {
        let text = format!(
            "postgres: {{ host: h, database: d, user: u }}\nopensearch: {{ url: 'http://h:1' }}\ntables:\n{tables}"
        );
        let sources = Sources { file: Some((PathBuf::from("c.yaml"), text)), ..Sources::default() };
        load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config
    }

    fn catalog(names: &[&str]) -> Vec<TableName> {
        let split = names.iter().map(|name| name.split_once('.').unwrap());
        split.map(|(schema, name)| TableName { schema: schema.into(), name: name.into() }).collect()
    }

    fn names(tables: &[Table]) -> Vec<String> {
        tables.iter().map(|t| t.qualified().to_string()).collect()
    }

    #[test]
    fn a_wildcard_stands_for_the_tables_it_covers_with_the_settings_of_its_entry() {
        let config = config(
            "  - { table: sales.orders, index: own }\n  - { table: sales.*, exclude: [sales.tmp_*, '*.old'], on_truncate: ignore }",
        );
        let list = catalog(&["hr.people", "sales.Items", "sales.old", "sales.orders", "sales.tmp_1"]);
        let tables = expand(&config, &list).unwrap();
        assert_eq!(names(&tables), ["sales.orders", "sales.Items"]);
        assert_eq!((tables[0].index.as_str(), tables[1].index.as_str()), ("own", "items"));
        assert_eq!(tables[1].on_truncate, crate::config::OnTruncate::Ignore);
        assert_eq!((tables[1].place.as_str(), tables[1].wildcard.as_deref()), ("tables[1]", Some("sales.*")));
    }

    #[test]
    fn what_was_expanded_is_expanded_again_from_the_new_catalog() {
        let config = config("  - { table: a.b }\n  - { table: s.* }");
        let first = config.expanded(&catalog(&["s.x", "s.y"])).unwrap();
        assert_eq!(names(&first.tables), ["a.b", "s.x", "s.y"]);
        assert_eq!(names(&expand(&first, &catalog(&["s.y", "s.z"])).unwrap()), ["a.b", "s.y", "s.z"]);
    }

    #[test]
    fn tables_without_an_index_of_their_own_are_told_with_their_entry() {
        let config = config("  - { table: own.dup }\n  - { table: s.* }\n  - { table: '*.t_*' }");
        let list = catalog(&["s.dup", "s.t_1", "s.a b", "x.t_1", "x.t_pg2os-state", "own.dup"]);
        let problems = expand(&config, &list).unwrap_err();
        let shown = problems.to_string();
        assert!(problems.0.iter().all(|p| p.place.starts_with("tables[")), "{shown}");
        for part in [
            "tables[1].table: s.dup would be index \"dup\", which is that of own.dup",
            "tables[1].table: \"a b\" is not an index name",
            "tables[2].table: s.t_1 is matched by tables[1] too; exclude s.t_1 there",
            "x.t_1 would be index \"t_1\", which is that of s.t_1",
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        assert_eq!(problems.0.len(), 4, "{shown}");
    }

    #[test]
    fn no_table_at_all_is_an_error() {
        let error = expand(&config("  - { table: s.* }"), &catalog(&["x.y"])).unwrap_err();
        assert!(error.to_string().contains("no table of the database matches"));
    }
}

//! The SQL that an administrator runs, from the files in `sql/`: what is printed is what psql would run.

use crate::model::{quote_identifier, quote_literal};

/// Role and grants; variables `role`, `database`, `schemas`, `tables`.
pub const ROLE: &str = include_str!("../../sql/01_role.sql");
/// Grants for a role that is there; variables `role`, `schemas`, `tables`.
pub const GRANTS: &str = include_str!("../../sql/01_grants.sql");
/// Publication; variables `publication`, `tables`.
pub const PUBLICATION: &str = include_str!("../../sql/02_publication.sql");
/// Publication of `append_only` tables; variables `publication`, `tables`.
pub const PUBLICATION_APPEND: &str = include_str!("../../sql/02_publication_append.sql");
/// Tables into an existing publication; variables `publication`, `tables`.
pub const PUBLICATION_ADD: &str = include_str!("../../sql/02_publication_add.sql");
/// Slot, before PostgreSQL 17; variable `slot`.
pub const SLOT: &str = include_str!("../../sql/03_slot.sql");
/// Slot with failover, from PostgreSQL 17 on; variable `slot`.
pub const SLOT_17: &str = include_str!("../../sql/03_slot_17.sql");
/// Removal of all of it; variables `slot`, `bookmark`, `publication`, `role`.
pub const TEARDOWN: &str = include_str!("../../sql/04_teardown.sql");
/// Removal of grants and publication; variables `role`, `publication`, `schemas`, `tables`.
pub const TEARDOWN_GRANTS: &str = include_str!("../../sql/04_teardown_grants.sql");

/// Fills in a template as psql does (docs: "psql", "SQL Interpolation"): `:"name"` as an identifier, `:'name'` as a
/// literal, `:name` as it is. Header lines (`--!`) are for readers of the file and left out; `::` stays a cast; a
/// variable without a value stays, so that the reader of the output sees the hole.
pub fn render(template: &str, variables: &[(&str, &str)]) -> String {
    let body: Vec<&str> = template.lines().filter(|line| !line.starts_with("--!")).collect();
    let body = body.join("\n");
    let mut out = String::with_capacity(body.len());
    let mut rest = body.as_str();
    while let Some(at) = rest.find(':') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (length, value) = match after.chars().next() {
            Some(':') => (1, Some("::".to_owned())),
            Some(q @ ('"' | '\'')) => {
                let name = after[1..].split(q).next().unwrap_or_default();
                let quote = if q == '"' { quote_identifier } else { quote_literal };
                (name.len() + 2, find(variables, name).map(quote))
            }
            _ => {
                let name =
                    after.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
                (name.len(), find(variables, name).map(str::to_owned))
            }
        };
        match value {
            Some(value) => {
                out.push_str(&value);
                rest = after.get(length..).unwrap_or_default();
            }
            None => {
                out.push(':');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out.trim().to_owned()
}

fn find<'a>(variables: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    variables.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_as_psql_does() {
        let sql = render(
            "--! header\nSELECT :'a', :\"b\", :c, 1::int, :unknown, 'x:'",
            &[("a", "it's :c"), ("b", "B\"b"), ("c", "now()")],
        );
        assert_eq!(sql, "SELECT 'it''s :c', \"B\"\"b\", now(), 1::int, :unknown, 'x:'");
    }

    #[test]
    fn no_template_has_a_variable_that_is_not_documented() {
        let all =
            ["role", "database", "schemas", "tables", "publication", "slot", "bookmark"].map(|n| (n, "X"));
        let publications = [PUBLICATION, PUBLICATION_APPEND, PUBLICATION_ADD];
        let others = [ROLE, GRANTS, SLOT, SLOT_17, TEARDOWN, TEARDOWN_GRANTS];
        for template in publications.iter().chain(&others) {
            assert!(!render(template, &all).contains(':'), "{template}");
        }
    }
}

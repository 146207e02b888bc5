//! `docs/types.md` says what the table of types says: it is made of it.

use crate::{
    rows::mapping,
    table::{MAPPINGS, SETUP, TABLE},
};
use std::{fmt::Write, fs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/types.md");
const BEGIN: &str =
    "<!-- From here on made of tests/types/table.rs: UPDATE_DOCS=1 cargo test --test types docs -->\n";

/// Text as code in a cell of a table.
fn code(text: &str) -> String {
    let visible: String = text
        .chars()
        .flat_map(|c| {
            if c.is_control() || c == '\u{2028}' { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect();
    let escaped =
        visible.replace('&', "&amp;").replace('<', "&lt;").replace('|', "&#124;").replace('\\', "&#92;");
    format!("<code>{}</code>", escaped.replace('*', "&#42;").replace('_', "&#95;").replace('`', "&#96;"))
}

fn generated() -> String {
    let mut text =
        format!("\n## Values\n\nTypes that PostgreSQL does not bring are made so:\n\n```sql{SETUP}```\n\n");
    text += "| type | mapping | a literal of it | in the document |\n|---|---|---|---|\n";
    for row in TABLE {
        for (at, (literal, json)) in row.values.iter().enumerate() {
            let (sql, mapping) = if at == 0 { (code(row.sql), row.mapping) } else { (String::new(), "") };
            let json = if json.is_empty() { "left out".to_owned() } else { code(json) };
            let literal = format!("'{}'", literal.replace('\'', "''"));
            writeln!(text, "| {sql} | {mapping} | {} | {json} |", code(&literal)).unwrap();
        }
    }
    text += "\n## Mappings\n\n| name | in the index |\n|---|---|\n";
    for (name, _) in MAPPINGS {
        writeln!(text, "| {name} | {} |", code(&mapping(name).to_string())).unwrap();
    }
    writeln!(text, "| range of integer | {} |", code(&mapping("range of integer").to_string())).unwrap();
    text
}

#[test]
fn the_documentation_of_the_types_is_what_the_tests_show() {
    let file = fs::read_to_string(FILE).unwrap();
    let (by_hand, found) = file
        .split_once(BEGIN)
        .expect("docs/types.md has lost the line that says where it is made of the table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(FILE, format!("{by_hand}{BEGIN}{}", generated())).unwrap();
    } else {
        assert!(
            found == generated(),
            "docs/types.md differs from the table: UPDATE_DOCS=1 cargo test --test types docs"
        );
    }
}

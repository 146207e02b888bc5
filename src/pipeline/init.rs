//! `pg2os init`: a first configuration, and the SQL that an administrator must run, from what the catalog says.

use super::error::PipelineError;
use crate::{
    config::Config,
    model::{TableName, quote_identifier},
    source::{
        self,
        admin_sql::{self, render},
        inventory::{Listed, inventory},
        server::server_facts,
    },
};
use std::{collections::BTreeSet, fmt::Write};

/// What is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The configuration, with comments.
    pub yaml: String,
    /// The SQL, as psql takes it.
    pub sql: String,
}

/// Asks the catalog for the tables that `config` names or matches.
///
/// # Errors
/// The server could not be asked, or there is no such table.
pub async fn draft(config: &Config, role: &str) -> Result<Draft, PipelineError> {
    let control = source::sql::connect(&config.postgres, None, "pg2os init").await?;
    let version_num = server_facts(&control).await?.version_num;
    let wanted = |name: &TableName| {
        config.tables.iter().any(|table| table.qualified() == *name)
            || config.wildcards.iter().any(|wildcard| wildcard.covers(name))
    };
    let mut tables = inventory(&control).await?;
    tables.retain(|table| wanted(&table.name));
    if tables.is_empty() {
        return Err(PipelineError::Configuration(format!(
            "no table of database {} matches --tables; temporary, unlogged and system tables do not count",
            config.postgres.database
        )));
    }
    Ok(Draft { yaml: yaml(config, role, &tables), sql: sql(config, role, version_num, &tables) })
}

/// The configuration.
pub fn yaml(config: &Config, role: &str, tables: &[Listed]) -> String {
    let postgres = &config.postgres;
    let hosts: Vec<String> = postgres.hosts.iter().map(|host| scalar(host)).collect();
    let host = if let [one] = &hosts[..] { one.clone() } else { format!("[{}]", hosts.join(", ")) };
    let mut yaml = format!(
        "# What each key means: docs/configuration.md. `pg2os check` says what is still in the way.\n\
         name: {}                       # names slot, publication and state; one for each pipeline\n\
         postgres:\n  host: {}                # of the primary, never a pooler\n  port: {}\n  database: {}\n  user: {}\n  \
         password_file: /etc/pg2os/pg/password           # read again at every connect\n\
         opensearch:\n  url: {}\n\
         tables:\n",
        scalar(&config.name),
        host,
        postgres.port,
        scalar(&postgres.database),
        scalar(role),
        scalar(config.opensearch.urls.first().map_or("", String::as_str)),
    );
    for table in tables {
        let name = scalar(&sql_name(&table.name));
        let rows =
            table.estimated_rows.map_or("rows not counted yet".to_owned(), |n| format!("about {n} rows"));
        let _ = if is_followed(table) {
            let key = table.primary_key.join(", ");
            let index = index(table, tables).map(|index| format!("\n    index: {index}")).unwrap_or_default();
            writeln!(yaml, "  - table: {name}           # {rows}; primary key ({key}){index}")
        } else if table.primary_key.is_empty() {
            writeln!(
                yaml,
                "  # {}: {rows}; no primary key. Say what identifies a row, and whether only inserts are followed:\n  \
                 # - {{ table: {name}, id: [COLUMNS], append_only: true, id_unique: asserted }}",
                table.name
            )
        } else {
            writeln!(
                yaml,
                "  # {}: {rows}; no replica identity, so its changes do not say which row they are of. Cure that with the ALTER TABLE \
                 below:\n  # - table: {name}",
                table.name
            )
        };
    }
    if !tables.iter().any(is_followed) {
        yaml.push_str("  []                            # none of the tables can be followed as it is\n");
    }
    yaml
}

/// The SQL: role and grants, then the publication, then what only somebody can decide.
pub fn sql(config: &Config, role: &str, version_num: i32, tables: &[Listed]) -> String {
    let postgres = &config.postgres;
    let followed: Vec<&Listed> = tables.iter().filter(|table| is_followed(table)).collect();
    let list = |with_only: bool| {
        let entry = |table: &&Listed| {
            let only = if with_only && !table.partitioned { "ONLY " } else { "" };
            format!("{only}{}", table.name.quoted())
        };
        followed.iter().map(entry).collect::<Vec<_>>().join(", ")
    };
    let schemas: BTreeSet<String> =
        followed.iter().map(|table| quote_identifier(&table.name.schema)).collect();
    let schemas = schemas.into_iter().collect::<Vec<_>>().join(", ");
    let publication = postgres.publications.first().map_or("", String::as_str);
    let (grant, publish) = (list(false), list(true));
    let variables = [
        ("role", role),
        ("database", postgres.database.as_str()),
        ("schemas", schemas.as_str()),
        ("publication", publication),
        ("slot", postgres.slot.as_str()),
    ];
    let with =
        |template: &str, tables: &str| render(template, &[&variables[..], &[("tables", tables)]].concat());
    let mut sql = format!("-- In database {}; wal_level must be logical.\n", postgres.database);
    if !followed.is_empty() {
        let _ = writeln!(
            sql,
            "-- As a superuser. Under Zalando's operator the manifest makes the role: leave out CREATE ROLE.\n{}\n\
             -- Then give it a password: \\password {}\n\n\
             -- As the owner of the tables:\n{}\n",
            with(admin_sql::ROLE, &grant),
            quote_identifier(role),
            with(admin_sql::PUBLICATION, &publish),
        );
        let slot = if version_num >= 170_000 { admin_sql::SLOT_17 } else { admin_sql::SLOT };
        let slot = with(slot, "").replace('\n', "\n-- ");
        let _ = writeln!(
            sql,
            "-- pg2os makes its slot itself. Only where it is to hold WAL back from now on:\n-- {slot}"
        );
    }
    for table in tables.iter().filter(|table| !table.has_identity && !table.primary_key.is_empty()) {
        let _ = writeln!(
            sql,
            "-- {} has a primary key that is no replica identity; as its owner:\n-- ALTER TABLE {} REPLICA IDENTITY FULL;",
            table.name,
            table.name.quoted()
        );
    }
    sql
}

/// Can every change of it be followed, as it is?
fn is_followed(table: &Listed) -> bool {
    table.has_identity && !table.primary_key.is_empty()
}

/// The name as the configuration has it: quoted where SQL would fold it.
fn sql_name(name: &TableName) -> String {
    let folds = |part: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        part.chars().all(plain) && !part.starts_with(|c: char| c.is_ascii_digit())
    };
    let part = |part: &str| if folds(part) { part.to_owned() } else { quote_identifier(part) };
    format!("{}.{}", part(&name.schema), part(&name.name))
}

/// A name for the index where the table's own will not do: OpenSearch refuses it, or another table has it, too.
fn index(table: &Listed, tables: &[Listed]) -> Option<String> {
    let default = |table: &Listed| table.name.name.to_lowercase();
    let legal = |c: char| if c.is_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let own = default(table);
    let is_shared = tables.iter().filter(|other| is_followed(other) && default(other) == own).count() > 1;
    let wanted = if is_shared { format!("{}-{own}", table.name.schema.to_lowercase()) } else { own.clone() };
    let wanted: String = wanted.chars().map(legal).collect();
    let wanted = wanted.trim_start_matches(['-', '_', '+', '.']).to_owned();
    (wanted != own).then_some(wanted)
}

/// A scalar of YAML, in quotes where it needs them.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word = ["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_lowercase().as_str());
    if begins && !is_word && text.chars().all(plain) {
        text.to_owned()
    } else {
        serde_json::json!(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};
    use std::path::PathBuf;

    fn config(text: &str) -> Result<Config, String> {
        let sources =
            Sources { file: Some((PathBuf::from("c.yaml"), text.to_owned())), ..Sources::default() };
        load(&sources).map(|loaded| loaded.config).map_err(|problems| problems.to_string())
    }

    fn flags() -> Config {
        config(
            "name: shop\npostgres: { host: [a, b], database: 'My Db', user: admin }\nopensearch: { url: 'http://h:1' }\n\
             tables: [{ table: 'public.*' }]",
        )
        .unwrap()
    }

    fn table(name: &str, key: &[&str], has_identity: bool) -> Listed {
        Listed {
            name: TableName { schema: "public".into(), name: name.into() },
            partitioned: name == "parts",
            estimated_rows: Some(7).filter(|_| name != "log"),
            primary_key: key.iter().map(|k| (*k).to_owned()).collect(),
            has_identity,
        }
    }

    #[test]
    fn the_draft_is_a_configuration_of_the_tables_that_can_be_followed() {
        let tables = [
            table("events", &["day", "seq"], true),
            table("Odd: name", &["id"], true),
            table("log", &[], false),
            table("silent", &["id"], false),
            Listed {
                name: TableName { schema: "old".into(), name: "events".into() },
                ..table("", &["id"], true)
            },
        ];
        let yaml = yaml(&flags(), "pg2os", &tables);
        let drafted = config(&yaml).unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
        let names: Vec<_> = drafted.tables.iter().map(crate::config::Table::qualified).collect();
        let followed = [0, 1, 4].map(|n: usize| tables[n].name.clone());
        assert_eq!(names, followed, "{yaml}");
        let indices: Vec<_> = drafted.tables.iter().map(|table| table.index.as_str()).collect();
        assert_eq!(indices, ["public-events", "odd--name", "old-events"]);
        assert_eq!((drafted.name.as_str(), drafted.postgres.database.as_str()), ("shop", "My Db"));
        assert_eq!(drafted.postgres.hosts, ["a", "b"]);
        assert!(yaml.contains("# about 7 rows; primary key (day, seq)"), "{yaml}");
        assert!(yaml.contains("# public.log: rows not counted yet; no primary key."), "{yaml}");
        assert!(yaml.contains("# public.silent: about 7 rows; no replica identity"), "{yaml}");
    }

    #[test]
    fn the_sql_is_that_of_the_files() {
        let tables =
            [table("events", &["id"], true), table("parts", &["id"], true), table("silent", &["id"], false)];
        let made = sql(&flags(), "pg2os", 150_000, &tables);
        for line in [
            "CREATE ROLE \"pg2os\" LOGIN REPLICATION;",
            "GRANT CONNECT ON DATABASE \"My Db\" TO \"pg2os\";",
            "GRANT SELECT ON TABLE \"public\".\"events\", \"public\".\"parts\" TO \"pg2os\";",
            "CREATE PUBLICATION \"pg2os_shop\" FOR TABLE ONLY \"public\".\"events\", \"public\".\"parts\"",
            "-- ALTER TABLE \"public\".\"silent\" REPLICA IDENTITY FULL;",
        ] {
            assert!(made.contains(line), "no {line} in {made}");
        }
        assert!(
            !made.contains("failover")
                && sql(&flags(), "pg2os", 170_000, &tables).contains("failover => true")
        );
        let none = sql(&flags(), "pg2os", 150_000, &tables[2..]);
        assert!(!none.contains("CREATE"), "{none}");
    }
}

//! Joins the layers: default under file under environment under flags, then has them checked and validated.

use super::{
    Config, check, environment, not_yet,
    print::Effective,
    problem::{Problem, Problems},
    raw::Raw,
    tree::{Origin, Step, Tree, related},
    validate,
};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where a configuration is looked for when none is named.
const DEFAULT_FILE: &str = "/etc/pg2os/config.yaml";

/// What a configuration is made of, as values: tests need neither files nor a process environment.
#[derive(Default)]
pub struct Sources {
    /// Path and text of the file.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Flags that describe a table.
    pub flags: TableFlags,
    /// Does `--table` choose among the tables of the file (`backfill`), where there is a file with tables?
    pub table_selects: bool,
}

/// Flags that describe a table where no file does.
#[derive(Debug, Clone, Default)]
pub struct TableFlags {
    /// `--table`.
    pub table: Vec<String>,
    /// `--index`.
    pub index: Option<String>,
    /// `--id`.
    pub id: Vec<String>,
    /// `--id-form`.
    pub id_form: Option<String>,
    /// `--window-column`.
    pub window_column: Option<String>,
}

/// A configuration, and what it was made of.
pub struct Loaded {
    /// The validated configuration.
    pub config: Config,
    effective: Effective,
}

impl Loaded {
    /// The effective configuration as YAML, with the origin of each value behind it and secrets masked.
    pub fn to_yaml(&self) -> String {
        self.effective.to_yaml()
    }
}

impl Sources {
    /// Reads the process environment and the file: the one that is named, else `PG2OS_CONFIG`, else
    /// /etc/pg2os/config.yaml where it exists.
    pub fn gather(
        config: Option<&Path>,
        flags: TableFlags,
        table_selects: bool,
    ) -> Result<Sources, Problems> {
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => environment.push((name, value)),
                Err(_) if environment::is_ours(&name) => {
                    return Err(Problems(vec![Problem::new(
                        name,
                        "is not UTF-8",
                        "set it to text in UTF-8",
                    )]));
                }
                Err(_) => {}
            }
        }
        let named = config.map(Path::to_owned).or_else(|| {
            let named = environment.iter().find(|(name, value)| name == "PG2OS_CONFIG" && !value.is_empty());
            named.map(|(_, path)| PathBuf::from(path))
        });
        let path = named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
        let file = match path {
            None => None,
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(error) => {
                    let cure = "name a readable file with --config or PG2OS_CONFIG";
                    let what = format!("cannot be read: {error}");
                    return Err(Problems(vec![Problem::new(path.display().to_string(), what, cure)]));
                }
            },
        };
        Ok(Sources { file, environment, flags, table_selects })
    }
}

/// Makes a configuration of its sources, or says everything that is wrong with them.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut tree = Tree::default();
    if let Some((path, text)) = &sources.file {
        let mut value = parse(path, text).map_err(|problem| Problems(vec![problem]))?;
        expand(&mut value, "", &sources.environment, &mut problems);
        tree.set(&[], value, &Origin::File);
    }
    let has_tables = tree.value["tables"].as_array().is_some_and(|tables| !tables.is_empty());
    environment::apply(&mut tree, &sources.environment, has_tables, &mut problems);
    let selects = sources.table_selects && has_tables;
    flags(&mut tree, &sources.flags, has_tables, selects, &mut problems);
    environment::apply_dates(&mut tree, &sources.environment, &mut problems);

    problems.extend(check::check(&mut tree));
    problems.extend(not_yet::check(&tree));
    let mut raw: Raw = match serde_json::from_value(tree.value.clone()) {
        Ok(raw) => raw,
        Err(error) => {
            // The walk lets nothing through that cannot be read; if it does, this is still told and not ignored.
            problems.push(Problem::new("the configuration", error.to_string(), "correct that value"));
            return Err(Problems(problems));
        }
    };
    let (config, more) = validate::validate(&mut raw);
    // A value that was reported is not reported again, as missing or malformed.
    let reported: Vec<String> = problems.iter().map(|p| p.place.clone()).collect();
    problems.extend(more.into_iter().filter(|p| !reported.iter().any(|place| related(place, &p.place))));
    if problems.is_empty() {
        Ok(Loaded { config, effective: Effective::new(&raw, tree) })
    } else {
        Err(Problems(problems))
    }
}

/// Reads YAML into plain values.
fn parse(path: &Path, text: &str) -> Result<Value, Problem> {
    let place = path.display().to_string();
    let syntax = |error: yaml_serde::Error| {
        let place = match error.location() {
            Some(at) => format!("{place}:{}:{}", at.line(), at.column()),
            None => place.clone(),
        };
        Problem::new(place, format!("is not YAML: {error}"), "correct the syntax there")
    };
    let mut yaml: yaml_serde::Value = yaml_serde::from_str(text).map_err(syntax)?;
    yaml.apply_merge().map_err(syntax)?;
    let value = serde_json::to_value(yaml)
        .map_err(|e| Problem::new(&*place, e.to_string(), "use text as keys, and no tags"))?;
    if value.is_object() || value.is_null() {
        Ok(value)
    } else {
        Err(Problem::new(place, "is not a mapping of keys", "begin with postgres:, opensearch: and tables:"))
    }
}

/// Expands `${NAME}` and `${NAME:-default}` in all strings; `$${` is a literal `${`.
fn expand(value: &mut Value, place: &str, environment: &[(String, String)], problems: &mut Vec<Problem>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                expand(value, &super::tree::under(place, key), environment, problems);
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter_mut().enumerate() {
                expand(value, &format!("{place}[{i}]"), environment, problems);
            }
        }
        Value::String(text) if text.contains("${") => match expanded(text, environment) {
            Ok(new) => *text = new,
            Err((what, cure)) => {
                problems.push(Problem::new(place, what, cure));
                // Taken out, so that nothing more is said about this place.
                *value = Value::Null;
            }
        },
        _ => {}
    }
}

fn expanded(text: &str, environment: &[(String, String)]) -> Result<String, (String, String)> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            result.push_str(before);
            result.push_str("${");
            rest = after;
            continue;
        }
        result.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            return Err((
                "${ is not closed".to_owned(),
                "close it with }, or write $${ for the characters".to_owned(),
            ));
        };
        let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, d)| (name, Some(d)));
        let value = environment.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        // As in a shell, `:-` counts an empty value as none.
        let value = value.filter(|v| default.is_none() || !v.is_empty());
        let Some(value) = value.or(default) else {
            return Err((
                format!("the environment variable {name} is not set"),
                format!("set it, or give a default: ${{{name}:-…}}"),
            ));
        };
        result.push_str(value);
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}

/// The flag layer.
fn flags(tree: &mut Tree, flags: &TableFlags, has_tables: bool, selects: bool, problems: &mut Vec<Problem>) {
    let texts = |list: &[String]| Value::from(list.to_vec());
    let described: [(&'static str, &[&str], Option<Value>); 4] = [
        ("--index", &["index"], flags.index.clone().map(Value::from)),
        ("--id", &["id"], Some(texts(&flags.id)).filter(|_| !flags.id.is_empty())),
        ("--id-form", &["id_form"], flags.id_form.clone().map(Value::from)),
        ("--window-column", &["window", "column"], flags.window_column.clone().map(Value::from)),
    ];
    let table = ("--table", Some(&flags.table).filter(|t| !t.is_empty() && !selects));
    let used = described.iter().filter(|d| d.2.is_some()).map(|d| d.0).chain(table.1.map(|_| table.0));
    if has_tables {
        problems.extend(used.map(|flag| {
            let what = "describes a table, but the file has tables already";
            Problem::new(flag, what, "leave the flag out and write it in the file")
        }));
        return;
    }
    let at = |index: usize, keys: &[&str]| {
        let mut path = vec![Step::Key("tables".to_owned()), Step::Item(index)];
        path.extend(keys.iter().map(|key| Step::Key((*key).to_owned())));
        path
    };
    for (i, name) in flags.table.iter().enumerate() {
        tree.set(&at(i, &["table"]), Value::from(name.as_str()), &Origin::Flag("--table"));
    }
    for (flag, keys, value) in described {
        let Some(value) = value else { continue };
        if flags.table.len() > 1 {
            problems.push(Problem::new(
                flag,
                "is given with more than one --table",
                "describe several tables in a file",
            ));
        } else {
            tree.set(&at(0, keys), value, &Origin::Flag(flag));
        }
    }
}

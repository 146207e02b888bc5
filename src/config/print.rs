//! Prints the effective configuration as YAML, each value with its origin behind it and secrets masked.

use super::{
    raw::Raw,
    tree::{Tree, under},
};
use serde_json::Value;
use std::fmt::Write;

/// All values in force, derived defaults included.
pub(super) struct Effective {
    value: Value,
    tree: Tree,
}

impl Effective {
    pub(super) fn new(raw: &Raw, tree: Tree) -> Self {
        Effective { value: serde_json::to_value(raw).unwrap_or_default(), tree }
    }

    pub(super) fn to_yaml(&self) -> String {
        let mut out = String::new();
        self.mapping(&mut out, "", &self.value, 0, false);
        out
    }

    /// Writes the entries of a mapping; the first one continues a `- ` that is already there.
    fn mapping(&self, out: &mut String, place: &str, value: &Value, indent: usize, mut continued: bool) {
        for (key, value) in value.as_object().into_iter().flatten().filter(|(_, value)| !is_void(value)) {
            if !continued {
                let _ = write!(out, "{:indent$}", "");
            }
            continued = false;
            let place = under(place, key);
            let _ = write!(out, "{}:", scalar(&Value::from(key.as_str())));
            match value {
                Value::Object(_) => {
                    out.push('\n');
                    self.mapping(out, &place, value, indent + 2, false);
                }
                Value::Array(items) if items.iter().any(Value::is_object) => {
                    out.push('\n');
                    for (i, item) in items.iter().enumerate() {
                        let _ = write!(out, "{:indent$}  - ", "");
                        let place = format!("{place}[{i}]");
                        if item.is_object() && !is_void(item) {
                            self.mapping(out, &place, item, indent + 4, true);
                        } else {
                            let _ = writeln!(out, "{}", flow(item));
                        }
                    }
                }
                _ => {
                    let shown = masked(key, value).unwrap_or_else(|| flow(value));
                    let _ = writeln!(out, " {shown}  # {}", self.tree.origin(&place));
                }
            }
        }
    }
}

/// Nothing to print: absent or empty.
fn is_void(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_void),
        _ => false,
    }
}

/// What stands for a secret.
fn masked(key: &str, value: &Value) -> Option<String> {
    if key == "password" {
        return Some("\"***\"".to_owned());
    }
    let (scheme, rest) = value.as_str().filter(|_| key == "proxy")?.split_once("://")?;
    let (_, host) = rest.rsplit_once('@')?;
    Some(scalar(&Value::from(format!("{scheme}://***@{host}"))))
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                format!("{}: {}", scalar(&Value::from(key.as_str())), flow(value))
            };
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        _ => scalar(value),
    }
}

/// A scalar, quoted where YAML would read it as something else.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_./-:+".contains(c);
    let plain = text.chars().all(harmless)
        && yaml_serde::from_str::<Value>(text).is_ok_and(|read| read.as_str() == Some(text));
    // A literal ${ must not be expanded when the output is loaded again.
    if plain { text.clone() } else { Value::from(text.replace("${", "$${")).to_string() }
}

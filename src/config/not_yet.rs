//! The keys that are known but whose behaviour is not in this version. A release that brings one deletes its line.
//!
//! They are refused rather than ignored: a pipeline that drops `query` or `root` without a word is worse than none.

use super::{
    problem::Problem,
    tree::{Tree, under},
};
use serde_json::Value;

/// A key path (`[]` is every entry of the list), which of its values are not there yet (`None`: all), and what to do
/// meanwhile.
type Line = (&'static str, Option<fn(&Value) -> bool>, &'static str);

const NOT_YET: &[Line] = &[
    ("http", None, "leave it out; `pg2os status` tells the state"),
    ("tables[].query", None, "name a table, for example one that holds the joined rows"),
    ("tables[].root", None, "it belongs to query: name a table"),
    ("tables[].id", Some(Value::is_object), "give a list of columns"),
];

/// Reports what is not there yet.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, refused, cure) in NOT_YET {
        find(&tree.value, "", path, *refused, &mut |place, value| {
            let subject = match value {
                Value::String(value) if refused.is_some() => format!("{value} "),
                Value::Object(_) if refused.is_some() => "a mapping ".to_owned(),
                _ => String::new(),
            };
            problems.push(Problem::new(place, format!("{subject}is not in this version yet"), *cure));
        });
    }
    problems
}

fn find(
    node: &Value,
    place: &str,
    path: &str,
    refused: Option<fn(&Value) -> bool>,
    found: &mut dyn FnMut(String, &Value),
) {
    if let Some((list, rest)) = path.split_once("[].") {
        for (i, item) in node[list].as_array().into_iter().flatten().enumerate() {
            find(item, &format!("{}[{i}]", under(place, list)), rest, refused, found);
        }
    } else if let Some((key, rest)) = path.split_once('.') {
        find(&node[key], &under(place, key), rest, refused, found);
    } else if let Some(value) = node.get(path).filter(|value| refused.is_none_or(|refused| refused(value))) {
        found(under(place, path), value);
    }
}

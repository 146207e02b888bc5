//! Walks the merged tree against the JSON schema and reports every unknown key and every wrong type.
//!
//! What is reported is also taken out of the tree, so that the rest can still be read and checked further. Only the
//! part of JSON Schema that our own schema uses is understood.

use super::{
    problem::{Problem, nearest, one_of},
    raw,
    tree::{Origin, Tree, under},
};
use serde_json::Value;

/// Checks the tree and leaves what is well formed.
pub(super) fn check(tree: &mut Tree) -> Vec<Problem> {
    let mut value = std::mem::take(&mut tree.value);
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    let mut walker = Walker { tree, problems: Vec::new() };
    if !walker.keep("", raw::schema(), &mut value) {
        value = Value::Object(serde_json::Map::new());
    }
    let problems = walker.problems;
    tree.value = value;
    problems
}

/// The schemas a value may follow: references resolved, choices flattened, `null` left out.
pub(super) fn choices(node: &'static Value) -> Vec<&'static Value> {
    if let Some(name) = node["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
        return choices(&raw::schema()["$defs"][name]);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(list) = node[key].as_array() {
            return list.iter().flat_map(choices).collect();
        }
    }
    if node["type"] == "null" { Vec::new() } else { vec![node] }
}

/// Does the schema name this JSON type? One that names none takes everything.
pub(super) fn takes(choice: &Value, kind: &str) -> bool {
    match &choice["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => true,
    }
}

/// The words a schema allows, where it lists them.
fn words(choice: &'static Value) -> Vec<&'static str> {
    let listed = choice["enum"].as_array().into_iter().flatten();
    listed.chain(choice.get("const")).filter_map(Value::as_str).collect()
}

struct Walker<'a> {
    tree: &'a Tree,
    problems: Vec<Problem>,
}

impl Walker<'_> {
    fn report(&mut self, place: &str, what: String, cure: String) -> bool {
        let what = match self.tree.origin(place) {
            Origin::Default | Origin::File => what,
            origin => format!("{what} (from {origin})"),
        };
        let place = if place.is_empty() { "the file" } else { place };
        self.problems.push(Problem::new(place, what, cure));
        false
    }

    /// Checks one value; false says that it cannot be used.
    fn keep(&mut self, place: &str, node: &'static Value, value: &mut Value) -> bool {
        let choices = choices(node);
        let kind = kind(value);
        let Some(choice) = choices.iter().find(|c| takes(c, kind)) else {
            return self.convert(place, &choices, value);
        };
        match value {
            Value::Object(_) => self.keep_mapping(place, choice, value),
            Value::Array(_) => self.keep_list(place, choice, value),
            Value::String(text) => {
                let words: Vec<&str> = choices.iter().flat_map(|c| words(c)).collect();
                words.is_empty() || words.contains(&text.as_str()) || {
                    let cure = match nearest(text, words.iter().copied()) {
                        Some(word) => format!("did you mean {word}?"),
                        None => format!("say one of {}", words.join(", ")),
                    };
                    self.report(place, format!("{} is not known here", shown(place, value)), cure)
                }
            }
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                let low = choice["minimum"].as_f64().unwrap_or(f64::MIN);
                let high = choice["maximum"].as_f64().unwrap_or(f64::MAX);
                (low..=high).contains(&number) || {
                    let cure = match choice["maximum"].as_f64() {
                        Some(_) => format!("say {low} to {high}"),
                        None => format!("say {low} or more"),
                    };
                    self.report(place, format!("{} is out of range", shown(place, value)), cure)
                }
            }
            _ => true,
        }
    }

    /// Takes a number or boolean that is written as text (an environment variable, an expansion, quotes) for what
    /// it is; everything else of the wrong type is reported.
    fn convert(&mut self, place: &str, choices: &[&'static Value], value: &mut Value) -> bool {
        let meant = value.as_str().and_then(|text| serde_json::from_str::<Value>(text.trim()).ok());
        if let Some(mut meant) = meant.filter(|m| m.is_number() || m.is_boolean())
            && let Some(choice) = choices.iter().find(|c| takes(c, kind(&meant)))
        {
            let kept = self.keep(place, choice, &mut meant);
            *value = meant;
            return kept;
        }
        let expected: Vec<String> = choices.iter().map(|c| expected(c)).collect();
        let quotes = !value.is_object() && !value.is_array() && choices.iter().any(|c| takes(c, "string"));
        let cure = if quotes { "put it in quotes if it is meant as text" } else { "write it in that form" };
        let what = format!("found {}, expected {}", shown(place, value), expected.join(" or "));
        self.report(place, what, cure.to_owned())
    }

    fn keep_mapping(&mut self, place: &str, choice: &'static Value, value: &mut Value) -> bool {
        let Some(map) = value.as_object_mut() else { return true };
        let known = choice["properties"].as_object();
        map.retain(|key, value| {
            let place = under(place, key);
            match known.and_then(|k| k.get(key)) {
                // `index:` with nothing behind it is as good as no `index` at all.
                Some(_) if value.is_null() => false,
                Some(schema) => self.keep(&place, schema, value),
                None => match choice.get("additionalProperties") {
                    Some(Value::Bool(false)) => {
                        let names = known.into_iter().flat_map(|k| k.keys().cloned());
                        self.report(&place, "is not a key".to_owned(), one_of(key, names))
                    }
                    Some(schema @ Value::Object(_)) => self.keep(&place, schema, value),
                    _ => true,
                },
            }
        });
        true
    }

    fn keep_list(&mut self, place: &str, choice: &'static Value, value: &mut Value) -> bool {
        let (Some(list), Some(schema)) = (value.as_array_mut(), choice.get("items")) else { return true };
        let mut kept = true;
        for (i, item) in list.iter_mut().enumerate() {
            if !self.keep(&format!("{place}[{i}]"), schema, item) {
                // An empty mapping holds the place of a bad one, so that the places after it stay right.
                let mapping = choices(schema).iter().all(|c| takes(c, "object"));
                if mapping {
                    *item = Value::Object(serde_json::Map::new());
                }
                kept &= mapping;
            }
        }
        kept
    }
}

/// The JSON Schema name of a value's type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value in a message: its type, and itself where it is short and no secret.
fn shown(place: &str, value: &Value) -> String {
    let secret = place.ends_with("password");
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        _ if secret => "a value (not shown)".to_owned(),
        Value::String(text) if text.chars().count() > 60 => "a long text".to_owned(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Number(number) => format!("the number {number}"),
        Value::Bool(truth) => format!("the boolean {truth}"),
    }
}

fn expected(choice: &'static Value) -> String {
    let words = words(choice);
    if !words.is_empty() {
        return words.join(" or ");
    }
    let names = [
        ("string", "a text"),
        ("integer", "a whole number"),
        ("boolean", "true or false"),
        ("array", "a list"),
        ("object", "a mapping"),
    ];
    names.iter().find(|(kind, _)| takes(choice, kind)).map_or("a value", |(_, name)| name).to_owned()
}

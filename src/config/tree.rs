//! The merged configuration as a tree of plain values, with the origin of every leaf.

use serde_json::{Map, Value};
use std::{cmp::Ordering, collections::HashMap, fmt};

/// Which layer a value came from, weakest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nobody said it.
    Default,
    /// The configuration file.
    File,
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(&'static str),
}

impl Origin {
    fn layer(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File => 1,
            Origin::Environment(_) => 2,
            Origin::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::File => write!(f, "file"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Item(usize),
}

/// The place of `key` under `parent`: `tables[2]` and `id` make `tables[2].id`.
pub(super) fn under(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Is one place inside the other, or the same?
pub(super) fn related(a: &str, b: &str) -> bool {
    let (short, long) = if a.len().cmp(&b.len()) == Ordering::Greater { (b, a) } else { (a, b) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Two keys that say the same thing: one of a later layer replaces the other of an earlier one.
const RIVALS: [(&str, &str); 3] =
    [("password", "password_file"), ("user", "user_file"), ("username", "username_file")];

/// The other key of the pair, if `key` is of one.
fn rival(key: &str) -> Option<&'static str> {
    RIVALS.iter().find_map(|&(value, file)| match key {
        _ if key == value => Some(file),
        _ if key == file => Some(value),
        _ => None,
    })
}

/// Values and where they came from.
#[derive(Default)]
pub(super) struct Tree {
    /// The merged values; an object, or `Null` while there is nothing.
    pub(super) value: Value,
    origins: HashMap<String, Origin>,
}

impl Tree {
    /// Where the value at a place came from.
    pub(super) fn origin(&self, place: &str) -> &Origin {
        self.origins.get(place).unwrap_or(&Origin::Default)
    }

    /// Puts a layer's value at a path: mappings are merged, everything else is replaced. Where something on the way
    /// is neither a mapping nor a list nothing is done: the check reports that place.
    pub(super) fn set(&mut self, path: &[Step], value: Value, origin: &Origin) {
        let mut place = String::new();
        let mut node = &mut self.value;
        for step in path {
            match step {
                Step::Key(key) => {
                    let Some(map) = as_map(node) else { return };
                    if let Some(other) = rival(key) {
                        let other_place = under(&place, other);
                        let earlier =
                            self.origins.get(&other_place).is_some_and(|o| o.layer() < origin.layer());
                        if earlier {
                            map.shift_remove(other);
                            self.origins.remove(&other_place);
                        }
                    }
                    place = under(&place, key);
                    node = map.entry(key.clone()).or_insert(Value::Null);
                }
                Step::Item(index) => {
                    if node.is_null() {
                        *node = Value::Array(Vec::new());
                    }
                    let Some(list) = node.as_array_mut() else { return };
                    if *index == list.len() {
                        list.push(Value::Null);
                    }
                    place = format!("{place}[{index}]");
                    let Some(item) = list.get_mut(*index) else { return };
                    node = item;
                }
            }
        }
        merge(&mut self.origins, &place, node, value, origin);
    }
}

/// The mapping at a node; nothing there yet counts as an empty one.
fn as_map(node: &mut Value) -> Option<&mut Map<String, Value>> {
    if node.is_null() {
        *node = Value::Object(Map::new());
    }
    node.as_object_mut()
}

fn merge(
    origins: &mut HashMap<String, Origin>,
    place: &str,
    node: &mut Value,
    value: Value,
    origin: &Origin,
) {
    match value {
        Value::Object(new) => {
            if !node.is_object() {
                *node = Value::Object(Map::new());
            }
            let Some(map) = node.as_object_mut() else { return };
            for (key, value) in new {
                let place = under(place, &key);
                merge(origins, &place, map.entry(key).or_insert(Value::Null), value, origin);
            }
        }
        Value::Array(new) => {
            *node = Value::Array(vec![Value::Null; new.len()]);
            let items = node.as_array_mut().into_iter().flatten();
            for (i, (item, value)) in items.zip(new).enumerate() {
                merge(origins, &format!("{place}[{i}]"), item, value, origin);
            }
        }
        scalar => *node = scalar,
    }
    origins.insert(place.to_owned(), origin.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(path: &str) -> Vec<Step> {
        path.split('.').map(|k| Step::Key(k.to_owned())).collect()
    }

    #[test]
    fn a_later_layer_replaces_leaves_and_keeps_their_neighbours() {
        let mut tree = Tree::default();
        tree.set(&[], json!({"postgres": {"host": "a", "port": 1}}), &Origin::File);
        let env = Origin::Environment("PG_HOST".into());
        tree.set(&keys("postgres.host"), json!("b"), &env);
        assert_eq!(tree.value, json!({"postgres": {"host": "b", "port": 1}}));
        assert_eq!(tree.origin("postgres.host"), &env);
        assert_eq!(tree.origin("postgres.port"), &Origin::File);
        assert_eq!(tree.origin("postgres.slot"), &Origin::Default);
    }

    #[test]
    fn a_later_password_replaces_an_earlier_password_file_and_the_other_way_round() {
        let mut tree = Tree::default();
        tree.set(&[], json!({"postgres": {"password_file": "/f", "user": "u"}}), &Origin::File);
        tree.set(&keys("postgres.password"), json!("s"), &Origin::Environment("PG_PASSWORD".into()));
        tree.set(&keys("postgres.user_file"), json!("/u"), &Origin::Environment("X".into()));
        assert_eq!(tree.value, json!({"postgres": {"password": "s", "user_file": "/u"}}));
    }

    #[test]
    fn nothing_is_written_through_a_scalar_or_far_past_a_list() {
        let mut tree = Tree::default();
        tree.set(&[], json!({"postgres": 5, "tables": []}), &Origin::File);
        tree.set(&keys("postgres.host"), json!("b"), &Origin::Flag("--x"));
        tree.set(&[Step::Key("tables".into()), Step::Item(3)], json!({}), &Origin::Flag("--x"));
        assert_eq!(tree.value, json!({"postgres": 5, "tables": []}));
    }

    #[test]
    fn places_are_related_by_whole_steps() {
        assert!(related("tables[1]", "tables[1].id") && related("tables[1].id", "tables"));
        assert!(!related("tables[1]", "tables[10]") && !related("postgres.user", "postgres.user_file"));
    }
}

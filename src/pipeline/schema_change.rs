//! What a change of a table's shape means for its documents. Pure.
//!
//! The stream carries changes of rows, and the definitions that they are written in. What a schema change does to the
//! rows that are there it does not carry: it follows from two shapes, from what the rows themselves answer to a few
//! [`Question`]s, and from the TRUNCATEs that the stream did carry.

use crate::{
    map::TableSpec,
    model::{Attribute, Storage, TableShape, Xid},
};

/// `text` and `varchar`: the same text, and no rewrite between them (docs: "pg_type").
const TEXTS: [u32; 2] = [25, 1043];

/// What only the rows can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Have rows that were there a value in this column?
    FilledByDefault(String),
    /// Has this partition rows from before it was one?
    JoinedWithRows(Storage),
    /// Is no row left in this relation that was there before `since`?
    Replaced {
        /// The relation.
        relation: Storage,
        /// Horizon of the shape that is known.
        since: Xid,
    },
}

impl Question {
    /// Is it about rows that were replaced, so that a TRUNCATE of the stream may be the reason?
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self, Question::Replaced { .. })
    }
}

/// What becomes of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Why changes of the table did not come, or came of another one.
    pub(super) lost: Vec<String>,
    /// Why documents do not agree with their rows any more.
    pub(super) repair: Vec<String>,
    /// Columns that only rows to come have.
    pub(super) new_columns: Vec<String>,
}

/// What is to be asked before a verdict.
pub(super) fn questions(
    known: &TableShape,
    now: &TableShape,
    spec: &TableSpec,
    truncated_by: &[Xid],
) -> Vec<Question> {
    if known.oid != now.oid {
        return vec![];
    }
    let added = added(known, now, spec).map(|a| Question::FilledByDefault(a.name.clone()));
    let relations = now.storage.iter().filter_map(|relation| match of(known, relation.oid) {
        None => Some(Question::JoinedWithRows(relation.clone())),
        Some(before) if before.file != relation.file && !is_explained(relation, truncated_by) => {
            Some(Question::Replaced { relation: relation.clone(), since: known.horizon })
        }
        Some(_) => None,
    });
    added.chain(relations).collect()
}

/// Judges a change, where `yes` are the questions that were answered by yes, and `truncated_by` the transactions whose
/// TRUNCATE of the table came through the stream, up to the look at least.
pub(super) fn judge(
    known: &TableShape,
    now: &TableShape,
    spec: &TableSpec,
    yes: &[Question],
    truncated_by: &[Xid],
) -> Verdict {
    let mut verdict = Verdict::default();
    if known.oid != now.oid {
        verdict.lost.push("it is another table than before (made anew, or given this name)".to_owned());
        return verdict;
    }
    if !known.publications.iter().any(|entry| now.publications.contains(entry)) {
        verdict
            .lost
            .push("it was taken out of its publication, or what that publishes was changed".to_owned());
    }
    if known.filter != now.filter {
        verdict.repair.push("the publication has another row filter for it".to_owned());
    }
    for before in &known.attributes {
        let after = now.attributes.iter().find(|a| a.number == before.number);
        verdict.repair.extend(column_change(before, after, spec));
    }
    let uses_key = spec.id.iter().eq(names(known, &known.primary_key));
    if uses_key && known.primary_key != now.primary_key {
        verdict.repair.push("it has another primary key".to_owned());
    }
    let explained = |relation: &Storage| is_explained(relation, truncated_by);
    // A rewrite hides that a column had a default.
    let moved = now.storage.iter().any(|relation| {
        of(known, relation.oid).is_some_and(|before| before.file != relation.file) && !explained(relation)
    });
    for column in added(known, now, spec) {
        if moved || yes.contains(&Question::FilledByDefault(column.name.clone())) {
            let why = format!("column {} was added with a value for the rows that were there", column.name);
            verdict.repair.push(why);
        } else {
            verdict.new_columns.push(column.name.clone());
        }
    }
    for before in &known.storage {
        let what = match of(now, before.oid) {
            Some(after) if after.links == before.links => continue,
            Some(_) => "and attached again",
            None => "or dropped",
        };
        verdict.repair.push(format!("partition {} was detached {what}", before.name));
    }
    for question in yes {
        match question {
            Question::FilledByDefault(_) => {}
            Question::JoinedWithRows(partition) => {
                verdict.repair.push(format!("partition {} was attached with rows in it", partition.name));
            }
            Question::Replaced { relation, .. } if explained(relation) => {}
            Question::Replaced { relation, .. } if relation.oid == now.oid => {
                verdict.repair.push("its rows were written anew (ALTER TABLE)".to_owned());
            }
            Question::Replaced { relation, .. } => verdict.repair.push(format!(
                "the rows of partition {} were removed or written anew (TRUNCATE of the partition, ALTER TABLE)",
                relation.name
            )),
        }
    }
    verdict
}

/// Did a TRUNCATE that the stream brought give the relation its file? A later change of the file leaves its own mark.
fn is_explained(relation: &Storage, truncated_by: &[Xid]) -> bool {
    truncated_by.iter().any(|xid| xid.0 as u32 == relation.origin.changed_by)
}

/// What happened to a column, where existing documents do not agree with it any more.
fn column_change(before: &Attribute, after: Option<&Attribute>, spec: &TableSpec) -> Option<String> {
    let (name, field) = (&before.name, field(before, spec));
    let Some(after) = after else {
        return field.map(|_| format!("column {name} was dropped"));
    };
    let new_field = self::field(after, spec);
    if field != new_field {
        return Some(if after.name == *name {
            let so = if after.published { "is published now" } else { "is not published any more" };
            format!("column {name} {so}")
        } else {
            format!("column {name} is called {} now", after.name)
        });
    }
    field?;
    let same_text = TEXTS.contains(&before.type_oid) && TEXTS.contains(&after.type_oid);
    if before.type_oid != after.type_oid && !same_text {
        return Some(format!("column {name} is {} now, not {}", after.sql_type, before.sql_type));
    }
    let renamed = before.labels.iter().find(|label| !after.labels.contains(label))?;
    Some(format!("the value {} of the enum of column {name} has another name", renamed.1))
}

/// The field of a column that is sent.
fn field<'a>(attribute: &'a Attribute, spec: &'a TableSpec) -> Option<&'a str> {
    attribute.published.then(|| spec.field_name(&attribute.name)).flatten()
}

/// Columns that were not there before and make a field.
fn added<'a>(
    known: &'a TableShape,
    now: &'a TableShape,
    spec: &'a TableSpec,
) -> impl Iterator<Item = &'a Attribute> {
    let is_known = |number| known.attributes.iter().any(|a| a.number == number);
    now.attributes.iter().filter(move |a| !is_known(a.number) && field(a, spec).is_some())
}

fn names<'a>(shape: &'a TableShape, numbers: &'a [i16]) -> impl Iterator<Item = &'a String> {
    numbers.iter().filter_map(|number| Some(&shape.attributes.iter().find(|a| a.number == *number)?.name))
}

fn of(shape: &TableShape, oid: u32) -> Option<&Storage> {
    let at = shape.storage.binary_search_by_key(&oid, |relation| relation.oid).ok()?;
    shape.storage.get(at)
}

#[cfg(test)]
#[path = "schema_change_tests.rs"]
mod tests;

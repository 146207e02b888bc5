//! Tables and the indices that they go into.

use super::{Cure, Finding};
use crate::sink::Owner;

/// An index that is there already, beside what would be written to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndexFacts {
    /// The entry of the table: `tables[2]`.
    pub place: String,
    /// Qualified table.
    pub table: String,
    /// The index itself.
    pub index: String,
    /// Whom it belongs to, where that is recorded.
    pub owner: Option<Owner>,
    /// Was it made by somebody else, and taken over, or about to be?
    pub adopted: bool,
    /// Fields that are mapped as another type than a new index would have: field, its type, the other.
    pub other_types: Vec<(String, String, String)>,
    /// What to do about the index of a PySpark job.
    pub spark_advice: Option<String>,
    /// Settings that keep documents from being written.
    pub blocks: Vec<String>,
    /// Ids that some rows of the table have.
    pub sample_ids: Vec<String>,
    /// How many of these the index has.
    pub samples_found: u64,
    /// An id that the index has; `None` where it is empty.
    pub any_id: Option<String>,
}

/// What keeps a table from being followed.
pub fn table(text: &str, sql: Option<&str>) -> Finding {
    let cure = sql.map_or_else(|| Cure::advice("change the configuration as said"), Cure::sql);
    Finding::error("table", text, cure)
}

/// What a publication lacks; `ours_to_do`: `run` does it itself.
pub fn publication(name: &str, sql: &str, ours_to_do: bool) -> Finding {
    if ours_to_do {
        return Finding::note(
            "publication",
            format!("publication {name} lacks tables or does not exist; `pg2os run` runs {sql}"),
        );
    }
    let reason =
        format!("publication {name} lacks tables or does not exist, and our role may not change that");
    Finding::error("publication", reason, Cure::sql(sql))
}

/// An index that is there already.
pub fn index(facts: &IndexFacts, pipeline: &str) -> Vec<Finding> {
    let IndexFacts { place, table, index, .. } = facts;
    let mut found = vec![];
    let other_index = || Cure::yaml(format!("# {place}: an index of its own\nindex: {index}-2"));
    if let Some(owner) =
        facts.owner.as_ref().filter(|owner| owner.pipeline != pipeline || owner.source.table != *table)
    {
        let reason = format!(
            "index {index} belongs to table {} of pipeline {}, so {table} cannot go into it",
            owner.source.table, owner.pipeline
        );
        found.push(Finding::error("index", reason, other_index()));
        return found;
    }
    if !facts.blocks.is_empty() {
        let settings: Vec<String> = facts.blocks.iter().map(|name| format!("\"{name}\": null")).collect();
        let reason = format!("index {index} takes no documents: {} is set", facts.blocks.join(", "));
        let cure = format!(
            "curl -X PUT OPENSEARCH/{index}/_settings -H 'content-type: application/json' -d '{{{}}}'   # after the disk \
             has room again",
            settings.join(", ")
        );
        found.push(Finding::error("index", reason, Cure::Command(cure)));
    }
    if let Some(advice) = &facts.spark_advice {
        let cure = Cure::yaml(format!("# {place}\ndocuments: spark"));
        found.push(Finding::warning("mapping", format!("index {index}: {advice}"), cure));
    } else if !facts.other_types.is_empty() {
        let fields =
            facts.other_types.iter().map(|(f, there, wanted)| format!("{f} is {there}, not {wanted}"));
        let reason = format!(
            "index {index} maps fields otherwise than a new one would ({}): values that it refuses become dead letters",
            fields.collect::<Vec<_>>().join("; ")
        );
        found.push(Finding::warning("mapping", reason, other_index()));
    }
    if let (true, Some(other), 0, Some(own)) =
        (facts.adopted, &facts.any_id, facts.samples_found, facts.sample_ids.first())
    {
        let reason = format!(
            "index {index} has documents, but none with the ids of these rows: a row of {table} has `{own}`, a document \
             there `{other}`; rows would be written beside what is there"
        );
        let cure = format!(
            "# {place}: the columns and the form that the ids there are made of\nid: […]\nid_form: plain   # or md5, spark, spark_md5"
        );
        found.push(Finding::warning("ids", reason, Cure::yaml(cure)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::Severity, sink::Source};

    fn facts() -> IndexFacts {
        let source = Source { system_identifier: "1".into(), database: "d".into(), table: "public.t".into() };
        IndexFacts {
            place: "tables[0]".into(),
            table: "public.t".into(),
            index: "t-000001".into(),
            owner: Some(Owner { pipeline: "p".into(), source }),
            sample_ids: vec!["1".into()],
            samples_found: 1,
            any_id: Some("7".into()),
            ..IndexFacts::default()
        }
    }

    #[test]
    fn each_fact_of_an_index_has_its_finding() {
        use Severity::{Error, Warning};
        type Change = fn(&mut IndexFacts);
        type Expected = Option<(Severity, &'static str, &'static str)>;
        let table: [(&str, Change, Expected); 8] = [
            ("as it should be", |_| {}, None),
            ("no owner yet", |f| f.owner = None, None),
            ("another table's", |f| f.table = "public.u".into(), Some((Error, "index", "index: t-000001-2"))),
            (
                "read-only",
                |f| f.blocks = vec!["index.blocks.read_only".into()],
                Some((Error, "index", "\"index.blocks.read_only\": null")),
            ),
            (
                "a job's",
                |f| f.spark_advice = Some("x".into()),
                Some((Warning, "mapping", "documents: spark")),
            ),
            (
                "other types",
                |f| f.other_types = vec![("a".into(), "long".into(), "date".into())],
                Some((Warning, "mapping", "index:")),
            ),
            ("foreign ids", |f| (f.adopted, f.samples_found) = (true, 0), Some((Warning, "ids", "id_form"))),
            ("empty", |f| (f.adopted, f.samples_found, f.any_id) = (true, 0, None), None),
        ];
        for (what, change, expected) in table {
            let mut facts = facts();
            change(&mut facts);
            let found = index(&facts, "p");
            let seen = found.iter().map(|f| (f.severity, f.check)).collect::<Vec<_>>();
            assert_eq!(seen, expected.iter().map(|(s, c, _)| (*s, *c)).collect::<Vec<_>>(), "{what}");
            if let (Some((_, _, cure)), [finding]) = (expected, &found[..]) {
                assert!(
                    format!("{:?}", finding.cure).replace('\\', "").contains(cure),
                    "{what}: {finding:?}"
                );
            }
        }
    }

    #[test]
    fn a_publication_that_is_ours_to_make_is_no_error() {
        assert_eq!(publication("p", "CREATE …", true).severity, Severity::Note);
        let finding = publication("p", "CREATE …", false);
        assert_eq!((finding.severity, finding.cure), (Severity::Error, Some(Cure::sql("CREATE …"))));
    }
}

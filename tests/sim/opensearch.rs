//! An OpenSearch of one index and a state index: external versions, deletes whose versions are forgotten, requests that
//! are executed late, refusals of all kinds, a listing that shows what was refreshed.

use crate::{messages, postgres::IDS, rng::Rng};
use pg2os::{
    config::{IdForm, OnTruncate},
    decode::CopyDecoder,
    lanes::Target,
    map::{IdBuffers, TableSpec},
    model::{Column, ColumnType, ReplicaIdentity, TableName, TableSchema, Version},
    pipeline::tables::{self, Tables},
    sink::{Answer, Outcome},
};
use std::sync::Arc;

use crate::postgres::Row;

/// The table as pg2os knows it, and the ids of its rows.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub tables: Arc<Tables>,
    pub plain: [Vec<u8>; IDS],
    pub ids: [Vec<u8>; IDS],
}

impl Mapping {
    pub fn new(id_form: IdForm) -> Self {
        let columns = [("id", 23, "integer"), ("a", 20, "bigint"), ("t", 25, "text"), ("w", 23, "integer")]
            .map(|(name, oid, sql_type)| Column {
                name: name.into(),
                column_type: ColumnType::scalar(oid, -1),
                sql_type: sql_type.into(),
                not_null: true,
            });
        let schema = TableSchema {
            oid: messages::TABLE,
            name: TableName { schema: "public".into(), name: "t".into() },
            columns: columns.into(),
            primary_key: vec!["id".into()],
            identity: ReplicaIdentity::Columns(vec!["id".into()]),
            row_filter: None,
            partitioned: false,
            deferrable_id: false,
            estimated_rows: 0,
        };
        let spec = TableSpec { id: vec!["id".into()], id_form, ..TableSpec::default() };
        let mut tables = Tables::default();
        let target = Target::new(tables.next(), "t");
        tables.push(tables::Table::new(target, schema, spec, OnTruncate::Delete).unwrap());
        let plain: [Vec<u8>; IDS] = std::array::from_fn(|id| id.to_string().into_bytes());
        let plan = &tables.iter().next().unwrap().plan;
        let ids = std::array::from_fn(|id| {
            let mut out = vec![];
            plan.id_of_plain(&plain[id], &mut out);
            out
        });
        Mapping { tables: Arc::new(tables), plain, ids }
    }

    pub fn table(&self) -> &tables::Table {
        self.tables.iter().next().unwrap()
    }

    /// Id and document of a row, as windows and lookups make them of COPY lines.
    pub fn map(&self, id: usize, row: &Row) -> (IdBuffers, Vec<u8>) {
        let line = format!("{id}\t{}\t{}\t{}\n", row.a, row.t, row.w);
        let (mut decoder, mut ids, mut document) = (CopyDecoder::default(), IdBuffers::default(), vec![]);
        let row = decoder.decode(line.as_bytes(), 4).unwrap();
        let plan = &self.table().plan;
        plan.write_id(&row, &mut ids).unwrap();
        plan.write_fitting_document(&row, 1000, &mut document).unwrap();
        (ids, document)
    }

    fn number_of(&self, id: &[u8]) -> usize {
        self.ids.iter().position(|known| known == id).unwrap_or_else(|| {
            panic!("an action for the unknown id {}", String::from_utf8_lossy(id));
        })
    }

    /// Reads a bulk body.
    pub fn actions(&self, body: &[u8]) -> Vec<Act> {
        let text = std::str::from_utf8(body).unwrap();
        let (mut lines, mut acts) = (text.lines(), vec![]);
        while let Some(line) = lines.next() {
            let id = line.split_once("\"_id\":\"").unwrap().1.split('"').next().unwrap();
            let version = line.split_once("\"version\":").unwrap().1.split(',').next().unwrap();
            let document = line.starts_with("{\"index\"").then(|| lines.next().unwrap().as_bytes().to_vec());
            acts.push(Act {
                id: self.number_of(id.as_bytes()),
                version: Version(version.parse().unwrap()),
                document,
            });
        }
        acts
    }
}

/// One action of a request.
#[derive(Clone, Debug)]
pub struct Act {
    pub id: usize,
    pub version: Version,
    /// `None` deletes.
    pub document: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub struct Document {
    pub version: Version,
    pub source: Vec<u8>,
}

#[derive(Debug)]
struct Late {
    act: Act,
    before: u64,
}

/// How it may fail, in 1000 requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Requests whose outcome stays unknown.
    pub unknown: usize,
    /// Refusals: 429, 503, 500, 413.
    pub refused: usize,
}

#[derive(Debug, Default)]
pub struct OpenSearch {
    pub documents: [Option<Document>; IDS],
    /// Versions of deleted documents that are not forgotten; 0 where there is none.
    deleted: [Version; IDS],
    late: Vec<Late>,
    refreshed: Vec<(usize, Version)>,
}

impl OpenSearch {
    /// Executes one action; `Err` is the version that is there.
    pub fn execute(&mut self, act: &Act) -> Result<(), Version> {
        let current = self.documents[act.id].as_ref().map_or(self.deleted[act.id], |d| d.version);
        if act.version < current {
            return Err(current);
        }
        self.documents[act.id] = act.document.clone().map(|source| Document { version: act.version, source });
        self.deleted[act.id] = if act.document.is_none() { act.version } else { Version(0) };
        Ok(())
    }

    /// Executes it later, before tick `before`, or never.
    pub fn delay(&mut self, act: Act, before: u64) {
        self.late.push(Late { act, before });
    }

    pub fn take_late(&mut self, rng: &mut Rng, now: u64) -> Option<Act> {
        self.late.retain(|late| now < late.before);
        if self.late.is_empty() {
            return None;
        }
        Some(self.late.swap_remove(rng.below(self.late.len())).act)
    }

    pub fn has_late(&self, now: u64) -> bool {
        self.late.iter().any(|late| now < late.before)
    }

    /// A restart, a relocation, or `index.gc_deletes`.
    pub fn forget_deletes(&mut self) {
        self.deleted = [Version(0); IDS];
    }

    pub fn refresh(&mut self) {
        let listed = self.documents.iter().enumerate();
        self.refreshed = listed.filter_map(|(id, d)| Some((id, d.as_ref()?.version))).collect();
    }

    /// The documents as of the last refresh.
    pub fn list(&self) -> Vec<(usize, Version)> {
        self.refreshed.clone()
    }
}

/// An answer that did not execute anything, or not everything: which actions are refused, and with what.
pub fn refusal(rng: &mut Rng, actions: usize) -> Refusal {
    match rng.below(4) {
        0 => Refusal::Whole(Answer::Busy("HTTP 503".into())),
        1 if actions > 1 => Refusal::Whole(Answer::TooLarge),
        _ => Refusal::Some,
    }
}

pub enum Refusal {
    /// Of the whole request.
    Whole(Answer),
    /// Of some of its actions.
    Some,
}

/// The outcome of one refused action. A 500 comes again only a few times: it ends in the dead letters.
pub fn refused(rng: &mut Rng) -> Outcome {
    match rng.below(12) {
        0 => Outcome::Target("HTTP 403: a block".into()),
        _ => Outcome::Retry("HTTP 429".into()),
    }
}

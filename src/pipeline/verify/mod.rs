//! `verify`: rows against documents, and the ids that differ; `--repair` makes those right.
//!
//! 1. The table is divided into scopes (`scope`): windows of rows, and the documents in their range.
//! 2. Of each scope both sides are counted and digested (`compare`), and where they differ the ids are found: candidates.
//! 3. Candidates are looked at until they stand still (`judge`): a live system never is.
//! 4. What differs is named; with `--repair` it is rewritten beside the live process (`rewrite`, **M9**) and judged again.
//!
//! Rows go the way of every window: the same COPY, the same mapping (G7), so digests are of the bytes that were sent.
//!
//! | failure between | what is there |
//! |---|---|
//! | reading, comparing, judging | nothing was written: begin again |
//! | a repair's floor stored, its ids not read again | the attempt: the next writer looks at what it wrote (`attempts`) |
//! | repaired, not judged again | right documents: the next verify finds none of them |
//! | a failover while it is judged | the connection is lost; begin again |
//!
//! Without a live process nothing is waited for. Then tables of which the slot still has changes to send are behind: their
//! differences may be those changes, and are not judged.

mod compare;
mod judge;
pub(super) mod scope;

pub use judge::Kind;

use super::{
    beside::{Beside, LaneTasks},
    error::PipelineError,
    position, prepare,
    progress::Progress,
    schemas,
    session::ended,
    tables::Tables,
    windows::Range,
};
use crate::{
    config::Config,
    lanes::TableNo,
    model::Lsn,
    sink::{self, DeadLetters, Index, StateStore, TableState},
    source::{
        self,
        pending::{self, Pending},
        publication, slot,
    },
};
use compare::{Candidate, Comparison, PAGE};
use judge::{Stream, Verdict};
use scope::Scope;
use serde::Serialize;
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
};
use tokio_postgres::Client;

/// Candidates that are judged together.
const JUDGED: usize = 20_000;
/// Differences of one table that are named.
const MOST: usize = 100_000;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Part of the tables.
    pub range: Range,
    /// Are differences to be repaired?
    pub repair: bool,
    /// About so many rows and documents of each table are compared, instead of all.
    pub sample: Option<u64>,
}

/// A row and a document that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Qualified table.
    pub table: String,
    /// Index (alias) name.
    pub index: String,
    /// `_id`.
    pub id: String,
    /// What the document is routed by; empty where that is its id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub routing: String,
    /// How.
    pub difference: Kind,
    /// Are they equal now?
    pub repaired: bool,
}

/// What was found in one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// Qualified name.
    pub table: String,
    /// Index (alias) name.
    pub index: String,
    /// Rows compared.
    pub rows: u64,
    /// Documents compared.
    pub documents: u64,
    /// Differences that stay.
    pub differences: u64,
    /// Differences that were repaired.
    pub repaired: u64,
    /// Ids that differ and may be behind: no process streams, and the slot has changes of the table.
    pub behind: u64,
    /// Ids that changed as often as they were looked at.
    pub moving: u64,
    /// What could not be compared, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Compares the tables of `config`; `found` gets every difference.
///
/// # Errors
/// Whatever stands in the way.
pub async fn verify(
    config: Config,
    options: &Options,
    progress: Arc<Progress>,
    mut found: impl FnMut(Difference),
) -> Result<Vec<TableReport>, PipelineError> {
    let mut verifier = Verifier::open(config, options, progress).await?;
    let mut reports = vec![];
    for number in 0..verifier.tables.iter().count() {
        let number = TableNo(u16::try_from(number).unwrap_or(u16::MAX));
        let (report, differences) = verifier.table(number).await?;
        reports.push(report);
        differences.into_iter().for_each(&mut found);
    }
    if let Some((writer, lanes)) = &mut verifier.writer {
        tokio::select! {
            result = writer.finish() => result?,
            Some(result) = lanes.join_next() => return Err(ended(result, "a lane")),
        }
    }
    Ok(reports)
}

struct Verifier<'a> {
    config: Arc<Config>,
    options: &'a Options,
    progress: Arc<Progress>,
    reader: Client,
    client: sink::Client,
    stream: Stream,
    tables: Tables,
    /// The index behind each table, and how far the table is filled.
    indices: Vec<(Index, TableState)>,
    /// Index and id of every dead letter.
    letters: HashSet<(String, String)>,
    pending: Option<Pending>,
    writer: Option<(Beside, LaneTasks)>,
}

impl<'a> Verifier<'a> {
    async fn open(
        config: Config,
        options: &'a Options,
        progress: Arc<Progress>,
    ) -> Result<Self, PipelineError> {
        let name = format!("pg2os {} verify", config.name);
        let control = source::sql::connect(&config.postgres, None, &name).await?;
        let config = Arc::new(schemas::expanded(&control, &config).await?);
        let client = sink::Client::new(&config.opensearch)?;
        client.info().await?;
        let state = StateStore::find(&client, &config.opensearch.state_index, &config.name).await?;
        if let Some(state) = &state
            && let Some(checkpoint) = state.checkpoint().await?
            && let Ok(server) = super::beside::identity_of(&control).await
            && let Some(why) = position::foreign(&checkpoint.record, &server)
        {
            return Err(PipelineError::Gap(why));
        }
        let (mut tables, mut indices) = (Tables::default(), vec![]);
        let schemas = schemas::schemas(&control, &config).await?;
        for (configured, schema) in config.tables.iter().zip(schemas) {
            let (mut table, _) = prepare::join(configured, schema, tables.next(), false)?;
            let name = table.schema.name.to_string();
            let Some(index) = client.find_index(&configured.index).await? else {
                return Err(PipelineError::Configuration(format!(
                    "{}: index {} of table {name} does not exist; `pg2os run` makes and fills it",
                    configured.place, configured.index
                )));
            };
            table.adopted = index.is_adopted();
            let filled = match &state {
                Some(state) => state.table(&name).await?.map(|stored| stored.record.state),
                None => None,
            };
            tables.push(table);
            indices.push((index, filled.unwrap_or(TableState::New)));
        }
        let letters = DeadLetters::find(&client, &config.opensearch.dead_letter_index, &config.name).await?;
        let letters = match letters {
            Some(letters) => letters.list(false).await?,
            None => vec![],
        };
        let letters = letters.into_iter().map(|letter| (letter.index, letter.id)).collect();
        let slot = config.postgres.slot.clone();
        let live = slot::find(&control, &slot).await?.is_some_and(|slot| slot.active);
        if !live {
            tracing::info!(
                "no process streams: what the slot has not sent yet counts as behind, not as different"
            );
        }
        let reader = source::sql::connect(&config.postgres, None, &name).await?;
        let stream = Stream { state, control, slot, live: AtomicBool::new(live) };
        Ok(Verifier {
            config,
            options,
            progress,
            reader,
            client,
            stream,
            tables,
            indices,
            letters,
            pending: None,
            writer: None,
        })
    }

    async fn table(&mut self, number: TableNo) -> Result<(TableReport, Vec<Difference>), PipelineError> {
        let table = self.tables.get(number);
        let configured = &self.config.tables[usize::from(number.0)];
        let (index, filled) = &self.indices[usize::from(number.0)];
        let mut report = TableReport {
            table: table.schema.name.to_string(),
            index: index.name.clone(),
            ..TableReport::default()
        };
        if self.stream.is_live() && *filled != TableState::Live {
            report.note = Some("it is being filled: verify it when it is live (`pg2os status`)".to_owned());
            return Ok((report, vec![]));
        }
        let comparison = self.comparison(number);
        let scopes = scope::scopes(
            &self.reader,
            table,
            configured.window.clone(),
            &self.options.range,
            &index.properties,
        )
        .await?;
        // Once is enough: what changes from now on is looked at by id.
        self.client.refresh(&index.concrete).await?;
        self.progress.plan(number, &report.table, scopes.len(), 0, table.schema.estimated_rows);
        let mut verdict = Verdict::default();
        match self.options.sample {
            Some(sample) => {
                let candidates = comparison.sample(&scopes, sample).await?;
                // Only rows are known with their keys.
                report.rows = candidates.iter().filter(|c| c.plain.is_some()).count() as u64;
                report.documents = candidates.len() as u64 - report.rows;
                verdict = comparison.judge(candidates, &self.stream).await?;
            }
            None => {
                for scope in &scopes {
                    self.scope(&comparison, scope, &mut report, &mut verdict).await?;
                    self.progress.window_done(number);
                    if verdict.differ.len() > MOST {
                        report.note = Some(format!(
                            "more than {MOST} ids differ, the rest was not compared: `pg2os resync --table {}` makes them right",
                            report.table
                        ));
                        break;
                    }
                }
            }
        }
        self.progress.table_live(number);
        let mut seen = HashSet::new();
        verdict.differ.retain(|(candidate, ..)| seen.insert(candidate.place()));
        report.moving += verdict.moving;
        if !verdict.differ.is_empty() && !self.stream.is_live() && self.is_behind(number).await? {
            report.behind = verdict.differ.len() as u64;
            return Ok((report, vec![]));
        }
        let differences = self.differences(number, verdict, &mut report).await?;
        Ok((report, differences))
    }

    fn comparison(&self, number: TableNo) -> Comparison<'_> {
        Comparison {
            reader: &self.reader,
            client: &self.client,
            table: self.tables.get(number),
            number,
            index: &self.indices[usize::from(number.0)].0.concrete,
            max_document_bytes: self.config.bulk.max_document_bytes,
            progress: &self.progress,
            page: AtomicUsize::new(PAGE),
        }
    }

    /// Compares one scope; what differs is added to `verdict`.
    async fn scope(
        &self,
        comparison: &Comparison<'_>,
        scope: &Scope,
        report: &mut TableReport,
        verdict: &mut Verdict,
    ) -> Result<(), PipelineError> {
        let counted = loop {
            match comparison.count(scope).await {
                Err(error) if comparison.shrink(&error) => {}
                counted => break counted?,
            }
        };
        report.rows += counted.rows;
        report.documents += counted.documents;
        for group in &counted.groups {
            let candidates = loop {
                match comparison.candidates(scope, group).await {
                    Err(error) if comparison.shrink(&error) => {}
                    candidates => break candidates?,
                }
            };
            for chunk in candidates.chunks(JUDGED) {
                let judged = comparison.judge(chunk.to_vec(), &self.stream).await?;
                verdict.moving += judged.moving;
                verdict.differ.extend(judged.differ);
                if verdict.differ.len() > MOST {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Has the slot changes of the table to send, which nobody streams?
    async fn is_behind(&mut self, number: TableNo) -> Result<bool, PipelineError> {
        let Stream { state, control, slot, .. } = &self.stream;
        let usable = slot::find(control, slot).await?.is_some_and(|slot| !slot.is_lost());
        let (Some(state), true) = (state, usable) else { return Ok(false) };
        if self.pending.is_none() {
            let at = state.checkpoint().await?.map_or(Lsn::ZERO, |stored| stored.record.lsn);
            let there = publication::oids(control).await?;
            let wanted = self.config.postgres.all_publications();
            let names: Vec<String> =
                wanted.into_iter().filter(|name| there.iter().any(|(_, there)| there == name)).collect();
            self.pending = Some(pending::pending(control, slot, &names, at).await?);
        }
        let oid = self.tables.get(number).schema.oid;
        Ok(self.pending.as_ref().is_some_and(|pending| pending.touches(oid)))
    }

    /// Repairs what is to be repaired, and names what differed.
    async fn differences(
        &mut self,
        number: TableNo,
        verdict: Verdict,
        report: &mut TableReport,
    ) -> Result<Vec<Difference>, PipelineError> {
        let mut stay: HashSet<u64> = verdict.differ.iter().map(|(candidate, ..)| candidate.place()).collect();
        if self.options.repair && !verdict.differ.is_empty() {
            let candidates: Vec<Candidate> =
                verdict.differ.iter().map(|(candidate, ..)| candidate.clone()).collect();
            self.rewrite(number, &candidates).await?;
            let comparison = self.comparison(number);
            stay.clear();
            for chunk in candidates.chunks(JUDGED) {
                let judged = comparison.judge(chunk.to_vec(), &self.stream).await?;
                stay.extend(judged.differ.iter().map(|(candidate, ..)| candidate.place()));
            }
        }
        let differences: Vec<Difference> = verdict
            .differ
            .into_iter()
            .map(|(candidate, kind, _)| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let id = text(&candidate.id);
                let has_letter = self.letters.contains(&(report.index.clone(), id.clone()));
                Difference {
                    table: report.table.clone(),
                    index: report.index.clone(),
                    routing: text(&candidate.routing),
                    difference: if has_letter { Kind::DeadLetter } else { kind },
                    repaired: !stay.contains(&candidate.place()),
                    id,
                }
            })
            .collect();
        report.repaired = differences.iter().filter(|difference| difference.repaired).count() as u64;
        report.differences = differences.len() as u64 - report.repaired;
        Ok(differences)
    }

    async fn rewrite(&mut self, number: TableNo, candidates: &[Candidate]) -> Result<(), PipelineError> {
        if self.writer.is_none() {
            let opened =
                Box::pin(Beside::open(self.config.clone(), "verify --repair", self.progress.clone()));
            let (writer, _, lanes) = opened.await?;
            self.writer = Some((writer, lanes));
        }
        let Some((writer, lanes)) = &mut self.writer else { return Ok(()) };
        let name = self.tables.get(number).schema.name.to_string();
        let Some(number) = writer.tables.find_qualified(&name) else {
            return Err(PipelineError::Redefined(name));
        };
        let rewriting = async {
            let client = writer.reader().await?;
            let known: Vec<(&[u8], &[u8])> =
                candidates.iter().filter_map(|c| Some((c.plain.as_deref()?, &c.routing[..]))).collect();
            let unknown: Vec<(&[u8], &[u8])> = candidates
                .iter()
                .filter(|c| c.plain.is_none())
                .map(|c| (&c.id[..], &c.routing[..]))
                .collect();
            if !known.is_empty() {
                writer.rewrite(&client, number, &known).await?;
            }
            if !unknown.is_empty() {
                writer.rewrite_ids(&client, number, &unknown).await?;
            }
            Ok(())
        };
        tokio::select! {
            result = rewriting => result,
            Some(result) = lanes.join_next() => Err(ended(result, "a lane")),
        }
    }
}

//! Candidates: ids of which row and document may differ, found by counts and digests.
//!
//! Ids fall into buckets by their hash. Of every bucket there is a count and a sum of digests of (id, routing, document), of
//! which rows add and documents take away: what is left is not zero where they differ. Sums do not depend on an order.
//! Then both are read once more, and only what is in differing buckets is held, in as many passes as memory needs (G6).

use super::scope::Scope;
use crate::{
    decode::CopyDecoder,
    lanes::TableNo,
    map::{IdBuffers, write_canonical},
    pipeline::{error::PipelineError, keys, progress::Progress, tables::Table},
    sink::{self, Document, Documents, SinkError},
    source::{self, copy, floor},
};
use futures_util::StreamExt;
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio_postgres::Client;
use twox_hash::XxHash3_64;

const BUCKETS: usize = 1 << 16;
/// Ids held at once.
const HELD: usize = 200_000;
/// Documents of a page, to begin with.
pub(super) const PAGE: usize = 1000;
const COUNT_EVERY: u64 = 1024;

/// An id of which row and document may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: Vec<u8>,
    pub(super) routing: Vec<u8>,
    /// Its key, where it is known.
    pub(super) plain: Option<Vec<u8>>,
}

impl Candidate {
    /// Stands for the id and its routing.
    pub(super) fn place(&self) -> u64 {
        place(&self.id, &self.routing)
    }
}

/// Both sides of one table.
pub(super) struct Comparison<'a> {
    pub(super) reader: &'a Client,
    pub(super) client: &'a sink::Client,
    pub(super) table: &'a Table,
    pub(super) number: TableNo,
    /// The index itself.
    pub(super) index: &'a str,
    pub(super) max_document_bytes: usize,
    pub(super) progress: &'a Progress,
    /// Documents of a page.
    pub(super) page: AtomicUsize,
}

/// What is left of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    count: i64,
    digest: u64,
    /// Rows and documents in it.
    entries: usize,
}

impl Bucket {
    fn row(&mut self, digest: u64) {
        self.count += 1;
        self.digest = self.digest.wrapping_add(digest);
        self.entries += 1;
    }

    fn document(&mut self, digest: u64) {
        self.count -= 1;
        self.digest = self.digest.wrapping_sub(digest);
        self.entries += 1;
    }

    fn differs(&self) -> bool {
        self.count != 0 || self.digest != 0
    }
}

/// What a scope holds, and the groups of buckets that differ in it.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) rows: u64,
    pub(super) documents: u64,
    pub(super) groups: Vec<HashSet<usize>>,
}

impl Comparison<'_> {
    /// Counts `scope`, and tells which buckets differ.
    pub(super) async fn count(&self, scope: &Scope) -> Result<Counted, PipelineError> {
        let mut counted = Counted::default();
        let mut buckets = vec![Bucket::default(); BUCKETS];
        let mut bucket = |place: u64, change: &mut dyn FnMut(&mut Bucket)| {
            if let Some(bucket) = buckets.get_mut(bucket_of(place)) {
                change(bucket);
            }
        };
        self.rows(scope, |ids, digest| {
            counted.rows += 1;
            bucket(place(&ids.id, &ids.routing), &mut |b| b.row(digest));
        })
        .await?;
        self.documents(scope, |document, digest| {
            counted.documents += 1;
            bucket(place(document.id.as_bytes(), document.routing.as_bytes()), &mut |b| b.document(digest));
        })
        .await?;
        counted.groups = groups(&buckets, HELD);
        Ok(counted)
    }

    /// The ids of the buckets of `group` whose row and document differed while they were read.
    pub(super) async fn candidates(
        &self,
        scope: &Scope,
        group: &HashSet<usize>,
    ) -> Result<Vec<Candidate>, PipelineError> {
        let mut rows: HashMap<u64, (u64, Candidate)> = HashMap::new();
        self.rows(scope, |ids, digest| {
            let place = place(&ids.id, &ids.routing);
            if group.contains(&bucket_of(place)) {
                let plain = Some(ids.plain.clone());
                let row = Candidate { id: ids.id.clone(), routing: ids.routing.clone(), plain };
                rows.insert(place, (digest, row));
            }
        })
        .await?;
        let mut candidates = vec![];
        self.documents(scope, |document, digest| {
            let (id, routing) = (document.id.as_bytes(), document.routing.as_bytes());
            let place = place(id, routing);
            if !group.contains(&bucket_of(place)) {
                return;
            }
            match rows.get(&place) {
                Some((row, _)) if *row == digest => {
                    rows.remove(&place);
                }
                Some(_) => {}
                None => {
                    candidates.push(Candidate { id: id.to_vec(), routing: routing.to_vec(), plain: None });
                }
            }
        })
        .await?;
        candidates.extend(rows.into_values().map(|(_, candidate)| candidate));
        Ok(candidates)
    }

    /// About `wanted` rows and as many documents of `scopes`, at random.
    pub(super) async fn sample(
        &self,
        scopes: &[Scope],
        wanted: u64,
    ) -> Result<Vec<Candidate>, PipelineError> {
        let most = usize::try_from(wanted).unwrap_or(usize::MAX);
        let estimated = u64::try_from(self.table.schema.estimated_rows).unwrap_or(0);
        let share = wanted as f64 / estimated.max(wanted).max(1) as f64;
        let mut candidates = vec![];
        for predicate in scopes.iter().flat_map(|scope| &scope.rows) {
            let predicate = predicate.as_deref().unwrap_or("true");
            let predicate = format!("({predicate}) AND pg_catalog.random() < {share}");
            keys::list(self.reader, self.table, Some(&predicate), |ids| {
                if candidates.len() < most {
                    let plain = Some(ids.plain.clone());
                    candidates.push(Candidate { id: ids.id.clone(), routing: ids.routing.clone(), plain });
                }
            })
            .await?;
        }
        let queries: Vec<_> = scopes.iter().map(|scope| &scope.documents).collect();
        let query = json!({ "bool": { "should": queries, "minimum_should_match": 1 } });
        for document in self.client.sample(self.index, &query, most).await? {
            let (id, routing) = (document.id.into_bytes(), document.routing.into_bytes());
            candidates.push(Candidate { id, routing, plain: None });
        }
        Ok(candidates)
    }

    /// Reads the rows of `scope`, each condition in a snapshot of its own.
    async fn rows(&self, scope: &Scope, mut each: impl FnMut(&IdBuffers, u64)) -> Result<(), PipelineError> {
        let (schema, plan) = (&self.table.schema, &self.table.plan);
        let columns: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
        let (mut decoder, mut ids, mut document) = (CopyDecoder::default(), IdBuffers::default(), vec![]);
        for predicate in &scope.rows {
            let bad = |what: &str| PipelineError::Row {
                table: schema.name.to_string(),
                window: predicate.clone().unwrap_or_else(|| "all".to_owned()),
                what: what.to_owned(),
            };
            let sql = copy::copy_sql(schema, &columns, schema.row_filter.as_deref(), predicate.as_deref());
            floor::snapshot(self.reader).await?;
            let mut lines = Box::pin(copy::read(self.reader, &sql).await?);
            let (mut rows, mut bytes) = (0_u64, 0_u64);
            while let Some(line) = lines.next().await {
                let line = line?;
                let row = decoder.decode(&line, columns.len()).map_err(|e| bad(&e.to_string()))?;
                plan.write_id(&row, &mut ids).map_err(|_| bad("a key column is missing"))?;
                document.clear();
                let made = plan.write_fitting_document(&row, self.max_document_bytes, &mut document);
                each(&ids, if made.is_ok() { self.digest(&ids.id, &document) } else { REFUSED });
                rows += 1;
                bytes += line.len() as u64;
                if rows.is_multiple_of(COUNT_EVERY) {
                    self.progress.rows_read(self.number, COUNT_EVERY, std::mem::take(&mut bytes));
                }
            }
            self.progress.rows_read(self.number, rows % COUNT_EVERY, bytes);
            self.reader.batch_execute("COMMIT").await.map_err(source::SourceError::from)?;
        }
        Ok(())
    }

    async fn documents(
        &self,
        scope: &Scope,
        mut each: impl FnMut(&Document, u64),
    ) -> Result<(), PipelineError> {
        let page = self.page.load(Ordering::Relaxed);
        let mut listing = Documents::of(self.client, self.index, &scope.documents, page);
        while let Some(page) = listing.next_page().await? {
            for document in &page {
                each(document, self.digest(document.id.as_bytes(), document.source()));
            }
        }
        Ok(())
    }

    /// After an answer that was too long: are pages smaller now, so that it can be tried again?
    pub(super) fn shrink(&self, error: &PipelineError) -> bool {
        let page = self.page.load(Ordering::Relaxed);
        self.page.store((page / 8).max(1), Ordering::Relaxed);
        page > 1 && matches!(error, PipelineError::Sink(SinkError::TooLong { .. }))
    }

    /// The digest of a document: of its bytes, which are what pg2os sent; of its value where others have written too.
    pub(super) fn digest(&self, id: &[u8], document: &[u8]) -> u64 {
        let seed = XxHash3_64::oneshot(id);
        let mut canonical = vec![];
        if self.table.adopted && write_canonical(document, &mut canonical).is_ok() {
            return XxHash3_64::oneshot_with_seed(seed, &canonical);
        }
        XxHash3_64::oneshot_with_seed(seed, document)
    }
}

/// Stands for the document of a row that has none.
pub(super) const REFUSED: u64 = 0;

pub(super) fn place(id: &[u8], routing: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(routing), id)
}

fn bucket_of(place: u64) -> usize {
    (place % BUCKETS as u64) as usize
}

/// The buckets that differ, in groups of about `held` entries; a bucket of more has a group of its own.
fn groups(buckets: &[Bucket], held: usize) -> Vec<HashSet<usize>> {
    let (mut groups, mut entries) = (vec![], usize::MAX);
    for (number, bucket) in buckets.iter().enumerate().filter(|(_, bucket)| bucket.differs()) {
        if entries.saturating_add(bucket.entries) > held {
            groups.push(HashSet::new());
            entries = 0;
        }
        entries += bucket.entries;
        if let Some(group) = groups.last_mut() {
            group.insert(number);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_differs_just_where_its_rows_and_documents_do(
            rows in proptest::collection::vec(0u64..5, 0..6),
            documents in proptest::collection::vec(0u64..5, 0..6),
        ) {
            let digest = |value: &u64| XxHash3_64::oneshot(&value.to_le_bytes());
            let mut bucket = Bucket::default();
            documents.iter().for_each(|value| bucket.document(digest(value)));
            rows.iter().for_each(|value| bucket.row(digest(value)));
            let sorted = |mut values: Vec<u64>| { values.sort_unstable(); values };
            prop_assert_eq!(bucket.differs(), sorted(rows) != sorted(documents));
        }
    }

    #[test]
    fn only_differing_buckets_are_held_and_never_too_many_at_once() {
        let bucket = |count, entries| Bucket { count, digest: 0, entries };
        let buckets = [bucket(1, 6), bucket(0, 9), bucket(1, 4), bucket(-1, 1), bucket(1, 20)];
        let groups: Vec<Vec<usize>> = groups(&buckets, 10)
            .into_iter()
            .map(|group| {
                let mut group: Vec<_> = group.into_iter().collect();
                group.sort_unstable();
                group
            })
            .collect();
        assert_eq!(groups, [vec![0, 2], vec![3], vec![4]]);
        assert!(super::groups(&[bucket(0, 5)], 10).is_empty());
    }
}

//! The state index: where checkpoint, epochs, tables and windows are kept beside the data.
//!
//! A write returns when it is durable (`index.translog.durability` is `request`). None can be undone by a late one: positions
//! and windows carry external versions, epochs and tables are changed only from the revision that was seen last.

use super::{
    client::{Client, Request, encode},
    error::{Result, SinkError},
    index::Index,
    record::{
        self, AttemptRecord, BulkLoadRecord, Checkpoint, EpochRecord, High, PlanRecord, Record, ShapeRecord,
        Stored, TableRecord, WindowRecord, document_id,
    },
    scroll::Scroll,
};
use crate::model::{Epochs, Lsn};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{
    collections::HashMap,
    fs,
    hash::{BuildHasher, RandomState},
    process,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const PAGE: usize = 1000;
/// Within this a new shard answers.
const SHARD_PATIENCE: Duration = Duration::from_secs(10);

/// Stores that this process has opened: what another session of it wrote is not this one's.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// The state documents of one pipeline.
pub struct StateStore {
    client: Client,
    index: String,
    require_alias: bool,
    pipeline: String,
    owner: String,
    /// Revisions seen last of the documents that are changed by revision.
    revisions: Mutex<HashMap<String, Revision>>,
}

/// Which write a document is at (OpenSearch docs: "Index document", `if_seq_no` and `if_primary_term`).
#[derive(Debug, Clone, Copy, Deserialize)]
struct Revision {
    #[serde(rename = "_seq_no")]
    seq_no: i64,
    #[serde(rename = "_primary_term")]
    primary_term: i64,
}

#[derive(Deserialize)]
struct Found {
    found: bool,
    #[serde(flatten)]
    revision: Option<Revision>,
    #[serde(rename = "_source")]
    source: Option<Box<serde_json::Value>>,
}

impl StateStore {
    /// Opens the state of `pipeline` in `index`, which is made if it is not there: one shard, a replica where there is a
    /// second node.
    pub async fn open(client: &Client, index: &str, pipeline: &str) -> Result<StateStore> {
        let keyword = json!({ "type": "keyword" });
        let mappings = json!({
            "dynamic": false,
            "properties": {
                "format": { "type": "integer" },
                "kind": keyword, "pipeline": keyword, "owner": keyword, "table": keyword, "state": keyword,
                "time": { "type": "date" },
            },
        });
        let settings = json!({ "index.number_of_shards": 1, "index.auto_expand_replicas": "0-1" });
        let found = client.ensure_alias(index, &settings, &mappings).await?;
        Self::in_index(client, index, &found, pipeline)
    }

    /// The state of `pipeline`, where there is a state index; nothing is made.
    pub async fn find(client: &Client, index: &str, pipeline: &str) -> Result<Option<StateStore>> {
        match client.find_index(index).await? {
            Some(found) => Self::in_index(client, index, &found, pipeline).map(Some),
            None => Ok(None),
        }
    }

    fn in_index(client: &Client, index: &str, found: &Index, pipeline: &str) -> Result<StateStore> {
        // In an index that came into being by a write, these are texts, and no search finds anything.
        let is_keyword = |field| found.properties.get(field).is_some_and(|f| f["type"] == "keyword");
        if !["kind", "pipeline", "table"].into_iter().all(is_keyword) {
            return Err(SinkError::Configuration(format!(
                "opensearch.state_index: {} was not made by pg2os (`kind`, `pipeline` and `table` are not keywords); name another index",
                found.concrete
            )));
        }
        Ok(StateStore {
            client: client.clone(),
            index: index.to_owned(),
            require_alias: found.is_alias,
            pipeline: pipeline.to_owned(),
            owner: format!("{}:{}", process_name(), OPENED.fetch_add(1, Ordering::Relaxed)),
            revisions: Mutex::default(),
        })
    }

    /// Who signs the documents: `host:pid:token:number`, the token made at the start of the process.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Was a document with this owner written by this process?
    pub fn is_own_process(&self, owner: &str) -> bool {
        owner.rsplit_once(':').is_some_and(|(process, _)| process == process_name())
    }

    /// The checkpoint.
    pub async fn checkpoint(&self) -> Result<Option<Stored<Checkpoint>>> {
        Ok(self.get(&self.id(&["checkpoint"])).await?.map(|(stored, _)| stored))
    }

    /// Moves the checkpoint. [`SinkError::Superseded`] where one with a higher position is there: another instance is
    /// ahead of this one.
    pub async fn write_checkpoint(&self, checkpoint: &Checkpoint, epochs: &Epochs) -> Result<()> {
        let id = self.id(&["checkpoint"]);
        match self.put_at(&id, checkpoint, checkpoint.lsn, epochs).await? {
            true => Ok(()),
            false => Err(self.superseded::<Checkpoint>(id).await?),
        }
    }

    /// The highest position whose content may be in the indices (**M7**).
    pub async fn high(&self) -> Result<Option<Stored<High>>> {
        Ok(self.get(&self.id(&["high"])).await?.map(|(stored, _)| stored))
    }

    /// Raises it; where it is higher already, that is as good. It must be durable before the writes that it covers.
    pub async fn raise_high(&self, lsn: Lsn, epochs: &Epochs) -> Result<()> {
        let high = High { lsn, epoch: epochs.last().number };
        self.put_at(&self.id(&["high"]), &high, lsn, epochs).await.map(|_| ())
    }

    /// The same of those who write beside the stream: whoever streams could not see that they wrote below its own mark.
    pub async fn high_beside(&self) -> Result<Option<Stored<High>>> {
        Ok(self.get(&self.id(&["high", "beside"])).await?.map(|(stored, _)| stored))
    }

    /// As [`StateStore::raise_high`].
    pub async fn raise_high_beside(&self, lsn: Lsn, epochs: &Epochs) -> Result<()> {
        let high = High { lsn, epoch: epochs.last().number };
        self.put_at(&self.id(&["high", "beside"]), &high, lsn, epochs).await.map(|_| ())
    }

    /// The epochs and a repair that is not finished.
    pub async fn epochs(&self) -> Result<Option<Stored<EpochRecord>>> {
        self.get_revised(&self.id(&["epochs"])).await
    }

    /// The epochs as they are now, for one who will not change them.
    pub async fn epochs_now(&self) -> Result<Option<Epochs>> {
        let found = self.get::<EpochRecord>(&self.id(&["epochs"])).await?;
        Ok(found.map(|(stored, _)| stored.record.list))
    }

    /// Changes them; [`SinkError::Superseded`] where another process has since [`StateStore::epochs`] was read.
    pub async fn write_epochs(&self, epochs: &EpochRecord) -> Result<()> {
        self.put_revised(self.id(&["epochs"]), epochs).await
    }

    /// The state of one table.
    pub async fn table(&self, table: &str) -> Result<Option<Stored<TableRecord>>> {
        self.get_revised(&self.id(&["table", table])).await
    }

    /// The states of all tables that this pipeline has or had.
    pub async fn tables(&self) -> Result<Vec<Stored<TableRecord>>> {
        self.search(None).await
    }

    /// Changes the state of a table; [`SinkError::Superseded`] where another process has since it was read.
    pub async fn write_table(&self, table: &TableRecord) -> Result<()> {
        self.put_revised(self.id(&["table", &table.table]), table).await
    }

    /// The shape with which the documents of one table agree.
    pub async fn shape(&self, table: &str) -> Result<Option<Stored<ShapeRecord>>> {
        self.get_revised(&self.id(&["shape", table])).await
    }

    /// Changes it; [`SinkError::Superseded`] where another process has since it was read.
    pub async fn write_shape(&self, shape: &ShapeRecord) -> Result<()> {
        self.put_revised(self.id(&["shape", &shape.table]), shape).await
    }

    /// How a table is divided.
    pub async fn plan(&self, table: &str) -> Result<Option<Stored<PlanRecord>>> {
        self.get_revised(&self.id(&["plan", table])).await
    }

    /// Changes it; [`SinkError::Superseded`] where another process has since it was read.
    pub async fn write_plan(&self, plan: &PlanRecord) -> Result<()> {
        self.put_revised(self.id(&["plan", &plan.table]), plan).await
    }

    /// All windows of a table that are recorded, of every attempt; which of them count, their floor and predicate tell.
    pub async fn windows(&self, table: &str) -> Result<Vec<Stored<WindowRecord>>> {
        self.search(Some(table)).await
    }

    /// Records a window. Where one with a later floor is recorded under its number, that one stays.
    pub async fn write_window(&self, window: &WindowRecord, epochs: &Epochs) -> Result<()> {
        let id = self.id(&["window", &window.table, &window.number.to_string()]);
        self.put_at(&id, window, window.floor.lsn, epochs).await.map(|_| ())
    }

    /// Indices whose settings are others while they are filled.
    pub async fn bulk_loads(&self) -> Result<Vec<Stored<BulkLoadRecord>>> {
        self.search(None).await
    }

    /// The one of a table.
    pub async fn bulk_load(&self, table: &str) -> Result<Option<Stored<BulkLoadRecord>>> {
        self.get_revised(&self.id(&["bulk_load", table])).await
    }

    /// Notes it, if nobody has; else [`SinkError::Superseded`].
    pub async fn write_bulk_load(&self, load: &BulkLoadRecord) -> Result<()> {
        self.put_revised(self.id(&["bulk_load", &load.table]), load).await
    }

    /// The settings are as they were.
    pub async fn forget_bulk_load(&self, table: &str) -> Result<()> {
        self.forget(&self.id(&["bulk_load", table])).await
    }

    /// Writers beside the live process that have not finished, or never will.
    pub async fn attempts(&self) -> Result<Vec<Stored<AttemptRecord>>> {
        self.search(None).await
    }

    /// Writes the attempt of this process, or what is known of it since.
    pub async fn write_attempt(&self, attempt: &AttemptRecord) -> Result<()> {
        self.put_revised(self.id(&["attempt", &attempt.lock.to_string()]), attempt).await
    }

    /// Nothing that the attempt wrote is in doubt any more.
    pub async fn forget_attempt(&self, attempt: &AttemptRecord) -> Result<()> {
        self.forget(&self.id(&["attempt", &attempt.lock.to_string()])).await
    }

    /// Forgets where the stream was: it begins anew.
    pub async fn forget_checkpoint(&self) -> Result<()> {
        self.forget(&self.id(&["checkpoint"])).await
    }

    /// Forgets the shape with which the documents of a table agree.
    pub async fn forget_shape(&self, table: &str) -> Result<()> {
        self.forget(&self.id(&["shape", table])).await
    }

    /// Has another process made a table new since this one read or wrote its state? It is to be read again.
    pub async fn is_asked_for(&self, table: &str) -> Result<bool> {
        let id = self.id(&["table", table]);
        let Some((stored, revision)) = self.get::<TableRecord>(&id).await? else { return Ok(false) };
        let known = self.remembered(&id).map(|revision| revision.seq_no);
        let is_new = stored.record.state == record::TableState::New && stored.owner != self.owner;
        Ok(is_new && known.is_some_and(|known| revision.is_some_and(|now| now.seq_no > known)))
    }

    /// Removes a document; it may be gone already.
    async fn forget(&self, id: &str) -> Result<()> {
        let path = format!("/{}/_doc/{}", encode(&self.index), encode(id));
        self.client.call_document::<serde_json::Value>(Request::new(Method::DELETE, path)).await?;
        self.remember(id, None);
        Ok(())
    }

    /// Removes all documents of a table: its own last, so that after a failure between it is still known.
    pub async fn forget_table(&self, table: &str) -> Result<()> {
        for window in self.windows(table).await? {
            self.forget(&self.id(&["window", table, &window.record.number.to_string()])).await?;
        }
        self.forget_shape(table).await?;
        self.forget(&self.id(&["table", table])).await
    }

    fn id(&self, parts: &[&str]) -> String {
        document_id(&[&[self.pipeline.as_str()], parts].concat())
    }

    async fn get<T: Record>(&self, id: &str) -> Result<Option<(Stored<T>, Option<Revision>)>> {
        let path = format!("/{}/_doc/{}", encode(&self.index), encode(id));
        let begun = Instant::now();
        let answer: Found = loop {
            match self.client.call_document(Request::get(path.as_str())).await {
                // Another instance made the index a moment ago: its shard does not answer yet.
                Err(SinkError::Busy { .. }) if begun.elapsed() < SHARD_PATIENCE => {
                    tokio::time::sleep(SHARD_PATIENCE / 50).await;
                }
                answer => break answer?,
            }
        };
        if !answer.found {
            return Ok(None);
        }
        let json = answer.source.map(|source| source.to_string()).unwrap_or_default();
        let stored = record::read(&self.index, id, &self.pipeline, &json)?;
        Ok(Some((stored, answer.revision)))
    }

    async fn get_revised<T: Record>(&self, id: &str) -> Result<Option<Stored<T>>> {
        let found = self.get(id).await?;
        self.remember(id, found.as_ref().and_then(|(_, revision)| *revision));
        Ok(found.map(|(stored, _)| stored))
    }

    /// Writes at the version of a position; `false` where a higher one is there.
    async fn put_at<T: Record>(&self, id: &str, record: &T, lsn: Lsn, epochs: &Epochs) -> Result<bool> {
        let version = epochs.version(lsn, 0).map_err(|source| SinkError::Version { lsn, source })?;
        let condition = format!("version={}&version_type=external_gte", version.0);
        Ok(self.put(id, record, &condition).await?.is_some())
    }

    /// Writes over the revision that was seen last, or where no document was.
    async fn put_revised<T: Record>(&self, id: String, record: &T) -> Result<()> {
        let mut revision = self.remembered(&id);
        for _ in 0..2 {
            let condition = match revision {
                Some(Revision { seq_no, primary_term }) => {
                    format!("if_seq_no={seq_no}&if_primary_term={primary_term}")
                }
                None => "op_type=create".to_owned(),
            };
            if let Some(written) = self.put(&id, record, &condition).await? {
                self.remember(&id, Some(written));
                return Ok(());
            }
            // It may be our own earlier write whose answer was lost.
            match self.get::<T>(&id).await? {
                Some((stored, found)) if stored.owner == self.owner => revision = found,
                _ => break,
            }
        }
        Err(self.superseded::<T>(id).await?)
    }

    /// One write; `None` where its condition is not met (409).
    async fn put<T: Record>(&self, id: &str, record: &T, condition: &str) -> Result<Option<Revision>> {
        let body = record::write(record, &self.pipeline, &self.owner)
            .map_err(|error| SinkError::Configuration(format!("state document `{id}`: {error}")))?;
        let path = format!(
            "/{}/_doc/{}?{condition}&require_alias={}&timeout=10s",
            encode(&self.index),
            encode(id),
            self.require_alias
        );
        match self.client.call(Request::new(Method::PUT, path).body(body)).await {
            Ok(revision) => Ok(Some(revision)),
            Err(error) if error.is_refusal("version_conflict_engine_exception") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn superseded<T: Record>(&self, id: String) -> Result<SinkError> {
        let owner = self.get::<T>(&id).await?.map(|(stored, _)| stored.owner);
        let owner = owner.unwrap_or_else(|| "somebody who deleted it".to_owned());
        Ok(SinkError::Superseded { id, owner })
    }

    /// All tables, or all windows of one.
    async fn search<T: Record>(&self, table: Option<&str>) -> Result<Vec<Stored<T>>> {
        self.client.refresh(&self.index).await?;
        let mut filter =
            vec![json!({"term": {"pipeline": self.pipeline}}), json!({"term": {"kind": T::KIND}})];
        filter.extend(table.map(|table| json!({"term": {"table": table}})));
        let search = json!({ "query": {"bool": {"filter": filter}}, "seq_no_primary_term": true });
        let mut scroll = Scroll::new(&self.client, &self.index, search, PAGE);
        let mut records = Vec::new();
        while let Some(hits) = scroll.next_page().await? {
            for hit in hits {
                let json = hit.source.as_deref().map_or("", RawValue::get);
                records.push(record::read(&self.index, &hit.id, &self.pipeline, json)?);
                if let (None, Some(seq_no), Some(primary_term)) = (table, hit.seq_no, hit.primary_term) {
                    self.remember(&hit.id, Some(Revision { seq_no, primary_term }));
                }
            }
        }
        Ok(records)
    }

    fn remembered(&self, id: &str) -> Option<Revision> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }

    fn remember(&self, id: &str, revision: Option<Revision>) {
        let mut revisions = self.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        match revision {
            Some(revision) => revisions.insert(id.to_owned(), revision),
            None => revisions.remove(id),
        };
    }
}

/// `host:pid:token`. A process id alone comes again, in containers always.
fn process_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(make_process_name)
}

fn make_process_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
    let token = RandomState::new().hash_one(record::now());
    format!("{host}:{}:{token:016x}", process::id())
}

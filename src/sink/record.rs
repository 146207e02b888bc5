//! The state documents: what is in them, and how they are read back. Pure.
//!
//! Every document has `format`, `kind`, `pipeline`, `owner` and `time`. Newer programs read older formats, older ones
//! refuse newer.

use super::error::{Result, SinkError};
use crate::model::{Epochs, Lsn, TableShape, Version};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Format of the documents that this program writes.
pub(super) const FORMAT: u64 = 1;
/// Longest `_id` that OpenSearch takes, in bytes.
const ID_BYTES: usize = 512;

/// A kind of state document.
pub(super) trait Record: Serialize + DeserializeOwned {
    const KIND: &'static str;

    /// Is the content possible? It comes from outside.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Where the stream continues: every action at or before `lsn` is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Replication slot.
    pub slot: String,
    /// `system_identifier` of the source, as text.
    pub system_identifier: String,
    /// Database.
    pub database: String,
    /// Timeline.
    pub timeline: u32,
    /// Where it began; 0/0 for the first one, and where it is not known.
    #[serde(default, with = "lsn_text")]
    pub timeline_began: Lsn,
    /// `pg_publication.oid` of the publications, in order; none where that is not known.
    #[serde(default)]
    pub publications: Vec<u32>,
    /// Fingerprint of all that versions depend on (**M12**).
    pub fingerprint: String,
    /// Commits below it were given ordinals under another fingerprint (**M12**).
    #[serde(with = "lsn_text", default)]
    pub held_below: Lsn,
    /// `COMMIT.end_lsn`.
    #[serde(with = "lsn_text")]
    pub lsn: Lsn,
    /// The highest position at an orderly stop (**M7**).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<StoppedHigh>,
    /// Did its writer leave with nothing in flight and nothing in doubt? Then no request of it can be executed late.
    #[serde(default)]
    pub settled: bool,
}

/// The highest position whose content may be in the indices (**M7**). One of the processes that stream, which raise it in
/// steps, and one of those that write beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct High {
    /// Position.
    #[serde(with = "lsn_text")]
    pub lsn: Lsn,
    /// Its epoch: where a later one has begun, what lies above the fork is repaired, or to be. 0 where it is not known.
    #[serde(default)]
    pub epoch: u16,
}

/// What a process knows of the highest position that goes into [`High`] (**M7**).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedHigh {
    /// The highest position whose content it wrote.
    #[serde(with = "lsn_text")]
    pub exact: Lsn,
    /// How far it raised [`High`]: `exact` counts if nobody raised it further.
    #[serde(with = "lsn_text")]
    pub raised: Lsn,
}

/// The epochs, and a gap that is being repaired: one document, as they change together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epochs.
    pub list: Epochs,
    /// What was found and is not repaired yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<Repair>,
}

/// A gap or fork that is being repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// What was found.
    pub reason: String,
    /// Position from which the indices are in doubt.
    #[serde(with = "lsn_text")]
    pub lsn: Lsn,
    /// Is it repaired by looking up the ids that were written past `lsn`? Only the process that wrote them knows them;
    /// any other reads all tables again.
    #[serde(default)]
    pub by_ids: bool,
}

/// How far a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableState {
    /// Nothing was read yet.
    New,
    /// It has a floor, and its windows are being read.
    Windows,
    /// All windows are done; the stream keeps it.
    Live,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Qualified name.
    pub table: String,
    /// Index (alias) name.
    pub index: String,
    /// `uuid` of the index: another one means that it was made anew.
    pub index_uuid: String,
    /// Histories of its shards, as [`Client::history`](super::Client::history) gives them: another one means that an older
    /// copy was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_history: Option<String>,
    /// State.
    pub state: TableState,
    /// Digest of the settings its documents depend on.
    pub digest: String,
    /// Has the index documents from before the floor, which are to be swept once the windows are done?
    #[serde(default)]
    pub sweep: bool,
    /// Floor of its windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// `pg_class.relfilenode`: windows by ctid hold for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relfilenode: Option<u32>,
}

/// The shape of a table with which its documents agree. A document of its own: windows change [`TableRecord`] meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeRecord {
    /// Qualified name.
    pub table: String,
    /// Shape.
    pub shape: TableShape,
}

/// The floor of a backfill (design: "The floor").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Every commit at or before it is visible to every window.
    #[serde(with = "lsn_text")]
    pub lsn: Lsn,
    /// Epoch it was taken in.
    pub epoch: u16,
    /// Where the slot began: a window counts for the stream only if its floor is not below.
    #[serde(with = "lsn_text")]
    pub slot_start: Lsn,
}

/// State of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowState {
    /// All its rows are durable.
    Done,
}

/// One window of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRecord {
    /// Qualified name of the table.
    pub table: String,
    /// Number among the windows of the table.
    pub number: u64,
    /// For people: `2024-01-01 … 2024-01-31`.
    pub label: String,
    /// Its SQL condition: a window of the same number counts only if it is the same.
    pub predicate: String,
    /// State.
    pub state: WindowState,
    /// Rows read.
    pub rows: u64,
    /// Floor it was read at.
    pub floor: Floor,
}

/// How a table is divided under one floor. It is written before the first of its windows is read, so that whoever goes on
/// has the same windows, whatever the statistics say by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// Qualified name of the table.
    pub table: String,
    /// Floor of its windows.
    pub floor: Floor,
    /// The setting that it was divided by, for people and to be compared.
    pub setting: String,
    /// Oid and `relfilenode` of the relations that windows by blocks hold for; empty where there are none.
    #[serde(default)]
    pub files: Vec<(u32, u32)>,
    /// The windows.
    pub windows: Vec<PlannedWindow>,
    /// Number of the next window that is planned.
    pub next: u64,
}

/// A window of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWindow {
    /// Its number, of which there is one under a floor.
    pub number: u64,
    /// What it holds, as `source` writes it.
    pub range: serde_json::Value,
}

/// A writer beside the live process that has written, and has not looked yet whether the rows are still there (**M9**).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// PostgreSQL's advisory lock that its process holds: whoever gets it knows that the process is gone. Names the document.
    pub lock: i64,
    /// Qualified tables that it may write.
    pub tables: Vec<String>,
    /// The versions that it wrote documents with.
    pub versions: Vec<Version>,
}

/// Settings of an index that are others while it is filled, written before they are changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkLoadRecord {
    /// Qualified name of the table.
    pub table: String,
    /// Index (alias) name.
    pub index: String,
    /// `uuid` of the index.
    pub index_uuid: String,
    /// What they were, by full name; `null` is the default.
    pub former: serde_json::Map<String, serde_json::Value>,
}

impl Record for BulkLoadRecord {
    const KIND: &'static str = "bulk_load";
}

impl Record for AttemptRecord {
    const KIND: &'static str = "attempt";
}

impl Record for Checkpoint {
    const KIND: &'static str = "checkpoint";
}

impl Record for High {
    const KIND: &'static str = "high";
}

impl Record for EpochRecord {
    const KIND: &'static str = "epochs";

    fn check(&self) -> Result<(), String> {
        self.list.is_valid().then_some(()).ok_or_else(|| "its list of epochs is not in order".to_owned())
    }
}

impl Record for TableRecord {
    const KIND: &'static str = "table";
}

impl Record for ShapeRecord {
    const KIND: &'static str = "shape";
}

impl Record for PlanRecord {
    const KIND: &'static str = "plan";
}

impl Record for WindowRecord {
    const KIND: &'static str = "window";
}

/// A state document as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// Content.
    pub record: T,
    /// Who wrote it: host, process id and a token of that process's start.
    pub owner: String,
    /// When.
    pub time: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    format: u64,
    kind: String,
    pipeline: String,
    owner: String,
    time: String,
    #[serde(flatten)]
    record: T,
}

/// The JSON of a document.
pub(super) fn write<T: Record>(record: &T, pipeline: &str, owner: &str) -> serde_json::Result<String> {
    serde_json::to_string(&Envelope {
        format: FORMAT,
        kind: T::KIND.to_owned(),
        pipeline: pipeline.to_owned(),
        owner: owner.to_owned(),
        time: now(),
        record,
    })
}

/// Reads document `id` of state index `index`.
pub(super) fn read<T: Record>(index: &str, id: &str, pipeline: &str, json: &str) -> Result<Stored<T>> {
    #[derive(Deserialize)]
    struct Probe {
        format: u64,
    }
    let unreadable =
        |detail: String| SinkError::Unreadable { id: id.to_owned(), index: index.to_owned(), detail };
    let probe: Probe = serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))?;
    if probe.format > FORMAT {
        return Err(SinkError::NewerFormat { id: id.to_owned(), format: probe.format });
    }
    let envelope: Envelope<T> = serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))?;
    if envelope.kind != T::KIND || envelope.pipeline != pipeline {
        return Err(unreadable(format!(
            "it is a `{}` of pipeline `{}`, not a `{}` of `{pipeline}`",
            envelope.kind,
            envelope.pipeline,
            T::KIND
        )));
    }
    envelope.record.check().map_err(unreadable)?;
    let time = DateTime::parse_from_rfc3339(&envelope.time).map_err(|error| unreadable(error.to_string()))?;
    Ok(Stored { record: envelope.record, owner: envelope.owner, time: time.with_timezone(&Utc) })
}

/// Now, as RFC 3339.
pub(super) fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// An `_id` of these parts, hashed where it is too long for OpenSearch.
pub(super) fn document_id(parts: &[&str]) -> String {
    let id = parts.join(":");
    if id.len() <= ID_BYTES { id } else { sha256_hex(id.as_bytes()) }
}

/// SHA-256 in lower-case hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

mod lsn_text {
    use crate::model::Lsn;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(lsn)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            slot: "s".into(),
            system_identifier: "7512345678901234567".into(),
            database: "d".into(),
            timeline: 3,
            timeline_began: Lsn(0),
            publications: vec![16_400],
            fingerprint: "f".into(),
            held_below: Lsn::ZERO,
            lsn: Lsn(0x16_B374_D848),
            high: None,
            settled: false,
        }
    }

    #[test]
    fn a_document_survives_writing_and_reading() {
        for high in [None, Some(StoppedHigh { exact: Lsn(8), raised: Lsn(9) })] {
            let record = Checkpoint { high, ..checkpoint() };
            let json = write(&record, "p", "o").unwrap();
            assert!(json.contains(r#""lsn":"16/B374D848""#), "{json}");
            let stored: Stored<Checkpoint> = read("i", "id", "p", &json).unwrap();
            assert_eq!((stored.record, stored.owner.as_str()), (record, "o"));
        }
        let epochs = write(&EpochRecord::default(), "p", "o").unwrap();
        assert_eq!(read::<EpochRecord>("i", "id", "p", &epochs).unwrap().record, EpochRecord::default());
    }

    #[test]
    fn what_is_no_document_of_ours_is_refused_by_its_id() {
        let good = write(&checkpoint(), "p", "o").unwrap();
        let read = |json: &str| read::<Checkpoint>("i", "the-id", "p", json).unwrap_err();
        let newer = good.replace(r#""format":1"#, r#""format":2,"brand":"new""#);
        assert!(matches!(read(&newer), SinkError::NewerFormat { format: 2, .. }));
        assert!(matches!(read(r#"{"format":9}"#), SinkError::NewerFormat { .. }));
        for bad in [
            "{}".to_owned(),
            "[]".to_owned(),
            good.replace("checkpoint", "table"),
            good.replace(r#""pipeline":"p""#, r#""pipeline":"q""#),
            good.replace("16/B374D848", "sixteen"),
            good.replace(r#""time":"2"#, r#""time":"x2"#),
        ] {
            let error = read(&bad);
            assert!(matches!(error, SinkError::Unreadable { .. }), "{bad}");
            assert!(error.to_string().contains("the-id"), "{error}");
        }
        let empty =
            write(&EpochRecord::default(), "p", "o").unwrap().replace(r#"[{"number":1,"base":0}]"#, "[]");
        assert!(super::read::<EpochRecord>("i", "id", "p", &empty).is_err());
    }

    #[test]
    fn ids_over_512_bytes_are_hashed() {
        assert_eq!(document_id(&["p", "window", "public.t", "3"]), "p:window:public.t:3");
        assert_eq!(document_id(&[&"x".repeat(512)]).len(), 512);
        assert_eq!(document_id(&[&"x".repeat(513)]).len(), 64);
        assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}

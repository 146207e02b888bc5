//! Where a pipeline stands, as slot, checkpoint and state documents say; nothing is changed by asking.

use super::{bookmark, error::PipelineError, schemas};
use crate::{
    config::{Bookmark, Config},
    model::Lsn,
    sink::{self, DeadLetters, StateStore, TableState},
    source::{self, position::log_end, slot},
};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// The answer of `pg2os status`; its JSON form is part of the interface.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Pipeline.
    pub pipeline: String,
    /// Slot; absent where it does not exist.
    pub slot: Option<Slot>,
    /// The history that `replay` can go back to; absent where no bookmark is configured.
    pub bookmark: Option<BookmarkStatus>,
    /// Where the stream goes on; absent before the first start.
    pub checkpoint: Option<CheckpointStatus>,
    /// WAL insert position of the primary.
    #[serde(serialize_with = "as_text")]
    pub server_lsn: Lsn,
    /// Bytes of WAL behind the server.
    pub lag_bytes: Option<u64>,
    /// Seconds since the checkpoint last moved, 0 where nothing is behind.
    pub lag_seconds: Option<f64>,
    /// Tables.
    pub tables: Vec<TableStatus>,
    /// Dead letters.
    pub dead_letters: u64,
    /// What is wrong, in words; empty where nothing is.
    pub problems: Vec<String>,
}

/// A replication slot.
#[derive(Debug, Clone, Serialize)]
pub struct Slot {
    /// Name.
    pub name: String,
    /// Is an instance streaming?
    pub active: bool,
    /// `pg_replication_slots.wal_status`.
    pub wal_status: Option<String>,
    /// Acknowledged position.
    #[serde(serialize_with = "as_optional_text")]
    pub confirmed_flush_lsn: Option<Lsn>,
    /// Bytes of WAL that the slot holds back.
    pub retained_bytes: Option<u64>,
}

/// The slot that keeps history.
#[derive(Debug, Clone, Serialize)]
pub struct BookmarkStatus {
    /// Name.
    pub name: String,
    /// A replay may begin here; absent where no history is kept.
    #[serde(serialize_with = "as_optional_text")]
    pub from_lsn: Option<Lsn>,
    /// And ends here, or later.
    #[serde(serialize_with = "as_optional_text")]
    pub to_lsn: Option<Lsn>,
    /// Bytes of WAL that it holds back.
    pub retained_bytes: Option<u64>,
    /// Why no history is kept.
    pub why_none: Option<String>,
}

/// The checkpoint.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointStatus {
    /// Position.
    #[serde(serialize_with = "as_text")]
    pub lsn: Lsn,
    /// Timeline.
    pub timeline: u32,
    /// When it was written.
    pub time: DateTime<Utc>,
    /// Who wrote it.
    pub owner: String,
}

/// A configured table.
#[derive(Debug, Clone, Serialize)]
pub struct TableStatus {
    /// Qualified name.
    pub table: String,
    /// Index.
    pub index: String,
    /// `new`, `windows` or `live`.
    pub state: TableState,
    /// Windows done at the present floor.
    pub windows_done: usize,
    /// Rows in them.
    pub rows: u64,
    /// Documents in the index, as of its last refresh; absent where there is no index.
    pub documents: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_text<S: serde::Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(lsn)
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn as_optional_text<S: serde::Serializer>(lsn: &Option<Lsn>, serializer: S) -> Result<S::Ok, S::Error> {
    match lsn {
        Some(lsn) => serializer.collect_str(lsn),
        None => serializer.serialize_none(),
    }
}

/// Asks both servers.
///
/// # Errors
/// One of them could not be asked.
pub async fn status(config: &Config) -> Result<Status, PipelineError> {
    let name = format!("pg2os {} status", config.name);
    let control = source::sql::connect(&config.postgres, None, &name).await?;
    let client = sink::Client::new(&config.opensearch)?;
    client.info().await?;
    let end = log_end(&control).await?.insert;
    let slot_name = &config.postgres.slot;
    let slot = slot::find(&control, slot_name).await?;
    let mut problems = vec![];
    let state = StateStore::find(&client, &config.opensearch.state_index, &config.name).await?;
    let checkpoint = match &state {
        Some(state) => state.checkpoint().await?,
        None => None,
    };
    match &slot {
        None if checkpoint.is_some() => {
            problems.push(format!(
                "slot {slot_name} is missing: changes since the checkpoint are lost to the stream"
            ));
        }
        None => problems.push(format!("slot {slot_name} does not exist yet: `pg2os run` makes it")),
        Some(slot) if slot.is_lost() => {
            problems.push(format!("slot {slot_name} is lost: the server has removed WAL that it needs"));
        }
        Some(_) => {}
    }
    if let Err(error) = schemas::check_slot(slot_name, slot.as_ref(), &config.postgres.database) {
        problems.push(error.to_string());
    }
    if let Some(checkpoint) = &checkpoint
        && checkpoint.record.database != config.postgres.database
    {
        problems.push(format!(
            "the state of pipeline {} comes from database {}, not {}; give this pipeline another `name`",
            config.name, checkpoint.record.database, config.postgres.database
        ));
    }

    let mut bookmark = None;
    if let Some(Bookmark { slot: name, .. }) = &config.bookmark {
        let found = slot::find(&control, name).await?;
        let position = checkpoint.as_ref().map(|checkpoint| checkpoint.record.lsn);
        let kept = bookmark::kept(name, found.as_ref(), &config.postgres.database, position, end);
        bookmark = Some(BookmarkStatus {
            name: name.clone(),
            from_lsn: kept.as_ref().ok().map(|kept| kept.from),
            to_lsn: kept.as_ref().ok().map(|kept| kept.to),
            retained_bytes: found.and_then(|slot| slot.restart_lsn).map(|lsn| end.since(lsn)),
            why_none: kept.err(),
        });
    }

    let followed = schemas::expanded(&control, config).await.unwrap_or_else(|error| {
        problems.push(error.to_string());
        config.clone()
    });
    let mut tables = vec![];
    for table in &followed.tables {
        let qualified = format!("{}.{}", table.schema, table.name);
        let (mut table_state, mut done, mut rows) = (TableState::New, 0, 0);
        if let Some(state) = &state
            && let Some(stored) = state.table(&qualified).await?
        {
            table_state = stored.record.state;
            for window in state.windows(&qualified).await? {
                if Some(window.record.floor) == stored.record.floor {
                    done += 1;
                    rows += window.record.rows;
                }
            }
        }
        let documents = match client.find_index(&table.index).await? {
            Some(index) => Some(client.count(&index.concrete).await?),
            None => None,
        };
        if documents.is_none() && table_state != TableState::New {
            problems.push(format!(
                "index {} of {qualified} is gone; `pg2os run` makes and fills it again",
                table.index
            ));
        }
        let index = table.index.clone();
        tables.push(TableStatus {
            table: qualified,
            index,
            state: table_state,
            windows_done: done,
            rows,
            documents,
        });
    }
    let dead_letters =
        DeadLetters::count_of(&client, &config.opensearch.dead_letter_index, &config.name).await?;

    let lag_bytes = checkpoint.as_ref().map(|c| end.since(c.record.lsn));
    let lag_seconds = checkpoint.as_ref().map(|c| {
        let age = (Utc::now() - c.time).num_milliseconds().max(0) as f64 / 1000.0;
        if end > c.record.lsn { age } else { 0.0 }
    });
    Ok(Status {
        pipeline: config.name.clone(),
        slot: slot.map(|slot| Slot {
            name: slot_name.clone(),
            active: slot.active,
            wal_status: slot.wal_status.clone(),
            confirmed_flush_lsn: slot.confirmed_flush_lsn,
            retained_bytes: slot.restart_lsn.map(|lsn| end.since(lsn)),
        }),
        bookmark,
        checkpoint: checkpoint.map(|c| CheckpointStatus {
            lsn: c.record.lsn,
            timeline: c.record.timeline,
            time: c.time,
            owner: c.owner,
        }),
        server_lsn: end,
        lag_bytes,
        lag_seconds,
        tables,
        dead_letters,
        problems,
    })
}

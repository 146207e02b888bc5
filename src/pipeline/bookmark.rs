//! The bookmark: a second slot that holds history back, so that `replay` can stream it again. It follows the checkpoint at
//! a distance, and never passes it.
//!
//! Kept by a task beside the stream, over a connection of its own: whatever becomes of it, the stream goes on.

use super::{error::PipelineError, reader::StreamState};
use crate::{
    config::{Bookmark, Config},
    model::Lsn,
    source::{
        self,
        slot::{self, SlotState},
    },
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::Client;

/// How exactly time is kept: parts of `keep_time`.
const PARTS: u32 = 32;
/// The pause between two looks at the slot.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// How often a trouble that stays is said again.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// Keeps the bookmark of the session that `stream` belongs to, on the primary of `timeline`, for ever.
pub(super) async fn keep(config: Arc<Config>, timeline: u32, stream: Arc<StreamState>) {
    let Some(bookmark) = &config.bookmark else { return };
    let (mut past, mut client) = (Past::default(), None);
    let mut said: Option<(String, Instant)> = None;
    loop {
        let (checkpoint, now) = (stream.durable(), Instant::now());
        past.note(checkpoint, now, bookmark.keep_time);
        let target = past.target(checkpoint, now, bookmark);
        match follow(&config, bookmark, timeline, &mut client, target).await {
            Ok(()) => said = None,
            Err(error) => {
                client = None;
                let error = error.to_string();
                if said.as_ref().is_none_or(|(before, at)| *before != error || at.elapsed() > SAY_AGAIN) {
                    tracing::warn!(
                        slot = bookmark.slot,
                        "history for `replay` is not kept: {error}; the stream goes on; `bookmark: off` does without"
                    );
                    said = Some((error, now));
                }
            }
        }
        tokio::time::sleep((bookmark.keep_time / PARTS).clamp(SHORTEST, LONGEST)).await;
    }
}

/// Does what is to be done about the slot now.
async fn follow(
    config: &Config,
    bookmark: &Bookmark,
    timeline: u32,
    client: &mut Option<Client>,
    target: Lsn,
) -> Result<(), PipelineError> {
    let client = match client {
        Some(client) => client,
        None => {
            let name = format!("pg2os {} bookmark", config.name);
            client.insert(source::sql::connect_on(&config.postgres, timeline, &name).await?)
        }
    };
    let name = &bookmark.slot;
    let found = slot::find(client, name).await?;
    match step(found.as_ref(), &config.postgres.database, target) {
        Step::Keep => {}
        Step::Advance(to) => {
            slot::advance(client, name, to).await?;
        }
        Step::Make { lost } => {
            if lost {
                tracing::warn!(
                    slot = name,
                    "the server has removed the WAL of the bookmark, which is made anew: max_slot_wal_keep_size is lower than what it is to keep"
                );
                slot::drop_slot(client, name).await?;
            }
            let from = slot::copy(client, &config.postgres.slot, name).await?;
            tracing::info!(slot = name, %from, "bookmark made: history for `replay` begins there");
        }
        Step::Foreign => return Err(PipelineError::Configuration(foreign(name))),
    }
    Ok(())
}

fn foreign(slot: &str) -> String {
    format!("slot {slot} is no logical slot of this database for pgoutput; name another one in bookmark.slot")
}

/// What the checkpoint was.
#[derive(Debug, Default)]
struct Past(VecDeque<(Instant, Lsn)>);

impl Past {
    /// It is `checkpoint` now. Keeps the last that is older than `keep_time`, and what came since.
    fn note(&mut self, checkpoint: Lsn, now: Instant, keep_time: Duration) {
        let due = |(at, _): &(Instant, Lsn)| now.duration_since(*at) >= keep_time / PARTS;
        if self.0.back().is_none_or(due) {
            self.0.push_back((now, checkpoint));
        }
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= keep_time) {
            self.0.pop_front();
        }
    }

    /// Where the bookmark may stand: what is before is further away than `keep`, or older than `keep_time`.
    fn target(&self, checkpoint: Lsn, now: Instant, bookmark: &Bookmark) -> Lsn {
        let by_size = Lsn(checkpoint.0.saturating_sub(bookmark.keep));
        let old = self.0.front().filter(|(at, _)| now.duration_since(*at) >= bookmark.keep_time);
        let by_time = old.map_or(Lsn::ZERO, |(_, lsn)| *lsn);
        by_size.max(by_time).min(checkpoint)
    }
}

/// What is to be done about the slot.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Advance(Lsn),
    Make { lost: bool },
    Foreign,
}

fn step(found: Option<&SlotState>, database: &str, target: Lsn) -> Step {
    let Some(slot) = found else { return Step::Make { lost: false } };
    if !is_ours(slot, database) {
        return Step::Foreign;
    }
    match slot.confirmed_flush_lsn {
        _ if slot.is_lost() => Step::Make { lost: true },
        // Whoever streams from it moves it; it is not ours to stop them.
        Some(confirmed) if confirmed < target && !slot.active => Step::Advance(target),
        _ => Step::Keep,
    }
}

fn is_ours(slot: &SlotState, database: &str) -> bool {
    slot.plugin.as_deref() == Some("pgoutput")
        && slot.database.as_deref() == Some(database)
        && !slot.temporary
}

/// The stretch of history that can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// A replay may begin here.
    pub from: Lsn,
    /// The end of the server's log.
    pub to: Lsn,
}

/// What the slot called `name` keeps for replay, with the checkpoint at `checkpoint` and the log ending at `end`.
///
/// # Errors
/// Why nothing is kept, with what to do.
pub fn kept(
    name: &str,
    found: Option<&SlotState>,
    database: &str,
    checkpoint: Option<Lsn>,
    end: Lsn,
) -> Result<Kept, String> {
    let none = "so no history can be replayed";
    let Some(checkpoint) = checkpoint else {
        return Err(format!("nothing was streamed yet, {none}: start `pg2os run`"));
    };
    let Some(slot) = found else {
        return Err(format!(
            "there is no bookmark slot {name}, {none}: `pg2os run` makes it and keeps history from then on; \
             `pg2os resync` reads whole tables again"
        ));
    };
    if !is_ours(slot, database) {
        return Err(foreign(name));
    }
    match slot.confirmed_flush_lsn {
        Some(from) if !slot.is_lost() && from <= checkpoint => Ok(Kept { from, to: end.max(checkpoint) }),
        Some(from) if !slot.is_lost() => Err(format!(
            "the bookmark slot {name} stands at {from}, past the checkpoint {checkpoint}, {none} yet: it was made or moved \
             by somebody else; `pg2os run` goes on past it"
        )),
        _ => Err(format!(
            "the server has removed the WAL of the bookmark slot {name}, {none}: `pg2os run` makes it anew; \
             `pg2os resync` reads whole tables again"
        )),
    }
}

impl Kept {
    /// May a replay go from `from` to `to` (as far as there is anything, without one)?
    ///
    /// # Errors
    /// Why not, with the range that is there.
    pub fn check(self, from: Lsn, to: Option<Lsn>) -> Result<(), String> {
        let Kept { from: first, to: last } = self;
        let range = format!("history is kept from {first} to {last}");
        if from < first {
            return Err(format!(
                "--from-lsn {from} lies before what is kept: {range}; what is older only `pg2os resync` brings back, which \
                 reads whole tables again"
            ));
        }
        if from > last {
            return Err(format!("--from-lsn {from} lies past the end of the log: {range}"));
        }
        match to {
            Some(to) if to <= from => {
                Err(format!("--to-lsn {to} does not lie past --from-lsn {from}: {range}"))
            }
            Some(to) if to > last => Err(format!("--to-lsn {to} lies past the end of the log: {range}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "bookmark_tests.rs"]
mod tests;

//! `pg2os slot`: the slots of a pipeline, and what may be done to them without losing changes.

use super::error::PipelineError;
use crate::{
    config::Config,
    model::Lsn,
    sink::{self, StateStore},
    source::{
        self,
        position::log_end,
        publication,
        slot::{self, SlotState},
    },
};
use serde::Serialize;

/// Which of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The stream is read from it.
    Stream,
    /// It keeps history for `replay`.
    Bookmark,
}

/// A slot of the pipeline; its JSON form is part of the interface.
#[derive(Clone, Debug, Serialize)]
pub struct ListedSlot {
    /// Name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Does it exist?
    pub exists: bool,
    /// Is somebody streaming from it?
    pub active: bool,
    /// `pg_replication_slots.wal_status`.
    pub wal_status: Option<String>,
    /// Acknowledged position.
    pub confirmed_flush_lsn: Option<String>,
    /// Bytes of WAL that it holds back.
    pub retained_bytes: Option<u64>,
}

/// What decides about one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its state; `None` where it does not exist.
    pub state: Option<SlotState>,
    /// Where the stream goes on; `None` before the first start.
    pub checkpoint: Option<Lsn>,
    /// Where the server's log ends, durably.
    pub end: Lsn,
}

/// Both servers, as far as slots are concerned.
pub struct Slots {
    control: tokio_postgres::Client,
    config: Config,
    checkpoint: Option<Lsn>,
}

impl Slots {
    /// Connects to the primary and reads the checkpoint. A target that cannot be asked is an error: without it nobody
    /// knows what is needed.
    ///
    /// # Errors
    /// One of the servers could not be asked.
    pub async fn open(config: Config) -> Result<Self, PipelineError> {
        let name = format!("pg2os {} slot", config.name);
        let control = source::sql::connect(&config.postgres, None, &name).await?;
        let client = sink::Client::new(&config.opensearch)?;
        client.info().await?;
        let state = StateStore::find(&client, &config.opensearch.state_index, &config.name).await?;
        let checkpoint = match state {
            Some(state) => state.checkpoint().await?.map(|stored| stored.record.lsn),
            None => None,
        };
        Ok(Slots { control, config, checkpoint })
    }

    /// Its name.
    ///
    /// # Errors
    /// There is to be no bookmark.
    pub fn name(&self, role: Role) -> Result<String, PipelineError> {
        match (role, &self.config.bookmark) {
            (Role::Stream, _) => Ok(self.config.postgres.slot.clone()),
            (Role::Bookmark, Some(bookmark)) => Ok(bookmark.slot.clone()),
            (Role::Bookmark, None) => Err(PipelineError::Configuration(
                "bookmark is `off`, so there is no such slot; remove that from the configuration".into(),
            )),
        }
    }

    async fn known(&self, role: Role) -> Result<Known, PipelineError> {
        let name = self.name(role)?;
        let state = slot::find(&self.control, &name).await?;
        let end = log_end(&self.control).await?.flush;
        Ok(Known { name, role, state, checkpoint: self.checkpoint, end })
    }

    /// All slots.
    ///
    /// # Errors
    /// The server could not be asked.
    pub async fn list(&self) -> Result<Vec<ListedSlot>, PipelineError> {
        let mut listed = vec![];
        let bookmark = self.config.bookmark.as_ref().map(|_| Role::Bookmark);
        for role in [Role::Stream].into_iter().chain(bookmark) {
            let Known { name, state, end, .. } = self.known(role).await?;
            let retained = state.as_ref().and_then(|state| state.restart_lsn).map(|lsn| end.since(lsn));
            listed.push(ListedSlot {
                name,
                role,
                exists: state.is_some(),
                active: state.as_ref().is_some_and(|state| state.active),
                confirmed_flush_lsn: state
                    .as_ref()
                    .and_then(|s| s.confirmed_flush_lsn)
                    .map(|lsn| lsn.to_string()),
                wal_status: state.and_then(|state| state.wal_status),
                retained_bytes: retained,
            });
        }
        Ok(listed)
    }

    /// Makes the slot; `None` where it is there already. The publications must be there first: WAL from before one cannot
    /// be streamed with it.
    ///
    /// # Errors
    /// It cannot be made, with the cure.
    pub async fn create(&self, role: Role) -> Result<Option<Lsn>, PipelineError> {
        let known = self.known(role).await?;
        if known.state.is_some() {
            return Ok(None);
        }
        for name in &self.config.postgres.publications {
            if !publication::exists(&self.control, name).await? {
                return Err(PipelineError::Configuration(format!(
                    "publication {name} does not exist, and a slot that is older than its publication cannot be streamed; make \
                     the publication first (`pg2os check` prints the SQL), or let `pg2os run` make both"
                )));
            }
        }
        Ok(Some(slot::create(&self.control, &known.name).await?))
    }

    /// Drops the slot.
    ///
    /// # Errors
    /// It is needed, or the server refuses.
    pub async fn drop_slot(&self, role: Role, force: bool) -> Result<(), PipelineError> {
        let known = self.known(role).await?;
        may_drop(&known, force).map_err(PipelineError::Configuration)?;
        Ok(slot::drop_slot(&self.control, &known.name).await?)
    }

    /// Moves the slot forward, and returns where it stands.
    ///
    /// # Errors
    /// That would lose changes, or the server refuses.
    pub async fn advance(&self, role: Role, to: Option<Lsn>) -> Result<Lsn, PipelineError> {
        let known = self.known(role).await?;
        let to = may_advance(&known, to).map_err(PipelineError::Configuration)?;
        Ok(slot::advance(&self.control, &known.name, to).await?)
    }
}

fn existing(known: &Known) -> Result<&SlotState, String> {
    let Known { name, state, .. } = known;
    let state = state.as_ref().ok_or_else(|| format!("slot {name} does not exist"))?;
    match state.active_pid.filter(|_| state.active) {
        Some(pid) => Err(format!("slot {name} is in use by process {pid}; stop pg2os first")),
        None => Ok(state),
    }
}

/// May the slot be dropped? One that a checkpoint builds on is needed, unless it is lost anyway.
///
/// # Errors
/// Why not, with the cure.
pub fn may_drop(known: &Known, force: bool) -> Result<(), String> {
    let state = existing(known)?;
    let name = &known.name;
    if force || state.is_lost() {
        return Ok(());
    }
    match (known.role, known.checkpoint) {
        (Role::Stream, Some(lsn)) => Err(format!(
            "slot {name} is needed: the stream goes on from {lsn}, and without the slot all tables are read again; to drop it \
             nevertheless, add --force"
        )),
        (Role::Bookmark, Some(_)) => Err(format!(
            "slot {name} keeps the history for `pg2os replay`, which is lost with it; to drop it nevertheless, add --force"
        )),
        (_, None) => Ok(()),
    }
}

/// Where the slot may be advanced to: not past the checkpoint, since what is behind it is not in the indices yet.
/// Without `to` as far as possible.
///
/// # Errors
/// Why not, with the cure.
pub fn may_advance(known: &Known, to: Option<Lsn>) -> Result<Lsn, String> {
    let state = existing(known)?;
    let name = &known.name;
    if state.is_lost() {
        return Err(format!("slot {name} is lost, and cannot be moved: drop it (`pg2os slot drop`)"));
    }
    let Some(checkpoint) = known.checkpoint else {
        return Err(format!(
            "nothing was streamed from slot {name} yet, so nobody knows what is needed; `pg2os run` moves it itself"
        ));
    };
    if checkpoint > known.end {
        return Err(format!(
            "the checkpoint {checkpoint} is past the end of the server's log ({}): this is another server, or one that was set \
             back; see what `pg2os run` says",
            known.end
        ));
    }
    let to = to.unwrap_or(checkpoint);
    if to > checkpoint {
        return Err(format!(
            "changes up to {to} are not in the indices yet, and would be lost: advance slot {name} to {checkpoint} at most"
        ));
    }
    match state.confirmed_flush_lsn {
        Some(confirmed) if to < confirmed => {
            Err(format!("slot {name} stands at {confirmed} already, and a slot cannot be moved back to {to}"))
        }
        _ => Ok(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(role: Role, confirmed: u64, checkpoint: Option<u64>) -> Known {
        let state = SlotState::healthy("d", Lsn(confirmed));
        let name = "s".to_owned();
        Known { name, role, state: Some(state), checkpoint: checkpoint.map(Lsn), end: Lsn(100) }
    }

    fn in_use(mut known: Known) -> Known {
        known.state.iter_mut().for_each(|s| (s.active, s.active_pid) = (true, Some(7)));
        known
    }

    fn lost(mut known: Known) -> Known {
        known.state.iter_mut().for_each(|s| s.invalidation = Some("wal_removed".into()));
        known
    }

    #[test]
    fn a_slot_that_is_needed_is_dropped_by_force_only_and_one_in_use_never() {
        use Role::{Bookmark, Stream};
        let of = |role, checkpoint| known(role, 10, checkpoint);
        let absent = Known { state: None, ..of(Stream, None) };
        let table = [
            (of(Stream, Some(20)), false, "--force"),
            (of(Stream, Some(20)), true, ""),
            (of(Bookmark, Some(20)), false, "replay"),
            (of(Bookmark, Some(20)), true, ""),
            (of(Stream, None), false, ""),
            (lost(of(Stream, Some(20))), false, ""),
            (in_use(of(Stream, Some(20))), true, "stop pg2os"),
            (absent, true, "does not exist"),
        ];
        for (known, force, refusal) in table {
            match may_drop(&known, force) {
                Ok(()) => assert_eq!(refusal, "", "{known:?}"),
                Err(why) => assert!(!refusal.is_empty() && why.contains(refusal), "{why}"),
            }
        }
    }

    #[test]
    fn a_slot_is_advanced_to_the_checkpoint_at_most_and_never_back() {
        let of = |confirmed, checkpoint| known(Role::Stream, confirmed, checkpoint);
        let table = [
            (of(10, Some(20)), None, Ok(20)),
            (of(10, Some(20)), Some(15), Ok(15)),
            (of(10, Some(20)), Some(10), Ok(10)),
            (of(10, Some(20)), Some(21), Err("would be lost")),
            (of(10, Some(20)), Some(9), Err("cannot be moved back")),
            (of(30, Some(20)), None, Err("cannot be moved back")),
            (of(10, None), Some(15), Err("nothing was streamed")),
            (of(10, Some(101)), None, Err("another server")),
            (lost(of(10, Some(20))), None, Err("is lost")),
            (in_use(of(10, Some(20))), None, Err("stop pg2os")),
        ];
        for (known, to, expected) in table {
            match (may_advance(&known, to.map(Lsn)), expected) {
                (Ok(lsn), Ok(wanted)) => assert_eq!(lsn, Lsn(wanted)),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (result, expected) => panic!("{result:?} is not {expected:?} for {known:?}"),
            }
        }
    }
}

//! What a session rests on in OpenSearch, watched: its indices, and the states of its tables. An index that was deleted,
//! made anew or restored (G4), and a table that somebody asks to be read again, end the session; the next one sees why.

use super::{error::PipelineError, tables::Tables, watch::Watch};
use crate::{
    lanes::TableNo,
    sink::{self, StateStore, is_other_copy},
};
use std::{sync::Arc, time::Duration};

const EVERY: Duration = Duration::from_secs(3);
/// Looks between two at the histories, which cost the most.
const HISTORY_EVERY: u32 = 10;

/// See the module.
pub(super) struct TargetWatch {
    pub(super) client: sink::Client,
    pub(super) state: Arc<StateStore>,
    pub(super) tables: Arc<Tables>,
}

impl TargetWatch {
    /// Watches until the session has to begin anew.
    async fn run(self) {
        for look in 1_u32.. {
            tokio::time::sleep(EVERY).await;
            match self.look(look.is_multiple_of(HISTORY_EVERY)).await {
                Ok(true) => return,
                Ok(false) => {}
                // Whoever writes says more about it.
                Err(error) => tracing::debug!(%error, "the indices could not be looked at"),
            }
        }
    }

    async fn look(&self, histories: bool) -> Result<bool, PipelineError> {
        for table in self.tables.iter() {
            let name = table.schema.name.to_string();
            if self.state.is_asked_for(&name).await? {
                tracing::info!(table = name, "the table is to be read again; the session begins anew");
                return Ok(true);
            }
            let (index, known) = (&table.target.index, &table.copy);
            let Some(uuid) = self.client.uuid(index).await? else {
                tracing::warn!(table = name, index, "the index is gone; the session begins anew");
                return Ok(true);
            };
            if uuid != known.uuid {
                tracing::warn!(table = name, index, "the index was made anew; the session begins anew");
                return Ok(true);
            }
            let history = if histories { self.client.history(index).await? } else { None };
            if let (Some(known), Some(now)) = (&known.history, &history)
                && is_other_copy(known, now)
            {
                tracing::warn!(
                    table = name,
                    index,
                    "an older copy of the index was restored; the session begins anew"
                );
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Watches both sides; returns the tables to be read anew.
///
/// # Errors
/// As for [`Watch::run`].
pub(super) async fn both(source: Watch, target: TargetWatch) -> Result<Vec<TableNo>, PipelineError> {
    tokio::select! {
        again = source.run() => again,
        () = target.run() => Ok(vec![]),
    }
}

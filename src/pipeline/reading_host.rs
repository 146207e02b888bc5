//! Where windows are read: the primary, or `postgres.backfill_host`. A connection that is handed out sees the floor.

use super::error::{Meaning, PipelineError};
use crate::{
    config::Config,
    model::Xid,
    source::{
        self,
        floor::{self, Floor},
        position, sql,
        standby::{self, Marks},
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::Client;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Within this a standby has replayed what the primary wrote before, or the log says that it is waited for.
const SAY: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct ReadingHost {
    config: Arc<Config>,
    /// Timeline of the primary, where it is known.
    timeline: Option<u32>,
    application_name: String,
    burned: Xid,
    marks: Option<Marks>,
}

impl ReadingHost {
    /// Takes a floor on the primary (steps 2 and 3), for windows that are read from where `config` says.
    ///
    /// # Errors
    /// The primary could not be asked.
    pub(super) async fn take_floor(
        config: &Arc<Config>,
        timeline: Option<u32>,
        application_name: &str,
        primary: &Client,
    ) -> Result<(Self, Floor), PipelineError> {
        let marks = match &config.postgres.backfill_host {
            Some(_) => Some(standby::leave_marks(primary).await?),
            None => None,
        };
        let floor = floor::take_floor(primary).await?;
        let host = ReadingHost {
            config: config.clone(),
            timeline,
            application_name: application_name.to_owned(),
            burned: floor.burned,
            marks,
        };
        Ok((host, floor))
    }

    /// The host that is not the primary.
    pub(super) fn other(&self) -> Option<&str> {
        self.config.postgres.backfill_host.as_deref()
    }

    /// A connection on which everything at or before the floor is visible (step 4). A standby that is not there, or behind, is
    /// waited for: the stream does not depend on it.
    ///
    /// # Errors
    /// The primary, or a host that is not its standby.
    pub(super) async fn connect(&self, primary: &Client) -> Result<Client, PipelineError> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.try_connect(primary).await {
                Err(error)
                    if self.other().is_some()
                        && error.meaning() == Meaning::Transient
                        && !primary.is_closed() =>
                {
                    tracing::warn!(%error, host = self.other(), seconds = wait.as_secs_f32(), "postgres.backfill_host cannot be read; windows wait for it");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                result => return result,
            }
        }
    }

    async fn try_connect(&self, primary: &Client) -> Result<Client, PipelineError> {
        let (postgres, name) = (&self.config.postgres, &self.application_name);
        let (Some(host), Some(marks)) = (self.other(), &self.marks) else {
            let client = match self.timeline {
                Some(timeline) => sql::connect_on(postgres, timeline, name).await?,
                None => sql::connect(postgres, None, name).await?,
            };
            floor::wait_until_visible(&client, self.burned).await?;
            return Ok(client);
        };
        let client = sql::connect(postgres, Some(host), name).await?;
        self.wait_replayed(primary, &client).await?;
        // A service of standbys may lead to the primary, and to another one after a failover.
        if !standby::is_standby(&client).await?
            && let Some(timeline) = self.timeline
        {
            sql::check_timeline(&client, timeline).await?;
        }
        floor::wait_until_visible(&client, self.burned).await?;
        if !standby::knows(&client, marks).await? {
            return Err(PipelineError::Configuration(format!(
                "postgres.backfill_host {host} is no standby of the primary: it has another history (another cluster, or a \
                 standby that still follows a primary that was replaced); name a standby of {}, or leave it out",
                postgres.hosts.join(", ")
            )));
        }
        Ok(client)
    }

    /// Waits until the host has replayed what the primary has flushed by now.
    async fn wait_replayed(&self, primary: &Client, client: &Client) -> Result<(), PipelineError> {
        let goal = position::log_end(primary).await?.flush;
        let mut told = Instant::now();
        while let Some(replayed) = position::replayed(client).await?
            && replayed < goal
        {
            if told.elapsed() >= SAY {
                told = Instant::now();
                tracing::info!(host = self.other(), %replayed, %goal, "windows wait until the standby has replayed what the primary has");
            }
            tokio::time::sleep(FIRST_WAIT / 10).await;
        }
        Ok(())
    }
}

/// Did a standby cancel the read because of what it had to replay (docs: "Handling Query Conflicts")?
pub(super) fn is_conflict(error: &PipelineError) -> bool {
    let sqlstate = match error {
        PipelineError::Query(error) => error.code().map(|code| code.code().to_owned()),
        PipelineError::Source(error) => source::SourceError::sqlstate(error).map(str::to_owned),
        _ => None,
    };
    matches!(sqlstate.as_deref(), Some("40001" | "40P01"))
}

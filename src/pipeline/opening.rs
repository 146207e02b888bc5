//! Opening a session: look at both servers, decide where the stream starts, repair durably what must be, acquire the slot.

use super::{
    error::PipelineError,
    position::{self, Gap, Start},
    prepare::{self, Prepared},
    reader::SERVER_TIMEOUT,
    session::Session,
    watch,
};
use crate::{
    config::{Config, OnGap},
    model::Lsn,
    sink::{self, Checkpoint, DeadLetters, EpochRecord, Repair, StateStore},
    source::{self, replication::ReplicationConnection, slot},
};
use std::sync::Arc;

impl Session {
    /// Looks at both servers, decides where to start, repairs what must be, and acquires the slot; `earlier` is the owner of
    /// the session that this process had before.
    ///
    /// # Errors
    /// Whatever stands in the way, with its cure; [`PipelineError::SlotBusy`] where another instance streams.
    pub async fn open(config: Arc<Config>, earlier: Option<&str>) -> Result<Self, PipelineError> {
        let application_name = format!("pg2os {}", config.name);
        let control = source::sql::connect(&config.postgres, None, &application_name).await?;
        let client = sink::Client::new(&config.opensearch)?;
        client.info().await?;
        prepare::check_server(&control).await?;
        // A table that is gone is known by its shape.
        if let Some(state) = StateStore::find(&client, &config.opensearch.state_index, &config.name).await? {
            watch::refuse_absent(&control, &config, &state).await?;
        }
        let schemas = prepare::schemas(&control, &config).await?;

        let (settings, name) = (config.clone(), application_name.clone());
        let connecting = tokio::task::spawn_blocking(move || {
            let mut connection =
                ReplicationConnection::connect(&settings.postgres, &name, Some(SERVER_TIMEOUT))?;
            let server = connection.identify_system()?;
            Ok::<_, PipelineError>((connection, server))
        });
        let (mut connection, server) = connecting.await.map_err(|_| PipelineError::Ended("connecting"))??;

        let state = StateStore::open(&client, &config.opensearch.state_index, &config.name).await?;
        // Before anything is made on a server that may not be ours.
        let stored = state.checkpoint().await?.map(|stored| stored.record);
        if let Some(why) = stored.and_then(|checkpoint| position::foreign(&checkpoint, &server)) {
            return Err(PipelineError::Gap(why));
        }
        let found = slot::find(&control, &config.postgres.slot).await?;
        prepare::check_slot(&config.postgres.slot, found.as_ref(), &server.database)?;
        let schemas = prepare::published(&control, &config, schemas).await?;
        let shapes = watch::shapes(&control, &config).await?;
        for (shape, schema) in shapes.iter().zip(&schemas) {
            watch::same_columns(shape, schema)?;
        }
        let dead_letters =
            DeadLetters::open(&client, &config.opensearch.dead_letter_index, &config.name).await?;
        let Prepared { mut tables, mut work, indices } =
            prepare::tables(&config, &client, &state, schemas, &server).await?;
        let mut epochs = prepare::epochs(&client, &state, &indices).await?;

        let slot_name = config.postgres.slot.clone();
        let found = slot::find(&control, &slot_name).await?;
        // After the slot: whoever held it until now has written its checkpoint before it moved the slot.
        let stored = state.checkpoint().await?;
        // Whoever streams has signed the checkpoint first. Without one nobody has streamed yet.
        let taken_over = stored.as_ref().is_some_and(|stored| Some(stored.owner.as_str()) != earlier);
        let stored = stored.map(|stored| stored.record);
        if let Some((true, Some(pid))) = found.as_ref().map(|s| (s.active, s.active_pid)) {
            return Err(PipelineError::SlotBusy { slot: slot_name, pid });
        }
        let mut history = vec![];
        if stored.as_ref().is_some_and(|c| c.timeline < server.timeline) {
            history = connection.timeline_history(server.timeline)?;
        }
        let log_end = source::position::log_end(&control).await?;
        let from = match position::start(stored.as_ref(), &slot_name, found.as_ref(), &server, &history) {
            Start::Continue(lsn) => lsn,
            Start::Foreign(why) => return Err(PipelineError::Gap(why)),
            start => {
                let after_gap = matches!(start, Start::Gap(_));
                if let Start::Gap(gap) = &start {
                    plan_repair(&config, &state, gap, &mut epochs).await?;
                }
                // Without a stream since then, nothing that was read before counts.
                for table in &mut work {
                    table.restart(&state, after_gap).await?;
                }
                acquire(&control, &slot_name, found.as_ref()).await?
            }
        };
        prepare::let_go_of_others(&state, &tables).await?;
        for (table, work) in tables.iter_mut().zip(&work) {
            table.read_above = work.record.floor.map_or(log_end.insert, |floor| floor.lsn);
        }
        let shapes = watch::agree(&state, &work, shapes).await?;
        if epochs.list.is_worn_at(log_end.insert) {
            epochs.list.begin(log_end.insert)?;
            state.write_epochs(&epochs).await?;
        }
        let checkpoint = Checkpoint {
            slot: slot_name.clone(),
            system_identifier: server.system_id,
            database: server.database,
            timeline: server.timeline,
            fingerprint: String::new(),
            lsn: from,
            high: None,
        };
        state.write_checkpoint(&checkpoint, &epochs.list).await?;

        let publications = config.postgres.publications.clone();
        let starting = tokio::task::spawn_blocking(move || {
            connection.start(&slot_name, from, &publications)?;
            Ok::<_, PipelineError>(connection)
        });
        let connection = starting.await.map_err(|_| PipelineError::Ended("starting the stream"))??;
        tracing::info!(from = %from, slot = checkpoint.slot, tables = tables.iter().count(), "streaming");
        let require_alias = indices.iter().all(|index| index.is_alias);
        Ok(Session {
            config,
            control,
            state,
            client,
            dead_letters,
            tables: Arc::new(tables),
            work,
            require_alias,
            epochs,
            checkpoint,
            connection,
            log_end,
            shapes,
            taken_over,
        })
    }
}

/// Writes down that a gap is to be repaired, before anything is streamed past it.
async fn plan_repair(
    config: &Config,
    state: &StateStore,
    gap: &Gap,
    epochs: &mut EpochRecord,
) -> Result<(), PipelineError> {
    if config.on_gap == OnGap::Stop {
        return Err(PipelineError::Gap(format!(
            "{gap}; on_gap is `stop`: set on_gap: resync to read all tables again beside the stream"
        )));
    }
    tracing::warn!(%gap, "a gap: all tables are read again beside the stream, and what is gone is swept");
    let at = match gap {
        Gap::Forked { at, .. } => {
            // LSNs of the two timelines are not comparable past the fork.
            epochs.list.begin(*at)?;
            *at
        }
        Gap::SlotMissing { checkpoint, .. }
        | Gap::SlotLost { checkpoint, .. }
        | Gap::SlotAhead { checkpoint, .. } => *checkpoint,
    };
    epochs.repair = Some(Repair { reason: gap.to_string(), lsn: at });
    state.write_epochs(epochs).await?;
    Ok(())
}

/// Makes the slot, or moves one that nobody streamed from to now; returns where the stream starts.
async fn acquire(
    control: &tokio_postgres::Client,
    name: &str,
    found: Option<&slot::SlotState>,
) -> Result<Lsn, PipelineError> {
    match found {
        Some(slot) if !slot.is_lost() => {
            // The slot may be older than the publication, which WAL from before it does not know.
            let now = source::position::log_end(control).await?.flush;
            Ok(slot::advance(control, name, now).await?)
        }
        lost => {
            if lost.is_some() {
                slot::drop_slot(control, name).await?;
            }
            let start = slot::create(control, name).await?;
            tracing::info!(slot = name, %start, "replication slot created");
            Ok(start)
        }
    }
}

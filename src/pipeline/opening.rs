//! Opening a session: look at both servers, decide where the stream starts, repair durably what must be, acquire the slot.

use super::{
    error::PipelineError,
    letters::Letters,
    memory::{Memory, StoredPositions},
    position::{self, Start},
    prepare::{self, Prepared},
    publications::published,
    reader::SERVER_TIMEOUT,
    resume::{self, Resume},
    schemas,
    session::Session,
    watch,
};
use crate::{
    config::{Config, OnGap, Postgres},
    model::Lsn,
    sink::{self, Checkpoint, DeadLetters, StateStore, Stored},
    source::{
        self, publication,
        replication::{ReplicationConnection, SystemIdentity},
        slot,
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// An instance that lost the slot starts no request later than this.
const TAKEOVER: Duration = Duration::from_secs(60);

impl Session {
    /// Looks at both servers, decides where to start, repairs what must be, and acquires the slot.
    ///
    /// # Errors
    /// Whatever stands in the way, with its cure; [`PipelineError::SlotBusy`] where another instance streams.
    pub async fn open(config: Arc<Config>, memory: Arc<Memory>) -> Result<Self, PipelineError> {
        let application_name = format!("pg2os {}", config.name);
        let (control, host) = source::sql::connect_primary(&config.postgres, &application_name).await?;
        // A session is of one server.
        let postgres = Postgres { hosts: vec![host], ..config.postgres.clone() };
        let config = Arc::new(Config { postgres, ..Config::clone(&config) });
        let client = sink::Client::new(&config.opensearch)?;
        client.info().await?;
        let version_num = schemas::check_server(&control).await?;
        let config = Arc::new(schemas::expanded(&control, &config).await?);
        // A table that is gone is known by its shape.
        if let Some(state) = StateStore::find(&client, &config.opensearch.state_index, &config.name).await? {
            watch::refuse_absent(&control, &config, &state).await?;
        }
        let schemas = schemas::schemas(&control, &config).await?;

        let (settings, name) = (config.clone(), application_name.clone());
        let connecting = tokio::task::spawn_blocking(move || {
            let mut connection =
                ReplicationConnection::connect(&settings.postgres, &name, Some(SERVER_TIMEOUT))?;
            let server = connection.identify_system()?;
            let history = match connection.timeline_history(server.timeline) {
                // The first timeline has none; of a later one somebody has removed it.
                Err(error) if error.sqlstate() == Some("58P01") => vec![],
                history => history?,
            };
            Ok::<_, PipelineError>((connection, server, history))
        });
        let (mut connection, server, history) =
            connecting.await.map_err(|_| PipelineError::Ended("connecting"))??;

        let state = StateStore::open(&client, &config.opensearch.state_index, &config.name).await?;
        // Before anything is made on a server that may not be ours.
        if let Some(Stored { record, .. }) = state.checkpoint().await? {
            if let Some(why) = position::foreign(&record, &server) {
                return Err(PipelineError::Gap(why));
            }
            if position::is_replaced(&record, &server) {
                return Err(PipelineError::Replaced { server: server.timeline, known: record.timeline });
            }
        }
        source::sql::check_timeline(&control, server.timeline).await?;
        let found = slot::find(&control, &config.postgres.slot).await?;
        schemas::check_slot(&config.postgres.slot, found.as_ref(), &server.database)?;
        let (schemas, publications) = published(&control, &config, schemas).await?;
        let made = publication::oids(&control).await?;
        let streamed =
            made.iter().filter(|(_, name)| publications.contains(name)).map(|(oid, _)| *oid).collect();
        let made: Vec<u32> = made.iter().map(|(oid, _)| *oid).collect();
        let shapes = watch::shapes(&control, &config).await?;
        for (shape, schema) in shapes.iter().zip(&schemas) {
            watch::same_columns(shape, schema)?;
        }
        let store = DeadLetters::open(&client, &config.opensearch.dead_letter_index, &config.name).await?;
        let letters = Letters::load(store, config.limits.dead_letters).await?;
        let Prepared { mut tables, mut work, indices } =
            prepare::tables(&config, &client, &state, schemas, &server).await?;
        let mut epochs = prepare::epochs(&client, &state, &indices).await?;

        let slot_name = config.postgres.slot.clone();
        let found = slot::find(&control, &slot_name).await?;
        // After the slot: whoever held it until now has written its checkpoint before it moved the slot.
        let stored = state.checkpoint().await?;
        let is_takeover =
            position::is_takeover(stored.as_ref(), found.is_some(), |owner| state.is_own_process(owner));
        let is_own = stored.as_ref().is_none_or(|stored| state.is_own_process(&stored.owner));
        let stored = stored.map(|stored| stored.record);
        if let Some((true, Some(pid))) = found.as_ref().map(|s| (s.active, s.active_pid)) {
            return Err(PipelineError::SlotBusy { slot: slot_name, pid });
        }
        // After the checkpoint, which another instance may have moved since the server said what it is.
        let log_end = source::position::log_end(&control).await?;
        let server = SystemIdentity { flush: log_end.flush, ..server };
        let raised = state.high().await?.map(|stored| stored.record.lsn);
        let beside = state.high_beside().await?.map(|stored| stored.record);
        let beside = beside.filter(|high| high.epoch == epochs.list.last().number).map(|high| high.lsn);
        let known = {
            let names = tables.iter().map(|table| table.schema.name.to_string()).collect();
            let positions = StoredPositions { raised, beside, checkpoint: stored.as_ref(), is_own };
            memory.lock().begin_session(names, &positions)
        };
        let start =
            position::start(stored.as_ref(), &slot_name, found.as_ref(), &server, &history, known, &made);
        match &start {
            Start::Foreign(why) => return Err(PipelineError::Gap(why.clone())),
            Start::Replaced => {
                let known = stored.as_ref().map_or(0, |checkpoint| checkpoint.timeline);
                return Err(PipelineError::Replaced { server: server.timeline, known });
            }
            Start::Fresh | Start::Adopt | Start::Continue(_) | Start::Gap(_) => {}
        }
        let resume = {
            let floors = work.iter().filter_map(|work| Some((work.table, work.record.floor?)));
            resume::resume(&start, &mut epochs, &memory.lock(), known, floors)?
        };
        say(&config, &start, &resume)?;
        for table in &mut work {
            if let Some(after_gap) = resume.restart.of(table.table) {
                table.restart(&state, after_gap).await?;
            }
        }
        if resume.epochs_changed {
            state.write_epochs(&epochs).await?;
        }
        memory.lock().resumed(&resume);
        let from = match resume.from {
            Some(lsn) => lsn,
            None => acquire(&control, &slot_name, found.as_ref()).await?,
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
        let fingerprint = prepare::fingerprint(&publications, &tables, version_num);
        let held_below = resume::held_below(stored.as_ref(), &fingerprint, resume.high);
        let checkpoint = Checkpoint {
            slot: slot_name.clone(),
            system_identifier: server.system_id,
            database: server.database,
            timeline: server.timeline,
            timeline_began: position::began(server.timeline, &history),
            publications: streamed,
            fingerprint,
            held_below,
            lsn: from,
            high: None,
            settled: false,
        };
        let others_until =
            is_takeover.then(|| Instant::now() + TAKEOVER + config.limits.late_request_horizon);
        // Once the checkpoint is signed, it does not say any more that there was somebody else.
        memory.lock().doubt(others_until);
        state.write_checkpoint(&checkpoint, &epochs.list).await?;

        let starting = tokio::task::spawn_blocking(move || {
            connection.start(&slot_name, from, &publications)?;
            Ok::<_, PipelineError>(connection)
        });
        let connection = starting.await.map_err(|_| PipelineError::Ended("starting the stream"))??;
        tracing::info!(from = %from, slot = checkpoint.slot, tables = tables.iter().count(), "streaming");
        let require_alias = indices.iter().all(|index| index.is_alias);
        Ok(Session {
            others_until,
            config,
            control,
            state,
            client,
            letters,
            tables: Arc::new(tables),
            work,
            require_alias,
            epochs,
            checkpoint,
            connection,
            log_end,
            high: resume.high,
            held_below,
            memory,
            shapes,
        })
    }
}

/// Says what is to be repaired, or stops, where gaps are to be stopped on.
fn say(config: &Config, start: &Start, resume: &Resume) -> Result<(), PipelineError> {
    let Start::Gap(gap) = start else {
        if resume.epochs_changed {
            tracing::warn!("the repair of a failover was not finished; all tables are read again");
        }
        return Ok(());
    };
    if config.on_gap == OnGap::Stop {
        return Err(PipelineError::Gap(format!(
            "{gap}; on_gap is `stop`: set on_gap: resync to read all tables again beside the stream"
        )));
    }
    if resume.from.is_some() {
        tracing::warn!(%gap, "a failover lost commits: the documents that were written of them are looked up again");
    } else {
        tracing::warn!(%gap, "a gap: all tables are read again beside the stream, and what is gone is swept");
    }
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

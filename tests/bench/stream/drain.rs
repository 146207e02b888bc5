//! Drains a slot through the real connection, reader thread, intake and lanes into bodies that are dropped.
//!
//! `bench.py` takes the time and the CPU of the whole process, as it does of pg_recvlogical.

use crate::{
    Outcome,
    lanes::{drop_body, intake},
};
use pg2os::{
    config::{Credential, Postgres, Tls, TlsMode},
    model::Lsn,
    pipeline::reader::{Reader, StreamState},
    source::replication::ReplicationConnection,
};
use serde_json::json;
use std::{env, error::Error, sync::Arc, thread, time::Duration};

/// Database `bench` of the server under test, as its superuser, without TLS.
pub(crate) fn settings() -> Result<Postgres, Box<dyn Error>> {
    Ok(Postgres {
        hosts: vec!["127.0.0.1".into()],
        port: env::var("PG2OS_TEST_PG_PORT")?.parse()?,
        database: "bench".into(),
        user: Credential::Value("postgres".into()),
        password: None,
        tls: Tls { mode: TlsMode::Disable, ca_file: None, cert_file: None, key_file: None },
        slot: "unused".into(),
        publications: vec!["bench".into()],
        append_publication: None,
        backfill_host: None,
    })
}

pub(crate) fn run(slot: &str, end: Lsn) -> Outcome {
    let settings = settings()?;
    let mut connection =
        ReplicationConnection::connect(&settings, "pg2os bench", Some(Duration::from_secs(20)))?;
    connection.start(slot, Lsn::ZERO, &settings.publications)?;
    let (lanes, intake) = intake(Lsn::ZERO)?;
    let state = Arc::new(StreamState::new(Lsn::ZERO));
    let (requests, _asked) = tokio::sync::mpsc::unbounded_channel();
    let mut reader = Reader::new(connection, intake, lanes.clone(), state.clone(), requests, Lsn::ZERO);
    let reading = thread::spawn(move || reader.run());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let bytes: usize = runtime.block_on(async {
        let consumers: Vec<_> = (0..lanes.count())
            .map(|lane| {
                let lanes = lanes.clone();
                tokio::spawn(async move {
                    let mut bytes = 0;
                    while lanes.tracker().position() < end {
                        let next = tokio::time::timeout(Duration::from_millis(20), lanes.next_batch(lane));
                        if let Ok(batch) = next.await {
                            bytes += drop_body(&lanes, lane, batch);
                        }
                    }
                    bytes
                })
            })
            .collect();
        let mut bytes = 0;
        for consumer in consumers {
            bytes += consumer.await?;
        }
        Ok::<_, tokio::task::JoinError>(bytes)
    })?;
    state.set_durable(end);
    state.finish();
    reading.join().map_err(|_| "the reader thread panicked")??;
    Ok(json!({ "changes": state.changes(), "bulk_bytes": bytes }))
}

//! Sessions one after the other, until told to stop or until only a person can help.

use super::{
    error::{Meaning, PipelineError},
    memory::Memory,
    progress::Progress,
    reader::ReaderError,
    session::{End, Session},
};
use crate::{config::Config, source::SourceError};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A new primary is found soon after it was promoted.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A waiting instance takes over soon after the slot is free.
const BUSY_WAIT: Duration = Duration::from_secs(2);
/// After a session of this length the next trouble is a new one.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// Runs the pipeline until `stop`, or until caught up where that is asked for.
///
/// Once a session has run, or waits for another instance, what passes by itself is waited out for ever. Before that it is
/// an error: whoever started the program wants to hear that a server is not there.
///
/// # Errors
/// Whatever needs a cure from outside.
pub async fn run(
    config: Arc<Config>,
    progress: Arc<Progress>,
    until_caught_up: bool,
    stop: CancellationToken,
) -> Result<End, PipelineError> {
    let (mut has_run, mut attempt, mut said_busy) = (false, 0_u32, false);
    // What the present session follows: less than `config` while one of two publications is too new.
    let mut followed: Option<Arc<Config>> = None;
    let memory = Arc::new(Memory::default());
    loop {
        let opening = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(End::Stopped),
            opening = Box::pin(Session::open(followed.as_ref().unwrap_or(&config).clone(), memory.clone())) => opening,
        };
        let begun = Instant::now();
        let result = match opening {
            Ok(session) => {
                (has_run, said_busy) = (true, false);
                let until_caught_up = until_caught_up || followed.is_some();
                Box::pin(session.run(progress.clone(), until_caught_up, stop.clone())).await
            }
            Err(error) => Err(error),
        };
        let error = match result {
            Ok(End::Again) => continue,
            Ok(End::CaughtUp) if followed.take().is_some() => continue,
            Ok(End::Overflowed | End::ServerLeft) if !stop.is_cancelled() => continue,
            Ok(end) => return Ok(end),
            Err(error) => error,
        };
        if followed.is_none()
            && let Some(less) = without_new_publication(&config, &error)
        {
            tracing::info!(
                "a publication is newer than what is to be streamed; the tables of the other one are followed past that first"
            );
            followed = Some(Arc::new(less));
            continue;
        }
        if begun.elapsed() > HEALTHY_AFTER {
            attempt = 0;
        }
        let wait = match error.meaning() {
            Meaning::Busy => {
                has_run = true;
                if !std::mem::replace(&mut said_busy, true) {
                    tracing::info!("{error}");
                }
                BUSY_WAIT
            }
            Meaning::Transient if has_run => {
                attempt += 1;
                let wait = FIRST_WAIT.saturating_mul(1 << attempt.min(10)).min(LONGEST_WAIT);
                tracing::warn!(%error, seconds = wait.as_secs_f32(), "the session is lost; the next one goes on from the checkpoint");
                wait
            }
            Meaning::NeedsCure if has_run && error.is_waited_out() => {
                attempt += 1;
                tracing::error!(%error, "nothing is lost; the stream waits until this is cured");
                FIRST_WAIT.saturating_mul(1 << attempt.min(10)).min(LONGEST_WAIT)
            }
            Meaning::Transient | Meaning::NeedsCure | Meaning::Gap => return Err(error),
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(End::Stopped),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What can be followed where the stream stops because one of our two publications did not exist then. The server looks
/// publications up as they were at the change it decodes (docs: "Logical Decoding Concepts"), so a slot from before
/// CREATE PUBLICATION cannot be streamed with it; past that it can.
fn without_new_publication(config: &Config, error: &PipelineError) -> Option<Config> {
    let PipelineError::Reader(ReaderError::Source(SourceError::Server(said))) = error else { return None };
    let append = config.postgres.append_publication.as_ref().filter(|_| said.sqlstate == "42704")?;
    let keep_append_only = !said.message.contains(append.as_str());
    let less = config.append_only(keep_append_only);
    let any = !less.tables.is_empty() || !less.wildcards.is_empty();
    any.then_some(less)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Sources, load},
        source::ServerError,
    };
    use std::path::PathBuf;

    #[test]
    fn what_is_left_without_a_publication_that_is_too_new_is_followed_first() {
        let config = |tables: &str| {
            let text = format!(
                "postgres: {{ host: h, database: d, user: u }}\nopensearch: {{ url: 'http://h:1' }}\ntables:\n{tables}"
            );
            let sources = Sources { file: Some((PathBuf::from("c.yaml"), text)), ..Sources::default() };
            load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config
        };
        let missing = |sqlstate: &str, name: &str| {
            let message = format!("publication \"{name}\" does not exist");
            let error = ServerError { sqlstate: sqlstate.into(), message, ..Default::default() };
            PipelineError::Reader(ReaderError::Source(SourceError::Server(Box::new(error))))
        };
        let names = |config: Option<Config>| {
            config.map(|c| c.tables.iter().map(|t| t.name.clone()).collect::<Vec<_>>())
        };
        let both = config("  - { table: a }\n  - { table: log, append_only: true, id: ts }");
        let left = |name: &str| names(without_new_publication(&both, &missing("42704", name)));
        assert_eq!(left("pg2os_append"), Some(vec!["a".to_owned()]));
        assert_eq!(left("pg2os"), Some(vec!["log".to_owned()]));
        assert!(without_new_publication(&both, &missing("42P01", "pg2os_append")).is_none());
        let one = config("  - { table: log, append_only: true, id: ts }");
        assert!(without_new_publication(&one, &missing("42704", "pg2os_append")).is_none());
        assert!(without_new_publication(&config("  - { table: a }"), &missing("42704", "pg2os")).is_none());
    }
}

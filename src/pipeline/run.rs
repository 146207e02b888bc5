//! Sessions one after the other, until told to stop or until only a person can help.

use super::{
    error::{Meaning, PipelineError},
    memory::Memory,
    progress::Progress,
    session::{End, Session},
};
use crate::config::Config;
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
    let memory = Arc::new(Memory::default());
    loop {
        let opening = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(End::Stopped),
            opening = Box::pin(Session::open(config.clone(), memory.clone())) => opening,
        };
        let begun = Instant::now();
        let result = match opening {
            Ok(session) => {
                (has_run, said_busy) = (true, false);
                Box::pin(session.run(progress.clone(), until_caught_up, stop.clone())).await
            }
            Err(error) => Err(error),
        };
        let error = match result {
            Ok(End::Overflowed | End::ServerLeft) if !stop.is_cancelled() => continue,
            Ok(end) => return Ok(end),
            Err(error) => error,
        };
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
            Meaning::Transient | Meaning::NeedsCure | Meaning::Gap => return Err(error),
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(End::Stopped),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

//! When windows pause: while the slot holds back much WAL, since it may be they that keep the stream waiting, and while the
//! standby that they are read from lags.

use super::error::PipelineError;
use crate::{
    config::Limits,
    model::Lsn,
    source::{self, position, slot},
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_postgres::Client;

const LOOK: Duration = Duration::from_secs(1);
/// A pause is said again so often.
const SAY: Duration = Duration::from_secs(30);
/// Samples of the primary's position that are kept; the oldest count.
const SAMPLES: usize = 4_096;

/// Why windows pause; `None` where they do not.
fn pause(retained: Option<u64>, lag: Option<Duration>, limits: &Limits) -> Option<String> {
    if let Some(retained) = retained.filter(|bytes| *bytes > limits.retained_wal / 2) {
        return Some(format!(
            "the slot holds back {retained} bytes of WAL, over half of limits.retained_wal ({}); they go on when the stream \
             has caught up",
            limits.retained_wal
        ));
    }
    let lag = lag.filter(|lag| *lag > limits.standby_lag)?;
    Some(format!(
        "the standby that they are read from is {} s behind, over limits.standby_lag ({} s)",
        lag.as_secs(),
        limits.standby_lag.as_secs()
    ))
}

/// How long a standby is behind: the age of the oldest position of the primary that it has not replayed. Unlike the time of
/// the last transaction it does not grow while nothing is written.
#[derive(Debug, Default)]
struct LagClock(VecDeque<(Instant, Lsn)>);

impl LagClock {
    fn lag(&mut self, now: Instant, written: Lsn, replayed: Lsn) -> Duration {
        if self.0.len() < SAMPLES && self.0.back().is_none_or(|(_, last)| written > *last) {
            self.0.push_back((now, written));
        }
        while self.0.front().is_some_and(|(_, lsn)| *lsn <= replayed) {
            self.0.pop_front();
        }
        self.0.front().map_or(Duration::ZERO, |(at, _)| now - *at)
    }
}

/// What readers of windows wait at.
#[derive(Debug)]
pub(super) struct Gate(watch::Sender<Option<String>>);

impl Gate {
    /// A gate that opens with the first look.
    pub(super) fn new() -> Self {
        Gate(watch::channel(Some(String::new())).0)
    }

    /// Returns when windows do not pause.
    pub(super) async fn open(&self) {
        // The sender is here, so the channel does not close.
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }
}

/// What is looked at, and whom a pause concerns.
pub(super) struct Politeness<'a> {
    pub(super) gate: &'a Gate,
    pub(super) primary: &'a Client,
    pub(super) slot: &'a str,
    pub(super) limits: &'a Limits,
    /// The standby that windows are read from; a connection that was lost is made again.
    pub(super) standby: Option<Standby<'a>>,
}

/// A standby.
pub(super) struct Standby<'a> {
    pub(super) postgres: &'a crate::config::Postgres,
    pub(super) host: &'a str,
    pub(super) application_name: &'a str,
}

impl Politeness<'_> {
    /// Opens and closes the gate; `paused` hears of it. Ends only with an error.
    ///
    /// # Errors
    /// The primary could not be asked.
    pub(super) async fn watch(&self, paused: impl Fn(bool)) -> Result<(), PipelineError> {
        let (mut client, mut clock, mut said) = (None, LagClock::default(), None::<Instant>);
        loop {
            let end = position::log_end(self.primary).await?;
            let slot = slot::find(self.primary, self.slot).await?;
            let retained = slot.and_then(|slot| slot.restart_lsn).map(|lsn| end.insert.since(lsn));
            let lag = match self.replayed(&mut client).await {
                Ok(replayed) => replayed.map(|replayed| clock.lag(Instant::now(), end.flush, replayed)),
                // Readers meet the same, and tell it.
                Err(_) => None,
            };
            let why = pause(retained, lag, self.limits);
            match &why {
                Some(why) if said.is_none_or(|at| at.elapsed() >= SAY) => {
                    said = Some(Instant::now());
                    tracing::warn!("windows pause: {why}");
                }
                None if said.take().is_some() => tracing::info!("windows go on"),
                _ => {}
            }
            paused(why.is_some());
            self.gate.0.send_replace(why);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How far the standby is; `None` where there is none, or it is a primary by now.
    async fn replayed(&self, client: &mut Option<Client>) -> Result<Option<Lsn>, PipelineError> {
        let Some(standby) = &self.standby else { return Ok(None) };
        let connected = match client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                let Standby { postgres, host, application_name } = standby;
                source::sql::connect(postgres, Some(host), application_name).await?
            }
        };
        let replayed = position::replayed(&connected).await?;
        *client = Some(connected);
        Ok(replayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnRetainedWal;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Limits {
        Limits {
            retained_wal: 1_000,
            on_retained_wal: OnRetainedWal::Stop,
            standby_lag: 30 * SECOND,
            dead_letters: 0,
            late_request_horizon: SECOND,
        }
    }

    #[test]
    fn windows_pause_over_half_of_the_limit_of_wal_and_over_that_of_lag() {
        let pause = |retained, lag| pause(retained, lag, &limits());
        assert_eq!(pause(None, None), None);
        assert_eq!(pause(Some(500), Some(30 * SECOND)), None);
        assert!(pause(Some(501), None).unwrap().contains("limits.retained_wal (1000)"));
        assert!(
            pause(Some(0), Some(31 * SECOND))
                .unwrap()
                .contains("31 s behind, over limits.standby_lag (30 s)")
        );
    }

    #[test]
    fn a_standby_is_as_late_as_the_oldest_position_that_it_has_not_replayed() {
        let (begun, mut clock) = (Instant::now(), LagClock::default());
        assert_eq!(clock.lag(begun, Lsn(100), Lsn(100)), Duration::ZERO);
        assert_eq!(clock.lag(begun + 60 * SECOND, Lsn(100), Lsn(100)), Duration::ZERO, "nothing is written");
        assert_eq!(clock.lag(begun + 61 * SECOND, Lsn(200), Lsn(100)), Duration::ZERO);
        assert_eq!(clock.lag(begun + 71 * SECOND, Lsn(300), Lsn(150)), 10 * SECOND);
        assert_eq!(clock.lag(begun + 81 * SECOND, Lsn(300), Lsn(200)), 10 * SECOND, "since 300 was written");
        assert_eq!(clock.lag(begun + 91 * SECOND, Lsn(300), Lsn(300)), Duration::ZERO);
    }
}

//! How fast windows may be read: `backfill.rate`, over all readers.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Bytes that are read between two looks at the rate.
pub(super) const SHARE: usize = 64 << 10;
/// What was not used longer ago than this is not made up for.
const BURST: Duration = Duration::from_millis(200);

/// A limit of bytes per second.
#[derive(Debug)]
pub(super) struct Pace(Option<Mutex<Budget>>);

impl Pace {
    /// At most `rate` bytes per second; unlimited without one.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Pace(rate.map(|rate| Mutex::new(Budget { rate: rate as f64, paid: None })))
    }

    /// Waits until `bytes` that were read are within the rate.
    pub(super) async fn keep(&self, bytes: usize) {
        if let Some(budget) = &self.0 {
            let wait = budget.lock().unwrap_or_else(PoisonError::into_inner).spend(Instant::now(), bytes);
            tokio::time::sleep(wait).await;
        }
    }
}

#[derive(Debug)]
struct Budget {
    rate: f64,
    /// When everything that was spent is paid for.
    paid: Option<Instant>,
}

impl Budget {
    /// Spends `bytes` at `now`; returns how long to wait until they are paid for.
    fn spend(&mut self, now: Instant, bytes: usize) -> Duration {
        let idle = now.checked_sub(BURST).unwrap_or(now);
        let from = self.paid.map_or(idle, |paid| paid.max(idle));
        let paid = from + Duration::from_secs_f64(bytes as f64 / self.rate);
        self.paid = Some(paid);
        paid.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_readers_spend_adds_up_to_the_rate() {
        let begun = Instant::now();
        let mut budget = Budget { rate: 1_000_000.0, paid: None };
        let mut now = begun;
        for _ in 0..100 {
            now += budget.spend(now, 50_000);
        }
        let seconds = (now - begun).as_secs_f64();
        assert!((4.7..=5.0).contains(&seconds), "5 MB at 1 MB/s took {seconds} s");
    }

    #[test]
    fn an_idle_time_is_made_up_for_only_a_little() {
        let begun = Instant::now();
        let mut budget = Budget { rate: 1_000_000.0, paid: None };
        budget.spend(begun, 50_000);
        let later = begun + Duration::from_secs(60);
        assert_eq!(budget.spend(later, 100_000), Duration::ZERO);
        assert_eq!(budget.spend(later, 1_100_000), Duration::from_secs(1));
    }
}

//! The lease: only the slot's holder sends. A process that was stopped or paused for long may have lost the slot to another
//! without knowing it; what it has queued would be late requests.
//!
//! The reader beats whenever it has spoken with the server (a dead connection fails within 20 s, `tcp_user_timeout`), and
//! never again after a pause in which the server may have given the slot away. So no request starts later than 60 s after
//! the last message of the walsender, in boot time, which goes on while a machine sleeps.

use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Silence of the reader after which nothing is sent any more.
const LEASE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Lease {
    /// Milliseconds of boot time at the last beat.
    beat: AtomicU64,
}

impl Lease {
    /// A lease that begins now.
    pub(super) fn new() -> Self {
        Lease { beat: AtomicU64::new(boot_millis()) }
    }

    /// The connection was alive just now.
    ///
    /// # Errors
    /// It is too late: the time since the last beat. The lease is over for good.
    pub(super) fn beat(&self) -> Result<(), Duration> {
        let now = boot_millis();
        let silence = self.silence(now);
        if silence > LEASE {
            return Err(silence);
        }
        self.beat.store(now, Ordering::Release);
        Ok(())
    }

    /// May a request be sent?
    pub(super) fn is_held(&self) -> bool {
        self.silence(boot_millis()) <= LEASE
    }

    fn silence(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.beat.load(Ordering::Acquire)))
    }
}

fn boot_millis() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_was_lost_in_a_pause_does_not_come_back() {
        let lease = Lease::new();
        assert!(lease.is_held() && lease.beat().is_ok());
        lease.beat.fetch_sub(29_000, Ordering::Relaxed);
        assert!(lease.is_held() && lease.beat().is_ok());
        lease.beat.fetch_sub(31_000, Ordering::Relaxed);
        assert!(!lease.is_held());
        assert!(lease.beat().is_err() && lease.beat().is_err() && !lease.is_held());
    }
}

//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use super::exit::Exit;
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Told when the program is to stop.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Cancelled by the first signal.
    pub token: CancellationToken,
    number: Arc<AtomicU8>,
}

impl Stop {
    /// How a one-shot command ends that was stopped with work left.
    pub fn exit(&self) -> Exit {
        Exit::Interrupted(self.number.load(Ordering::Acquire))
    }
}

/// Listens for both signals from now on.
pub fn stop_on_signals() -> Stop {
    let stop = Stop { token: CancellationToken::new(), number: Arc::new(AtomicU8::new(0)) };
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let number = u8::try_from(kind.as_raw_value()).unwrap_or(0);
        match signal(kind) {
            Ok(mut signals) => {
                let stop = stop.clone();
                tokio::spawn(async move {
                    while signals.recv().await.is_some() {
                        if stop.token.is_cancelled() {
                            std::process::exit(i32::from(Exit::Interrupted(number).code()));
                        }
                        tracing::info!("stopping: finishing what is in flight; once more to stop at once");
                        stop.number.store(number, Ordering::Release);
                        stop.token.cancel();
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "signals cannot be listened for"),
        }
    }
    stop
}

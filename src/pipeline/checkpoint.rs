//! The checkpoint: written first, then acknowledged to the slot (G1).

use super::{error::PipelineError, high::HighMark, reader::StreamState};
use crate::{
    lanes::Lanes,
    model::Epochs,
    sink::{self, Checkpoint, SinkError, StateStore},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);
/// WAL of others only moves the checkpoint this often.
const IDLE_EVERY: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);

/// Follows the tracker's position with the checkpoint.
pub(super) struct CheckpointKeeper {
    state: Arc<StateStore>,
    epochs: Epochs,
    checkpoint: Checkpoint,
    lanes: Arc<Lanes>,
    stream: Arc<StreamState>,
    high: Arc<HighMark>,
    written: Instant,
    /// Transactions of which nothing was in flight any more when the checkpoint was written.
    settled: u64,
}

impl CheckpointKeeper {
    /// Goes on from `checkpoint`, which is stored.
    pub(super) fn new(
        state: Arc<StateStore>,
        epochs: Epochs,
        checkpoint: Checkpoint,
        lanes: Arc<Lanes>,
        stream: Arc<StreamState>,
        high: Arc<HighMark>,
    ) -> Self {
        let written = Instant::now();
        CheckpointKeeper { state, epochs, checkpoint, lanes, stream, high, written, settled: 0 }
    }

    /// Writes until `drained`, then once more. While OpenSearch cannot be written to, the slot is not acknowledged.
    ///
    /// # Errors
    /// Another instance is ahead, or the state cannot be written for a reason that stays.
    pub(super) async fn run(mut self, drained: CancellationToken) -> Result<(), PipelineError> {
        while !drained.is_cancelled() {
            tokio::select! {
                () = drained.cancelled() => break,
                () = async {
                    tokio::time::sleep(TICK).await;
                    self.high.keep_ahead().await;
                } => {}
            }
            let idle = self.stream.transactions() == self.settled && !self.stream.is_wanted();
            if self.written.elapsed() < if idle { IDLE_EVERY } else { EVERY } {
                continue;
            }
            match self.write(false).await {
                Err(PipelineError::Sink(error)) if is_passing(&error) => {
                    tracing::warn!(%error, "the checkpoint could not be written; nothing is acknowledged meanwhile");
                }
                result => result?,
            }
        }
        self.write(true).await
    }

    async fn write(&mut self, last: bool) -> Result<(), PipelineError> {
        self.written = Instant::now();
        let transactions = self.stream.transactions();
        let (position, idle) = {
            let tracker = self.lanes.tracker();
            (tracker.position(), tracker.is_idle())
        };
        let settled = last && self.lanes.is_settled(self.written);
        if position > self.checkpoint.lsn || last {
            let high = last.then(|| self.high.known().stopped());
            let next = Checkpoint { lsn: position, settled, high, ..self.checkpoint.clone() };
            self.state.write_checkpoint(&next, &self.epochs).await?;
            self.checkpoint = next;
            self.stream.set_durable(position);
        }
        // What is still in flight keeps the quick pace.
        if idle {
            self.settled = transactions;
        }
        Ok(())
    }
}

fn is_passing(error: &SinkError) -> bool {
    error.class() == sink::Class::Transient && !matches!(error, SinkError::Superseded { .. })
}

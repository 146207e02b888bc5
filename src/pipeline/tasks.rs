//! The tasks and the thread of a stream, which end with it.

use super::{
    error::PipelineError,
    reader::{Reader, ReaderError, StreamState},
};
use std::sync::Arc;
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle},
};

/// Runs the reader on a thread of its own.
pub(super) fn spawn_reader(mut reader: Reader) -> oneshot::Receiver<Result<(), ReaderError>> {
    let (done, reading) = oneshot::channel();
    let thread = std::thread::Builder::new().name("reader".to_owned());
    let spawned = thread.spawn(move || {
        let result = reader.run();
        // Told before the reader's ends of the channels close: whoever waits on those must find the cause here. The
        // session may be gone already; then nobody waits.
        let _ = done.send(result);
        drop(reader);
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread for the reader");
    }
    reading
}

/// Tells the reader thread to go, however the session ends.
pub(super) struct LeaveOnDrop(pub(super) Arc<StreamState>);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A task that ends with its session.
pub(super) struct AbortOnDrop<T>(pub(super) JoinHandle<T>);

impl<T: Send + 'static> AbortOnDrop<T> {
    pub(super) fn spawn(task: impl Future<Output = T> + Send + 'static) -> Self {
        AbortOnDrop(tokio::spawn(task))
    }
}

impl AbortOnDrop<Result<(), PipelineError>> {
    /// Ends the task, and returns when it has ended.
    pub(super) async fn stop(&mut self, ended: bool) {
        self.0.abort();
        if !ended {
            // However it ended: what it leaves undone is done again.
            let _ = (&mut self.0).await;
        }
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The error of a task that should have gone on.
pub(super) fn ended(
    result: Result<Result<(), PipelineError>, JoinError>,
    what: &'static str,
) -> PipelineError {
    match result {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => PipelineError::Ended(what),
    }
}

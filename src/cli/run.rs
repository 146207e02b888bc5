//! `pg2os run`: bootstrap, then stream for ever.

use super::{
    exit::{Exit, Failure},
    progress, signal,
};
use crate::{
    config::Config,
    pipeline::{error::PipelineError, progress::Progress, run::run as run_pipeline},
};
use clap::Args;
use std::sync::Arc;

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// End with 0 when everything up to the server's position is in the indices
    #[arg(long)]
    pub until_caught_up: bool,
}

/// Runs the pipeline.
pub async fn run(config: Config, args: RunArgs) -> Result<Exit, Failure> {
    let stop = signal::stop_on_signals();
    let counters = Arc::new(Progress::default());
    let display = progress::show(counters.clone());
    let result = run_pipeline(Arc::new(config), counters, args.until_caught_up, stop.token.clone()).await;
    display.finish().await;
    match result {
        Ok(_) => Ok(Exit::Done),
        Err(error) => Err(failure(&error)),
    }
}

/// What an error of the pipeline says, and how the command ends.
pub(super) fn failure(error: &PipelineError) -> Failure {
    use crate::pipeline::error::Meaning;
    let exit = match error.meaning() {
        Meaning::Transient | Meaning::Busy => Exit::Failed,
        Meaning::NeedsCure => Exit::Usage,
        Meaning::Gap => Exit::Gap,
    };
    Failure::of(exit, error)
}

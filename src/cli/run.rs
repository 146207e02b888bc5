//! `pg2os run`: bootstrap, then stream for ever.

use super::exit::{Exit, Failure};
use crate::config::Config;
use clap::Args;

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// End with 0 when everything up to the server's position is in the indices
    #[arg(long)]
    pub until_caught_up: bool,
}

/// Runs the pipeline.
#[expect(clippy::unused_async, reason = "the pipeline that it will await is not built yet")]
pub async fn run(_config: Config, _args: RunArgs) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "run is not built yet"))
}

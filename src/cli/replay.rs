//! `pg2os replay`: history once more into the same indices.

use super::{
    exit::{Exit, Failure},
    run::failure,
    signal,
};
use crate::{
    config::Config,
    model::Lsn,
    pipeline::{progress::Progress, replay::replay},
};
use clap::Args;
use indicatif::HumanCount;
use std::sync::Arc;

/// Flags of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// First position of the log that is replayed; `pg2os status` shows how far back it may lie
    #[arg(long, value_name = "X/Y")]
    pub from_lsn: Lsn,
    /// Where to end, or soon after; where the server stands now, if not given
    #[arg(long, value_name = "X/Y")]
    pub to_lsn: Option<Lsn>,
}

/// Replays history.
pub async fn run(config: Config, args: ReplayArgs) -> Result<Exit, Failure> {
    let stop = signal::stop_on_signals();
    let progress = Arc::new(Progress::default());
    let display = super::progress::show(progress.clone());
    let replaying = replay(Arc::new(config), args.from_lsn, args.to_lsn, progress.clone());
    let result = tokio::select! {
        biased;
        () = stop.token.cancelled() => None,
        result = Box::pin(replaying) => Some(result),
    };
    display.finish().await;
    let replayed = match result {
        None => return Ok(stop.exit()),
        Some(result) => result.map_err(|error| failure(&error))?,
    };
    println!(
        "replayed {} to {}: {} changes, {} documents read again",
        args.from_lsn,
        replayed.to,
        HumanCount(replayed.changes),
        HumanCount(replayed.documents)
    );
    if progress.dead_letters() > 0 {
        eprintln!("{} documents were refused and are kept as dead letters", progress.dead_letters());
        return Ok(Exit::No);
    }
    Ok(Exit::Done)
}

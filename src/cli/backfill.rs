//! `pg2os backfill`: fill the indices window by window, once.

use super::exit::{Exit, Failure};
use crate::config::{Bound, Config};
use clap::{ArgAction, Args, builder::FalseyValueParser};

/// Flags of `backfill`. The tables that were named are in `tables`, filled by the dispatcher.
#[derive(Debug, Clone, Args)]
pub struct BackfillArgs {
    /// First value of the window column, inclusive: a date, a timestamp, today, -30d, or an id
    #[arg(long, allow_hyphen_values = true, value_name = "VALUE")]
    pub from: Option<Bound>,
    /// End, exclusive, in the same forms
    #[arg(long, allow_hyphen_values = true, value_name = "VALUE")]
    pub to: Option<Bound>,
    /// Write nothing: show counts, sample documents and the bulk size of each window
    #[arg(long, env = "DRY_RUN", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    pub dry_run: bool,
    /// Names from `--table`, to be resolved with `Config::select`; empty means all.
    #[arg(skip)]
    pub tables: Vec<String>,
}

/// Fills the indices.
#[expect(clippy::unused_async, reason = "the windows that it will await are not built yet")]
pub async fn run(_config: Config, _args: BackfillArgs) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "backfill is not built yet"))
}

//! `pg2os resync`: tables, or parts of them, read again.

use super::{
    exit::{Exit, Failure},
    progress,
    run::failure,
    signal,
};
use crate::{
    config::{Bound, Config},
    pipeline::{
        progress::Progress,
        resync::{Options, resync},
        session::End,
        windows::Range,
    },
};
use chrono::Utc;
use clap::Args;
use std::sync::Arc;

/// Flags of `resync`.
#[derive(Debug, Clone, Args)]
pub struct ResyncArgs {
    /// First value of the window column, inclusive: a date, a timestamp, today, -30d, or an id
    #[arg(long, allow_hyphen_values = true, value_name = "VALUE")]
    pub from: Option<Bound>,
    /// End, exclusive, in the same forms
    #[arg(long, allow_hyphen_values = true, value_name = "VALUE")]
    pub to: Option<Bound>,
    /// The source was replaced on purpose: take this server and database, and read all tables again
    #[arg(long)]
    pub accept_source: bool,
    /// Names from `--table`; empty means all.
    #[arg(skip)]
    pub tables: Vec<String>,
}

/// Reads tables again.
pub async fn run(config: Config, args: ResyncArgs) -> Result<Exit, Failure> {
    let today = Utc::now().date_naive();
    let text = |bound: Option<Bound>| bound.map(|bound| bound.value(today));
    let range = Range { from: text(args.from), to: text(args.to) };
    let options = Options { tables: args.tables, range, accept_source: args.accept_source };
    let stop = signal::stop_on_signals();
    let counters = Arc::new(Progress::of("resync"));
    let display = progress::show(counters.clone());
    let result = resync(Arc::new(config), &options, counters.clone(), stop.token.clone()).await;
    display.finish().await;
    match result {
        Err(error) => Err(failure(&error)),
        Ok(End::Stopped) => Ok(stop.exit()),
        Ok(_) if counters.dead_letters() > 0 => {
            eprintln!("{} documents were refused and are kept as dead letters", counters.dead_letters());
            Ok(Exit::No)
        }
        Ok(_) => Ok(Exit::Done),
    }
}

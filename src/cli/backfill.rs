//! `pg2os backfill`: fill the indices window by window, once.

use super::{
    exit::{Exit, Failure},
    run::failure,
    signal,
};
use crate::{
    config::{Bound, Config},
    pipeline::{
        oneshot::backfill,
        preview::{Preview, preview},
        progress::Progress,
        windows::Range,
    },
};
use chrono::Utc;
use clap::{ArgAction, Args, builder::FalseyValueParser};
use indicatif::{HumanBytes, HumanCount};
use std::sync::Arc;

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
    /// Afterwards look up the documents that no window had, and delete those without a row
    #[arg(long)]
    pub sweep: bool,
    /// Names from `--table`, to be resolved with `Config::select`; empty means all.
    #[arg(skip)]
    pub tables: Vec<String>,
}

/// Fills the indices.
pub async fn run(config: Config, args: BackfillArgs) -> Result<Exit, Failure> {
    let config = config.select(&args.tables).map_err(|p| Failure::new(Exit::Usage, p.to_string()))?;
    let today = Utc::now().date_naive();
    let text = |bound: Option<Bound>| bound.map(|bound| bound.value(today));
    let range = Range { from: text(args.from), to: text(args.to) };
    if args.dry_run {
        let previews = preview(&config, &range).await.map_err(|error| failure(&error))?;
        previews.iter().for_each(print);
        return Ok(Exit::Done);
    }

    let stop = signal::stop_on_signals();
    let progress = Arc::new(Progress::default());
    let display = super::progress::show(progress.clone());
    let result = tokio::select! {
        biased;
        () = stop.token.cancelled() => None,
        result = Box::pin(backfill(Arc::new(config), range, args.sweep, progress.clone())) => Some(result),
    };
    display.finish().await;
    match result {
        None => Ok(stop.exit()),
        Some(Err(error)) => Err(failure(&error)),
        Some(Ok(())) if progress.dead_letters() > 0 => {
            eprintln!("{} documents were refused and are kept as dead letters", progress.dead_letters());
            Ok(Exit::No)
        }
        Some(Ok(())) => Ok(Exit::Done),
    }
}

fn print(preview: &Preview) {
    let rows: u64 = preview.windows.iter().map(|w| w.rows).sum();
    println!(
        "{} → {}: {} rows in {} windows",
        preview.table,
        preview.index,
        HumanCount(rows),
        preview.windows.len()
    );
    println!("  {}", preview.division);
    preview.notes.iter().for_each(|note| println!("  note: {note}"));
    for window in &preview.windows {
        println!(
            "  {:48} {:>12} rows  about {}",
            window.label,
            HumanCount(window.rows).to_string(),
            HumanBytes(window.bulk_bytes)
        );
    }
    for sample in &preview.samples {
        println!("  _id {}\n      {}", sample.id, sample.document);
    }
    println!("  mapping of a new index: {}\n", preview.mapping);
}

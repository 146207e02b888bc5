//! `pg2os verify`: rows against documents.

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
        verify::{Difference, Kind, Options, TableReport, verify},
        windows::Range,
    },
};
use chrono::Utc;
use clap::Args;
use comfy_table::Table;
use indicatif::HumanCount;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};

/// Ids that are shown of all.
const SHOWN: usize = 50;

/// Flags of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// First value of the window column, inclusive: a date, a timestamp, today, -30d, or an id
    #[arg(long, allow_hyphen_values = true, value_name = "VALUE")]
    pub from: Option<Bound>,
    /// End, exclusive, in the same forms
    #[arg(long, allow_hyphen_values = true, value_name = "VALUE")]
    pub to: Option<Bound>,
    /// Rewrite the documents that differ, beside the live process
    #[arg(long)]
    pub repair: bool,
    /// Compare about so many rows and documents of each table, at random, instead of all
    #[arg(long, value_name = "N")]
    pub sample: Option<u64>,
    /// Print JSON: every id that differs on a line of its own, then a line for each table
    #[arg(long)]
    pub json: bool,
}

/// Compares the tables.
pub async fn run(config: Config, args: VerifyArgs) -> Result<Exit, Failure> {
    let today = Utc::now().date_naive();
    let text = |bound: Option<Bound>| bound.map(|bound| bound.value(today));
    let range = Range { from: text(args.from), to: text(args.to) };
    let options = Options { range, repair: args.repair, sample: args.sample };
    let stop = signal::stop_on_signals();
    let counters = Arc::new(Progress::of("verify"));
    let display = progress::show(counters.clone());
    let shown = Mutex::new(vec![]);
    let found = |difference: Difference| {
        if args.json {
            print_json(&difference);
            return;
        }
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.len() < SHOWN {
            shown.push(difference);
        }
    };
    let result = tokio::select! {
        biased;
        () = stop.token.cancelled() => None,
        result = Box::pin(verify(config, &options, counters.clone(), found)) => Some(result),
    };
    display.finish().await;
    let reports = match result {
        None => return Ok(stop.exit()),
        Some(result) => result.map_err(|error| failure(&error))?,
    };
    if args.json {
        reports.iter().for_each(print_json);
    } else {
        print(&reports, &shown.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    let is_equal = |report: &TableReport| report.differences == 0 && report.note.is_none();
    Ok(if reports.iter().all(is_equal) { Exit::Done } else { Exit::No })
}

fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(json) => println!("{json}"),
        Err(error) => tracing::error!(%error, "a line has no JSON"),
    }
}

fn print(reports: &[TableReport], differences: &[Difference]) {
    for d in differences {
        let kind = match d.difference {
            Kind::Missing => "missing",
            Kind::Extra => "extra",
            Kind::Stale => "stale",
            Kind::DeadLetter => "dead letter",
        };
        let repaired = if d.repaired { ", repaired" } else { "" };
        println!("{kind:11} {}/{}{repaired}", d.index, d.id);
    }
    let all: u64 = reports.iter().map(|report| report.differences + report.repaired).sum();
    if all > differences.len() as u64 {
        println!("… and {} more: --json names all", HumanCount(all - differences.len() as u64));
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["table", "index", "rows", "documents", "differ", "repaired", "behind", "moving"]);
    for r in reports {
        let counts = [r.rows, r.documents, r.differences, r.repaired, r.behind, r.moving];
        let counts = counts.iter().map(|count| HumanCount(*count).to_string());
        table.add_row([r.table.clone(), r.index.clone()].into_iter().chain(counts));
    }
    println!("{table}");
    for report in reports {
        if report.behind > 0 {
            println!(
                "{}: {} ids may be behind: the slot has changes of the table to send and no process streams; \
                 `pg2os run --until-caught-up`, then verify again",
                report.table, report.behind
            );
        }
        if let Some(note) = &report.note {
            println!("{}: {note}", report.table);
        }
    }
}

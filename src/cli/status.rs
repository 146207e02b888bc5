//! `pg2os status`: where the pipeline stands.

use super::{
    exit::{Exit, Failure},
    run::failure,
};
use crate::{
    config::{Config, units},
    pipeline::status::{BookmarkStatus, Status, status},
    sink::TableState,
};
use clap::Args;
use comfy_table::Table;
use indicatif::{HumanBytes, HumanCount};
use std::{str::FromStr, time::Duration};

/// Flags of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// End with 3 when the stream is further behind: a time (5m), bytes of WAL (1GB), or both (5m/1GB)
    #[arg(long, value_name = "TIME|BYTES")]
    pub max_lag: Option<MaxLag>,
}

/// How far behind is still healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxLag {
    /// In time.
    pub time: Option<Duration>,
    /// In bytes of WAL.
    pub bytes: Option<u64>,
}

impl FromStr for MaxLag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lag = MaxLag::default();
        for part in text.split('/') {
            let twice = match (units::duration(part), units::size(part)) {
                (Ok(time), _) => lag.time.replace(time).is_some(),
                (_, Ok(bytes)) => lag.bytes.replace(bytes).is_some(),
                _ => return Err("write a time with its unit (5m), bytes (1GB), or both (5m/1GB)".to_owned()),
            };
            if twice {
                return Err("has two times or two sizes; keep one".to_owned());
            }
        }
        Ok(lag)
    }
}

/// Prints the state.
pub async fn run(config: Config, args: StatusArgs) -> Result<Exit, Failure> {
    let status = status(&config).await.map_err(|error| failure(&error))?;
    if args.json {
        let json = serde_json::to_string_pretty(&status);
        println!("{}", json.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?);
    } else {
        print(&status);
    }
    let too_far = args.max_lag.and_then(|limit| too_far_behind(&status, limit));
    if let Some(why) = &too_far {
        eprintln!("{why}");
    }
    Ok(if status.problems.is_empty() && too_far.is_none() { Exit::Done } else { Exit::No })
}

/// Why the stream is further behind than `limit`.
fn too_far_behind(status: &Status, limit: MaxLag) -> Option<String> {
    let (Some(bytes), Some(seconds)) = (status.lag_bytes, status.lag_seconds) else {
        return Some("nothing was streamed yet, so the lag is not known".to_owned());
    };
    if let Some(most) = limit.bytes.filter(|most| bytes > *most) {
        return Some(format!("{bytes} bytes of WAL behind, more than the {most} of --max-lag"));
    }
    let most = limit.time.filter(|most| seconds > most.as_secs_f64())?;
    Some(format!("{seconds:.1} s behind, more than the {:.1} of --max-lag", most.as_secs_f64()))
}

fn print(status: &Status) {
    let none = || "none".to_owned();
    println!("pipeline     {}", status.pipeline);
    match &status.slot {
        Some(slot) => println!(
            "slot         {} ({}, {}), confirmed {}, holds back {} of WAL",
            slot.name,
            if slot.active { "streaming" } else { "nobody streams" },
            slot.wal_status.as_deref().unwrap_or("reserves nothing"),
            slot.confirmed_flush_lsn.map_or_else(none, |lsn| lsn.to_string()),
            slot.retained_bytes.map_or_else(none, |bytes| HumanBytes(bytes).to_string()),
        ),
        None => println!("slot         none"),
    }
    match &status.bookmark {
        Some(BookmarkStatus { from_lsn: Some(from), to_lsn: Some(to), retained_bytes, .. }) => println!(
            "replay       {from} to {to}, holds back {} of WAL",
            retained_bytes.map_or_else(none, |bytes| HumanBytes(bytes).to_string())
        ),
        Some(BookmarkStatus { why_none: Some(why), .. }) => println!("replay       none: {why}"),
        _ => println!("replay       none: bookmark is off"),
    }
    match &status.checkpoint {
        Some(checkpoint) => println!(
            "checkpoint   {} on timeline {}, written {} by {}",
            checkpoint.lsn,
            checkpoint.timeline,
            checkpoint.time.format("%Y-%m-%d %H:%M:%S UTC"),
            checkpoint.owner
        ),
        None => println!("checkpoint   none"),
    }
    if let (Some(bytes), Some(seconds)) = (status.lag_bytes, status.lag_seconds) {
        println!("lag          {} behind {}, at most {seconds:.1} s", HumanBytes(bytes), status.server_lsn);
    }
    println!("dead letters {}", status.dead_letters);
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["table", "index", "state", "windows done", "rows filled", "documents"]);
    for t in &status.tables {
        let state = match t.state {
            TableState::New => "new",
            TableState::Windows => "windows",
            TableState::Live => "live",
        };
        table.add_row([
            t.table.clone(),
            t.index.clone(),
            state.to_owned(),
            t.windows_done.to_string(),
            HumanCount(t.rows).to_string(),
            t.documents.map_or_else(none, |n| HumanCount(n).to_string()),
        ]);
    }
    println!("{table}");
    for problem in &status.problems {
        println!("problem: {problem}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_lag_is_a_time_or_bytes_or_both() {
        let time = Some(Duration::from_secs(300));
        let bytes = Some(1_000_000_000);
        assert_eq!("5m".parse(), Ok(MaxLag { time, bytes: None }));
        assert_eq!("1GB".parse(), Ok(MaxLag { time: None, bytes }));
        assert_eq!("5m/1GB".parse(), Ok(MaxLag { time, bytes }));
        for text in ["", "5", "5x", "5m/6m", "/"] {
            assert_eq!(text.parse::<MaxLag>().is_ok(), text == "5", "{text}");
        }
    }
}

//! `pg2os status`: where the pipeline stands.

use super::exit::{Exit, Failure};
use crate::config::{Config, units};
use clap::Args;
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
#[expect(clippy::unused_async, reason = "the queries that it will await are not built yet")]
pub async fn run(_config: Config, _args: StatusArgs) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Failed, "status is not built yet"))
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

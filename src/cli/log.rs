//! Logs on stderr: text for people, JSON for collectors.

use super::exit::{Exit, Failure};
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Flags of all commands about logs.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Form of the log on stderr; text on a terminal and json otherwise, if not given
    #[arg(long, global = true, value_enum, env = "PG2OS_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log debug messages too
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Least level to log: error, warn, info, debug or trace; or per module, as info,pg2os::sink=trace
    #[arg(long, global = true, env = "PG2OS_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// See `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line to read.
    Text,
    /// An object on each line.
    Json,
}

/// Starts the log of the process.
pub fn init(args: &LogArgs) -> Result<(), Failure> {
    let terminal = std::io::stderr().is_terminal();
    let default = if args.verbose { "info,pg2os=debug" } else { "info" };
    let filter = EnvFilter::try_new(args.log_level.as_deref().unwrap_or(default)).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("--log-level: {error}; write it as debug, or info,pg2os::sink=trace"),
        )
    })?;
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    let format = args.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let started = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::new(Exit::Failed, format!("cannot start the log: {error}")))
}

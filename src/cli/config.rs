//! `pg2os config`: what is in force, and where it comes from.

use super::exit::{Exit, Failure};
use crate::config::{Loaded, schema};
use clap::Args;
use std::io::{self, Write};

/// Flags of `config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Print the JSON schema of the file instead
    #[arg(long)]
    pub schema: bool,
}

/// Prints the JSON schema; needs no configuration.
pub(super) fn print_schema() -> Result<Exit, Failure> {
    print(&format!("{:#}\n", schema()))
}

/// Prints the effective configuration.
pub(super) fn print_effective(loaded: &Loaded) -> Result<Exit, Failure> {
    print(&loaded.to_yaml())
}

/// Prints a text as it is.
pub(super) fn print(text: &str) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(Exit::Done),
    }
}

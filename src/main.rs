//! The `pg2os` command.

use clap::Parser;
use pg2os::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // An error means that a provider is installed already, and any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.execute() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}

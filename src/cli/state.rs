//! `pg2os state`: what the state index knows of the pipeline's tables.

use super::{
    exit::{Exit, Failure},
    run::failure,
};
use crate::{
    config::Config,
    pipeline::state::{StoredTable, forget, list},
    sink::TableState,
};
use clap::Subcommand;
use comfy_table::Table;

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
A table that is forgotten is read again by the next session of `run`, if it is configured still; documents stay.

Examples:
  pg2os --config shop.yaml state list
  pg2os --config shop.yaml state forget public.events";

/// What to do with the state.
#[derive(Debug, Clone, Subcommand)]
pub enum StateCommand {
    /// List the tables that are known, also those that are not configured any more
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget what is known of a table: its floor, its windows, its shape
    Forget {
        /// The table, as `state list` shows it
        table: String,
    },
}

/// Carries the command out.
pub async fn run(config: Config, command: StateCommand) -> Result<Exit, Failure> {
    match command {
        StateCommand::List { json } => {
            let tables = list(&config).await.map_err(|error| failure(&error))?;
            if json {
                let json = serde_json::to_string_pretty(&tables);
                println!("{}", json.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?);
            } else {
                print(&tables);
            }
            Ok(Exit::Done)
        }
        StateCommand::Forget { table } => {
            let was_known = forget(&config, &table).await.map_err(|error| failure(&error))?;
            if !was_known {
                let message = format!("nothing is known of table {table}; `pg2os state list` shows what is");
                return Err(Failure::new(Exit::Usage, message));
            }
            println!("{table} is forgotten; a `pg2os run` that is at work sees that at its next start");
            Ok(Exit::Done)
        }
    }
}

fn print(tables: &[StoredTable]) {
    if tables.is_empty() {
        println!("nothing is known yet");
        return;
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["table", "index", "state", "windows", "configured", "since"]);
    for t in tables {
        let state = match t.state {
            TableState::New => "new",
            TableState::Windows => "windows",
            TableState::Live => "live",
        };
        let configured = if t.configured { "yes" } else { "no" };
        table.add_row([&t.table, &t.index, state, &t.windows.to_string(), configured, &t.time.to_rfc3339()]);
    }
    println!("{table}");
}

//! `pg2os slot`: the replication slots of the pipeline.

use super::{
    exit::{Exit, Failure},
    run::failure,
};
use crate::{
    config::Config,
    model::Lsn,
    pipeline::slots::{ListedSlot, Role, Slots},
};
use clap::{Args, Subcommand};
use comfy_table::Table;
use indicatif::HumanBytes;

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
The slot of the stream, or with --bookmark the one that keeps history for replay. `run` makes and moves both by itself.

Examples:
  pg2os --config shop.yaml slot list
  pg2os --config shop.yaml slot create             hold back WAL from now on; the publication must be there
  pg2os --config shop.yaml slot advance            to what is in the indices, never further
  pg2os --config shop.yaml slot drop --force       although the stream needs it: all tables are read again";

/// What to do with slots.
#[derive(Debug, Clone, Subcommand)]
pub enum SlotCommand {
    /// List them: state, position, and the WAL that they hold back
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make one
    Create {
        /// Which.
        #[command(flatten)]
        which: Which,
    },
    /// Drop one; refused where it is needed
    Drop {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Although the stream, or replay, needs it
        #[arg(long)]
        force: bool,
    },
    /// Move one forward, so that it holds back less; refused past what is in the indices
    Advance {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Position; the checkpoint, if not given
        #[arg(long, value_name = "LSN", value_parser = lsn)]
        to: Option<Lsn>,
    },
}

/// Which slot.
#[derive(Debug, Clone, Copy, Args)]
pub struct Which {
    /// The bookmark, not the slot of the stream
    #[arg(long)]
    bookmark: bool,
}

impl Which {
    fn role(self) -> Role {
        if self.bookmark { Role::Bookmark } else { Role::Stream }
    }
}

fn lsn(text: &str) -> Result<Lsn, String> {
    text.parse().map_err(|_| "write a position as PostgreSQL does, for example 16/B374D848".to_owned())
}

/// Carries the command out.
pub async fn run(config: Config, command: SlotCommand) -> Result<Exit, Failure> {
    let slots = Slots::open(config).await.map_err(|error| failure(&error))?;
    let name = |which: Which| slots.name(which.role()).map_err(|error| failure(&error));
    match command {
        SlotCommand::List { json } => {
            let listed = slots.list().await.map_err(|error| failure(&error))?;
            if json {
                let json = serde_json::to_string_pretty(&listed);
                println!("{}", json.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?);
            } else {
                print(&listed);
            }
        }
        SlotCommand::Create { which } => {
            let made = slots.create(which.role()).await.map_err(|error| failure(&error))?;
            match made {
                Some(lsn) => println!("slot {} made, from {lsn} on", name(which)?),
                None => println!("slot {} is there already", name(which)?),
            }
        }
        SlotCommand::Drop { which, force } => {
            slots.drop_slot(which.role(), force).await.map_err(|error| failure(&error))?;
            println!("slot {} dropped", name(which)?);
        }
        SlotCommand::Advance { which, to } => {
            let reached = slots.advance(which.role(), to).await.map_err(|error| failure(&error))?;
            println!("slot {} stands at {reached}", name(which)?);
        }
    }
    Ok(Exit::Done)
}

fn print(listed: &[ListedSlot]) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["slot", "for", "state", "confirmed", "holds back"]);
    for slot in listed {
        let state = match (slot.exists, slot.active, slot.wal_status.as_deref()) {
            (false, ..) => "does not exist".to_owned(),
            (true, true, status) => format!("active, {}", status.unwrap_or("nothing reserved")),
            (true, false, status) => format!("inactive, {}", status.unwrap_or("nothing reserved")),
        };
        table.add_row([
            slot.name.clone(),
            if slot.role == Role::Stream { "stream" } else { "bookmark" }.to_owned(),
            state,
            slot.confirmed_flush_lsn.clone().unwrap_or_default(),
            slot.retained_bytes.map(|bytes| HumanBytes(bytes).to_string()).unwrap_or_default(),
        ]);
    }
    println!("{table}");
}

//! The face of pg2os: flags, help, dispatch and exit codes.

pub mod backfill;
pub mod check;
pub mod config;
pub mod dead_letters;
pub mod exit;
mod generate;
pub mod init;
pub mod log;
pub mod progress;
pub mod replay;
pub mod resync;
pub mod run;
pub mod signal;
pub mod slot;
pub mod state;
pub mod status;
pub mod verify;

use crate::config::{Config, Loaded, Sources, TableFlags, load};
use clap::{Args, Parser, Subcommand};
use exit::{Exit, Failure};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  pg2os --config shop.yaml config           check the configuration, show where each value comes from
  pg2os --config shop.yaml check            look for everything that is in the way, with its cure
  pg2os --config shop.yaml run              fill the indices, then follow every change
  pg2os --config shop.yaml status --max-lag 5m
  PG_HOST=db PG_DATABASE=shop PG_USER=pg2os PG_PASSWORD=… OS_HOST=search \\
    pg2os backfill --table public.events --window-column event_date

Every key of the file has a name in the environment: PG2OS_ and its path, as PG2OS_BULK__BYTES=2MB.
A flag wins over the environment, that over the file, that over the default.

Exit codes:
  0  done, healthy                     3    the answer is no
  1  failed, a retry may help          4    a gap in the stream, or another source
  2  usage or configuration            130, 143  ended by a signal with work left";

const RUN_EXAMPLES: &str = "\
Creates what is missing (slot, publication where allowed, indices), fills what is not yet filled, and follows
every change until it is told to stop (SIGTERM, SIGINT): then it finishes what is in flight and ends with 0.

Examples:
  pg2os --config shop.yaml run
  pg2os --config shop.yaml run --until-caught-up && ./report.sh";

const BACKFILL_EXAMPLES: &str = "\
With tables in the file, --table chooses among them. Without, it names the table to fill.

Examples:
  pg2os --config shop.yaml backfill --dry-run
  pg2os --config shop.yaml backfill --table public.events --from -30d
  pg2os backfill --table public.events --index events --id event_date,source,seq \\
    --window-column event_date
  DATE_FROM=2024-01-01 DATE_TO=2024-02-01 pg2os backfill --table public.events \\
    --window-column event_date";

const STATUS_EXAMPLES: &str = "\
Examples:
  pg2os --config shop.yaml status
  pg2os --config shop.yaml status --json --max-lag 5m     (ends with 3 when further behind)
  pg2os --config shop.yaml status --max-lag 5m/1GB";

const REPLAY_EXAMPLES: &str = "\
Every document that the log's changes since a position concern is read again from its table and made right, or
deleted, beside a running `pg2os run`. The bookmark slot keeps that history; `pg2os status` shows its range.

Examples:
  pg2os --config shop.yaml replay --from-lsn 1/6B374D48
  pg2os --config shop.yaml replay --from-lsn 1/6B374D48 --to-lsn 1/6C000000";

const DEAD_LETTERS_EXAMPLES: &str = "\
A dead letter is a document that OpenSearch refused for its own fault, kept with the reason. Retrying reads
its row again. A later change of the row that succeeds resolves its letter by itself.

Examples:
  pg2os --config shop.yaml dead-letters list
  pg2os --config shop.yaml dead-letters show events/4711
  pg2os --config shop.yaml dead-letters retry               all of them, once the cause is cured
  pg2os --config shop.yaml dead-letters drop --all";

const VERIFY_EXAMPLES: &str = "\
Compares rows with documents, beside a live `run` or alone. Differences are looked at again once the stream has
passed them, so what is only on its way does not count. Ends with 3 when something differs. Every id is in --json,
one line each, with a line for each table at the end.

Examples:
  pg2os --config shop.yaml verify
  pg2os --config shop.yaml verify --table public.events --from -30d --json
  pg2os --config shop.yaml verify --sample 1000             a quick look at some rows and documents of each table
  pg2os --config shop.yaml verify --repair                  ends with 0 when all differences are repaired";

const RESYNC_EXAMPLES: &str = "\
Whole tables are read again by the process that streams, beside the stream, and documents without a row are swept;
where none streams, by this command, which then catches up and ends. A range is written beside it. Interrupted, what was
asked of whole tables stays asked: the next `run` does it.

Examples:
  pg2os --config shop.yaml resync --table public.events
  pg2os --config shop.yaml resync --table public.events --from 2024-01-01 --to 2024-02-01
  pg2os --config shop.yaml resync --accept-source           the database was restored or replaced on purpose";

const CONFIG_EXAMPLES: &str = "\
Examples:
  pg2os --config shop.yaml config                         ends with 2 and all problems where there are any
  pg2os config --schema > pg2os.schema.json               for editors: # yaml-language-server: $schema=…";

/// Keeps OpenSearch indices equal to PostgreSQL tables: a backfill in windows, then every change from a
/// logical replication slot.
#[derive(Debug, Parser)]
#[command(name = "pg2os", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// Configuration file; else PG2OS_CONFIG, else /etc/pg2os/config.yaml where it exists
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Flags about logs.
    #[command(flatten)]
    pub log: log::LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fill the indices, then follow every change for ever
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// Its flags.
        #[command(flatten)]
        args: run::RunArgs,
        /// A table without a file.
        #[command(flatten)]
        table: TableArgs,
    },
    /// Fill the indices once, window by window
    #[command(after_help = BACKFILL_EXAMPLES)]
    Backfill {
        /// Its flags.
        #[command(flatten)]
        args: backfill::BackfillArgs,
        /// A table without a file, or the tables to fill.
        #[command(flatten)]
        table: TableArgs,
    },
    /// Show slot, lag, windows and dead letters
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// Its flags.
        #[command(flatten)]
        args: status::StatusArgs,
        /// A table without a file.
        #[command(flatten)]
        table: TableArgs,
    },
    /// Read tables again, beside the stream or alone
    #[command(after_help = RESYNC_EXAMPLES)]
    Resync {
        /// Its flags.
        #[command(flatten)]
        args: resync::ResyncArgs,
        /// A table without a file, or the tables to read.
        #[command(flatten)]
        table: TableArgs,
    },
    /// Compare rows with documents, and repair what differs
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// Its flags.
        #[command(flatten)]
        args: verify::VerifyArgs,
        /// A table without a file, or the tables to compare.
        #[command(flatten)]
        table: TableArgs,
    },
    /// Bring back what the changes since a position of the log made of the documents
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay {
        /// Its flags.
        #[command(flatten)]
        args: replay::ReplayArgs,
        /// A table without a file.
        #[command(flatten)]
        table: TableArgs,
    },
    /// Look for everything that could be in the way, and say what cures it
    #[command(after_help = check::EXAMPLES)]
    Check {
        /// Its flags.
        #[command(flatten)]
        args: check::CheckArgs,
        /// A table without a file.
        #[command(flatten)]
        table: TableArgs,
    },
    /// List, show, retry or drop documents that OpenSearch refused
    #[command(after_help = DEAD_LETTERS_EXAMPLES)]
    DeadLetters {
        /// What to do.
        #[command(subcommand)]
        command: dead_letters::DeadLettersCommand,
        /// A table without a file.
        #[command(flatten)]
        table: TableArgs,
    },
    /// List, make, drop or advance the replication slots, guarded against losing what is needed
    #[command(after_help = slot::EXAMPLES)]
    Slot {
        /// What to do.
        #[command(subcommand)]
        command: slot::SlotCommand,
        /// A table without a file.
        #[command(flatten)]
        table: TableArgs,
    },
    /// List what is known of the tables, or forget one, so that it is read again
    #[command(after_help = state::EXAMPLES)]
    State {
        /// What to do.
        #[command(subcommand)]
        command: state::StateCommand,
    },
    /// Draft a configuration and the SQL that an administrator must run
    #[command(after_help = init::EXAMPLES)]
    Init {
        /// Its flags.
        #[command(flatten)]
        args: init::InitArgs,
    },
    /// Show the configuration in force and where each value comes from
    #[command(after_help = CONFIG_EXAMPLES)]
    Config {
        /// Its flags.
        #[command(flatten)]
        args: config::ConfigArgs,
        /// A table without a file.
        #[command(flatten)]
        table: TableArgs,
    },
    /// Print the completions of a shell
    #[command(after_help = generate::COMPLETIONS_EXAMPLES)]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(after_help = generate::MAN_EXAMPLES)]
    Man {
        /// Folder, made where it is not there
        folder: PathBuf,
    },
}

/// Flags that describe one table where there is no file. The environment names are read with the rest of the
/// environment, so that the origin of a value stays true.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "A table without a file")]
pub struct TableArgs {
    /// Table, as public.events [env: PG2OS_TABLE]
    #[arg(long, value_name = "NAME")]
    pub table: Vec<String>,
    /// Index; the table's name in lower case, if not given [env: PG2OS_INDEX]
    #[arg(long, value_name = "NAME")]
    pub index: Option<String>,
    /// Columns that make the document id; the primary key, if not given [env: PG2OS_ID]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub id: Vec<String>,
    /// Form of the document id: plain or md5 [env: PG2OS_ID_FORM]
    #[arg(long, value_name = "FORM")]
    pub id_form: Option<String>,
    /// Date or timestamp column that divides the table; chosen from the catalog, if not given [env: PG2OS_WINDOW_COLUMN]
    #[arg(long, value_name = "COLUMN")]
    pub window_column: Option<String>,
}

impl From<TableArgs> for TableFlags {
    fn from(args: TableArgs) -> Self {
        let TableArgs { table, index, id, id_form, window_column } = args;
        TableFlags { table, index, id, id_form, window_column }
    }
}

impl Cli {
    /// Carries the command out.
    pub fn execute(self) -> Result<Exit, Failure> {
        log::init(&self.log)?;
        let path = self.config;
        let read = |table: TableArgs, table_selects: bool| -> Result<Loaded, Failure> {
            Sources::gather(path.as_deref(), table.into(), table_selects)
                .and_then(|sources| load(&sources))
                .map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))
        };
        match self.command {
            Command::Config { args, .. } if args.schema => config::print_schema(),
            Command::Config { table, .. } => config::print_effective(&read(table, false)?),
            Command::Run { args, table } => block_on(run::run(read(table, false)?.config, args)),
            Command::Status { args, table } => block_on(status::run(read(table, false)?.config, args)),
            Command::Replay { args, table } => block_on(replay::run(read(table, false)?.config, args)),
            Command::Completions { shell } => generate::completions(shell),
            Command::Man { folder } => generate::man(&folder),
            Command::Slot { command, table } => block_on(slot::run(read(table, false)?.config, command)),
            Command::State { command } => {
                block_on(state::run(read(TableArgs::default(), false)?.config, command))
            }
            Command::Init { args } => block_on(init::run(init::config(&args)?, args)),
            Command::Check { args, table } => block_on(check::run(read(table, false)?.config, args)),
            Command::DeadLetters { command, table } => {
                block_on(dead_letters::run(read(table, false)?.config, command))
            }
            Command::Resync { mut args, table } => {
                args.tables.clone_from(&table.table);
                let config = read(table, true)?.config;
                select(&config, &args.tables)?;
                block_on(resync::run(config, args))
            }
            Command::Verify { args, table } => {
                let tables = table.table.clone();
                let config = select(&read(table, true)?.config, &tables)?;
                block_on(verify::run(config, args))
            }
            Command::Backfill { mut args, table } => {
                args.tables.clone_from(&table.table);
                let config = read(table, true)?.config;
                select(&config, &args.tables)?;
                block_on(backfill::run(config, args))
            }
        }
    }
}

/// The configuration with these tables only, all where none is named; a wrong name is told before anything is dialled.
fn select(config: &Config, tables: &[String]) -> Result<Config, Failure> {
    config.select(tables).map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))
}

/// Runs a command on two threads: the work is waiting, and OpenSearch is the limit.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bound;
    use clap::CommandFactory;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bound_may_begin_with_a_hyphen() {
        let cli = parse("pg2os backfill --table a --table b --from -30d --to today --dry-run -v");
        let Command::Backfill { args, table } = cli.command else { panic!("not backfill") };
        assert_eq!((args.from, args.to), (Some(Bound::Today(-30)), Some(Bound::Today(0))));
        assert!(args.dry_run && cli.log.verbose);
        assert_eq!(table.table, ["a", "b"]);
        assert!(Cli::try_parse_from(["pg2os", "backfill", "--from", "-x"]).is_err());
    }

    #[test]
    fn id_columns_are_parted_by_commas_and_global_flags_stand_anywhere() {
        let cli = parse("pg2os config --id a,b --config x.yaml --log-format json");
        assert_eq!(cli.config.as_deref(), Some(std::path::Path::new("x.yaml")));
        assert_eq!(cli.log.log_format, Some(log::LogFormat::Json));
        let Command::Config { table, .. } = cli.command else { panic!("not config") };
        assert_eq!(table.id, ["a", "b"]);
    }
}

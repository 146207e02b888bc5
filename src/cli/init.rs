//! `pg2os init`: a first configuration from the catalog.

use super::{
    exit::{Exit, Failure},
    run::failure,
};
use crate::{
    config::{Config, Sources, TableFlags, load},
    pipeline::init::draft,
};
use clap::Args;

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Asks the catalog and changes nothing. The server is that of the environment (PG_HOST, PG_PORT, PG_DATABASE, PG_USER,
PG_PASSWORD; OS_HOST and OS_PORT are written down and not asked). Any role that may log in will do.

Examples:
  PG_HOST=db PG_DATABASE=shop PG_USER=postgres pg2os init --tables 'public.*' > shop.yaml
  PG_HOST=db PG_DATABASE=shop PG_USER=postgres pg2os init --tables 'public.*' --sql | psql -h db shop";

/// Flags of `init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Tables, as 'public.*' or public.events
    #[arg(long, value_name = "NAMES", required = true, value_delimiter = ',')]
    pub tables: Vec<String>,
    /// The role that pg2os will log in as
    #[arg(long, value_name = "NAME", default_value = "pg2os")]
    pub role: String,
    /// Print only the SQL that an administrator must run
    #[arg(long)]
    pub sql: bool,
}

/// The server to ask, and the tables, without a file: that is what is to be made.
pub(super) fn config(args: &InitArgs) -> Result<Config, Failure> {
    let usage = |problems: crate::config::Problems| Failure::new(Exit::Usage, problems.to_string());
    let flags = TableFlags { table: args.tables.clone(), ..TableFlags::default() };
    let mut sources = Sources::gather(None, flags, false).map_err(usage)?;
    sources.file = None;
    let names_target = |name: &str| ["OS_HOST", "PG2OS_OPENSEARCH__URL"].contains(&name);
    if !sources.environment.iter().any(|(name, _)| names_target(name)) {
        sources.environment.push(("OS_HOST".to_owned(), "localhost".to_owned()));
    }
    load(&sources).map(|loaded| loaded.config).map_err(usage)
}

/// Prints the draft.
pub async fn run(config: Config, args: InitArgs) -> Result<Exit, Failure> {
    let draft = draft(&config, &args.role).await.map_err(|error| failure(&error))?;
    if args.sql {
        print!("{}", draft.sql);
        return Ok(Exit::Done);
    }
    println!("{}", draft.yaml);
    println!("# An administrator must run this (`pg2os init --sql` prints it alone):");
    draft.sql.lines().for_each(|line| println!("# {line}"));
    Ok(Exit::Done)
}

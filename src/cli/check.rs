//! `pg2os check`: what is in the way, and what cures it.

use super::exit::{Exit, Failure};
use crate::{
    check::{Cure, Finding, Severity},
    config::Config,
    pipeline::preflight,
};
use clap::Args;

/// Flags of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Asks both servers for all that could be in the way, and changes nothing. Ends with 3 where there is an error.

Examples:
  pg2os --config shop.yaml check
  pg2os --config shop.yaml check --json | jq -r '.[] | select(.cure.kind == \"sql\") | .cure.text'";

/// Prints the findings, the worst first.
pub async fn run(config: Config, args: CheckArgs) -> Result<Exit, Failure> {
    let found = preflight::check(&config).await;
    if args.json {
        let json = serde_json::to_string_pretty(&found);
        println!("{}", json.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?);
    } else {
        found.iter().for_each(|finding| println!("{}", text(finding)));
        let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        println!("{errors} errors, {warnings} warnings");
    }
    let any_error = found.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if any_error { Exit::No } else { Exit::Done })
}

/// A finding as people read it: the cure on lines of its own, to be copied.
fn text(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error  ",
        Severity::Warning => "warning",
        Severity::Note => "note   ",
    };
    let mut text = format!("{severity} {}: {}\n", finding.check, finding.reason);
    let (kind, cure) = match &finding.cure {
        None => return text,
        Some(Cure::Sql(cure)) => ("run", cure),
        Some(Cure::Yaml(cure)) => ("set", cure),
        Some(Cure::Command(cure)) => ("run", cure),
        Some(Cure::Advice(cure)) => ("do", cure),
    };
    for (number, line) in cure.lines().enumerate() {
        let label = if number == 0 { kind } else { "" };
        text.push_str(&format!("    {label:4}{line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_of_several_lines_can_be_copied() {
        let finding = Finding::warning("slot", "why", Cure::Yaml("a:\n  b: 1".into()));
        assert_eq!(text(&finding), "warning slot: why\n    set a:\n          b: 1\n");
        assert_eq!(text(&Finding::note("x", "y")), "note    x: y\n");
    }
}

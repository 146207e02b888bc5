//! `pg2os completions` and `pg2os man`: what shells and manuals want, made by clap's own crates from the same definitions.

use super::{
    Cli,
    exit::{Exit, Failure},
};
use clap::CommandFactory;
use clap_complete::Shell;
use std::{io, path::Path};

/// Examples in the help.
pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  pg2os completions bash > /etc/bash_completion.d/pg2os
  pg2os completions zsh > ~/.zfunc/_pg2os
  pg2os completions fish > ~/.config/fish/completions/pg2os.fish";

/// Examples in the help.
pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  pg2os man /usr/local/share/man/man1       then: man pg2os, man pg2os-run";

/// Prints the completions of a shell.
pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = vec![];
    clap_complete::generate(shell, &mut Cli::command(), "pg2os", &mut script);
    super::config::print(&String::from_utf8_lossy(&script))
}

/// Writes the manual pages into a folder.
pub(super) fn man(folder: &Path) -> Result<Exit, Failure> {
    let written =
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    let failed = |error: io::Error| {
        let what =
            format!("cannot write to {}: {error}; name a folder that may be written to", folder.display());
        Failure::new(Exit::Failed, what)
    };
    written.map(|()| Exit::Done).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page_with_its_examples() {
        let folder = std::env::temp_dir().join(format!("pg2os-man-{}", std::process::id()));
        man(&folder).unwrap();
        for command in Cli::command().get_subcommands() {
            let path = folder.join(format!("pg2os-{}.1", command.get_name()));
            let page =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(page.contains("Examples:"), "{} has no examples", command.get_name());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "pg2os", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} lacks {}", command.get_name());
            }
        }
    }
}

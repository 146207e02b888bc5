//! `pg2os dead-letters`: documents that OpenSearch refused for their own fault.

use super::{
    exit::{Exit, Failure},
    run::failure,
};
use crate::{
    config::Config,
    pipeline::retry,
    sink::{LetterOf, StoredLetter},
};
use clap::{Args, Subcommand};
use comfy_table::Table;
use std::sync::Arc;

/// What to do with them.
#[derive(Debug, Clone, Subcommand)]
pub enum DeadLettersCommand {
    /// List them, oldest first; ends with 3 when there are any
    List {
        /// Print JSON, one letter a line
        #[arg(long)]
        json: bool,
    },
    /// Show one with its document
    Show {
        /// Its document id, or INDEX/ID where several indices have one
        id: String,
    },
    /// Read their rows again and write the documents; ends with 3 when some are refused again
    Retry {
        /// Document ids, or INDEX/ID; all of them, if none is given
        ids: Vec<String>,
    },
    /// Forget them; their documents stay as they are
    #[command(arg_required_else_help = true)]
    Drop {
        /// Which of them.
        #[command(flatten)]
        which: Which,
    },
}

/// Which letters are dropped.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Document ids, or INDEX/ID
    ids: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Carries the command out.
pub async fn run(config: Config, command: DeadLettersCommand) -> Result<Exit, Failure> {
    let (store, letters) = retry::letters(&config).await.map_err(|error| failure(&error))?;
    match command {
        DeadLettersCommand::List { json } => {
            if json {
                letters.iter().try_for_each(|letter| print_json(letter, false))?;
            } else {
                print(&letters);
            }
            Ok(if letters.is_empty() { Exit::Done } else { Exit::No })
        }
        DeadLettersCommand::Show { id } => {
            choose(&letters, &[id])?.iter().try_for_each(|letter| print_json(letter, true))?;
            Ok(Exit::Done)
        }
        DeadLettersCommand::Retry { ids } => {
            let chosen = if ids.is_empty() { letters } else { choose(&letters, &ids)? };
            if chosen.is_empty() {
                println!("no dead letters");
                return Ok(Exit::Done);
            }
            let config = Arc::new(config);
            let unknown = retry::retry(config.clone(), &chosen).await.map_err(|error| failure(&error))?;
            let (_, left) = retry::letters(&config).await.map_err(|error| failure(&error))?;
            let again = chosen.iter().filter(|old| left.iter().any(|new| same(old, new))).count();
            println!("{} retried: {} resolved, {again} still refused", chosen.len(), chosen.len() - again);
            if unknown > 0 {
                println!(
                    "{unknown} of tables or indices that are not in the configuration: add them, or drop the letters"
                );
            }
            Ok(if again == 0 { Exit::Done } else { Exit::No })
        }
        DeadLettersCommand::Drop { which } => {
            let chosen = if which.all { letters } else { choose(&letters, &which.ids)? };
            let of = |letter: &StoredLetter| LetterOf {
                index: letter.index.clone(),
                id: letter.id.clone(),
                version: letter.version,
            };
            if let Some(store) = store {
                let removed = store.remove(&chosen.iter().map(of).collect::<Vec<_>>()).await;
                removed.map_err(|error| failure(&error.into()))?;
            }
            println!("{} dropped", chosen.len());
            Ok(Exit::Done)
        }
    }
}

fn same(a: &StoredLetter, b: &StoredLetter) -> bool {
    (&a.index, &a.id) == (&b.index, &b.id)
}

/// The letters with these names: a document id, or INDEX/ID.
fn choose(letters: &[StoredLetter], names: &[String]) -> Result<Vec<StoredLetter>, Failure> {
    let mut chosen = vec![];
    for name in names {
        let is_named = |letter: &&StoredLetter| {
            letter.id == *name
                || name.strip_prefix(&letter.index).and_then(|n| n.strip_prefix('/')) == Some(&letter.id)
        };
        let found: Vec<&StoredLetter> = letters.iter().filter(is_named).collect();
        match found[..] {
            [] => {
                let message =
                    format!("no dead letter of a document {name:?}; `pg2os dead-letters list` shows them");
                return Err(Failure::new(Exit::Usage, message));
            }
            [letter] => chosen.push(letter.clone()),
            [first, ..] => {
                let message = format!(
                    "{name:?} stands for documents of several indices; say for example {}/{name}",
                    first.index
                );
                return Err(Failure::new(Exit::Usage, message));
            }
        }
    }
    Ok(chosen)
}

fn print_json(letter: &StoredLetter, body: bool) -> Result<(), Failure> {
    let mut letter = letter.clone();
    if !body {
        letter.body.clear();
    }
    let json = if body { serde_json::to_string_pretty(&letter) } else { serde_json::to_string(&letter) };
    println!("{}", json.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?);
    Ok(())
}

fn print(letters: &[StoredLetter]) {
    if letters.is_empty() {
        println!("no dead letters");
        return;
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["time", "index", "id", "action", "reason"]);
    for letter in letters {
        let action = match letter.action {
            crate::sink::ActionKind::Index => "index",
            crate::sink::ActionKind::Delete => "delete",
        };
        let reason = format!("{}: {}", letter.error.kind, letter.error.reason);
        table.add_row([&letter.time, &letter.index, &letter.id, action, &reason]);
    }
    println!("{table}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Version,
        sink::{ActionKind, LetterError},
    };

    fn letter(index: &str, id: &str) -> StoredLetter {
        StoredLetter {
            index: index.into(),
            id: id.into(),
            table: "public.t".into(),
            key: serde_json::Map::new(),
            routing: None,
            action: ActionKind::Index,
            version: Version(1),
            error: LetterError { kind: "k".into(), reason: "r".into() },
            time: String::new(),
            body: String::new(),
            truncated: false,
        }
    }

    #[test]
    fn a_letter_is_named_by_its_document_and_where_that_is_not_enough_by_its_index_too() {
        let letters = [letter("a", "1"), letter("b", "1"), letter("b", "x/2")];
        let ids = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            choose(&letters, &names).map(|l| l.into_iter().map(|l| (l.index, l.id)).collect::<Vec<_>>())
        };
        let named = |index: &str, id: &str| (index.to_owned(), id.to_owned());
        assert_eq!(ids(&["b/1", "x/2"]).unwrap(), [named("b", "1"), named("b", "x/2")]);
        assert!(ids(&["1"]).unwrap_err().message.contains("several indices"));
        assert!(ids(&["9"]).unwrap_err().message.contains("no dead letter"));
    }
}

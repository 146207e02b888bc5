//! The house rules that rustc does not know: who may import whom, and how long a file may be.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Module and what it may import of this crate; `docs/architecture.md` says why.
const MAY_IMPORT: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("ack", &["model"]),
    ("config", &["model"]),
    ("decode", &["model"]),
    ("map", &["config", "model"]),
    ("source", &["config", "model"]),
    ("sink", &["config", "model"]),
    ("check", &["config", "model", "sink", "source"]),
    ("lanes", &["ack", "map", "model", "sink"]),
    ("pipeline", &["ack", "check", "config", "decode", "lanes", "map", "model", "sink", "source"]),
    ("cli", &["check", "config", "model", "pipeline", "sink"]),
];
/// Stages that decide but do no I/O and know no clock.
const PURE: [&str; 5] = ["model", "ack", "check", "decode", "map"];
const LONGEST_FILE: usize = 450;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Modules named after `crate::`, also in `use crate::{a::…, b::…}`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => found.extend(name(&std::mem::take(&mut item))),
                    _ if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            found.extend(name(&item));
        } else {
            found.extend(name(rest));
        }
    }
    found
}

fn name(text: &str) -> Option<String> {
    let name: String =
        text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn every_module_imports_only_what_it_may() {
    let mut wrong = vec![];
    for (module, allowed) in MAY_IMPORT {
        for file in sources(&root().join(module)) {
            for import in imports(&fs::read_to_string(&file).unwrap()) {
                if import != module && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{} imports crate::{import}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_table() {
    let known: BTreeSet<&str> = MAY_IMPORT.iter().map(|(module, _)| *module).collect();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(matches!(module, "lib" | "main") || known.contains(module), "{module} is in no row");
    }
}

#[test]
fn pure_stages_do_no_io() {
    for module in PURE {
        for file in sources(&root().join(module)) {
            let text = fs::read_to_string(&file).unwrap();
            for word in ["tokio", "reqwest", "std::net", "std::fs", "Instant::now"] {
                assert!(!text.contains(word), "{} mentions {word}", file.display());
            }
        }
    }
}

#[test]
fn no_file_holds_more_than_one_idea() {
    for file in sources(&root()) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", file.display());
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(!["utils", "common", "helpers", "misc"].contains(&name), "{}", file.display());
    }
}

#[test]
fn the_simulation_has_no_runtime_and_a_switch_for_every_rule() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim");
    for file in sources(&folder) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() <= LONGEST_FILE, "{} is too long", file.display());
        for word in ["tokio", "reqwest", "std::net", "std::fs", "sleep"] {
            assert!(!text.contains(word), "{} mentions {word}", file.display());
        }
    }
    let switches = fs::read_to_string(folder.join("rules.rs")).unwrap();
    for rule in (1..=13).map(|number| format!("**M{number}**")) {
        let is_kept = sources(&root()).iter().any(|file| fs::read_to_string(file).unwrap().contains(&rule));
        assert!(!is_kept || switches.contains(&rule), "{rule} cannot be switched off");
    }
}

#[test]
fn the_import_scanner_sees_groups_and_paths() {
    let text = "use crate::{a::{x, y}, b, cd::Z};\nlet z = crate::e::f();\nuse crate::g;";
    assert_eq!(imports(text), ["a", "b", "cd", "e", "g"].map(str::to_owned).into());
}

/// Names in code quotes that are made of four words or more.
fn tests_named(text: &str) -> BTreeSet<&str> {
    let names = text.split('`').skip(1).step_by(2);
    names.filter(|name| name.split('_').count() > 3 && !name.contains(['.', ' '])).collect()
}

#[test]
fn every_test_that_the_guarantees_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = fs::read_to_string(root.join("docs/guarantees.md")).unwrap();
    let mut code = String::new();
    for folder in ["src", "tests"] {
        sources(&root.join(folder)).iter().for_each(|file| code.push_str(&fs::read_to_string(file).unwrap()));
    }
    let named = tests_named(&named);
    let missing: Vec<_> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(named.len() > 40 && missing.is_empty(), "{} named, missing: {missing:?}", named.len());
}

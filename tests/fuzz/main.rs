//! The targets on stable Rust: each over its kept corpus and random mutations of it (`targets/mod.rs` says what they assert).
//!
//! FUZZ_RUNS is the number of mutations for each target, FUZZ_SEED repeats those of an earlier run. `make fuzz` runs the
//! same targets under libFuzzer.

#![allow(clippy::unwrap_used)]

mod corpus;
mod mutation;
#[path = "../e2e/support/rng.rs"]
mod rng;
mod targets;

use mutation::mutate;
use rng::Rng;
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{SystemTime, UNIX_EPOCH},
};

const RUNS: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn finds_nothing(name: &str) {
    let target = targets::target(name);
    let run = |input: &[u8], what: &str| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
            eprintln!(
                "target {name} fails for {what}; a line for corpus/{name}.txt:\n{}",
                corpus::line(input)
            );
            resume_unwind(panic);
        }
    };
    let corpus = corpus::read(name);
    assert!(!corpus.is_empty());
    for input in &corpus {
        run(input, "an input of the corpus");
    }
    let seed = number("FUZZ_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
    });
    let mut rng = Rng::new(seed, 0);
    let mut input = vec![];
    for count in 1..=number("FUZZ_RUNS").unwrap_or(RUNS) {
        mutate(&corpus, &mut rng, &mut input);
        run(&input, &format!("mutation {count} of FUZZ_SEED={seed}"));
    }
}

#[test]
fn arrays_are_read_as_they_are_printed() {
    finds_nothing("arrays");
}

#[test]
fn a_bulk_answer_is_believed_item_by_item() {
    finds_nothing("bulk_answer");
}

#[test]
fn composite_values_are_read_as_they_are_printed() {
    finds_nothing("composites");
}

#[test]
fn copy_text_is_read_as_documented() {
    finds_nothing("copy_text");
}

#[test]
fn an_id_gives_its_key_back() {
    finds_nothing("ids");
}

#[test]
fn json_keeps_its_meaning() {
    finds_nothing("json");
}

#[test]
fn numbers_keep_every_digit() {
    finds_nothing("numbers");
}

#[test]
fn a_message_that_is_understood_can_be_said_again() {
    finds_nothing("pgoutput");
}

#[test]
fn ranges_are_read_as_they_are_printed() {
    finds_nothing("ranges");
}

#[test]
fn every_date_becomes_its_iso_form() {
    finds_nothing("times");
}

#[test]
fn any_text_of_any_type_stays_inside_its_field_on_one_line() {
    finds_nothing("values");
}

#[test]
fn stream_and_copy_give_the_same_document() {
    finds_nothing("ways");
}

//! What must hold whatever bytes arrive. A target is a function of any bytes that panics where it does not hold; the drivers
//! are `cargo test --test fuzz` (the kept corpus and mutations of it) and `make fuzz` (libFuzzer, guided by coverage).
//!
//! Where a text can be read in another way than the program's, the two readings are compared: the reference
//! implementations are slow, simple and written from PostgreSQL's documentation.

mod arrays;
mod bulk_answer;
mod composites;
mod copy_text;
mod document;
mod ids;
mod input;
mod json;
mod numbers;
mod pgoutput;
mod ranges;
mod times;
mod values;
mod ways;

/// A target.
pub(crate) type Target = fn(&[u8]);

/// The target called `name`; its corpus is `corpus/NAME.txt`.
pub(crate) fn target(name: &str) -> Target {
    match name {
        "arrays" => arrays::target,
        "bulk_answer" => bulk_answer::target,
        "composites" => composites::target,
        "copy_text" => copy_text::target,
        "ids" => ids::target,
        "json" => json::target,
        "numbers" => numbers::target,
        "pgoutput" => pgoutput::target,
        "ranges" => ranges::target,
        "times" => times::target,
        "values" => values::target,
        "ways" => ways::target,
        _ => panic!("there is no target called {name}"),
    }
}

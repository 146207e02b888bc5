//! The measuring programs of `make bench` that use the library itself; `tests/bench/bench.py` runs them. Each prints one
//! JSON object.
//!
//! ```text
//! stream encode             rows a second of CPU time from pgoutput bytes to bulk bodies
//! stream drain SLOT END     drains a slot into bulk bodies that are dropped
//! stream latency INDEX SECONDS    commits 100 rows a second and waits for each in OpenSearch
//! stream rows FROM TO       prints rows as COPY text, nothing measured
//! ```

#![allow(missing_docs)]

mod drain;
mod encode;
mod lanes;
mod latency;
mod row;

use std::{env, error::Error, io::Write as _};

type Outcome = Result<serde_json::Value, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds --bench to whatever it is given.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = match words[..] {
        ["encode"] => encode::run()?,
        ["drain", slot, end] => drain::run(slot, end.parse()?)?,
        ["latency", index, seconds] => latency::run(index, seconds.parse()?)?,
        ["rows", from, to] => return print_rows(from.parse()?, to.parse()?),
        _ => {
            return Err("usage: stream encode | drain SLOT END | latency INDEX SECONDS | rows FROM TO".into());
        }
    };
    println!("{report}");
    Ok(())
}

fn print_rows(from: u64, to: u64) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    for n in from..to {
        writeln!(out, "{}", row::values(n).join("\t"))?;
    }
    Ok(())
}

//! The OpenSearch side: requests and their outcomes, indices, state documents, dead letters.

mod cause;
mod outcome;

pub use outcome::{Answer, BULK_PARAMETERS, Outcome, read_bulk_answer};

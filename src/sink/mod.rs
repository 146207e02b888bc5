//! The OpenSearch side: requests and their outcomes, indices, state documents, dead letters.

mod bulk;
mod cause;
mod client;
mod connect;
mod error;
mod outcome;

pub use client::{Client, Info};
pub use error::{Class, Result, SinkError};
pub use outcome::{Answer, BULK_PARAMETERS, Outcome, read_bulk_answer};

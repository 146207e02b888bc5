//! The program against real servers: what it is for, and what breaks it.
//!
//! Run by `make test`, which starts both servers and sets PG2OS_TEST_…. Each test has a database, a slot and indices of
//! its own and removes them when it ends, so all run beside each other.

#![allow(clippy::unwrap_used)]

mod adopted;
mod changes;
mod convergence;
mod faults;
mod gaps;
mod instances;
mod refusals;
mod streams;
mod support;

//! The program against real servers: what it is for, and what breaks it.
//!
//! Run by `make test`, which starts both servers and sets PG2OS_TEST_…. Each test has a database, a slot and indices of
//! its own and removes them when it ends, so all run beside each other.

#![allow(clippy::unwrap_used)]

mod adopted;
mod append_only;
mod bulk_load;
mod changes;
mod check;
mod columns;
mod convergence;
mod dead_letters;
mod encodings;
mod faults;
mod gaps;
mod identities;
mod init;
mod instances;
mod nodes;
mod outcomes;
mod poison;
mod refusals;
mod relations;
mod replay;
mod resync;
mod rights;
mod routing;
mod schema;
mod schema_tables;
mod slot;
mod spark;
mod statements;
mod streams;
mod support;
mod sweep;
mod verify;
mod wildcards;
mod windows;
mod windows_standby;

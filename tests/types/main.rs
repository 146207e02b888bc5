//! Every type, value by value, from a real PostgreSQL into a real OpenSearch and back, through all three ways: a window
//! (COPY), the stream (pgoutput) and a lookup by key (**G7**). What each type becomes stands in `table.rs`.
//!
//! Run by `make test`, which starts both servers and sets PG2OS_TEST_…; any PostgreSQL from 14 on will do.

#![allow(clippy::unwrap_used)]

mod docs;
mod extremes;
mod limits;
mod random;
mod rows;
#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use all of it")]
mod support;
mod table;
mod ways;

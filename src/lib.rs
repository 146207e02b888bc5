//! pg2os keeps OpenSearch indices equal to PostgreSQL tables.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod model;
pub mod source;

//! pg2os keeps OpenSearch indices equal to PostgreSQL tables.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod ack;
pub mod check;
pub mod cli;
pub mod config;
pub mod decode;
pub mod lanes;
pub mod map;
pub mod model;
pub mod pipeline;
pub mod sink;
pub mod source;

//! pg2os keeps OpenSearch indices equal to PostgreSQL tables.

pub mod config;
pub mod model;

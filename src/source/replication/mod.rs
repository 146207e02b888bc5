//! The replication connection: a blocking client of PostgreSQL's streaming replication protocol (docs: "Streaming
//! Replication Protocol", "Logical Streaming Replication Protocol") that one OS thread owns.
//!
//! Layers, each knowing only the one below: [`connection`] (what the program uses) → `auth` (login) → `wire` (bytes ⇄
//! messages) → `transport` (socket, TLS, deadlines). Invariant: what the server sends is never trusted to be well formed.

mod auth;
pub mod connection;
mod identity;
mod transport;
mod wire;

pub use connection::ReplicationConnection;
pub use identity::{SystemIdentity, TimelineSwitch};
pub use wire::Frame;

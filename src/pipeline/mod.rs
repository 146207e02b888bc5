//! The only place that sees both ends: sessions, the reader thread, windows, delivery, checkpoints.

pub mod deliver;
pub mod intake;
pub mod lookups;
pub mod progress;
pub mod reader;
pub mod tables;

//! The only place that sees both ends: sessions, the reader thread, windows, delivery, checkpoints.

pub mod intake;
pub mod tables;

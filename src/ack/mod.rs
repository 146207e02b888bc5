//! From answered batches to the position that may be acknowledged (G1). Pure: no clock, no I/O.

mod tracker;

pub use tracker::{Hold, Sequence, Ticket, Tracker};

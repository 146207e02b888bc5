//! Lanes: the queues between mapping and OpenSearch.
//!
//! A lane is chosen by the hash of (table, id) and has one bulk request in flight, so one id is never in two requests
//! at once and order per id is kept through retries. Each lane has one open batch; when it is full its writers wait.

mod action;
mod batch;
mod delivery;
mod doubt;
mod guard;
mod lane;
mod repeat;
mod suspicion;
mod window;

pub use action::{Action, Change, LookupKey, TableNo, Target};
pub use batch::{Batch, Entry, EntryKind, Pushed, SealedBody};
pub use delivery::{Burial, Delivery, Next, Trouble};
pub use doubt::Doubts;
pub use guard::{Guard, Verdict};
pub use lane::{FlushMark, LaneLimits, Lanes, Ready, RowPushed};
pub use window::WindowRows;

//! The only place that sees both ends.
//!
//! ```text
//! run ── session after session
//!          │ opening: prepare (servers, tables, indices) → position, resume (from where? what first?) → START
//!          │
//!          ├─ reader thread:  frames → intake → lanes           acknowledges what the checkpoint holds
//!          ├─ bootstrap:      windows ───────▶ lanes            guarded against streamed deletes
//!          ├─ deliver × lane: lookups → bulk → dead letters → answered → tracker
//!          └─ checkpoint:     tracker → state document → reader
//! ```

mod attempts;
mod beside;
pub mod bookmark;
pub mod bootstrap;
mod bulk_load;
mod checkpoint;
pub mod deliver;
pub mod error;
mod fields;
pub mod high;
pub mod init;
pub mod intake;
pub mod intake_error;
pub mod journal;
mod keys;
mod lease;
pub mod letters;
pub mod lookups;
pub mod memory;
pub mod oneshot;
mod opening;
mod pace;
mod phantoms;
mod plans;
mod polite;
pub mod position;
pub mod preflight;
pub mod prepare;
pub mod preview;
pub mod progress;
mod publications;
pub mod reader;
pub mod reading;
mod reading_host;
mod relations;
mod renamed;
pub mod replay;
mod requests;
pub mod resume;
pub mod resync;
pub mod retry;
mod rewrite;
pub mod run;
mod schema_change;
pub mod schemas;
pub mod session;
pub mod slots;
pub mod snapshots;
pub mod state;
pub mod status;
pub mod tables;
mod target_watch;
mod tasks;
pub mod verify;
mod waiting;
mod watch;
mod window_readers;
pub mod windows;

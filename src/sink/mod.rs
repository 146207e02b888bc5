//! The OpenSearch side: requests and their outcomes, indices, state documents, dead letters.

mod bulk;
mod bulk_load;
mod cause;
mod client;
mod connect;
mod dead_letter;
mod documents;
mod error;
mod fields;
mod history;
mod index;
mod letters;
mod outcome;
mod preflight;
mod record;
mod scroll;
mod state;
mod versions;

pub use bulk_load::{to_be_kept, to_be_put_back, while_filled};
pub use client::{Client, Info};
pub use dead_letter::{ActionKind, DeadLetter, DeadLetters};
pub use documents::{Document, Documents};
pub use error::{Class, Result, SinkError};
pub use fields::Extension;
pub use history::is_other_copy;
pub use index::{Index, IndexDefinition, Owner, Source};
pub use letters::{LetterError, LetterOf, StoredLetter};
pub use outcome::{Answer, BULK_PARAMETERS, Outcome, read_bulk_answer};
pub use preflight::{ClusterFacts, Disk, Watermarks};
pub use record::{
    AttemptRecord, BulkLoadRecord, Checkpoint, EpochRecord, Floor, High, PlanRecord, PlannedWindow, Repair,
    ShapeRecord, StoppedHigh, Stored, TableRecord, TableState, WindowRecord, WindowState,
};
pub use state::StateStore;
pub use versions::{Listed, Versions};

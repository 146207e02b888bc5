//! Rows to ids, documents and mappings. Pure functions of values; one path for windows, stream and lookups (G7).

mod array;
mod composite;
mod document;
mod duplicates;
mod id;
mod json;
mod mapping;
mod ordinal;
mod plan;
mod quoted;
mod range;
mod text;
mod time;
mod types;

pub use document::Refusal;
pub use id::{MissingKey, split_plain};
pub use mapping::{BadFieldName, properties};
pub use ordinal::{Ordinals, Place};
pub use plan::{IdBuffers, MissingIdColumn, TablePlan, TableSpec};
pub(crate) use text::escape_into;
pub use types::{is_built_in, is_vector, resolve};

//! Rows to ids, documents and mappings. Pure functions of values; one path for windows, stream and lookups (G7).

mod array;
mod canonical;
mod composite;
mod document;
mod duplicates;
mod id;
mod json;
mod mapping;
mod ordinal;
mod overrides;
mod plan;
mod quoted;
mod range;
mod spark;
mod text;
mod time;
mod types;

pub use canonical::write_canonical;
pub use document::Refusal;
pub use id::{MissingKey, key_of_plain, plain_of_key};
pub use mapping::{BadField, properties};
pub use ordinal::{Numbering, Ordinals, Place};
pub use overrides::is_geo_point;
pub use plan::{IdBuffers, MissingIdColumn, TablePlan, TableSpec};
pub use spark::{SparkProblem, spark_advice, spark_problems};
pub(crate) use text::escape_into;
pub use types::{is_built_in, is_vector, resolve};

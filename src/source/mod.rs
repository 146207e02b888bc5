//! The source: what PostgreSQL's catalog says, publication and slot, the floor, windows and lookups by key.

pub mod admin_sql;
pub mod catalog;
pub mod copy;
pub mod floor;
pub mod identity;
pub mod lookup;
mod moment;
pub mod publication;
pub mod query_error;
pub mod server;
pub mod slot;
pub mod types;
pub mod window;

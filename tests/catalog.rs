//! The SQL side of the source against a real PostgreSQL (`make test` brings it up).
#![allow(clippy::unwrap_used)]

#[path = "catalog/followed.rs"]
mod followed;
#[path = "catalog/publications.rs"]
mod publications;
#[path = "catalog/reading.rs"]
mod reading;
#[path = "catalog/slots.rs"]
mod slots;
#[path = "catalog/support.rs"]
mod support;
#[path = "catalog/tables.rs"]
mod tables;
#[path = "catalog/windows.rs"]
mod windows;

//! The `pg2os` command.

fn main() {}

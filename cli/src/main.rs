//! The `mill` command.

fn main() {}

//! Linters over the files of a built package, by the names and default levels of melange's.
//!
//! [`Contents`] is what linters look at: paths, modes and a few facts of each file's content, taken
//! from a tree on disk or from a finished `.apk`. [`lint`] is a pure function of it and of a
//! [`Subject`], which says what the definition says.

mod contents;
mod elf;
mod error;
mod interface;
mod linters;
mod paths;
mod python;

pub use contents::{Contents, Elf, Entry, Kind};
pub use error::{Error, Result};
pub use interface::{Interface, removed};
pub use linters::{ABI, Finding, LINTERS, Level, Linter, Subject, lint};

//! Runs one job without network, keys or host files: bubblewrap for builds, runc for image tests.
//!
//! - [`Bubblewrap`] runs a [`Job`]: a program or a script in new namespaces, with the mounts and
//!   the environment that the job names and nothing else. [`BuilderRoot`] makes the job of one
//!   package build, [`Bootstrap`] says what such a build takes from the host.
//!
//! Everything that a job starts ends with it: at its end, at a limit, when the future that runs
//! it is dropped, and when this process dies.

mod bootstrap;
mod bubblewrap;
mod builder_root;
mod error;
mod find;
mod job;
mod limits;
mod log;
mod outcome;
mod processes;
mod spawn;

pub use bootstrap::Bootstrap;
pub use bubblewrap::Bubblewrap;
pub use builder_root::BuilderRoot;
pub use error::Error;
pub use job::{Job, Mount, Program};
pub use limits::Limits;
pub use outcome::{Ending, Outcome};

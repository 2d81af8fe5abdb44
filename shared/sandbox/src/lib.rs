//! Runs one job without network, keys or host files: bubblewrap for builds, runc for image tests.
//!
//! - [`Bubblewrap`] runs a [`Job`]: a program or a script in new namespaces, with the mounts and
//!   the environment that the job names and nothing else. [`BuilderRoot`] makes the job of one
//!   package build, [`Bootstrap`] says what such a build takes from the host.
//! - [`Runc`] runs a [`ContainerJob`]: an image's process on its unpacked root file system, in a
//!   network of its own; [`Container::exchange`] talks to its ports.
//!
//! Everything that a job starts ends with it: at its end, at a limit, when the future that runs
//! it is dropped, and when this process dies.

mod accounts;
mod bootstrap;
mod bubblewrap;
mod builder_root;
mod container;
mod container_job;
mod emulation;
mod error;
mod exchange;
mod find;
mod inspect;
mod job;
mod limits;
mod log;
mod outcome;
mod processes;
mod runc;
mod spawn;
mod strays;

pub use accounts::User;
pub use bootstrap::Bootstrap;
pub use bubblewrap::Bubblewrap;
pub use builder_root::BuilderRoot;
pub use container::{Container, Finished};
pub use container_job::{BindMount, ContainerJob, Network, Process, TemporaryFolder};
pub use emulation::{Machine, machine_for};
pub use error::Error;
pub use exchange::{Exchange, Request};
pub use inspect::{Holder, Orphan};
pub use job::{Job, Mount, Program};
pub use limits::Limits;
pub use oci_spec::runtime::Capability;
pub use outcome::{Ending, Outcome};
pub use runc::Runc;
pub use strays::end_strays;

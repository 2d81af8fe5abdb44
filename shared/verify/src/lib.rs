//! The image test suites.
//!
//! An [`Image`] is one platform's manifest with its root file system unpacked. Five suites look
//! at it, each giving a [`SuiteReport`]:
//!
//! - [`integrity`]: the image agrees with itself: its package database, programs, documents, SBOMs.
//! - [`compliance`]: the image keeps to the rules of a [`Policy`].
//! - [`structure`]: a container-structure-test 2.0.0 file.
//! - [`unit()`]: packages, owners, environment, ports, and starts of the image alone; Minimill's own format.
//! - [`runtime`]: the image is started and asked over its ports; Minimill's own small format.
//!
//! A check that could not be run is [`Status::NotRun`] with the reason, and never counts as
//! passed. What a check finds can be let pass for a time by [`Waivers`]. [`junit`] and [`sarif`] write reports for
//! other tools.

mod compliance;
mod database;
mod document;
mod elf;
mod environment_file;
mod error;
mod files;
mod image;
mod integrity;
mod junit;
mod layer;
mod report;
mod run;
mod runtime;
mod sarif;
mod structure;
mod unit;
mod waivers;

pub use compliance::{Compliance, Level, Policy, compliance};
pub use error::Error;
pub use files::{Entry, Files, Kind};
pub use image::{Blobs, Image, LayoutBlobs};
pub use integrity::{Integrity, integrity};
pub use junit::junit;
pub use report::{Check, Complaint, Report, Status, Suite, SuiteReport, Tested, Waived};
pub use runtime::runtime;
pub use sarif::sarif;
pub use structure::structure;
pub use unit::unit;
pub use waivers::Waivers;

/// What the suites that run containers have for it.
#[derive(Debug, Clone, Copy)]
pub struct Facilities<'a> {
    /// Where containers can be run.
    pub containers: &'a Containers,
    /// What one container may use.
    pub limits: &'a sandbox::Limits,
    /// Where root file systems and short-lived files are made.
    pub scratch: &'a std::path::Path,
    /// The image's folder in the catalog, in which suites name files.
    pub folder: &'a std::path::Path,
}

/// Where containers can be run.
#[derive(Debug, Clone)]
pub enum Containers {
    /// On this machine.
    Available(sandbox::Runc),
    /// Nowhere, for this reason; checks that need one are not run.
    Unavailable(String),
}

impl Containers {
    /// What this machine offers. `search_path` has the form of `PATH`; containers' short-lived
    /// files are kept under `scratch`.
    ///
    /// # Errors
    /// Only for trouble with `scratch`; a machine that has no runc is [`Containers::Unavailable`].
    pub async fn find(search_path: &std::ffi::OsStr, scratch: &std::path::Path) -> Result<Self, Error> {
        match sandbox::Runc::find(search_path, scratch).await {
            Ok(runc) => Ok(Containers::Available(runc)),
            Err(error) if error.is_environment() => Ok(Containers::Unavailable(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

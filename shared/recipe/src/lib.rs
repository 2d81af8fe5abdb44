//! Package and image definitions: the melange and apko formats, substitutions and built-in pipelines.
//!
//! [`PackageDefinition::parse`] reads a definition and keeps every text as written;
//! [`evaluate`] resolves it for one architecture into a [`BuildPlan`]: what to fetch, which packages the
//! build runs in, one shell script, and the packages that it makes. Nothing here reads a file (but pipeline
//! folders), runs a program or looks at the clock.
//!
//! ```
//! use recipe::{Options, PackageDefinition, Pipelines, evaluate};
//!
//! let text = "
//! package:
//!   name: hello
//!   version: '2.12'
//!   epoch: 0
//! pipeline:
//!   - runs: install -D hello ${{targets.destdir}}/usr/bin/hello
//! ";
//! let definition = PackageDefinition::parse(text, "hello.yaml")?;
//! let pipelines = Pipelines::built_in()?;
//! let plan = evaluate(&definition, &Options::new(apk::Architecture::X86_64, &pipelines))?;
//! assert_eq!(plan.full_version, "2.12-r0");
//! assert!(plan.script.contains("install -D hello /home/build/melange-out/hello/usr/bin/hello"));
//! # Ok::<(), recipe::Error>(())
//! ```

mod authenticity;
mod bump;
mod catalog;
mod condition;
mod decode;
mod error;
mod evaluate;
mod fixes;
mod graph;
mod image;
mod install_if;
pub mod lint;
mod package;
mod pipelines;
mod plan;
pub mod rules;
mod script;
mod source;
mod substitute;
mod text;
mod variables;
mod vex;
mod yaml;

pub use authenticity::{AuthenticityPolicy, Ecosystem, OpenPgpKeys, Proof, PublisherPin, SignedBy};
pub use bump::{ChecksumKind, NewChecksum, VersionedSource, update_definition_text, versioned_sources};
pub use catalog::{Edition, ImageDefinition, LayerCompression, Requirement, Stream, Suites, Variant};
pub use error::{Error, nearest};
pub use evaluate::{LibraryC, MissingPipelines, Options, evaluate};
pub use fixes::{StatedFix, stated_fixes};
pub use graph::{Cycle, Duplicate, Graph, Link, LinkKind, Node, NodePackage};
pub use image::{
    Accounts, BaseImage, Certificates, Contents, EcosystemPackages, Entrypoint, Group, ImageConfiguration, KeyEntry,
    Layering, LoadedImage, NamedContent, OsRelease, PathKind, PathMutation, User,
};
pub use install_if::InstallIf;
pub use package::*;
pub use pipelines::{Pipeline, Pipelines, UnknownKey};
pub use plan::*;
pub use text::{Location, Position, Text};
pub use vex::{Justification, VersionBound, VexFile, VexProduct, VexStatement, VexStatus, WhyNotAffected};

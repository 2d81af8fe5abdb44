//! Packages to a root file system, reproducible layers, image configuration, manifest and index.
//!
//! [`compose`] lays packages over each other in a tree that exists only as facts (paths, owners,
//! modes, where the content is), adds what an image holds beside packages, and then streams the
//! content from the packages into layers. [`unpack_root`] lays the same tree into a directory.
//! Content never passes through a symbolic link and is never held in memory whole; the same
//! packages and [`Settings`] give the same bytes wherever and whenever it runs. Package scripts
//! are recorded in the apk database and never run.

mod accounts;
mod base;
mod cache;
mod certificates;
mod compose;
mod compress;
mod database;
mod definition;
mod digest;
mod error;
mod facts;
mod install;
mod java_store;
mod layer;
mod layering;
mod layout;
mod loader_cache;
mod lock;
mod mutate;
mod oci;
mod root_accounts;
mod services;
mod settings;
mod sink;
mod system;
mod tar_stream;
mod tree;
mod unpack;

pub use base::BaseImage;
pub use cache::LayerCache;
pub use compose::{
    Composed, ComposedFile, ComposedLayer, ComposedPackage, Composition, FileOwner, FileType, compose, compose_cached,
    compose_on, created,
};
pub use compress::Compression;
pub use error::Error;
pub use facts::PackageFile;
pub use layering::Layering;
pub use layout::Layout;
pub use lock::{
    Lock, LockedConfiguration, LockedContents, LockedKey, LockedMember, LockedPackage, LockedRepository,
    configuration_checksum, without_scheme,
};
pub use oci::{compose_index, descriptor_of};
pub use root_accounts::{RootUser, add_accounts};
pub use settings::{
    Certificate, Distribution, Entrypoint, Group, Key, OsRelease, PathKind, PathMutation, Settings, User,
};
pub use sink::{BlobSink, BlobWriter};
pub use unpack::unpack_root;

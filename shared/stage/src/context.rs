use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use apk::Architecture;
use ports::{Blobs, Clock, Queue, State};
use registry::Registry;
use sign::Signer;
use upstream::Upstreams;

use crate::{Builder, Catalog, PackageRepository, Progress};

/// What the stages work with: made once, lent to every run.
pub struct Context {
    /// Documents.
    pub state: Arc<dyn State>,
    /// Messages.
    pub queue: Arc<dyn Queue>,
    /// Content-addressed bytes.
    pub blobs: Arc<dyn Blobs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Definitions.
    pub catalog: Catalog,
    /// Releases and sources.
    pub upstreams: Upstreams,
    /// Runs package builds.
    pub builder: Arc<dyn Builder>,
    /// Runs images for their tests.
    pub containers: verify::Containers,
    /// Where packages are published.
    pub repository: Arc<dyn PackageRepository>,
    /// Where images are published; a repository is called as its image.
    pub registry: Arc<dyn Registry>,
    /// Signs packages and indexes: RSA.
    pub package_key: Arc<dyn Signer>,
    /// Signs images and attestations: ECDSA P-256.
    pub image_key: Arc<dyn Signer>,
    /// The vulnerability matcher, kept between scans.
    pub matcher: crate::MatcherCache,
    /// Set to stop handing out messages; what is running is finished.
    pub stopping: Arc<AtomicBool>,
    /// Told what happens.
    pub progress: Arc<dyn Progress>,
    /// Choices of whoever runs the factory.
    pub settings: Settings,
}

/// Choices of whoever runs the factory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Architectures that are built.
    pub architectures: Vec<Architecture>,
    /// `SOURCE_DATE_EPOCH`: overrides the times of packages and images, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
    /// Build only this package definition and what it builds with.
    pub focus: Option<String>,
    /// Also sign under the older tag `sha256-HEX.sig`, which every signing rewrites.
    pub legacy_signatures: bool,
    /// Scratch space; what a stage makes there it removes.
    pub work: PathBuf,
}

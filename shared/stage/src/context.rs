use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use apk::Architecture;
use ports::{Blobs, Clock, Digest, Jobs, Queue, State};
use registry::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use sign::{Attestor, Signer};
use upstream::Upstreams;

use crate::rules::retention::Retention;
use crate::{Builder, Catalog, PackageRepository, Progress, StageError};

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
    /// Runs builds and tests on other machines; where it is not set, `builder` and `containers` run them here.
    pub jobs: Option<Arc<dyn Jobs>>,
    /// Runs package builds.
    pub builder: Arc<dyn Builder>,
    /// Runs images for their tests.
    pub containers: verify::Containers,
    /// Where packages are published.
    pub repository: Arc<dyn PackageRepository>,
    /// Where images are published; a repository is called as its image.
    pub registry: Arc<dyn Registry>,
    /// Signs packages and indexes: RSA. Only what publishes them has it.
    pub package_key: Option<Arc<dyn Signer>>,
    /// Signs images and attestations: an ECDSA P-256 key, or an identity. Only what publishes has it.
    pub attestor: Option<Arc<dyn Attestor>>,
    /// What this process remembers between runs.
    pub caches: Caches,
    /// Set to stop handing out messages; what is running is finished.
    pub stopping: Arc<AtomicBool>,
    /// Told what happens.
    pub progress: Arc<dyn Progress>,
    /// Choices of whoever runs the factory.
    pub settings: Settings,
}

/// What a process remembers between the runs of its stages; another starts with none of it.
#[derive(Default)]
pub struct Caches {
    /// The vulnerability matcher, kept between scans.
    pub matcher: crate::MatcherCache,
    /// What planning knows of the definitions.
    pub evaluations: crate::Evaluations,
    /// Held by whoever writes an index of packages.
    pub index_turn: tokio::sync::Mutex<()>,
    /// The repository prepared for solving, kept while it does not change.
    pub universes: crate::Universes,
    /// The digest of the program that runs.
    pub program: tokio::sync::OnceCell<Digest>,
}

impl Context {
    /// What signs packages and indexes.
    ///
    /// # Errors
    /// [`StageError::Environment`] in a process that has no such key.
    pub fn package_key(&self) -> Result<&dyn Signer, StageError> {
        self.package_key.as_deref().ok_or_else(|| no_key("sign packages"))
    }

    /// What signs images and attestations.
    ///
    /// # Errors
    /// [`StageError::Environment`] in a process that has no such key.
    pub fn attestor(&self) -> Result<&dyn Attestor, StageError> {
        self.attestor.as_deref().ok_or_else(|| no_key("attest"))
    }

    /// The digest of the program that runs, where the settings name it.
    ///
    /// # Errors
    /// [`StageError::Environment`] when it can't be read.
    pub async fn program(&self) -> Result<Option<Digest>, StageError> {
        let Some(path) = self.settings.program.clone() else { return Ok(None) };
        let read = || async {
            let failed = |error: std::io::Error| StageError::environment(format!("read `{}`", path.display()))(&error);
            let path = path.clone();
            let mut hash = Sha256::new();
            let hashed = tokio::task::spawn_blocking(move || {
                let mut program = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
                loop {
                    let bytes = program.fill_buf()?;
                    let length = bytes.len();
                    if length == 0 {
                        return Ok(Digest::from_bytes(hash.finalize().into()));
                    }
                    hash.update(bytes);
                    program.consume(length);
                }
            });
            hashed.await.map_err(ports::PortError::from)?.map_err(failed)
        };
        self.caches.program.get_or_try_init(read).await.copied().map(Some)
    }

    /// Stores a document as a JSON blob.
    ///
    /// # Errors
    /// [`StageError::Rejected`] when it has no JSON form; the blobs' own.
    pub async fn store(&self, document: &impl Serialize) -> Result<Digest, StageError> {
        let bytes = serde_json::to_vec(document).map_err(|error| StageError::Rejected(error.to_string()))?;
        Ok(self.blobs.put(bytes).await?)
    }

    /// A document that [`Context::store`] stored. `what` it is, for messages; `limit` in bytes.
    ///
    /// # Errors
    /// [`StageError::Rejected`] when it has another shape; the blobs' own.
    pub async fn load<T: DeserializeOwned>(&self, what: &str, digest: Digest, limit: u64) -> Result<T, StageError> {
        let bytes = self.blobs.get(digest, limit).await?;
        serde_json::from_slice(&bytes).map_err(|error| StageError::Rejected(format!("{what} {digest}: {error}")))
    }
}

fn no_key(action: &str) -> StageError {
    let reason = "this process has no key for it; another stage's does it".to_owned();
    StageError::Environment { action: action.to_owned(), reason }
}

/// Choices of whoever runs the factory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Architectures that are built.
    pub architectures: Vec<Architecture>,
    /// Architectures that this machine can't build, and why.
    pub left_out: BTreeMap<Architecture, String>,
    /// `SOURCE_DATE_EPOCH`: overrides the times of packages and images, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
    /// Build only this package definition and what it builds with.
    pub focus: Option<String>,
    /// Also sign under the older tag `sha256-HEX.sig`, which every signing rewrites.
    pub legacy_signatures: bool,
    /// Which digests are kept beyond what tags need; all when it is not set.
    pub retention: Option<Retention>,
    /// What does for packages without an authenticity policy.
    pub authenticity: crate::DefaultPolicy,
    /// Publish only what a test of its own has passed: `[packages] require-tests`.
    pub require_tests: bool,
    /// Scratch space; what a stage makes there it removes.
    pub work: PathBuf,
    /// The program that runs, which provenance names by its digest; it does not where this is not set.
    pub program: Option<PathBuf>,
    /// Where compressed layers are kept for images that need them again, up to 2 GiB; they are not
    /// kept where it is not set.
    pub layer_cache: Option<PathBuf>,
    /// Where programs that a check needs (`clamscan`) are found, in the form of `PATH`.
    pub search_path: std::ffi::OsString,
}

impl Settings {
    /// For these architectures, with `work` as scratch space, and nothing else chosen.
    #[must_use]
    pub fn new(architectures: Vec<Architecture>, work: PathBuf) -> Self {
        Self {
            architectures,
            left_out: BTreeMap::new(),
            source_date_epoch: None,
            focus: None,
            legacy_signatures: false,
            retention: None,
            authenticity: crate::DefaultPolicy::default(),
            require_tests: false,
            work,
            program: None,
            layer_cache: None,
            search_path: "/usr/local/bin:/usr/bin:/bin".into(),
        }
    }
}

//! The suites of an image that run its programs: here, or as a job elsewhere.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use apk::Architecture;
use ports::Digest;
use sandbox::Limits;
use serde::{Deserialize, Serialize};
use verify::{Blobs, Containers, Facilities, Image, Suite, SuiteReport};

/// The longest time of a check.
pub(crate) const WALL_TIME: Duration = Duration::from_secs(120);

/// One platform's image with the suites that are to be run on it.
#[derive(Clone, Debug)]
pub struct ImageTestJob {
    /// The platform's manifest.
    pub manifest: Digest,
    /// What it runs on.
    pub architecture: Architecture,
    /// The manifest, the configuration and the layers.
    pub blobs: BTreeMap<Digest, PathBuf>,
    /// The image's folder in the catalog, in which suites name files; a job elsewhere has none.
    pub folder: Option<PathBuf>,
    /// The structure test, where there is one to run.
    pub structure: Option<SuiteFile>,
    /// The unit test, where there is one to run.
    pub unit: Option<SuiteFile>,
    /// The runtime test, where there is one to run.
    pub runtime: Option<SuiteFile>,
}

/// A file of a suite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteFile {
    /// Its name in the image's folder.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// What came of the suites of one [`ImageTestJob`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTestRun {
    /// The image's programs ran through an emulator.
    pub emulated: bool,
    /// The reports, in the order structure, unit, runtime.
    pub suites: Vec<SuiteReport>,
}

/// Blobs as local files.
struct LocalBlobs(BTreeMap<String, PathBuf>);

impl Blobs for LocalBlobs {
    fn open(&self, digest: &str) -> std::io::Result<Box<dyn Read + Send>> {
        let path = self.0.get(digest).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Box::new(File::open(path)?))
    }
}

impl ImageTestJob {
    /// The suites that are to be run, in their order.
    pub(crate) fn suites(&self) -> impl Iterator<Item = Suite> {
        let of = |file: &Option<SuiteFile>, suite| file.is_some().then_some(suite);
        let suites =
            [of(&self.structure, Suite::Structure), of(&self.unit, Suite::Unit), of(&self.runtime, Suite::Runtime)];
        suites.into_iter().flatten()
    }

    /// Unpacks the image below `scratch`.
    pub(crate) async fn open(&self, scratch: &Path) -> Result<Image, verify::Error> {
        let blobs = self.blobs.iter().map(|(digest, path)| (digest.to_string(), path.clone())).collect();
        let (digest, folder) = (self.manifest.to_string(), scratch.to_owned());
        let opened =
            tokio::task::spawn_blocking(move || Image::open(Box::new(LocalBlobs(blobs)), &digest, &folder)).await;
        opened.unwrap_or_else(|error| {
            let (action, path, source) = ("unpack an image below", scratch.to_owned(), std::io::Error::other(error));
            Err(verify::Error::Io { action, path, source })
        })
    }

    /// Runs the suites on the image, which was opened.
    pub(crate) async fn run(
        &self,
        image: &Image,
        containers: &Containers,
        scratch: &Path,
    ) -> Result<ImageTestRun, verify::Error> {
        let limits = Limits { wall_time: WALL_TIME, ..Limits::default() };
        let nowhere = scratch.join("no-folder");
        let folder = self.folder.as_deref().unwrap_or(&nowhere);
        let facilities = Facilities { containers, limits: &limits, scratch, folder };
        let mut suites = Vec::new();
        if let Some(SuiteFile { name, text }) = &self.structure {
            suites.push(verify::structure(image, text, name, &facilities).await?);
        }
        if let Some(SuiteFile { name, text }) = &self.unit {
            suites.push(verify::unit(image, text, name, &facilities).await?);
        }
        if let Some(SuiteFile { name, text }) = &self.runtime {
            suites.push(verify::runtime(image, text, name, &facilities).await?);
        }
        let machine = sandbox::machine_for(self.architecture.apk());
        Ok(ImageTestRun { emulated: matches!(machine, Ok(sandbox::Machine::Emulated { .. })), suites })
    }
}

//! The documents that the stages keep in the state, and their keys.
//!
//! | partition | sort key | document |
//! |---|---|---|
//! | `package#NAME` | `upstream` | [`Upstream`] |
//! | `package#NAME` | `releases` | [`crate::rules::releases::Releases`] |
//! | `package#NAME` | `asked` | [`Asked`] |
//! | `package#NAME` | `claim#VERSION` | [`crate::rules::version::Claim`] |
//! | `package#NAME` | `built#VERSION#ARCH` | [`Built`] |
//! | `package#NAME` | `failure#VERSION#ARCH` | [`Failure`] |
//! | `package#NAME` | `version#VERSION#ARCH` | [`PublishedPackage`] |
//! | `package#NAME` | `refused#UPSTREAM-VERSION` | [`crate::Refused`] |
//! | `package#NAME` | `tests#VERSION#ARCH` | [`LaterTests`] |
//! | `package#NAME` | `reproducible#VERSION#ARCH` | [`crate::Reproducibility`] |
//! | `untested#ARCH` | `NAME=VERSION` | [`Untested`] |
//! | `repository#ARCH` | `NAME=VERSION` | [`RepositoryEntry`] |
//! | `index#ARCH` | `unlisted#NAME=VERSION` | [`Unlisted`] |
//! | `index#ARCH` | `changed` | [`IndexChange`] |
//! | `image#NAME` | `plan#STREAM` | [`crate::ImagePlanRecord`] |
//! | `image#NAME` | `built#STREAM` | [`BuiltImage`] |
//! | `image#NAME` | `stream#STREAM` | [`Published`] |
//! | `image#NAME` | `proposal#STREAM` | [`crate::ProposedStream`] |
//! | `image#NAME` | `release#DIGEST` | [`Release`] |
//! | `image#NAME` | `needed#DIGEST#WHO` | [`Need`] |
//! | `image#NAME` | `vex#DIGEST` | [`crate::VexRecord`] |
//! | `image#NAME` | `scan#DIGEST` | [`crate::Scan`] |
//! | `feed` | `record#ID` | a vulnerability record |
//! | `image#NAME` | `failure#STREAM` | [`Failure`] |
//! | `image#NAME` | `history#nNUMBER#TAG`; before it had a number, `history#TIME#TAG#DIGEST` | [`TagMove`] |
//! | `layer#DIGEST` | `IMAGE` | [`crate::LayerPlace`] |
//! | `package#NAME` | `rebuild` | [`Rebuild`] |
//! | `job` | `MESSAGE-STEP` | [`crate::JobRecord`] |
//! | `withdrawn` | `NAME=VERSION` | [`Withdrawal`] |
//! | `event` | `TIME#STAGE#SUBJECT` | [`Event`] |

use std::collections::BTreeMap;

use apk::{Architecture, IndexEntry};
use jiff::Timestamp;
use ports::{Digest, Key};
use recipe::NewChecksum;
use serde::{Deserialize, Serialize};

use crate::authenticity::Verdict;
use crate::update::Basis;

/// What upstream offers for a package, as last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    /// The version to build instead of the catalog's.
    pub version: String,
    /// What its definition states of its source.
    #[serde(flatten)]
    pub checksum: StatedChecksum,
    /// When it was found.
    pub found: Timestamp,
    /// What the digest or commit rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// How the source was had, and what its ecosystem says of it.
    pub evidence: serde_json::Value,
    /// How it stands by the package's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticity: Option<Verdict>,
    /// The further sources that follow the version, in the order of the definition's text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<FurtherSource>,
}

/// A source beside the first that follows a definition's version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FurtherSource {
    /// Where it comes from.
    pub uri: String,
    /// What its definition states of it.
    #[serde(flatten)]
    pub checksum: StatedChecksum,
    /// What the digest or commit rests on.
    pub basis: Basis,
    /// How the source was had, and what its ecosystem says of it.
    pub evidence: serde_json::Value,
    /// How it stands by the package's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticity: Option<Verdict>,
}

/// What a definition states of a source: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedChecksum {
    /// SHA-256 of a file, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// SHA-512 of a file, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<String>,
    /// Commit of a git repository, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

impl From<&NewChecksum> for StatedChecksum {
    fn from(checksum: &NewChecksum) -> Self {
        match checksum {
            NewChecksum::Sha256(hex) => Self { sha256: Some(hex.clone()), ..Self::default() },
            NewChecksum::Sha512(hex) => Self { sha512: Some(hex.clone()), ..Self::default() },
            NewChecksum::Commit(hex) => Self { commit: Some(hex.clone()), ..Self::default() },
        }
    }
}

impl Upstream {
    /// What the new version's definition states of its sources, in the order of its text.
    pub fn checksums(&self) -> Vec<NewChecksum> {
        let stated = std::iter::once(&self.checksum).chain(self.further.iter().map(|source| &source.checksum));
        let each = stated.flat_map(|stated| {
            let StatedChecksum { sha256, sha512, commit } = stated.clone();
            let sha256 = sha256.map(NewChecksum::Sha256);
            sha256.into_iter().chain(sha512.map(NewChecksum::Sha512)).chain(commit.map(NewChecksum::Commit))
        });
        each.collect()
    }
}

/// When upstream was last asked about a package whose definition has a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// When.
    pub time: Timestamp,
}

/// A build that ended well and waits to be published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Built {
    /// Digest of the definition.
    pub definition: Digest,
    /// The build's result document.
    pub result: Digest,
}

/// A build or test that failed, until one succeeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub time: Timestamp,
    /// Why, for a person.
    pub reason: String,
    /// The log, when there is one.
    pub log: Option<Digest>,
}

/// A version that was taken out of the repository. Its files, its documents and its claim stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// The package definition.
    pub package: String,
    /// Its full version.
    pub version: String,
    /// Why, in the words of whoever withdrew it.
    pub reason: String,
    /// When.
    pub time: Timestamp,
    /// Names of the packages of that version.
    pub packages: Vec<String>,
}

/// Why a definition is built again although it has not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// What has changed below it, such as a library's soname. Part of the digest of the definition,
    /// so it names versions and no times.
    pub reason: String,
    /// When that was found.
    pub time: Timestamp,
}

/// A package file in the repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepositoryEntry {
    /// The index record.
    pub entry: IndexEntry,
    /// The signed `.apk` file.
    pub blob: Digest,
    /// The package definition that it was built from.
    pub definition: String,
    /// Its provenance: a sigstore bundle.
    pub provenance: Digest,
    /// What came of its definition's tests: a sigstore bundle, where one has run. Tests that run
    /// later replace it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Digest>,
}

/// A published version that the index does not list yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    /// The package definition.
    pub package: String,
    /// Its full version.
    pub version: String,
    /// Names of the packages of that version.
    pub packages: Vec<String>,
}

/// A published version with tests that have not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untested {
    /// The package definition.
    pub package: String,
    /// Its full version.
    pub version: String,
    /// Names of the packages whose tests have not run.
    pub packages: Vec<String>,
    /// Digest of what they were last tried with; none before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Digest>,
}

/// What came of tests that ran after their version was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaterTests {
    /// When the last of them ran.
    pub time: Timestamp,
    /// One report per package; those of the build hold for the others.
    pub tests: Vec<crate::PackageTestReport>,
    /// The attestations that theirs has replaced, the newest last; the bytes are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Digest>,
}

/// That a version was published or withdrawn; the document's revision counts how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexChange {
    /// When it last happened.
    pub time: Timestamp,
}

/// One version of a definition's packages, published for one architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedPackage {
    /// The full version, `V-rN`.
    pub version: String,
    /// Its architecture.
    pub architecture: Architecture,
    /// Digest of the definition.
    pub definition: Digest,
    /// Names of the packages in the repository, with their `Q1` checksums.
    pub packages: BTreeMap<String, String>,
    /// The build's result document.
    pub build: Digest,
    /// When it was published.
    pub time: Timestamp,
    /// What it takes from programs that link with its libraries, and nobody misses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The newest published build of a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Upstream version of the primary package.
    pub version: String,
    /// Digest of the image index.
    pub digest: Digest,
    /// Digest of the image's definition and tests.
    pub definition: Digest,
    /// Packages per architecture: name to `VERSION checksum`.
    pub lock: BTreeMap<Architecture, BTreeMap<String, String>>,
}

/// A published digest of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The stream it belongs to.
    pub stream: String,
    /// Upstream version of the primary package.
    pub version: String,
    /// Digest of the image index.
    pub digest: Digest,
    /// Digest per architecture.
    pub platforms: BTreeMap<Architecture, Digest>,
    /// The immutable timestamp tag.
    pub timestamp_tag: String,
    /// The tags it was given when it was published.
    pub tags: Vec<String>,
    /// When publishing began.
    pub time: Timestamp,
    /// Bytes of config and layers over all architectures.
    pub size: u64,
    /// Why it was built.
    pub reason: String,
    /// What it was built from.
    pub plan: Digest,
    /// SPDX document of the index and of each architecture.
    pub sboms: BTreeMap<String, Digest>,
    /// The build record; releases of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Digest>,
    /// The test report.
    pub report: Digest,
    /// Checks passed, as `passed/all`.
    pub tests: String,
    /// Signatures, attestations and tags are all in the registry.
    pub complete: bool,
    /// When retention took it out of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
    /// Its content has been removed as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub purged: bool,
}

/// That somebody other than tags, such as a mirror that copies it, needs a digest: retention keeps it while this
/// is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Digest of the image index.
    pub digest: Digest,
    /// Who, for people.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

impl Need {
    /// Its key: one for each digest and who needs it.
    pub fn key(&self, image_name: &str) -> Key {
        Key::new(image(image_name), format!("{NEEDED}{}#{}", self.digest, self.by))
    }
}

/// How the sort keys of [`Need`]s begin.
pub const NEEDED: &str = "needed#";

/// The newest build of a stream, whatever its suites said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// Digest of the image index.
    pub index: Digest,
    /// The build record.
    pub build: Digest,
}

/// A tag that began to name another digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TagMove {
    /// The tag.
    pub tag: String,
    /// What it named before.
    pub from: Option<Digest>,
    /// What it names now; nothing when retention took it away.
    pub to: Option<Digest>,
    /// When.
    pub time: Timestamp,
    /// Why.
    pub reason: String,
}

/// Something that happened, for people, webhooks and the console.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What, such as `package.published`.
    pub kind: String,
    /// The package or image.
    pub subject: String,
    /// A sentence.
    pub text: String,
}

impl Event {
    /// The event's key: ordered by time, and one key per time, kind and subject.
    pub fn key(&self) -> Key {
        Key::new("event", format!("{}#{}#{}", self.time, self.kind, self.subject))
    }
}

/// The partition of a package definition.
pub fn package(name: &str) -> String {
    format!("package#{name}")
}

/// The partition of an architecture's repository.
pub fn repository(architecture: Architecture) -> String {
    format!("repository#{architecture}")
}

/// The partition of an architecture's index.
pub fn index(architecture: Architecture) -> String {
    format!("index#{architecture}")
}

/// How the sort keys of versions begin that the index does not list yet.
pub const UNLISTED: &str = "unlisted#";

/// The key of a version that the index does not list yet.
pub fn unlisted(architecture: Architecture, package: &str, version: &str) -> Key {
    Key::new(index(architecture), format!("{UNLISTED}{package}={version}"))
}

/// The partition of an architecture's versions with tests that have not run.
pub fn untested_versions(architecture: Architecture) -> String {
    format!("untested#{architecture}")
}

/// The key of a version with tests that have not run.
pub fn untested(architecture: Architecture, package: &str, version: &str) -> Key {
    Key::new(untested_versions(architecture), format!("{package}={version}"))
}

/// The partition of jobs that are on their way on other machines.
pub const JOBS: &str = "job";

/// The partition of withdrawn versions.
pub const WITHDRAWN: &str = "withdrawn";

/// The key of a withdrawn version of a package definition.
pub fn withdrawal(package: &str, version: &str) -> Key {
    Key::new(WITHDRAWN, format!("{package}={version}"))
}

/// The partition of an image.
pub fn image(name: &str) -> String {
    format!("image#{name}")
}

/// The partition of a layer: which images' repositories have it.
pub fn layer(digest: Digest) -> String {
    format!("layer#{digest}")
}

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use apk::{Architecture, Package};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::facts::PackageFile;

/// The one version of the format that there is.
const VERSION: &str = "v1";
/// The most bytes of a lock file that are read.
pub(crate) const LOCK_BYTES: u64 = 64 << 20;

/// apko's lock file: which package files an image definition got, for every architecture.
///
/// JSON with a `version`, the `config` that it was made from, and under `contents` keys,
/// repositories and packages, those in the order in which they are installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// `v1`.
    pub version: String,
    /// The definition that was locked; files of old apko versions lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<LockedConfiguration>,
    /// What was locked.
    pub contents: LockedContents,
}

/// The definition of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedConfiguration {
    /// Name of its file.
    #[serde(default)]
    pub name: String,
    /// See [`configuration_checksum`].
    #[serde(default)]
    pub checksum: String,
}

/// What a lock holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedContents {
    /// Keys, sorted by name.
    #[serde(default, deserialize_with = "or_empty")]
    pub keyring: Vec<LockedKey>,
    /// Repositories that only the build used, per architecture.
    #[serde(default, deserialize_with = "or_empty")]
    pub build_repositories: Vec<LockedRepository>,
    /// Repositories that only the image names, per architecture.
    #[serde(default, deserialize_with = "or_empty")]
    pub runtime_repositories: Vec<LockedRepository>,
    /// Repositories of both, per architecture.
    #[serde(default, deserialize_with = "or_empty")]
    pub repositories: Vec<LockedRepository>,
    /// Packages of all architectures, in install order within each.
    #[serde(default, deserialize_with = "or_empty")]
    pub packages: Vec<LockedPackage>,
    /// Packages of language ecosystems, which images are not made of here: [`Lock::open`] refuses any.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_empty")]
    pub ecosystem_packages: Vec<serde_json::Value>,
}

/// A public key of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedKey {
    /// Its URL without the scheme.
    pub name: String,
    /// Path or URL.
    pub url: String,
    /// PEM, for a key that the definition holds itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
}

/// A repository of a lock, for one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRepository {
    /// `REPOSITORY/ARCH` without a scheme.
    pub name: String,
    /// Path or URL of its index.
    pub url: String,
    /// apk name of the architecture.
    pub architecture: String,
}

impl LockedRepository {
    /// A repository line without its tag, for an architecture.
    pub fn new(location: &str, architecture: Architecture) -> Self {
        let folder = format!("{}/{}", location.trim_end_matches('/'), architecture.apk());
        Self {
            name: without_scheme(&folder).to_owned(),
            url: format!("{folder}/APKINDEX.tar.gz"),
            architecture: architecture.apk().to_owned(),
        }
    }
}

/// The text without `https://` or `http://`, which is what a lock calls a key or a repository.
pub fn without_scheme(url: &str) -> &str {
    url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url)
}

/// A package of a lock: where its file is, and what each of its members must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Package name.
    pub name: String,
    /// Path or URL of the file.
    pub url: String,
    /// Version with revision.
    pub version: String,
    /// apk name of the architecture.
    pub architecture: String,
    /// The signature member; both texts are empty for an unsigned package.
    pub signature: LockedMember,
    /// The control member, by its SHA-1.
    pub control: LockedMember,
    /// The data member, by its SHA-256.
    pub data: LockedMember,
    /// `Q1...` checksum of the control member; empty in files of apko before 0.13.
    #[serde(default)]
    pub checksum: String,
}

/// A member of a package's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedMember {
    /// `bytes=FIRST-LAST`, as in HTTP.
    #[serde(default)]
    pub range: String,
    /// `sha1-BASE64` or `sha256-BASE64`.
    #[serde(default)]
    pub checksum: String,
}

/// Go writes `null` for a list that was never made.
fn or_empty<'d, T: Deserialize<'d>, D: serde::Deserializer<'d>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The checksum of a definition by the texts of its files, its own first, then what it includes:
/// `sha256-BASE64`.
pub fn configuration_checksum(sources: &[String]) -> String {
    let mut sha256 = Sha256::new();
    for source in sources {
        sha256.update(source);
    }
    format!("sha256-{}", STANDARD.encode(sha256.finalize()))
}

impl Lock {
    /// A lock of a definition.
    pub fn new(configuration: LockedConfiguration, contents: LockedContents) -> Self {
        Self { version: VERSION.to_owned(), config: Some(configuration), contents }
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// [`Error::Lock`] when it can't be read, is no lock, or is of another version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let wrong = |problem: String| Error::Lock { file: file.clone(), problem };
        let mut text = String::new();
        let source = File::open(path).map_err(|error| wrong(error.to_string()))?;
        source.take(LOCK_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
        if text.len() as u64 > LOCK_BYTES {
            return Err(wrong(format!("it has more than {LOCK_BYTES} bytes")));
        }
        let lock: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if lock.version != VERSION {
            return Err(wrong(format!("expected version `{VERSION}`, found `{}`", lock.version)));
        }
        if let count @ 1.. = lock.contents.ecosystem_packages.len() {
            return Err(wrong(format!(
                "`contents.ecosystem_packages` locks {count} of language ecosystems, which images can't have: take \
                 `contents.ecosystems` out of the definition and lock it again"
            )));
        }
        Ok(lock)
    }

    /// The file's text: JSON with two spaces of indentation and a line break at its end.
    ///
    /// # Errors
    /// When JSON can't be written.
    pub fn to_json(&self) -> Result<String, Error> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Document { document: "lock", reason: error.to_string() })?;
        text.push('\n');
        Ok(text)
    }

    /// Checks that the lock is of the definition with this checksum; `false` for a lock that does not say what it
    /// is of, as those of apko before 0.14. `file` names the lock.
    ///
    /// # Errors
    /// [`Error::Lock`] when the definition changed since.
    pub fn check_configuration(&self, file: &Path, checksum: &str) -> Result<bool, Error> {
        let found = self.config.as_ref().map_or("", |config| config.checksum.as_str());
        if found == checksum || found.is_empty() {
            return Ok(!found.is_empty());
        }
        let problem =
            format!("it is of a definition with checksum {found}, and the definition has {checksum}: lock it again");
        Err(Error::Lock { file: file.display().to_string(), problem })
    }

    /// The packages of an architecture, in install order.
    pub fn packages(&self, architecture: Architecture) -> impl Iterator<Item = &LockedPackage> {
        self.contents.packages.iter().filter(move |package| package.architecture == architecture.apk())
    }
}

impl LockedPackage {
    /// Locks a package file that lies at `url`.
    ///
    /// # Errors
    /// When the file can't be read or is no package.
    pub fn of(package: &PackageFile, url: String, architecture: Architecture) -> Result<Self, Error> {
        let opened = Package::open(&package.path)?;
        let unreadable = |source| apk::Error::Io { what: package.path.display().to_string(), source };
        let mut file = File::open(&package.path).map_err(unreadable)?;
        let members = opened.members().clone();
        let mut member = |range: &Range<u64>, algorithm| locked_member(&mut file, range, algorithm).map_err(unreadable);
        let information = opened.information();
        Ok(Self {
            name: information.name.clone(),
            url,
            version: information.version.clone(),
            architecture: architecture.apk().to_owned(),
            signature: member(&members.signature, Algorithm::Sha1)?,
            control: member(&members.control, Algorithm::Sha1)?,
            data: member(&members.data, Algorithm::Sha256)?,
            checksum: opened.checksum().to_string(),
        })
    }

    /// Checks that a file is the locked one, member for member. The signature is not compared: the
    /// same package may have been signed again.
    ///
    /// # Errors
    /// When it can't be read, and [`Error::OtherPackage`] when it is another.
    pub fn check(&self, path: &Path) -> Result<PackageFile, Error> {
        let entry = Package::open(path)?.index_entry();
        let package = PackageFile { entry, path: path.to_owned() };
        let architecture = self.architecture.parse().unwrap_or(Architecture::X86_64);
        let found = Self::of(&package, self.url.clone(), architecture)?;
        let facts = |locked: &Self| {
            let Self { name, version, control, data, .. } = locked;
            format!("{name}-{version} control {} data {}", control.checksum, data.checksum)
        };
        if facts(self) != facts(&found) {
            return Err(Error::OtherPackage {
                file: path.display().to_string(),
                expected: facts(self),
                found: facts(&found),
            });
        }
        Ok(package)
    }
}

#[derive(Clone, Copy)]
enum Algorithm {
    Sha1,
    Sha256,
}

fn locked_member(file: &mut File, range: &Range<u64>, algorithm: Algorithm) -> std::io::Result<LockedMember> {
    if range.is_empty() {
        return Ok(LockedMember::default());
    }
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = file.take(range.end - range.start);
    let checksum = match algorithm {
        Algorithm::Sha1 => {
            let mut digest = Sha1::new();
            std::io::copy(&mut bytes, &mut Updates(&mut digest))?;
            format!("sha1-{}", STANDARD.encode(digest.finalize()))
        }
        Algorithm::Sha256 => {
            let mut digest = Sha256::new();
            std::io::copy(&mut bytes, &mut Updates(&mut digest))?;
            format!("sha256-{}", STANDARD.encode(digest.finalize()))
        }
    };
    Ok(LockedMember { range: format!("bytes={}-{}", range.start, range.end - 1), checksum })
}

struct Updates<'d, D>(&'d mut D);

impl<D: Digest> std::io::Write for Updates<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

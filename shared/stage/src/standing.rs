//! How a package stands: what the state says of the version that its definition builds today.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use apk::Architecture;
use ports::{Digest, Document, Key};

use crate::StageError;
use crate::record::{self, Built, Failure, PublishedPackage, Withdrawal};
use crate::rules::version::Claim;

/// How a package stands for one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The current definition is published.
    Published,
    /// The current definition was published and withdrawn, for this reason: it is not built again
    /// before it changes.
    Withdrawn(String),
    /// The current definition is built, with this result, and not published yet.
    Built(Digest),
    /// It must be built, and everything it builds with is there.
    Due(String),
    /// As due, but its last build failed.
    Failed,
    /// It must be built, after these.
    Waiting(BTreeSet<String>),
}

/// What the state says of one package.
pub(crate) struct Settled {
    published: bool,
    /// Why the current version was withdrawn.
    withdrawn: Option<String>,
    built: Option<Digest>,
    earlier: Option<String>,
    failure: Option<Failure>,
}

impl Settled {
    pub(crate) fn find(
        name: &str,
        claim: &Claim,
        architecture: Architecture,
        documents: &[Document],
        withdrawals: &BTreeMap<(String, String), Withdrawal>,
    ) -> Result<Self, StageError> {
        let withdrawn = |version: &String| withdrawals.get(&(name.to_owned(), version.clone()));
        let version = claim.version();
        let get = |key: Key| documents.iter().find(|document| document.key == key);
        let published = get(published_key(name, &version, architecture)).map(Document::decode::<PublishedPackage>);
        let failure = get(failure_key(name, &version, architecture)).map(Document::decode);
        let built = get(built_key(name, &version, architecture)).map(Document::decode::<Built>);
        let mut earlier: Option<String> = None;
        for document in documents.iter().filter(|document| document.key.sort.starts_with("version#")) {
            let other: PublishedPackage = document.decode()?;
            let newer = |known: &String| apk::compare_versions(&other.version, known) != Some(Ordering::Less);
            if other.architecture == architecture
                && withdrawn(&other.version).is_none()
                && earlier.as_ref().is_none_or(newer)
            {
                earlier = Some(other.version);
            }
        }
        let own = claim.definition;
        Ok(Self {
            built: built.transpose()?.filter(|built| built.definition == own).map(|built| built.result),
            published: published.transpose()?.is_some_and(|published| published.definition == own),
            withdrawn: withdrawn(&version).map(|withdrawal| withdrawal.reason.clone()),
            earlier,
            failure: failure.transpose()?,
        })
    }

    /// Whether it is neither published nor built, so that it matters what it needs.
    pub(crate) fn awaits_build(&self) -> bool {
        !self.published && self.built.is_none() && self.withdrawn.is_none()
    }

    /// How it stands when these of its build dependencies can't be built with.
    pub(crate) fn standing(&self, missing: impl FnOnce() -> BTreeSet<String>) -> Standing {
        if let Some(reason) = &self.withdrawn {
            return Standing::Withdrawn(reason.clone());
        }
        if self.published {
            return Standing::Published;
        }
        if let Some(result) = self.built {
            return Standing::Built(result);
        }
        let missing = missing();
        match (missing.is_empty(), &self.failure) {
            (false, _) => Standing::Waiting(missing),
            (true, Some(_)) => Standing::Failed,
            (true, None) => Standing::Due(self.reason()),
        }
    }

    /// Whether others can build with it now: it is published, or its newest build failed or was
    /// withdrawn and an earlier version is there.
    pub(crate) fn usable(&self) -> bool {
        let stays_behind = self.failure.is_some() || self.withdrawn.is_some();
        self.published && self.withdrawn.is_none() || (stays_behind && self.earlier.is_some())
    }

    fn reason(&self) -> String {
        match &self.earlier {
            Some(earlier) => format!("its definition changed since {earlier}"),
            None => "it has not been built".to_owned(),
        }
    }
}

/// Key of a published version.
pub fn published_key(name: &str, version: &str, architecture: Architecture) -> Key {
    Key::new(record::package(name), format!("version#{version}#{architecture}"))
}

/// Key of a version's build that waits to be published.
pub fn built_key(name: &str, version: &str, architecture: Architecture) -> Key {
    Key::new(record::package(name), format!("built#{version}#{architecture}"))
}

/// Key of a version's failed build.
pub fn failure_key(name: &str, version: &str, architecture: Architecture) -> Key {
    Key::new(record::package(name), format!("failure#{version}#{architecture}"))
}

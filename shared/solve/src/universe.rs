use std::collections::HashSet;

use apk::{Architecture, IndexRecord, Operator};

use crate::arena::{Arena, Lists, NameId, PackageId};
use crate::builder::Builder;
use crate::links::{Link, LinkTable, Links};
use crate::names::Names;

/// One bit per repository, lowest first.
pub(crate) type RepositorySet = u64;

/// How many repositories a [`Universe`] holds at most.
pub const MAXIMUM_REPOSITORIES: usize = 64;

/// How many different tags a [`Universe`] holds at most, the untagged counted as one.
pub const MAXIMUM_TAGS: usize = 63;

/// One index that packages may come from.
#[derive(Clone, Debug)]
pub struct Repository<'r, 'a> {
    /// What errors call it: its URL or path.
    pub name: String,
    /// The tag (without `@`) that a want must carry to see this repository's packages.
    pub tag: Option<String>,
    /// The index, in its own order.
    pub records: &'r [IndexRecord<'a>],
}

/// Where a record stands in what [`Universe::new`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which repository, from 0.
    pub repository: usize,
    /// Which record of it, from 0.
    pub position: usize,
}

/// The repositories do not make a universe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More repositories than the solver tracks.
    #[error("{found} repositories, the limit is {limit}: merge or drop some")]
    TooManyRepositories {
        /// How many were given.
        found: usize,
        /// [`MAXIMUM_REPOSITORIES`].
        limit: usize,
    },
    /// More different tags than the solver tracks.
    #[error("{found} different repository tags, the limit is {limit}: merge or drop some")]
    TooManyTags {
        /// How many there are.
        found: usize,
        /// [`MAXIMUM_TAGS`].
        limit: usize,
    },
    /// A package without a name.
    #[error("repository `{repository}`: record {position} has no package name")]
    NamelessPackage {
        /// The repository's name.
        repository: String,
        /// Which record, from 0.
        position: usize,
    },
}

/// A repository tag and what it opens. The first one is for everything untagged.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    /// Without `@`; empty for the untagged.
    pub(crate) text: String,
    pub(crate) repositories: RepositorySet,
}

/// A package that has or provides a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provider {
    pub(crate) package: PackageId,
    /// Which link says so, by its number in [`Universe::links`]; [`Provider::OWN`] for its own name.
    link: u32,
}

impl Provider {
    const OWN: u32 = u32::MAX;

    /// A package under its own name.
    pub(crate) fn own(package: PackageId) -> Self {
        Self { package, link: Self::OWN }
    }

    /// A package under the name that its link number `link` provides.
    pub(crate) fn by(package: PackageId, link: u32) -> Self {
        Self { package, link }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Package<'a> {
    pub(crate) record: IndexRecord<'a>,
    pub(crate) version: &'a str,
    pub(crate) repositories: RepositorySet,
    pub(crate) name: NameId,
    /// Which record of the first repository that has it, or of what is installed.
    pub(crate) position: u32,
    /// Where its depends, provides and install_if begin among the links, and where the last end.
    pub(crate) links: [u32; 4],
    /// The tag it was installed by, for one that is installed already.
    pub(crate) installed: Option<u8>,
    pub(crate) wrong_architecture: bool,
    /// A dependency of it can't be read.
    pub(crate) broken: bool,
    /// The architecture whose index lacks this version.
    pub(crate) absent: Option<Architecture>,
}

impl<'a> Package<'a> {
    /// What it was built from, and in which version; the first is empty where its index does not say.
    pub(crate) fn origin(&self) -> (&'a str, &'a str) {
        (self.record.origin(), self.version)
    }

    /// Where its record stands; `None` for one that is installed already.
    pub(crate) fn place(&self) -> Option<Place> {
        let repository = self.repositories.trailing_zeros() as usize;
        self.installed.is_none().then_some(Place { repository, position: self.position as usize })
    }

    pub(crate) fn uninstallable(&self) -> bool {
        self.wrong_architecture || self.broken || self.absent.is_some()
    }
}

/// Everything that could be installed: indexes, prepared once for any number of
/// [`solve`](crate::solve) calls.
#[derive(Clone, Debug)]
pub struct Universe<'a> {
    pub(crate) architecture: Architecture,
    pub(crate) repositories: Vec<String>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) names: Names<'a>,
    pub(crate) packages: Arena<PackageId, Package<'a>>,
    pub(crate) links: LinkTable,
    pub(crate) providers: Lists<NameId, Provider>,
    pub(crate) dependents: Lists<NameId, NameId>,
    pub(crate) reverse_install_if: Lists<NameId, NameId>,
    pub(crate) installed: Vec<PackageId>,
}

impl<'a> Universe<'a> {
    /// Prepares `repositories` (best first, where two are equally good) for solving.
    pub fn new(architecture: Architecture, repositories: &[Repository<'_, 'a>]) -> Result<Self, Error> {
        Self::with_installed(architecture, &[], repositories)
    }

    /// As [`Universe::new`], on a system that has `installed` packages already, each with the tag
    /// (without `@`) it was installed by.
    pub fn with_installed(
        architecture: Architecture,
        installed: &[(IndexRecord<'a>, Option<&str>)],
        repositories: &[Repository<'_, 'a>],
    ) -> Result<Self, Error> {
        if repositories.len() > MAXIMUM_REPOSITORIES {
            return Err(Error::TooManyRepositories { found: repositories.len(), limit: MAXIMUM_REPOSITORIES });
        }
        let mut builder = Builder::new(architecture);
        let offered = repositories.iter().flat_map(|repository| repository.records);
        builder.reserve(installed.iter().map(|(record, _)| record).chain(offered));
        let mut installed_packages = Vec::with_capacity(installed.len());
        for (position, (entry, tag)) in installed.iter().enumerate() {
            let tag = builder.tag(*tag);
            if let Some(package) = builder.add("installed", position, *entry, 0)? {
                // There are no more tags than `MAXIMUM_TAGS`, or an error is due.
                builder.packages[package].installed = Some(u8::try_from(tag).unwrap_or(u8::MAX));
                installed_packages.push(package);
            }
        }
        for (number, repository) in repositories.iter().enumerate() {
            let bit = 1 << number;
            let tag = builder.tag(repository.tag.as_deref());
            if let Some(tag) = builder.tags.get_mut(tag) {
                tag.repositories |= bit;
            }
            for (position, entry) in repository.records.iter().enumerate() {
                builder.add(&repository.name, position, *entry, bit)?;
            }
        }
        if builder.tags.len() > MAXIMUM_TAGS {
            return Err(Error::TooManyTags { found: builder.tags.len(), limit: MAXIMUM_TAGS });
        }
        Ok(builder.finish(repositories.iter().map(|repository| repository.name.clone()).collect(), installed_packages))
    }

    /// The architecture whose packages can be installed here.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The repositories' names, in the order given.
    pub fn repositories(&self) -> &[String] {
        &self.repositories
    }

    /// How many different packages there are.
    pub fn package_count(&self) -> usize {
        self.packages.len()
    }

    /// The records of the packages called `name`, in index order.
    pub fn packages_named(&self, name: &str) -> Vec<IndexRecord<'a>> {
        let Some(id) = self.names.find(name) else {
            return Vec::new();
        };
        self.providers(id)
            .iter()
            .map(|provider| &self.packages[provider.package])
            .filter(|package| package.name == id)
            .map(|package| package.record)
            .collect()
    }

    /// Disqualifies every version of a package that `other`, the same repositories for another
    /// architecture, lacks, so that all architectures resolve to the same versions. Packages of
    /// `noarch` count like any other; what is installed is there already, and stays.
    pub fn require_same_versions_in(&mut self, other: &Universe<'_>) {
        let there: HashSet<(&str, &str)> = other
            .packages
            .rows()
            .iter()
            .filter(|package| !package.wrong_architecture)
            .map(|package| (package.record.name(), package.version))
            .collect();
        let packages = self.packages.len();
        for number in 0..packages {
            let package = &mut self.packages[PackageId(u32::try_from(number).unwrap_or(u32::MAX))];
            if package.installed.is_none() && !there.contains(&(package.record.name(), package.version)) {
                package.absent = Some(other.architecture);
            }
        }
    }

    /// The versions of `name` that [`Universe::require_same_versions_in`] disqualified, each with an
    /// architecture that lacks it.
    pub fn absent_elsewhere(&self, name: &str) -> impl Iterator<Item = (&'a str, Architecture)> + '_ {
        let providers = self.names.find(name).map(|id| (id, self.providers(id)));
        providers.into_iter().flat_map(move |(id, providers)| {
            providers.iter().filter_map(move |provider| {
                let package = &self.packages[provider.package];
                let absent = package.absent.filter(|_| package.name == id && !package.wrong_architecture);
                absent.map(|architecture| (package.version, architecture))
            })
        })
    }

    /// The index of a tag that has repositories.
    pub(crate) fn tag(&self, text: &str) -> Option<usize> {
        self.tags.iter().position(|tag| tag.text == text && tag.repositories != 0)
    }

    pub(crate) fn name_count(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn find(&self, name: &str) -> Option<NameId> {
        self.names.find(name)
    }

    pub(crate) fn name(&self, id: NameId) -> Option<&'a str> {
        self.names.text(id)
    }

    pub(crate) fn providers(&self, name: NameId) -> &[Provider] {
        self.providers.of(name)
    }

    /// In which version a provider has the name; `None`: without one.
    pub(crate) fn provided_version(&self, provider: Provider) -> Option<&str> {
        match provider.link {
            Provider::OWN => Some(self.packages[provider.package].version),
            link => self.links.get(link).and_then(|link| link.version()),
        }
    }

    /// A package as a provider of its own name and of each name that it provides, in that order.
    pub(crate) fn provisions(&self, package: PackageId) -> impl Iterator<Item = (NameId, Provider)> + use<'_, 'a> {
        let row = &self.packages[package];
        let [_, first, ..] = row.links;
        let provided = (first..).zip(self.provides(package));
        let own = std::iter::once((row.name, Provider::own(package)));
        own.chain(provided.map(move |(number, link)| (link.name, Provider::by(package, number))))
    }

    /// Names that have a provider which depends on `name`.
    pub(crate) fn dependents(&self, name: NameId) -> &[NameId] {
        self.dependents.of(name)
    }

    /// Names that have a provider with `name` in its install_if.
    pub(crate) fn reverse_install_if(&self, name: NameId) -> &[NameId] {
        self.reverse_install_if.of(name)
    }

    pub(crate) fn installed(&self) -> &[PackageId] {
        &self.installed
    }

    pub(crate) fn depends(&self, package: PackageId) -> Links<'_> {
        let [start, end, ..] = self.packages[package].links;
        self.links.between(start, end)
    }

    pub(crate) fn provides(&self, package: PackageId) -> Links<'_> {
        let [_, start, end, _] = self.packages[package].links;
        self.links.between(start, end)
    }

    pub(crate) fn install_if(&self, package: PackageId) -> Links<'_> {
        let [.., start, end] = self.packages[package].links;
        self.links.between(start, end)
    }

    /// The repositories that the tags in `pins` (one bit per tag) open.
    pub(crate) fn opened_by(&self, pins: u64) -> RepositorySet {
        self.tags
            .iter()
            .enumerate()
            .filter(|(tag, _)| pins & (1 << tag) != 0)
            .fold(0, |all, (_, tag)| all | tag.repositories)
    }

    /// The repositories of a package, and those of the tag it was installed by.
    pub(crate) fn repositories_of(&self, package: PackageId) -> RepositorySet {
        let package = &self.packages[package];
        let pinned =
            package.installed.and_then(|tag| self.tags.get(usize::from(tag))).map_or(0, |tag| tag.repositories);
        package.repositories | pinned
    }

    /// Whether `provider` (`None`: nothing is installed for the name) does what `link` of the
    /// package `asker` says.
    pub(crate) fn satisfies(&self, asker: Option<PackageId>, link: &Link<'_>, provider: Option<Provider>) -> bool {
        let Some(provider) = provider else {
            return link.conflict;
        };
        if link.conflict && asker == Some(provider.package) {
            return true;
        }
        let matches = match link.operator {
            None => true,
            Some(Operator::Checksum) => {
                let checksum = self.packages[provider.package].record.checksum();
                identity(checksum) == identity(link.version)
            }
            Some(operator) => {
                self.provided_version(provider).is_some_and(|version| operator.accepts(version, link.version))
            }
        };
        matches != link.conflict
    }
}

/// What makes two checksums the same: the 20 bytes, not the unused bits of their base64.
pub(crate) fn identity(checksum: &str) -> (&str, u8) {
    match checksum.as_bytes().get(28) {
        Some(&last) if checksum.len() == 30 && checksum.is_ascii() => {
            let sextet = match last {
                b'A'..=b'Z' => last - b'A',
                b'a'..=b'z' => last - b'a' + 26,
                b'0'..=b'9' => last - b'0' + 52,
                b'+' => 62,
                _ => 63,
            };
            (checksum.get(..28).unwrap_or(checksum), sextet >> 2)
        }
        _ => (checksum, u8::MAX),
    }
}

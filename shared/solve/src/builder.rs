use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use apk::{Architecture, DependencyParts, IndexRecord};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::arena::{Arena, Lists, NameId, PackageId};
use crate::links::{Link, LinkTable, Links};
use crate::names::Names;
use crate::universe::{Error, Package, RepositorySet, Tag, Universe, identity};

/// Collects packages for a [`Universe`].
pub(crate) struct Builder<'a> {
    architecture: Architecture,
    pub(crate) tags: Vec<Tag>,
    names: Names<'a>,
    pub(crate) packages: Arena<PackageId, Package<'a>>,
    links: LinkTable,
    /// Packages by checksum: one that several repositories list is one package.
    known: HashTable<PackageId>,
    hasher: RandomState,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(architecture: Architecture) -> Self {
        Self {
            architecture,
            tags: vec![Tag { text: String::new(), repositories: 0 }],
            names: Names::new(),
            packages: Arena::new(),
            links: LinkTable::default(),
            known: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    /// Makes room for records before the first is added, so that the tables do not grow by doubling.
    pub(crate) fn reserve<'r>(&mut self, records: impl Iterator<Item = &'r IndexRecord<'a>>)
    where
        'a: 'r,
    {
        let (mut packages, mut links) = (0, 0);
        for record in records {
            packages += 1;
            links += record.provides().count() + record.depends().count() + record.install_if().count();
        }
        self.packages.reserve(packages);
        self.links.reserve(links);
        self.names.reserve(packages + links);
        self.known = HashTable::with_capacity(packages);
    }

    pub(crate) fn tag(&mut self, tag: Option<&str>) -> usize {
        let text = tag.unwrap_or_default();
        match self.tags.iter().position(|known| known.text == text) {
            Some(known) => known,
            None => {
                self.tags.push(Tag { text: text.to_owned(), repositories: 0 });
                self.tags.len() - 1
            }
        }
    }

    pub(crate) fn add(
        &mut self,
        repository: &str,
        position: usize,
        record: IndexRecord<'a>,
        bit: RepositorySet,
    ) -> Result<Option<PackageId>, Error> {
        if record.name().is_empty() {
            return Err(Error::NamelessPackage { repository: repository.to_owned(), position });
        }
        let id = PackageId(u32::try_from(self.packages.len()).unwrap_or(u32::MAX));
        if !record.checksum().is_empty()
            && let Some(first) = self.known_as(id, identity(record.checksum()))
        {
            self.packages[first].repositories |= bit;
            return Ok(None);
        }
        let name = self.names.intern(record.name());
        let depends = self.links.len();
        let broken = self.read_links(record.depends());
        let provides = self.links.len();
        self.read_links(record.provides());
        let install_if = self.links.len();
        if self.read_links(record.install_if()) {
            // A rule that can't be read as a whole must not fire for the part that can.
            self.links.truncate(install_if);
        }
        let architecture = record.architecture();
        self.packages.push(Package {
            record,
            version: record.version(),
            name,
            position: u32::try_from(position).unwrap_or(u32::MAX),
            repositories: bit,
            installed: None,
            wrong_architecture: !(architecture.is_empty()
                || architecture == "noarch"
                || architecture == self.architecture.apk()),
            broken,
            absent: None,
            links: [depends, provides, install_if, self.links.len()],
        });
        Ok(Some(id))
    }

    /// The package that was added with the same checksum before; from now on, `id` has it.
    fn known_as(&mut self, id: PackageId, checksum: (&str, u8)) -> Option<PackageId> {
        let packages = &self.packages;
        let of = |&package: &PackageId| identity(packages[package].record.checksum());
        let hash = self.hasher.hash_one(checksum);
        match self.known.entry(hash, |package| of(package) == checksum, |package| self.hasher.hash_one(of(package))) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(unknown) => {
                unknown.insert(id);
                None
            }
        }
    }

    /// Whether one of `texts` can't be read.
    fn read_links(&mut self, texts: impl Iterator<Item = &'a str>) -> bool {
        let mut broken = false;
        for text in texts {
            let link = match DependencyParts::parse(text) {
                Ok(parts) if parts.tag.is_none() => Link::new(self.names.intern(parts.name), &parts),
                _ => Link::unreadable(self.names.intern(text)),
            };
            broken |= link.broken;
            self.links.push(link);
        }
        broken
    }

    pub(crate) fn finish(self, repositories: Vec<String>, installed: Vec<PackageId>) -> Universe<'a> {
        let Self { architecture, tags, names, packages, links, known, hasher: _ } = self;
        drop(known);
        let mut universe = Universe {
            architecture,
            repositories,
            tags,
            names,
            packages,
            links,
            providers: Lists::empty(),
            dependents: Lists::empty(),
            reverse_install_if: Lists::empty(),
            installed,
        };
        universe.providers = Lists::group(universe.names.len(), |add| {
            for package in universe.packages.ids() {
                for (name, provider) in universe.provisions(package) {
                    add(name, provider);
                }
            }
        });
        universe.dependents = linking(&universe, Universe::depends);
        universe.reverse_install_if = linking(&universe, Universe::install_if);
        universe
    }
}

/// Which names have a provider with a link of some kind to a name, each once.
fn linking<'a>(
    universe: &Universe<'a>,
    links: for<'u> fn(&'u Universe<'a>, PackageId) -> Links<'u>,
) -> Lists<NameId, NameId> {
    let names = universe.names.len();
    Lists::group(names, |add| {
        // The latest name that linked to each, counted from 1.
        let mut latest = Arena::with_rows(vec![0; names]);
        for name in universe.names.in_table_order() {
            for provider in universe.providers(name) {
                for link in links(universe, provider.package) {
                    let name_number = name.0 + 1;
                    if std::mem::replace(&mut latest[link.name], name_number) != name_number {
                        add(link.name, name);
                    }
                }
            }
        }
    })
}

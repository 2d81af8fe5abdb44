use std::collections::HashMap;
use std::ops::Range;

use apk::{Architecture, DependencyParts, IndexRecord, Words};

use crate::arena::{Arena, Lists, NameId, PackageId};
use crate::names::Names;
use crate::universe::{Error, Link, Package, Provider, RepositorySet, Tag, Universe, identity};

/// Collects packages for a [`Universe`].
pub(crate) struct Builder<'a> {
    architecture: Architecture,
    pub(crate) tags: Vec<Tag>,
    names: Names<'a>,
    pub(crate) packages: Arena<PackageId, Package<'a>>,
    links: Vec<Link<'a>>,
    providers: Vec<(NameId, Provider<'a>)>,
    /// Packages by checksum: one that several repositories list is one package.
    known: HashMap<(&'a str, u8), PackageId>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(architecture: Architecture) -> Self {
        Self {
            architecture,
            tags: vec![Tag { text: String::new(), repositories: 0 }],
            names: Names::new(),
            packages: Arena::new(),
            links: Vec::new(),
            providers: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Makes room for records, so that the tables do not grow by doubling.
    pub(crate) fn reserve<'r>(&mut self, records: impl Iterator<Item = &'r IndexRecord<'a>>)
    where
        'a: 'r,
    {
        let (mut packages, mut links, mut provides) = (0, 0, 0);
        for record in records {
            packages += 1;
            let own = record.provides.iter().count();
            provides += own;
            links += own + record.depends.iter().count() + record.install_if.iter().count();
        }
        self.packages.reserve(packages);
        self.links.reserve_exact(links);
        self.providers.reserve_exact(packages + provides);
        self.known.reserve(packages);
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
        entry: IndexRecord<'a>,
        bit: RepositorySet,
    ) -> Result<Option<PackageId>, Error> {
        if entry.name.is_empty() {
            return Err(Error::NamelessPackage { repository: repository.to_owned(), position });
        }
        let id = PackageId(u32::try_from(self.packages.len()).unwrap_or(u32::MAX));
        if !entry.checksum.is_empty() {
            let first = *self.known.entry(identity(entry.checksum)).or_insert(id);
            if first != id {
                self.packages[first].repositories |= bit;
                return Ok(None);
            }
        }
        let name = self.names.intern(entry.name);
        let (depends, broken) = self.read_links(entry.depends);
        let (provides, _) = self.read_links(entry.provides);
        let (install_if, broken_install_if) = self.read_links(entry.install_if);
        let architecture = entry.architecture;
        self.providers.push((name, Provider { package: id, version: Some(entry.version) }));
        for link in self.links.get(provides.start as usize..provides.end as usize).unwrap_or_default() {
            self.providers.push((link.name, Provider { package: id, version: link.version() }));
        }
        self.packages.push(Package {
            entry,
            place: None,
            name,
            repositories: bit,
            installed: None,
            wrong_architecture: !(architecture.is_empty()
                || architecture == "noarch"
                || architecture == self.architecture.apk()),
            broken,
            absent: None,
            depends,
            provides,
            // A rule that can't be read as a whole must not fire for the part that can.
            install_if: if broken_install_if { install_if.start..install_if.start } else { install_if },
        });
        Ok(Some(id))
    }

    fn read_links(&mut self, texts: Words<'a>) -> (Range<u32>, bool) {
        let start = self.links.len() as u32;
        let mut broken = false;
        for text in texts.iter() {
            let link = match DependencyParts::parse(text) {
                Ok(parts) if parts.tag.is_none() => Link::want(self.names.intern(parts.name), &parts),
                _ => Link { name: self.names.intern(text), conflict: false, broken: true, operator: None, version: "" },
            };
            broken |= link.broken;
            self.links.push(link);
        }
        (start..self.links.len() as u32, broken)
    }

    fn links_in(&self, range: &Range<u32>) -> &[Link<'a>] {
        self.links.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    pub(crate) fn finish(self, repositories: Vec<String>, installed: Vec<PackageId>) -> Universe<'a> {
        let names = self.names.len();
        let providers = Lists::group(names, &self.providers);
        let mut dependents = Reverse::new(names);
        let mut reverse_install_if = Reverse::new(names);
        for name in self.names.in_table_order() {
            for provider in providers.of(name) {
                let package = &self.packages[provider.package];
                dependents.add(name, self.links_in(&package.depends));
                reverse_install_if.add(name, self.links_in(&package.install_if));
            }
        }
        Universe {
            architecture: self.architecture,
            repositories,
            tags: self.tags,
            names: self.names,
            packages: self.packages,
            links: self.links,
            providers,
            dependents: Lists::group(names, &dependents.pairs),
            reverse_install_if: Lists::group(names, &reverse_install_if.pairs),
            installed,
        }
    }
}

/// Which names link to a name, each once.
struct Reverse {
    pairs: Vec<(NameId, NameId)>,
    /// The latest name that linked to each.
    latest: Arena<NameId, Option<NameId>>,
}

impl Reverse {
    fn new(names: usize) -> Self {
        Self { pairs: Vec::new(), latest: Arena::with_rows(vec![None; names]) }
    }

    fn add(&mut self, name: NameId, links: &[Link<'_>]) {
        for link in links {
            if self.latest[link.name].replace(name) != Some(name) {
                self.pairs.push((link.name, name));
            }
        }
    }
}

//! What packages depend on, provide and wait for, in little memory.

use apk::{DependencyParts, Operator};

use crate::arena::NameId;

/// One word of a package's depends, provides or install_if, or a want.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link<'v> {
    pub(crate) name: NameId,
    pub(crate) conflict: bool,
    /// The text is no dependency or states no valid version.
    pub(crate) broken: bool,
    pub(crate) operator: Option<Operator>,
    /// Empty without an operator.
    pub(crate) version: &'v str,
}

impl<'v> Link<'v> {
    /// What `parts` says of the name with that id.
    pub(crate) fn new(name: NameId, parts: &DependencyParts<'v>) -> Self {
        Self {
            name,
            conflict: parts.conflict,
            broken: !parts.has_valid_version(),
            operator: parts.constraint.map(|(operator, _)| operator),
            version: parts.constraint.map_or("", |(_, version)| version),
        }
    }

    /// For a text that is no dependency.
    pub(crate) fn unreadable(name: NameId) -> Self {
        Self { name, conflict: false, broken: true, operator: None, version: "" }
    }

    pub(crate) fn version(&self) -> Option<&'v str> {
        self.operator.map(|_| self.version)
    }
}

/// The links of all packages, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkTable {
    rows: Vec<Row>,
    /// One after the other.
    versions: String,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    name: NameId,
    /// Where its version ends, which begins where the one before it ends.
    end: u32,
    conflict: bool,
    broken: bool,
    operator: Option<Operator>,
}

impl LinkTable {
    pub(crate) fn reserve(&mut self, links: usize) {
        self.rows.reserve_exact(links);
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn push(&mut self, link: Link<'_>) {
        self.versions.push_str(link.version);
        let Link { name, conflict, broken, operator, version: _ } = link;
        // Versions are part of indexes, whose bounds are far below this.
        let end = u32::try_from(self.versions.len()).unwrap_or(u32::MAX);
        self.rows.push(Row { name, end, conflict, broken, operator });
    }

    /// Takes back the links from number `links` on.
    pub(crate) fn truncate(&mut self, links: u32) {
        self.rows.truncate(links as usize);
        self.versions.truncate(self.start(links));
    }

    /// Where the version of link number `link` starts.
    fn start(&self, link: u32) -> usize {
        let before = link.checked_sub(1).and_then(|before| self.rows.get(before as usize));
        before.map_or(0, |row| row.end as usize)
    }

    pub(crate) fn get(&self, link: u32) -> Option<Link<'_>> {
        let Row { name, end, conflict, broken, operator } = *self.rows.get(link as usize)?;
        let version = self.versions.get(self.start(link)..end as usize).unwrap_or_default();
        Some(Link { name, conflict, broken, operator, version })
    }

    /// The links with the numbers from `start` up to, but not with, `end`.
    pub(crate) fn between(&self, start: u32, end: u32) -> Links<'_> {
        Links { table: self, next: start, end }
    }
}

/// Some links, in order.
#[derive(Clone, Debug)]
pub(crate) struct Links<'u> {
    table: &'u LinkTable,
    next: u32,
    end: u32,
}

impl<'u> Iterator for Links<'u> {
    type Item = Link<'u>;

    fn next(&mut self) -> Option<Link<'u>> {
        self.nth(0)
    }

    fn nth(&mut self, skipped: usize) -> Option<Link<'u>> {
        let link = u32::try_from(skipped).ok().and_then(|skipped| self.next.checked_add(skipped));
        match link.filter(|&link| link < self.end) {
            Some(link) => {
                self.next = link + 1;
                self.table.get(link)
            }
            None => {
                self.next = self.end;
                None
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Links<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: u32, text: &str) -> Link<'_> {
        Link::new(NameId(name), &DependencyParts::parse(text).unwrap())
    }

    #[test]
    fn links_come_back_as_they_were_put_in() {
        let mut table = LinkTable::default();
        for (name, text) in [(0, "a=1.2-r3"), (1, "!b"), (2, "c>=4"), (3, "d=5")] {
            table.push(link(name, text));
        }
        let shown = |links: Links<'_>| -> Vec<(u32, bool, Option<String>)> {
            links.map(|link| (link.name.0, link.conflict, link.version().map(str::to_owned))).collect()
        };
        let middle = [(1, true, None), (2, false, Some("4".to_owned()))];
        assert_eq!(shown(table.between(1, 3)), middle);
        assert_eq!(table.between(1, 3).len(), 2);
        assert_eq!(table.between(1, 3).nth(1).unwrap().name, NameId(2));
        assert!(table.between(1, 3).nth(2).is_none());
        assert!(table.between(2, 2).next().is_none());
        table.truncate(2);
        table.push(link(4, "e<6"));
        assert_eq!(shown(table.between(0, 9)).len(), 3);
        assert_eq!(table.get(2).unwrap().version(), Some("6"));
    }
}

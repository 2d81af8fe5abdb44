//! One record of an index, as far as choosing and fetching its package needs.

use std::fmt;

use crate::IndexEntry;
use crate::compact_index::CompactIndex;
use crate::record::{Fields, number, valid_checksum};

/// How many texts are kept of a record.
pub(crate) const TEXTS: usize = 11;

/// Where each of them stands among its texts.
mod text {
    pub(super) const CHECKSUM: usize = 0;
    pub(super) const NAME: usize = 1;
    pub(super) const VERSION: usize = 2;
    pub(super) const ARCHITECTURE: usize = 3;
    pub(super) const ORIGIN: usize = 4;
    pub(super) const DEPENDS: usize = 5;
    pub(super) const PROVIDES: usize = 6;
    pub(super) const INSTALL_IF: usize = 7;
    pub(super) const SIZE: usize = 8;
    pub(super) const INSTALLED_SIZE: usize = 9;
    pub(super) const PROVIDER_PRIORITY: usize = 10;
}

/// What an index says of a package: a view of two words on what somebody else holds.
#[derive(Clone, Copy)]
pub struct IndexRecord<'t>(Holder<'t>);

#[derive(Clone, Copy)]
enum Holder<'t> {
    Compact(&'t CompactIndex, u32),
    Entry(&'t IndexEntry),
}

impl<'t> IndexRecord<'t> {
    pub(crate) fn listed(index: &'t CompactIndex, record: usize) -> Self {
        Self(Holder::Compact(index, u32::try_from(record).unwrap_or(u32::MAX)))
    }

    fn text(self, text: usize, of_entry: impl FnOnce(&'t IndexEntry) -> &'t str) -> &'t str {
        match self.0 {
            Holder::Compact(index, record) => index.text(record, text),
            Holder::Entry(entry) => of_entry(entry),
        }
    }

    fn words(
        self,
        text: usize,
        of_entry: impl FnOnce(&'t IndexEntry) -> &'t [String],
    ) -> impl Iterator<Item = &'t str> {
        let (text, list) = match self.0 {
            Holder::Compact(index, record) => (index.text(record, text), [].as_slice()),
            Holder::Entry(entry) => ("", of_entry(entry)),
        };
        text.split_ascii_whitespace().chain(list.iter().map(String::as_str))
    }

    /// A number that was looked at when the index was read.
    fn number(self, text: usize, of_entry: impl FnOnce(&'t IndexEntry) -> u64) -> u64 {
        match self.0 {
            Holder::Compact(index, record) => index.text(record, text).parse().unwrap_or(0),
            Holder::Entry(entry) => of_entry(entry),
        }
    }

    /// `C:` the `Q1...` checksum of the control member; empty when not stated.
    pub fn checksum(self) -> &'t str {
        self.text(text::CHECKSUM, |entry| &entry.checksum)
    }

    /// `P:` the name.
    pub fn name(self) -> &'t str {
        self.text(text::NAME, |entry| &entry.information.name)
    }

    /// `V:` the version.
    pub fn version(self) -> &'t str {
        self.text(text::VERSION, |entry| &entry.information.version)
    }

    /// `A:` the architecture; empty when not stated.
    pub fn architecture(self) -> &'t str {
        self.text(text::ARCHITECTURE, |entry| &entry.information.architecture)
    }

    /// `o:` the origin; empty when not stated.
    pub fn origin(self) -> &'t str {
        self.text(text::ORIGIN, |entry| &entry.information.origin)
    }

    /// `S:` bytes of the `.apk` file.
    pub fn size(self) -> u64 {
        self.number(text::SIZE, |entry| entry.size)
    }

    /// `I:` bytes once installed.
    pub fn installed_size(self) -> u64 {
        self.number(text::INSTALLED_SIZE, |entry| entry.information.installed_size)
    }

    /// `k:` the provider priority; 0 when not stated.
    pub fn provider_priority(self) -> u64 {
        self.number(text::PROVIDER_PRIORITY, |entry| entry.information.provider_priority)
    }

    /// `D:` the words in order.
    pub fn depends(self) -> impl Iterator<Item = &'t str> {
        self.words(text::DEPENDS, |entry| &entry.information.depends)
    }

    /// `p:` the words in order.
    pub fn provides(self) -> impl Iterator<Item = &'t str> {
        self.words(text::PROVIDES, |entry| &entry.information.provides)
    }

    /// `i:` the words in order.
    pub fn install_if(self) -> impl Iterator<Item = &'t str> {
        self.words(text::INSTALL_IF, |entry| &entry.information.install_if)
    }

    /// The name of the package's file in its repository folder.
    pub fn file_name(self) -> String {
        crate::information::file_name(self.name(), self.version())
    }
}

impl<'t> From<&'t IndexEntry> for IndexRecord<'t> {
    fn from(entry: &'t IndexEntry) -> Self {
        Self(Holder::Entry(entry))
    }
}

/// Two records are equal when they say the same, whoever holds them.
impl PartialEq for IndexRecord<'_> {
    fn eq(&self, other: &IndexRecord<'_>) -> bool {
        self.name() == other.name()
            && self.version() == other.version()
            && self.checksum() == other.checksum()
            && self.architecture() == other.architecture()
            && self.origin() == other.origin()
            && self.size() == other.size()
            && self.installed_size() == other.installed_size()
            && self.provider_priority() == other.provider_priority()
            && self.depends().eq(other.depends())
            && self.provides().eq(other.provides())
            && self.install_if().eq(other.install_if())
    }
}

impl Eq for IndexRecord<'_> {}

impl fmt::Debug for IndexRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexRecord({}-{})", self.name(), self.version())
    }
}

/// What is kept of a record, while it is read.
#[derive(Default)]
pub(crate) struct RecordFields<'t> {
    pub(crate) texts: [&'t str; TEXTS],
}

impl<'t> Fields<'t> for RecordFields<'t> {
    fn set(&mut self, letter: u8, value: &'t str) -> Result<(), String> {
        let text = match letter {
            b'C' => text::CHECKSUM,
            b'P' => text::NAME,
            b'V' => text::VERSION,
            b'A' => text::ARCHITECTURE,
            b'o' => text::ORIGIN,
            b'D' => text::DEPENDS,
            b'p' => text::PROVIDES,
            b'i' => text::INSTALL_IF,
            b'S' => text::SIZE,
            b'I' => text::INSTALLED_SIZE,
            b'k' => text::PROVIDER_PRIORITY,
            _ => return Ok(()),
        };
        match letter {
            b'C' => valid_checksum(value)?,
            b'S' | b'I' | b'k' => {
                number::<u64>(letter, value)?;
            }
            _ => {}
        }
        if let Some(kept) = self.texts.get_mut(text) {
            *kept = value;
        }
        Ok(())
    }

    fn name_and_version(&self) -> (&str, &str) {
        let [_, name, version, ..] = self.texts;
        (name, version)
    }
}

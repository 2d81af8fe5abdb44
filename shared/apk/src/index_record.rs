//! One record of an index, as far as choosing and fetching its package needs.

use std::fmt;

use crate::IndexEntry;
use crate::compact_index::CompactIndex;
use crate::record::{Fields, number, valid_checksum};

/// How many texts are kept of a record.
pub(crate) const TEXTS: usize = 8;

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
    pub(crate) fn listed(index: &'t CompactIndex, row: usize) -> Self {
        Self(Holder::Compact(index, u32::try_from(row).unwrap_or(u32::MAX)))
    }

    fn text(self, text: usize, of_entry: impl FnOnce(&'t IndexEntry) -> &'t str) -> &'t str {
        match self.0 {
            Holder::Compact(index, row) => index.text(row, text),
            Holder::Entry(entry) => of_entry(entry),
        }
    }

    fn words(
        self,
        text: usize,
        of_entry: impl FnOnce(&'t IndexEntry) -> &'t [String],
    ) -> impl Iterator<Item = &'t str> {
        let (text, list) = match self.0 {
            Holder::Compact(index, row) => (index.text(row, text), [].as_slice()),
            Holder::Entry(entry) => ("", of_entry(entry)),
        };
        text.split_ascii_whitespace().chain(list.iter().map(String::as_str))
    }

    fn numbers(self) -> [u64; 3] {
        match self.0 {
            Holder::Compact(index, row) => index.numbers(row),
            Holder::Entry(entry) => [entry.size, entry.information.installed_size, entry.information.provider_priority],
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
        let [size, ..] = self.numbers();
        size
    }

    /// `I:` bytes once installed.
    pub fn installed_size(self) -> u64 {
        let [_, installed_size, _] = self.numbers();
        installed_size
    }

    /// `k:` the provider priority; 0 when not stated.
    pub fn provider_priority(self) -> u64 {
        let [.., provider_priority] = self.numbers();
        provider_priority
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
            && self.numbers() == other.numbers()
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
    pub(crate) size: u64,
    pub(crate) installed_size: u64,
    pub(crate) provider_priority: u64,
}

impl<'t> Fields<'t> for RecordFields<'t> {
    fn set(&mut self, letter: u8, value: &'t str) -> Result<(), String> {
        let text = match letter {
            b'C' => {
                valid_checksum(value)?;
                text::CHECKSUM
            }
            b'P' => text::NAME,
            b'V' => text::VERSION,
            b'A' => text::ARCHITECTURE,
            b'o' => text::ORIGIN,
            b'D' => text::DEPENDS,
            b'p' => text::PROVIDES,
            b'i' => text::INSTALL_IF,
            b'S' => {
                self.size = number(letter, value)?;
                return Ok(());
            }
            b'I' => {
                self.installed_size = number(letter, value)?;
                return Ok(());
            }
            b'k' => {
                self.provider_priority = number(letter, value)?;
                return Ok(());
            }
            _ => return Ok(()),
        };
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

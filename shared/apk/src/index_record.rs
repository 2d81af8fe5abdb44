//! One record of an index, borrowed from its text.

use crate::IndexEntry;
use crate::record::{Fields, number, valid_checksum};

/// What an index says of a package, as far as choosing and fetching it needs, without a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexRecord<'t> {
    /// `C:` the `Q1...` checksum of the control member; empty when not stated.
    pub checksum: &'t str,
    /// `P:` the name.
    pub name: &'t str,
    /// `V:` the version.
    pub version: &'t str,
    /// `A:` the architecture; empty when not stated.
    pub architecture: &'t str,
    /// `o:` the origin; empty when not stated.
    pub origin: &'t str,
    /// `S:` bytes of the `.apk` file.
    pub size: u64,
    /// `I:` bytes once installed.
    pub installed_size: u64,
    /// `k:` the provider priority; 0 when not stated.
    pub provider_priority: u64,
    /// `D:`.
    pub depends: Words<'t>,
    /// `p:`.
    pub provides: Words<'t>,
    /// `i:`.
    pub install_if: Words<'t>,
}

/// Words of an index record: in one text between spaces, or one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words<'t> {
    /// Between spaces.
    Text(&'t str),
    /// One by one.
    List(&'t [String]),
}

impl Default for Words<'_> {
    fn default() -> Self {
        Self::Text("")
    }
}

impl<'t> Words<'t> {
    /// The words in order.
    pub fn iter(self) -> impl Iterator<Item = &'t str> {
        let (text, list) = match self {
            Self::Text(text) => (text, [].as_slice()),
            Self::List(list) => ("", list),
        };
        text.split_ascii_whitespace().chain(list.iter().map(String::as_str))
    }
}

impl<'t> From<&'t IndexEntry> for IndexRecord<'t> {
    fn from(entry: &'t IndexEntry) -> Self {
        let information = &entry.information;
        Self {
            checksum: &entry.checksum,
            name: &information.name,
            version: &information.version,
            architecture: &information.architecture,
            origin: &information.origin,
            size: entry.size,
            installed_size: information.installed_size,
            provider_priority: information.provider_priority,
            depends: Words::List(&information.depends),
            provides: Words::List(&information.provides),
            install_if: Words::List(&information.install_if),
        }
    }
}

impl IndexRecord<'_> {
    /// The name of the package's file in its repository folder.
    pub fn file_name(&self) -> String {
        crate::information::file_name(self.name, self.version)
    }
}

impl<'t> Fields<'t> for IndexRecord<'t> {
    fn set(&mut self, letter: u8, value: &'t str) -> Result<(), String> {
        match letter {
            b'C' => {
                valid_checksum(value)?;
                self.checksum = value;
            }
            b'P' => self.name = value,
            b'V' => self.version = value,
            b'A' => self.architecture = value,
            b'o' => self.origin = value,
            b'S' => self.size = number(letter, value)?,
            b'I' => self.installed_size = number(letter, value)?,
            b'k' => self.provider_priority = number(letter, value)?,
            b'D' => self.depends = Words::Text(value),
            b'p' => self.provides = Words::Text(value),
            b'i' => self.install_if = Words::Text(value),
            _ => {}
        }
        Ok(())
    }

    fn name_and_version(&self) -> (&str, &str) {
        (self.name, self.version)
    }
}

//! An index in little memory.

use std::io::Read;
use std::path::Path;

use crate::Result;
use crate::index::Trust;
use crate::index_archive::IndexArchive;
use crate::index_record::{IndexRecord, RecordFields, TEXTS};
use crate::record::Pieces;

/// An index, checked, of which only what choosing and fetching packages needs is kept. Its
/// [`CompactIndex::records`] borrow from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactIndex {
    signed_by: Option<String>,
    /// The texts of all records, one after the other.
    texts: String,
    /// Where each text of each record ends; it begins where the one before it ends.
    ends: Vec<[u32; TEXTS]>,
}

impl CompactIndex {
    /// Opens an `APKINDEX.tar.gz`.
    pub fn open(path: &Path, trust: Trust<'_>) -> Result<Self> {
        let mut compact = Self::default();
        let archive = IndexArchive::open(path, trust, |pieces, text| compact.parse(pieces, text))?;
        Ok(compact.finish(archive))
    }

    /// Reads an `APKINDEX.tar.gz`: signature members, and one member that holds `APKINDEX` and may
    /// hold `DESCRIPTION`. `file` names it in errors.
    ///
    /// A signature is checked before anything of the index is looked at.
    pub fn read(file: &str, source: impl Read, trust: Trust<'_>) -> Result<Self> {
        let mut compact = Self::default();
        let archive = IndexArchive::read(file, source, trust, |pieces, text| compact.parse(pieces, text))?;
        Ok(compact.finish(archive))
    }

    fn parse(&mut self, pieces: &mut Pieces, text: &str) -> Result<()> {
        pieces.parse(text, |fields: RecordFields<'_>| self.push(&fields))
    }

    fn finish(mut self, archive: IndexArchive) -> Self {
        self.signed_by = archive.signed_by;
        self.texts.shrink_to_fit();
        self.ends.shrink_to_fit();
        self
    }

    fn push(&mut self, fields: &RecordFields<'_>) {
        let mut ends = [0; TEXTS];
        for (text, end) in fields.texts.iter().zip(&mut ends) {
            self.texts.push_str(text);
            *end = self.end();
        }
        self.ends.push(ends);
    }

    /// How many bytes of texts there are: no more than the bounds of an index let in.
    fn end(&self) -> u32 {
        u32::try_from(self.texts.len()).unwrap_or(u32::MAX)
    }

    /// The key that signs it; `None` when read as [`Trust::Unverified`].
    pub fn signed_by(&self) -> Option<&str> {
        self.signed_by.as_deref()
    }

    /// The packages, in file order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = IndexRecord<'_>> {
        (0..self.ends.len()).map(|record| IndexRecord::listed(self, record))
    }

    pub(crate) fn text(&self, record: u32, text: usize) -> &str {
        let record = record as usize;
        let Some(ends) = self.ends.get(record) else { return "" };
        let start = match text.checked_sub(1) {
            Some(before) => ends.get(before),
            None => record.checked_sub(1).and_then(|before| self.ends.get(before)).and_then(|ends| ends.last()),
        };
        let (start, end) = (start.copied().unwrap_or(0), ends.get(text).copied().unwrap_or(0));
        self.texts.get(start as usize..end as usize).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, IndexEntry, PackageInformation};

    fn entry(name: &str, checksum: &str) -> IndexEntry {
        let words = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        IndexEntry {
            checksum: checksum.to_owned(),
            size: 7,
            information: PackageInformation {
                name: name.to_owned(),
                version: "1.2-r3".to_owned(),
                architecture: "x86_64".to_owned(),
                description: "not kept".to_owned(),
                origin: format!("{name}-origin"),
                installed_size: 4096,
                provider_priority: 100,
                depends: words(&["so:libc.so.6", "!other"]),
                provides: words(&["cmd:a=1.2-r3"]),
                install_if: words(&["b", "c=1"]),
                ..PackageInformation::default()
            },
        }
    }

    #[test]
    fn a_record_says_what_the_entry_says() {
        let entries = [
            entry("a", "Q1W0q8jmCs5KMMlM1KHcs9Vye8yaA="),
            IndexEntry {
                information: PackageInformation {
                    name: "bare".to_owned(),
                    version: "1".to_owned(),
                    ..PackageInformation::default()
                },
                ..IndexEntry::default()
            },
        ];
        let index = Index { description: String::new(), entries: entries.to_vec() };
        let compact = CompactIndex::read("index", index.write(0).unwrap().as_slice(), Trust::Unverified).unwrap();
        let records: Vec<IndexRecord<'_>> = compact.records().collect();
        let expected: Vec<IndexRecord<'_>> = entries.iter().map(IndexRecord::from).collect();
        assert_eq!(records, expected);
        let [first, bare] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!((first.name(), first.version(), first.architecture()), ("a", "1.2-r3", "x86_64"));
        assert_eq!((first.origin(), first.checksum()), ("a-origin", "Q1W0q8jmCs5KMMlM1KHcs9Vye8yaA="));
        assert_eq!((first.size(), first.installed_size(), first.provider_priority()), (7, 4096, 100));
        assert_eq!(first.depends().collect::<Vec<_>>(), ["so:libc.so.6", "!other"]);
        assert_eq!(first.provides().collect::<Vec<_>>(), ["cmd:a=1.2-r3"]);
        assert_eq!(first.install_if().collect::<Vec<_>>(), ["b", "c=1"]);
        assert_eq!((bare.checksum(), bare.depends().count(), bare.size()), ("", 0, 0));
        assert_ne!(first, bare);
    }

    #[test]
    fn what_is_no_index_says_where() {
        let index = Index { description: String::new(), entries: vec![entry("a", "")] };
        let bytes = index.write(0).unwrap();
        let mut cut = bytes.clone();
        cut.truncate(bytes.len() - 9);
        let error = CompactIndex::read("x.tar.gz", cut.as_slice(), Trust::Unverified).unwrap_err().to_string();
        assert!(error.contains("x.tar.gz"), "{error}");
        let mut longer = bytes;
        longer.extend_from_slice(b"more");
        let error = CompactIndex::read("x.tar.gz", longer.as_slice(), Trust::Unverified).unwrap_err().to_string();
        assert!(error.contains("something follows it"), "{error}");
    }
}

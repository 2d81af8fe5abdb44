//! Java's trust stores in their oldest format, JKS, which every Java reads.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

const MAGIC: u32 = 0xFEED_FEED;
/// Its certificates name their kind, which those of version 1 don't.
const VERSION: u32 = 2;
const PRIVATE_KEY: u32 = 1;
const TRUSTED_CERTIFICATE: u32 = 2;
const CERTIFICATE_KIND: &str = "X.509";
/// What every Java distribution protects its trust store with.
const PASSWORD: &str = "changeit";
const SALT: &str = "Mighty Aphrodite";
const DIGEST_BYTES: usize = 20;
/// The most entries of a store.
const MOST_ENTRIES: u32 = 10_000;

/// A store's entries, each by its name in small letters and as the store writes what follows it.
#[derive(Debug, Default)]
pub(crate) struct JavaStore {
    entries: BTreeMap<String, (u32, Vec<u8>)>,
}

impl JavaStore {
    /// Reads a store and checks its digest.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let end = bytes.len().checked_sub(DIGEST_BYTES).ok_or("it ends before its digest")?;
        let (content, digest) = bytes.split_at(end);
        let mut reader = Reader(content);
        if reader.number()? != MAGIC {
            return Err("it is no JKS store".to_owned());
        }
        let version = reader.number()?;
        if version != VERSION {
            return Err(format!("its version is {version}, expected {VERSION}"));
        }
        if protect(content).as_slice() != digest {
            return Err(format!("its digest is not that of its content with the password `{PASSWORD}`"));
        }
        let count = reader.number()?;
        if count > MOST_ENTRIES {
            return Err(format!("it has {count} entries, more than {MOST_ENTRIES}"));
        }
        let mut store = Self::default();
        for _ in 0..count {
            let tag = reader.number()?;
            let name = reader.text()?.to_lowercase();
            let rest = reader.0;
            reader.take(8)?;
            match tag {
                TRUSTED_CERTIFICATE => reader.certificate()?,
                PRIVATE_KEY => {
                    reader.sized()?;
                    for _ in 0..reader.number()? {
                        reader.certificate()?;
                    }
                }
                other => return Err(format!("its entry `{}` is of the unknown kind {other}", name.escape_debug())),
            }
            let length = rest.len() - reader.0.len();
            store.entries.insert(name, (tag, rest.get(..length).unwrap_or_default().to_vec()));
        }
        if !reader.0.is_empty() {
            return Err("something follows its last entry".to_owned());
        }
        Ok(store)
    }

    /// Trusts a certificate, in place of the one that had the name before. `seconds` is since 1970.
    pub fn trust(&mut self, name: &str, der: &[u8], seconds: u64) {
        let mut entry = seconds.saturating_mul(1000).to_be_bytes().to_vec();
        write_text(&mut entry, CERTIFICATE_KIND);
        entry.extend_from_slice(&(der.len() as u32).to_be_bytes());
        entry.extend_from_slice(der);
        self.entries.insert(name.to_lowercase(), (TRUSTED_CERTIFICATE, entry));
    }

    /// The store's bytes, its entries by name.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [MAGIC, VERSION, self.entries.len() as u32] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for (name, (tag, rest)) in &self.entries {
            bytes.extend_from_slice(&tag.to_be_bytes());
            write_text(&mut bytes, name);
            bytes.extend_from_slice(rest);
        }
        let digest = protect(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }
}

fn protect(content: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut digest = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        digest.update(unit.to_be_bytes());
    }
    digest.update(SALT);
    digest.update(content);
    digest.finalize().into()
}

/// Names are ASCII here: Java's own form of UTF-8 is the same for them.
fn write_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("it ends in the middle of an entry")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?.try_into().map_err(|_| "it ends in the middle of a number")?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<&'b str, String> {
        let length = self.take(2)?.try_into().map(u16::from_be_bytes).map_err(|_| "it ends in the middle of a name")?;
        std::str::from_utf8(self.take(length.into())?).map_err(|_| "a name of it is not UTF-8".to_owned())
    }

    fn sized(&mut self) -> Result<(), String> {
        let length = self.number()?;
        self.take(length as usize).map(drop)
    }

    fn certificate(&mut self) -> Result<(), String> {
        self.text()?;
        self.sized()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_reads_back() {
        let mut store = JavaStore::default();
        store.trust("Second", b"der two", 7);
        store.trust("first", b"der one", 1_700_000_000);
        let bytes = store.to_bytes();
        let mut read = JavaStore::parse(&bytes).unwrap();
        assert_eq!(read.to_bytes(), bytes);
        read.trust("SECOND", b"der three", 8);
        assert_eq!(read.entries.len(), 2);
        assert_ne!(read.to_bytes(), bytes);
    }

    #[test]
    fn what_is_no_store_says_why() {
        let mut store = JavaStore::default();
        store.trust("a", b"der", 0);
        let good = store.to_bytes();
        for (bytes, problem) in [
            (Vec::new(), "ends before its digest"),
            ([b"PKCS".as_slice(), &good[4..]].concat(), "no JKS store"),
            ([&good[..7], &[3], &good[8..]].concat(), "version is 3"),
            ([&good[..good.len() - 1], b"x"].concat(), "password"),
        ] {
            let error = JavaStore::parse(&bytes).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        // With a digest that fits, what is cut or added is still found.
        let sealed = |content: &[u8]| [content, protect(content).as_slice()].concat();
        let content = &good[..good.len() - DIGEST_BYTES];
        for (content, problem) in [
            (content[..content.len() - 1].to_vec(), "ends in the middle"),
            ([content, b"x"].concat(), "follows its last entry"),
            ([&content[..8], &u32::MAX.to_be_bytes(), &content[12..]].concat(), "more than"),
            ([&content[..12], &[0, 0, 0, 9], &content[16..]].concat(), "unknown kind 9"),
        ] {
            let error = JavaStore::parse(&sealed(&content)).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}

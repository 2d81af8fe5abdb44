//! The on-disk cache of documents: one file per address, body and validators together.

use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::store::{self, sha256_hex};

const LONGEST_HEAD: u64 = 16 * 1024;

/// Validators and body of one response.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    pub(crate) link: Option<String>,
    pub(crate) body: Bytes,
}

/// First line of an entry's file; the body follows.
#[derive(Serialize, Deserialize)]
struct Head {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    sha256: String,
}

#[derive(Debug)]
pub(crate) struct HttpCache {
    folder: PathBuf,
}

impl HttpCache {
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The entry for `url`. One whose bytes don't have the digest recorded with them counts as
    /// absent, so that it is fetched again.
    pub(crate) fn read(&self, url: &str, limit: u64) -> Result<Option<Entry>> {
        let path = self.path(url);
        let Some(bytes) = store::read_bounded(&path, limit.saturating_add(LONGEST_HEAD))? else {
            return Ok(None);
        };
        let bytes = Bytes::from(bytes);
        let entry = bytes.iter().position(|byte| *byte == b'\n').and_then(|end| {
            let head: Head = serde_json::from_slice(bytes.get(..end)?).ok()?;
            let body = bytes.slice(end + 1..);
            (head.url == url && head.sha256 == sha256_hex(&body)).then_some(Entry {
                etag: head.etag,
                last_modified: head.last_modified,
                link: head.link,
                body,
            })
        });
        if entry.is_none() {
            tracing::warn!(url, path = %path.display(), "cache entry is damaged; asking again");
        }
        Ok(entry)
    }

    pub(crate) fn write(&self, url: &str, entry: &Entry) -> Result<()> {
        let head = Head {
            url: url.to_owned(),
            etag: entry.etag.clone(),
            last_modified: entry.last_modified.clone(),
            link: entry.link.clone(),
            sha256: sha256_hex(&entry.body),
        };
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend_from_slice(&entry.body);
        store::write_atomically(&self.path(url), &bytes)
    }

    fn path(&self, url: &str) -> PathBuf {
        self.folder.join(sha256_hex(url.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_entry_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = HttpCache::new(folder.path());
        let url = "http://localhost/document";
        let entry = Entry {
            etag: Some("\"1\"".to_owned()),
            last_modified: None,
            link: Some("</next>; rel=\"next\"".to_owned()),
            body: Bytes::from_static(b"first\nsecond\n"),
        };
        cache.write(url, &entry).unwrap();
        let read = cache.read(url, 100).unwrap().unwrap();
        assert_eq!(read.body, entry.body);
        assert_eq!(read.etag, entry.etag);
        assert_eq!(read.link, entry.link);
        assert!(cache.read("http://localhost/other", 100).unwrap().is_none());

        let path = cache.path(url);
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(cache.read(url, 100).unwrap().is_none());
    }
}

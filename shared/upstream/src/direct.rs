//! Plain addresses, fetched only with a stated digest.

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::fetcher::Expected;
use crate::filter::Candidate;
use crate::provider::{Context, Evidence, Obtained, Provider};
use crate::source::SourceUri;
use crate::store::SHA512_DIGITS;

const LONGEST_FILE: u64 = 4 * 1024 * 1024 * 1024;

/// Fetches addresses. They say nothing of other releases, so they can't be watched.
pub struct Direct {
    context: Context,
}

impl Direct {
    /// A provider working with `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }
}

/// The last part of an address's path.
pub(crate) fn file_name(url: &str) -> &str {
    url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default()
}

#[async_trait]
impl Provider for Direct {
    fn name(&self) -> &'static str {
        "address"
    }

    fn handles(&self, source: &SourceUri) -> bool {
        matches!(source, SourceUri::Address(_))
    }

    async fn candidates(&self, source: &SourceUri) -> Result<Vec<Candidate>> {
        Err(Error::Unsupported {
            subject: source.to_string(),
            reason: "a plain address lists no releases; name a provider under `update:`, or set \
                     `update: {enabled: false}`"
                .to_owned(),
        })
    }

    async fn fetch(&self, source: &SourceUri, expected: Option<&str>) -> Result<Obtained> {
        let url = source.to_string();
        let Some(digest) = expected.map(str::to_owned) else {
            return Err(Error::NoDigest { url });
        };
        let (sha256, sha512) = if digest.len() == SHA512_DIGITS { (None, Some(digest)) } else { (Some(digest), None) };
        let wanted = Expected { sha256, sha512: sha512.clone(), size: None };
        let blob = self.context.fetcher.download(&url, LONGEST_FILE, &wanted, &self.context.blobs).await?;
        let file_name = file_name(&url).to_owned();
        let evidence = Evidence::Declared { url, sha256: blob.sha256.clone(), sha512 };
        Ok(Obtained { sha256: blob.sha256, size: blob.size, file_name, evidence })
    }
}

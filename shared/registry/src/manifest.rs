//! Manifests and indexes: what they say about other content (image spec 1.1).

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};
use sign::Digest;

use crate::{Error, Result};

/// Media types by name.
pub mod media_type {
    /// An OCI image manifest.
    pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// The configuration of an OCI image.
    pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An OCI image index.
    pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The empty JSON object, the configuration of artifacts that have none.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
}

/// The largest manifest or index accepted, in bytes, as registries agree on it.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// The most content that one manifest may name.
const MAX_REFERENCES: usize = 10_000;

/// A manifest or index as it was pushed: its digest is that of these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The digest of the bytes.
    pub digest: Digest,
}

impl Manifest {
    /// A manifest from its bytes; the media type is what the bytes say of themselves, or is
    /// inferred where they say nothing.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`] or [`Error::TooLarge`].
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        let facts = ManifestFacts::parse(&bytes)?;
        Ok(Self { media_type: facts.media_type, digest: Digest::of(&bytes), bytes })
    }

    /// What the manifest says.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`] or [`Error::TooLarge`].
    pub fn facts(&self) -> Result<ManifestFacts> {
        ManifestFacts::parse(&self.bytes)
    }
}

/// What a manifest or index says about itself and other content.
#[derive(Debug, Clone)]
pub struct ManifestFacts {
    /// Its media type.
    pub media_type: String,
    /// The type of the artifact: its own `artifactType`, or else its configuration's media type.
    pub artifact_type: Option<String>,
    /// The manifest that it refers to.
    pub subject: Option<Descriptor>,
    /// The configuration of an image manifest.
    pub config: Option<Descriptor>,
    /// The layers of an image manifest.
    pub layers: Vec<Descriptor>,
    /// The manifests of an index.
    pub manifests: Vec<Descriptor>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

impl ManifestFacts {
    /// Reads a manifest or index.
    ///
    /// # Errors
    /// [`Error::ManifestInvalid`] or [`Error::TooLarge`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(Error::TooLarge { what: "the manifest".into(), limit: MAX_MANIFEST_BYTES });
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(Error::manifest)?;
        if raw.schema_version != 2 {
            return Err(Error::manifest(format!("`schemaVersion` is {}, expected 2", raw.schema_version)));
        }
        let is_index = match (&raw.manifests, &raw.layers, &raw.config) {
            (Some(_), None, None) => true,
            (None, Some(_), Some(_)) => false,
            _ => {
                return Err(Error::manifest("expected either `manifests` (an index) or `config` and `layers`"));
            }
        };
        let media_type = raw.media_type.unwrap_or_else(|| {
            let inferred = if is_index { media_type::IMAGE_INDEX } else { media_type::IMAGE_MANIFEST };
            inferred.to_owned()
        });
        let said_index = [media_type::IMAGE_INDEX, media_type::DOCKER_MANIFEST_LIST].contains(&&*media_type);
        let said_manifest = [media_type::IMAGE_MANIFEST, media_type::DOCKER_MANIFEST].contains(&&*media_type);
        if !(said_index && is_index || said_manifest && !is_index) {
            return Err(Error::manifest(format!("`mediaType` is `{media_type}`, which does not fit its content")));
        }
        let artifact_type =
            raw.artifact_type.or_else(|| raw.config.as_ref().map(|config| config.media_type().to_string()));
        let facts = Self {
            media_type,
            artifact_type,
            subject: raw.subject,
            config: raw.config,
            layers: raw.layers.unwrap_or_default(),
            manifests: raw.manifests.unwrap_or_default(),
            annotations: raw.annotations.unwrap_or_default(),
        };
        let count = facts.layers.len() + facts.manifests.len();
        if count > MAX_REFERENCES {
            return Err(Error::manifest(format!("it names {count} blobs, more than {MAX_REFERENCES}")));
        }
        for descriptor in facts.subject.iter().chain(facts.blobs()).chain(&facts.manifests) {
            digest_of(descriptor)?;
        }
        Ok(facts)
    }

    /// Whether this is an index rather than an image manifest.
    pub fn is_index(&self) -> bool {
        [media_type::IMAGE_INDEX, media_type::DOCKER_MANIFEST_LIST].contains(&&*self.media_type)
    }

    /// The configuration and the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }

    /// The digest of the subject.
    pub fn subject_digest(&self) -> Option<Digest> {
        self.subject.as_ref().and_then(|subject| digest_of(subject).ok())
    }

    /// This manifest, whose bytes have `digest` and `size`, as its subject's list of referrers
    /// shows it (distribution spec, "Listing Referrers").
    pub(crate) fn as_referrer(&self, digest: Digest, size: u64) -> Result<Descriptor> {
        let mut descriptor = descriptor(&self.media_type, digest, size)?;
        descriptor.set_artifact_type(self.artifact_type.as_deref().map(Into::into));
        if !self.annotations.is_empty() {
            let annotations: HashMap<_, _> = self.annotations.clone().into_iter().collect();
            descriptor.set_annotations(Some(annotations));
        }
        Ok(descriptor)
    }
}

/// The digest in a descriptor.
///
/// # Errors
/// [`Error::ManifestInvalid`] if it is not a SHA-256.
pub fn digest_of(descriptor: &Descriptor) -> Result<Digest> {
    descriptor.digest().as_ref().parse().map_err(Error::manifest)
}

pub(crate) fn descriptor(media_type: &str, digest: Digest, size: u64) -> Result<Descriptor> {
    let digest: oci_spec::image::Digest = digest.to_string().parse().map_err(Error::manifest)?;
    Ok(Descriptor::new(media_type.into(), size, digest))
}

/// A value as JSON with every object's keys sorted and no white space, so that equal values have
/// equal bytes.
///
/// # Errors
/// [`Error::ManifestInvalid`] if it can't be written as JSON (not known to happen).
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut value = serde_json::to_value(value).map_err(Error::manifest)?;
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(Error::manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_that_are_none_are_refused() {
        let digest = Digest::of(b"");
        let descriptor = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":1}}"#);
        let good = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}]}}"#);
        let facts = ManifestFacts::parse(good.as_bytes()).unwrap();
        assert_eq!(facts.media_type, media_type::IMAGE_MANIFEST);
        assert_eq!(facts.artifact_type.as_deref(), Some("a/b"));
        assert_eq!(facts.blobs().count(), 2);
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(ManifestFacts::parse(index.as_bytes()).unwrap().is_index());
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"schemaVersion":1,"manifests":[]}"#,
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#,
            r#"{"schemaVersion":2,"mediaType":"text/html","manifests":[]}"#,
            &good.replace(
                r#"{"schemaVersion":2,"#,
                &format!(r#"{{"schemaVersion":2,"mediaType":"{}","#, media_type::IMAGE_INDEX),
            ),
            &good.replace(&digest.hex(), "00"),
            &good.replace("sha256:", "../"),
        ] {
            assert!(ManifestFacts::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let large = vec![b' '; MAX_MANIFEST_BYTES as usize + 1];
        assert!(matches!(ManifestFacts::parse(&large), Err(Error::TooLarge { .. })));
    }
}

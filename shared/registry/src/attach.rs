//! Attaching sigstore bundles to images, as `cosign` does.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageManifestBuilder};
use sign::{BUNDLE_MEDIA_TYPE, Digest, simple_signing, simple_signing::SimpleSignature};

use crate::{
    Manifest, Registry, Repository, Result, Tag, TagRule, bytes_stream, canonical_json,
    manifest::{descriptor, media_type},
    registry::expect_manifest,
};

const EMPTY_CONFIG: &[u8] = b"{}";

/// A bundle that is to be attached to a manifest as an OCI 1.1 referrer (`cosign`'s bundle specification): a
/// manifest whose artifact type is the bundle's media type, whose only layer is the bundle and whose subject is
/// the image. Its digest is known before anything is pushed.
#[derive(Debug, Clone)]
pub struct Attachment {
    bundle: Vec<u8>,
    manifest: Manifest,
}

impl Attachment {
    /// The attachment of `bundle` to the manifest `subject` of a repository. `created` is an RFC 3339 time to
    /// note, or none. The same bundle and time give the same digest.
    ///
    /// # Errors
    /// [`crate::Error::ManifestUnknown`] if there is no such manifest; the registry's.
    pub async fn new(
        registry: &dyn Registry,
        repository: &Repository,
        subject: Digest,
        bundle: Vec<u8>,
        predicate_type: &str,
        created: Option<&str>,
    ) -> Result<Self> {
        let image = expect_manifest(registry, repository, &subject.into()).await?;
        let bundle_digest = Digest::of(&bundle);
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut annotations = HashMap::from([
            text("dev.sigstore.bundle.content", "dsse-envelope"),
            text("dev.sigstore.bundle.predicateType", predicate_type),
        ]);
        annotations.extend(created.map(|time| text("org.opencontainers.image.created", time)));
        let mut config: Descriptor =
            descriptor(media_type::EMPTY, Digest::of(EMPTY_CONFIG), EMPTY_CONFIG.len() as u64)?;
        config.set_artifact_type(Some(BUNDLE_MEDIA_TYPE.into()));
        let mut layer = descriptor(BUNDLE_MEDIA_TYPE, bundle_digest, bundle.len() as u64)?;
        layer.set_annotations(Some(HashMap::from([text(
            "org.opencontainers.image.title",
            &format!("sha256-{}.sigstore.json", bundle_digest.hex()),
        )])));
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(media_type::IMAGE_MANIFEST)
            .artifact_type(BUNDLE_MEDIA_TYPE)
            .config(config)
            .layers(vec![layer])
            .subject(descriptor(&image.media_type, image.digest, image.bytes.len() as u64)?)
            .annotations(annotations)
            .build()
            .map_err(crate::Error::manifest)?;
        Ok(Self { bundle, manifest: Manifest::new(canonical_json(&manifest)?)? })
    }

    /// The digest of its manifest.
    pub fn digest(&self) -> Digest {
        self.manifest.digest
    }

    /// Puts it into the repository; doing so again changes nothing.
    ///
    /// # Errors
    /// The registry's.
    pub async fn push(&self, registry: &dyn Registry, repository: &Repository) -> Result<()> {
        for bytes in [self.bundle.as_slice(), EMPTY_CONFIG] {
            let stream = bytes_stream(bytes.to_vec());
            registry.put_blob(repository, Digest::of(bytes), bytes.len() as u64, stream).await?;
        }
        registry.put_manifest(repository, &self.manifest, None, TagRule::Move).await
    }
}

/// Attaches a bundle to a manifest, as an [`Attachment`]; the digest of its manifest.
///
/// # Errors
/// [`crate::Error::ManifestUnknown`] if there is no such manifest; the registry's.
pub async fn attach(
    registry: &dyn Registry,
    repository: &Repository,
    subject: Digest,
    bundle: &[u8],
    predicate_type: &str,
    created: Option<&str>,
) -> Result<Digest> {
    let attachment = Attachment::new(registry, repository, subject, bundle.to_vec(), predicate_type, created).await?;
    attachment.push(registry, repository).await?;
    Ok(attachment.digest())
}

/// Attaches a signature in the older form, under the tag `sha256-HEX.sig`, which it replaces; the
/// digest of the manifest there. For clients that do not look for bundles.
///
/// # Errors
/// [`crate::Error::ManifestUnknown`] if there is no such manifest; the registry's.
pub async fn attach_simple_signature(
    registry: &dyn Registry,
    repository: &Repository,
    subject: Digest,
    signature: &SimpleSignature,
) -> Result<Digest> {
    expect_manifest(registry, repository, &subject.into()).await?;
    let payload = &signature.payload;
    let config = br#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}"#;
    for bytes in [payload.as_slice(), config] {
        let stream = bytes_stream(bytes.to_vec());
        registry.put_blob(repository, Digest::of(bytes), bytes.len() as u64, stream).await?;
    }
    let mut layer = descriptor(simple_signing::LAYER_MEDIA_TYPE, Digest::of(payload), payload.len() as u64)?;
    layer.set_annotations(Some(HashMap::from([(
        simple_signing::SIGNATURE_ANNOTATION.to_owned(),
        signature.signature.clone(),
    )])));
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(media_type::IMAGE_MANIFEST)
        .config(descriptor(media_type::IMAGE_CONFIG, Digest::of(config), config.len() as u64)?)
        .layers(vec![layer])
        .build()
        .map_err(crate::Error::manifest)?;
    let manifest = Manifest::new(canonical_json(&manifest)?)?;
    let tag: Tag = simple_signing::tag(subject).parse()?;
    registry.put_manifest(repository, &manifest, Some(&tag), TagRule::Move).await?;
    Ok(manifest.digest)
}

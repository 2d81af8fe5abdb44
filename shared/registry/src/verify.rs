//! Verifying an image: its content, its signatures and its attestations.

use futures_util::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use sign::{BUNDLE_MEDIA_TYPE, Bundle, Digest, MAX_BUNDLE_BYTES, Statement, Trust, predicate};

use crate::{
    Error, Manifest, Reference, Registry, Repository, Result,
    manifest::digest_of,
    registry::{expect_blob, expect_manifest},
};

/// The most bundles looked at per manifest.
const MAX_BUNDLES: usize = 256;
/// The most manifests in an index.
const MAX_PLATFORMS: usize = 256;

/// Which statements an image must carry, as predicate types.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// Of the index, where the image has one.
    pub index: Vec<String>,
    /// Of each platform's manifest.
    pub platform: Vec<String>,
    /// Those that need not be there; where one is, it must be good, and the report has what it says.
    pub further: Vec<String>,
}

impl Default for Expectations {
    /// Signature, SPDX document and provenance, on the index and on each platform's manifest, and what is known
    /// of vulnerabilities.
    fn default() -> Self {
        let all = [predicate::SIGNATURE, predicate::SPDX, predicate::PROVENANCE].map(str::to_owned);
        let further = [predicate::OPENVEX, predicate::OPENVEX_UNVERSIONED].map(str::to_owned);
        Self { index: all.to_vec(), platform: all.to_vec(), further: further.to_vec() }
    }
}

/// What was found out about an image.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The image as it was asked for: `redis:8.2`.
    pub image: String,
    /// The digest that it stands for.
    pub digest: Digest,
    /// The index, if there is one, then each platform's manifest.
    pub manifests: Vec<ManifestReport>,
}

/// What was found out about one manifest.
#[derive(Debug, Clone, Serialize)]
pub struct ManifestReport {
    /// Its digest.
    pub digest: Digest,
    /// `index`, or the platform: `linux/amd64`.
    pub name: String,
    /// One for each expected predicate type, and for each further one that is there.
    pub statements: Vec<Finding>,
    /// One for each configuration and layer.
    pub content: Vec<ContentCheck>,
}

/// Whether a manifest carries a good statement of one type.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The predicate type.
    pub predicate_type: String,
    /// What was found.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What the good statements of a further type say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub predicates: Vec<Value>,
}

/// What was found where a statement or content was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is there and good.
    Good {
        /// The statement, where it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        bundle: Option<Digest>,
    },
    /// It is not there.
    Missing,
    /// It is there and not good.
    Bad {
        /// What is wrong with it.
        reason: String,
    },
}

/// Whether a configuration or layer has its digest.
#[derive(Debug, Clone, Serialize)]
pub struct ContentCheck {
    /// Its digest.
    pub digest: Digest,
    /// `config` or `layer N`, counted from 1.
    pub name: String,
    /// What was found.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Report {
    /// What is missing or bad, one line each; empty if the image is verified.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut add = |manifest: &ManifestReport, what: &str, outcome: &Outcome| {
            let (name, digest) = (&manifest.name, manifest.digest);
            match outcome {
                Outcome::Good { .. } => {}
                Outcome::Missing => problems.push(format!("{name} {digest}: {what} is missing")),
                Outcome::Bad { reason } => {
                    problems.push(format!("{name} {digest}: {what} is bad: {reason}"));
                }
            }
        };
        for manifest in &self.manifests {
            for finding in &manifest.statements {
                add(manifest, label(&finding.predicate_type), &finding.outcome);
            }
            for check in &manifest.content {
                add(manifest, &format!("{} {}", check.name, check.digest), &check.outcome);
            }
        }
        problems
    }

    /// The report if the image is verified.
    ///
    /// # Errors
    /// [`Error::NotVerified`] with every problem.
    pub fn into_result(self) -> Result<Self> {
        let problems = self.problems();
        if problems.is_empty() { Ok(self) } else { Err(Error::NotVerified { image: self.image, problems }) }
    }
}

fn label(predicate_type: &str) -> &str {
    match predicate_type {
        predicate::SIGNATURE => "signature",
        predicate::SPDX => "SPDX attestation",
        predicate::PROVENANCE => "provenance",
        predicate::TEST_RESULT => "test result",
        predicate::OPENVEX | predicate::OPENVEX_UNVERSIONED => "OpenVEX document",
        other => other,
    }
}

/// Looks at an image and everything it consists of: each manifest's statements, found as its
/// referrers and checked by `trust` (a public key, several, an identity), and each blob's bytes against its digest. What is missing or
/// bad stands in the report; an error is only what stopped the looking.
///
/// # Errors
/// [`Error::ManifestUnknown`] if there is no such image; the registry's.
pub async fn verify_image(
    registry: &dyn Registry,
    repository: &Repository,
    reference: &Reference,
    trust: &dyn Trust,
    expectations: &Expectations,
) -> Result<Report> {
    let verifying = Verifying { registry, repository, trust, further: &expectations.further };
    let image = expect_manifest(registry, repository, reference).await?;
    let facts = image.facts()?;
    let mut manifests = Vec::new();
    if facts.is_index() {
        if facts.manifests.len() > MAX_PLATFORMS {
            return Err(Error::manifest(format!("more than {MAX_PLATFORMS} manifests in the index")));
        }
        manifests.push(verifying.manifest(&image, "index".into(), &expectations.index).await?);
        for child in &facts.manifests {
            let name = child.platform().as_ref().map_or_else(
                || "manifest".to_owned(),
                |platform| format!("{}/{}", platform.os(), platform.architecture()),
            );
            let digest = digest_of(child)?;
            match registry.manifest(repository, &digest.into()).await {
                Ok(Some(manifest)) => {
                    let expected = &expectations.platform;
                    manifests.push(verifying.manifest(&manifest, name, expected).await?);
                }
                found => {
                    let outcome = match found {
                        Ok(_) => Outcome::Missing,
                        Err(error) => corrupt(error)?,
                    };
                    let check = ContentCheck { digest, name: "the manifest".into(), outcome };
                    manifests.push(ManifestReport { digest, name, statements: Vec::new(), content: vec![check] });
                }
            }
        }
    } else {
        manifests.push(verifying.manifest(&image, "manifest".into(), &expectations.platform).await?);
    }
    let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
    Ok(Report { image: format!("{repository}{separator}{reference}"), digest: image.digest, manifests })
}

/// What a failed read says about the content, if it is the content that failed.
fn corrupt(error: Error) -> Result<Outcome> {
    match error {
        Error::Corrupt { .. }
        | Error::Size { .. }
        | Error::ManifestInvalid { .. }
        | Error::Answer { .. }
        | Error::TooLarge { .. } => Ok(Outcome::Bad { reason: error.to_string() }),
        Error::ManifestUnknown { .. } | Error::BlobUnknown { .. } => Ok(Outcome::Missing),
        other => Err(other),
    }
}

struct Verifying<'a> {
    registry: &'a dyn Registry,
    repository: &'a Repository,
    trust: &'a dyn Trust,
    further: &'a [String],
}

struct FoundBundle {
    /// Of the manifest that carries it.
    digest: Digest,
    /// The bytes, or why there are none.
    bytes: Result<Vec<u8>, String>,
    /// As the bundle itself says, unchecked; as its annotation says where it can't be read.
    predicate_type: Option<String>,
}

impl Verifying<'_> {
    async fn manifest(&self, manifest: &Manifest, name: String, expected: &[String]) -> Result<ManifestReport> {
        let bundles = self.bundles(manifest.digest).await?;
        let expected = expected.iter().map(|predicate_type| {
            let (outcome, _) = self.statements(manifest.digest, predicate_type, &bundles);
            Finding { predicate_type: predicate_type.clone(), outcome, predicates: Vec::new() }
        });
        let further = self.further.iter().filter_map(|predicate_type| {
            let (outcome, good) = self.statements(manifest.digest, predicate_type, &bundles);
            let predicates = good.into_iter().map(|statement| statement.predicate).collect();
            let is_there = outcome != Outcome::Missing;
            is_there.then(|| Finding { predicate_type: predicate_type.clone(), outcome, predicates })
        });
        let statements = expected.chain(further).collect();
        let facts = manifest.facts()?;
        let mut content = Vec::new();
        for (number, blob) in facts.blobs().enumerate() {
            if blob.urls().as_ref().is_some_and(|urls| !urls.is_empty()) {
                continue;
            }
            let digest = digest_of(blob)?;
            let name = if number == 0 { "config".to_owned() } else { format!("layer {number}") };
            let outcome = match self.read_through(digest, blob.size()).await {
                Ok(()) => Outcome::Good { bundle: None },
                Err(error) => corrupt(error)?,
            };
            content.push(ContentCheck { digest, name, outcome });
        }
        Ok(ManifestReport { digest: manifest.digest, name, statements, content })
    }

    /// Whether a manifest has a good statement of a type, and all the good ones.
    fn statements(&self, subject: Digest, predicate_type: &str, bundles: &[FoundBundle]) -> (Outcome, Vec<Statement>) {
        let (mut good, mut reasons, mut first) = (Vec::new(), Vec::new(), None);
        for bundle in bundles {
            if bundle.predicate_type.as_deref() != Some(predicate_type) {
                continue;
            }
            let checked = bundle.bytes.as_ref().map_err(Clone::clone).and_then(|bytes| {
                self.trust.statement(bytes, subject, predicate_type).map_err(|error| error.to_string())
            });
            match checked {
                Ok(statement) => {
                    good.push(statement);
                    first = first.or(Some(bundle.digest));
                }
                Err(reason) => reasons.push(format!("{}: {reason}", bundle.digest)),
            }
        }
        let outcome = match first {
            Some(digest) => Outcome::Good { bundle: Some(digest) },
            None if reasons.is_empty() => Outcome::Missing,
            None => Outcome::Bad { reason: reasons.join("; ") },
        };
        (outcome, good)
    }

    async fn bundles(&self, subject: Digest) -> Result<Vec<FoundBundle>> {
        let referrers = self.registry.referrers(self.repository, subject, Some(BUNDLE_MEDIA_TYPE)).await?;
        let mut bundles = Vec::new();
        for referrer in referrers.iter().take(MAX_BUNDLES) {
            let digest = digest_of(referrer)?;
            let annotated = referrer
                .annotations()
                .as_ref()
                .and_then(|annotations| annotations.get("dev.sigstore.bundle.predicateType"));
            let bytes = match self.bundle(digest).await {
                Ok(bytes) => Ok(bytes),
                Err(error) => match corrupt(error)? {
                    Outcome::Bad { reason } => Err(reason),
                    _ => Err("it is listed, but gone".to_owned()),
                },
            };
            let predicate_type = bytes
                .as_ref()
                .ok()
                .and_then(|bytes| Bundle::parse(bytes).ok())
                .and_then(|bundle| Statement::parse(&bundle.dsse_envelope.payload).ok())
                .map(|statement| statement.predicate_type)
                .or_else(|| annotated.cloned());
            bundles.push(FoundBundle { digest, bytes, predicate_type });
        }
        Ok(bundles)
    }

    async fn bundle(&self, digest: Digest) -> Result<Vec<u8>> {
        let manifest = expect_manifest(self.registry, self.repository, &digest.into()).await?;
        let facts = manifest.facts()?;
        let [layer] = facts.layers.as_slice() else {
            return Err(Error::manifest(format!("{} layers in the bundle's manifest, expected 1", facts.layers.len())));
        };
        let blob = expect_blob(self.registry, self.repository, digest_of(layer)?).await?;
        blob.read(MAX_BUNDLE_BYTES as u64).await
    }

    /// Reads a blob to its end, where the registry checks its digest.
    async fn read_through(&self, digest: Digest, size: u64) -> Result<()> {
        let mut blob = expect_blob(self.registry, self.repository, digest).await?;
        let mut found = 0;
        while let Some(piece) = blob.stream.try_next().await? {
            found += piece.len() as u64;
        }
        if found == size { Ok(()) } else { Err(Error::Size { what: format!("blob {digest}"), expected: size, found }) }
    }
}

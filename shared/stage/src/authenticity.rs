//! Whether a source is what its authors released, by the package's policy
//! (`authenticity/NAME.yaml`), before anything of it is run.
//!
//! Signatures are fetched from where the policy says; keys never are. A signature that is wrong
//! stops the build whatever the policy; one that is not there stops it where proof is required.

use std::path::Path;

use authenticity::{
    Checksums, Evidence, Judged, Keyring, MinisignKey, Publisher, Roots, SignifyKey, verify_clear_signed,
    verify_detached,
};
use jiff::Timestamp;
use ports::{Condition, Digest, Key, Transaction};
use recipe::{AuthenticityPolicy, Ecosystem, OpenPgpKeys, Proof, PublisherPin, SignedBy, Text};
use serde::{Deserialize, Serialize};
use upstream::SourceUri;

use crate::record::{self, Event};
use crate::{Context, StageError, chain, watch};

const LONGEST_SIGNATURE: u64 = 1024 * 1024;
const LONGEST_CHECKSUM_FILE: u64 = 4 * 1024 * 1024;
const LONGEST_BUNDLE: u64 = 16 * 1024 * 1024;
const LONGEST_KEY: u64 = 16 * 1024 * 1024;

/// What does where a package has no policy of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultPolicy {
    /// The digest that the definition states, or the proof of the source's ecosystem.
    #[default]
    Pinned,
    /// The proof of the source's ecosystem; a stated digest alone does not do.
    Ecosystem,
}

/// A fetched source that is to be proved.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Name of the package definition.
    pub package: &'a str,
    /// Its upstream version.
    pub version: &'a str,
    /// Whether it is the first of the package's sources.
    pub first: bool,
    /// Where it comes from.
    pub uri: &'a str,
    /// The fetched file.
    pub path: &'a Path,
    /// Its SHA-256 in hexadecimal.
    pub sha256: &'a str,
    /// The name that its ecosystem gives it.
    pub file_name: &'a str,
    /// What its ecosystem proved.
    pub evidence: &'a upstream::Evidence,
}

/// How a source stands by its policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `required`, `preferred` or `default`.
    pub policy: String,
    /// Whether it may be built.
    pub holds: bool,
    /// Each proof that the policy names.
    pub proofs: Vec<Tried>,
}

/// One proof that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Its kind.
    pub kind: String,
    /// How it went.
    pub result: TriedResult,
    /// What it proves, when it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// Why it doesn't hold.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The signature files that were judged, by address and digest; they are kept when they are
    /// wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<(String, Digest)>,
}

/// How a proof went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TriedResult {
    /// It holds.
    Holds,
    /// Upstream offers none for this source.
    Absent,
    /// It is there, and wrong.
    Bad,
}

/// A source that was refused, as the state keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub time: Timestamp,
    /// The upstream version.
    pub version: String,
    /// Where the source comes from.
    pub uri: String,
    /// The source as it was fetched.
    pub source: Digest,
    /// What was tried.
    pub verdict: Verdict,
}

impl Verdict {
    /// In a few words for people.
    pub fn summary(&self) -> String {
        let held: Vec<_> = self.proofs.iter().filter_map(|tried| Some(tried.evidence.as_ref()?.summary())).collect();
        if !held.is_empty() {
            return held.join("; ");
        }
        let reasons: Vec<_> = self.proofs.iter().map(|tried| format!("{}: {}", tried.kind, tried.reason)).collect();
        reasons.join("; ")
    }
}

/// Proves a source by its package's policy.
///
/// # Errors
/// [`StageError::Rejected`] when it may not be built; the source, its signatures and the verdict
/// are kept, and an event tells of it. [`StageError::Environment`] when a signature can't be
/// fetched now.
pub async fn prove(context: &Context, subject: Subject<'_>) -> Result<Verdict, StageError> {
    let (verdict, kept) = judge(context, subject).await?;
    if verdict.holds {
        return Ok(verdict);
    }
    for bytes in kept {
        context.blobs.put(bytes).await?;
    }
    let time = context.clock.now();
    let reason = format!("`{}` is not proved: {}", subject.uri, verdict.summary());
    let refused = Refused {
        time,
        version: subject.version.to_owned(),
        uri: subject.uri.to_owned(),
        source: context.blobs.put_file(subject.path).await?,
        verdict,
    };
    let event = Event {
        time,
        kind: "source.unauthentic".to_owned(),
        subject: subject.package.to_owned(),
        text: format!("{} {}: {reason}", subject.package, subject.version),
    };
    let mut transaction = Transaction::default();
    transaction.put(refused_key(subject.package, subject.version), Condition::Any, &refused)?;
    transaction.put(event.key(), Condition::Any, &event)?;
    context.state.commit(transaction).await?;
    Err(StageError::Rejected(reason))
}

/// Key of the last refused source of a version.
pub fn refused_key(package: &str, version: &str) -> Key {
    Key::new(record::package(package), format!("refused#{version}"))
}

async fn judge(context: &Context, subject: Subject<'_>) -> Result<(Verdict, Vec<Vec<u8>>), StageError> {
    let policy = context.catalog.authenticity.get(subject.package);
    let Some(policy) = policy.filter(|policy| subject.first || !policy.first_only) else {
        return Ok((by_default(context, subject), Vec::new()));
    };
    let mut judge = Judge { context, subject, kept: Vec::new() };
    let mut proofs = Vec::new();
    for proof in &policy.proofs {
        proofs.push(judge.tried(policy, proof).await?);
    }
    let holds = |tried: &Tried| tried.result == TriedResult::Holds;
    let bad = proofs.iter().any(|tried| tried.result == TriedResult::Bad);
    let enough = if policy.all { proofs.iter().all(holds) } else { proofs.iter().any(holds) };
    let name = if policy.required { "required" } else { "preferred" };
    let verdict = Verdict { policy: name.to_owned(), holds: !bad && (enough || !policy.required), proofs };
    Ok((verdict, judge.kept))
}

/// The verdict where there is no policy: what fetched the source has proved its digest already.
fn by_default(context: &Context, subject: Subject<'_>) -> Verdict {
    let ecosystem = ecosystem_of(subject.evidence);
    let mut proofs = Vec::new();
    if let Some(ecosystem) = ecosystem {
        proofs.push(Tried {
            kind: ecosystem.name().to_owned(),
            result: TriedResult::Holds,
            evidence: Some(Evidence::Ecosystem { name: ecosystem.name().to_owned() }),
            reason: String::new(),
            files: Vec::new(),
        });
    }
    let holds = ecosystem.is_some() || context.settings.authenticity == DefaultPolicy::Pinned;
    if !holds {
        let reason = format!(
            "only the digest that the definition states stands for it; write `authenticity/{}.yaml`",
            subject.package
        );
        proofs.push(Tried {
            kind: "ecosystem".to_owned(),
            result: TriedResult::Absent,
            evidence: None,
            reason,
            files: Vec::new(),
        });
    }
    Verdict { policy: "default".to_owned(), holds, proofs }
}

/// The ecosystem whose proof a source carries.
fn ecosystem_of(evidence: &upstream::Evidence) -> Option<Ecosystem> {
    match evidence {
        upstream::Evidence::Debian { .. } => Some(Ecosystem::DebianArchive),
        upstream::Evidence::Cargo { .. } => Some(Ecosystem::CratesIndex),
        upstream::Evidence::Pypi { .. } => Some(Ecosystem::PypiDigest),
        _ => None,
    }
}

/// Why a proof does not hold.
enum Short {
    Absent(String),
    Bad(String),
    Stage(StageError),
}

impl From<authenticity::Error> for Short {
    fn from(error: authenticity::Error) -> Self {
        match error {
            authenticity::Error::Read(_) => {
                Self::Stage(StageError::Environment { action: "read a source".to_owned(), reason: error.to_string() })
            }
            // A key that can't be used is the catalog's fault; nothing can be said of the source.
            authenticity::Error::Key { .. } => Self::Stage(StageError::Rejected(error.to_string())),
            other => Self::Bad(chain(&other)),
        }
    }
}

struct Judge<'a> {
    context: &'a Context,
    subject: Subject<'a>,
    kept: Vec<Vec<u8>>,
}

impl Judge<'_> {
    async fn tried(&mut self, policy: &AuthenticityPolicy, proof: &Proof) -> Result<Tried, StageError> {
        let mut files = Vec::new();
        let outcome = self.check(proof, &mut files).await;
        let kind = proof.kind().to_owned();
        let (result, evidence, reason) = match outcome {
            Ok(evidence) => (TriedResult::Holds, Some(evidence), String::new()),
            Err(Short::Absent(reason)) => (TriedResult::Absent, None, reason),
            Err(Short::Bad(reason)) => (TriedResult::Bad, None, reason),
            Err(Short::Stage(StageError::Rejected(reason))) => {
                return Err(StageError::Rejected(format!("{}: {kind}: {reason}", policy.file)));
            }
            Err(Short::Stage(error)) => return Err(error),
        };
        Ok(Tried { kind, result, evidence, reason, files })
    }

    async fn check(&mut self, proof: &Proof, files: &mut Vec<(String, Digest)>) -> Result<Evidence, Short> {
        // Not the factory's day, which may be a past one: signatures are made in real time.
        let now = (self.context.upstreams.context().clock)();
        match proof {
            Proof::OpenPgp { signature, keys } => {
                let keyring = self.keyring(keys)?;
                let signature = self.fetch(signature, LONGEST_SIGNATURE, files).await?;
                self.over_source(move |path| verify_detached(&keyring, &signature, path, Judged::AtSigning, now)).await
            }
            Proof::DebianUpstreamSignature { keys } => {
                let keyring = self.keyring(keys)?;
                let uri = self.source()?;
                let signature = self.context.upstreams.upstream_signature(&uri, self.subject.sha256).await;
                let signature = signature.map_err(missing)?.ok_or_else(|| {
                    Short::Absent("the archive keeps no signature of upstream's beside it".to_owned())
                })?;
                self.keep(format!("{uri} (signature)"), &signature, files);
                self.over_source(move |path| verify_detached(&keyring, &signature, path, Judged::AtSigning, now)).await
            }
            Proof::Minisign { signature, key } => {
                let key = MinisignKey::parse(key)?;
                let signature = self.fetch(signature, LONGEST_SIGNATURE, files).await?;
                self.over_source(move |path| key.verify(&signature, path)).await
            }
            Proof::Signify { signature, key } => {
                let key = SignifyKey::parse(key)?;
                let signature = self.fetch(signature, LONGEST_SIGNATURE, files).await?;
                self.over_source(move |path| key.verify(&signature, path)).await
            }
            Proof::ChecksumFile { url, signed_by } => {
                let document = self.fetch(url, LONGEST_CHECKSUM_FILE, files).await?;
                let (signed_by, text) = self.signed(signed_by, document.clone(), now, files).await?;
                let checksums = Checksums::parse(&text)?;
                let file = self.parts().1.to_owned();
                let checksum_file_sha256 = Digest::of(&document).hex();
                self.over_source(move |path| {
                    let (algorithm, digest) = checksums.check(&file, path)?;
                    let signed_by = Box::new(signed_by);
                    Ok(Evidence::ChecksumFile { checksum_file_sha256, file, algorithm, digest, signed_by })
                })
                .await
            }
            Proof::PypiAttestation { publisher, trusted_root } => {
                let roots = self.roots(trusted_root.as_ref())?;
                let uri = self.source()?;
                let document = self.context.upstreams.attestations(&uri).await.map_err(missing)?;
                let document =
                    document.ok_or_else(|| Short::Absent("the index has no attestation of it".to_owned()))?;
                self.keep(uri.to_string(), &document, files);
                self.attested(&authenticity::attestations(&document)?, publisher, &roots)
            }
            Proof::Sigstore { bundle, publisher, trusted_root } => {
                let roots = self.roots(trusted_root.as_ref())?;
                let bundle = self.fetch(bundle, LONGEST_BUNDLE, files).await?;
                self.attested(&[bundle], publisher, &roots)
            }
            // Builds take no git sources, so there is no tag to read; the proof can't hold.
            Proof::GitTag { .. } => Err(Short::Absent("no git tag is fetched with this source".to_owned())),
            Proof::Ecosystem(wanted) => match ecosystem_of(self.subject.evidence) {
                Some(found) if found == *wanted => Ok(Evidence::Ecosystem { name: found.name().to_owned() }),
                found => Err(Short::Absent(format!(
                    "the source comes from {}",
                    found.map_or("no ecosystem that proves it", Ecosystem::name)
                ))),
            },
        }
    }

    /// The signed text of a checksum file, and who signed it.
    async fn signed(
        &mut self,
        signed_by: &SignedBy,
        document: Vec<u8>,
        now: Timestamp,
        files: &mut Vec<(String, Digest)>,
    ) -> Result<(Evidence, Vec<u8>), Short> {
        match signed_by {
            SignedBy::OpenPgp { signature: None, keys } => {
                let clear = verify_clear_signed(&self.keyring(keys)?, &document, Judged::AtSigning, now)?;
                Ok((clear.evidence(&document), clear.text.into_bytes()))
            }
            SignedBy::OpenPgp { signature: Some(signature), keys } => {
                let keyring = self.keyring(keys)?;
                let signature = self.fetch(signature, LONGEST_SIGNATURE, files).await?;
                let evidence = verify_detached(&keyring, &signature, document.as_slice(), Judged::AtSigning, now)?;
                Ok((evidence, document))
            }
            SignedBy::Minisign { signature, key } => {
                let key = MinisignKey::parse(key)?;
                let signature = self.fetch(signature, LONGEST_SIGNATURE, files).await?;
                Ok((key.verify(&signature, document.as_slice())?, document))
            }
            SignedBy::Signify { signature: None, key } => {
                let (evidence, text) = SignifyKey::parse(key)?.verify_embedded(&document)?;
                Ok((evidence, text.to_vec()))
            }
            SignedBy::Signify { signature: Some(signature), key } => {
                let key = SignifyKey::parse(key)?;
                let signature = self.fetch(signature, LONGEST_SIGNATURE, files).await?;
                Ok((key.verify(&signature, document.as_slice())?, document))
            }
        }
    }

    /// The first bundle that the publisher made of the source.
    fn attested(&self, bundles: &[Vec<u8>], publisher: &PublisherPin, roots: &Roots) -> Result<Evidence, Short> {
        let publisher = pinned(publisher);
        let mut reasons = Vec::new();
        for bundle in bundles {
            let file = Some(self.subject.file_name).filter(|name| !name.is_empty());
            match authenticity::verify_bundle(bundle, self.subject.sha256, file, &publisher, roots) {
                Ok(evidence) => return Ok(evidence),
                Err(error) => reasons.push(chain(&error)),
            }
        }
        Err(Short::Bad(reasons.join("; ")))
    }

    /// Verifies over the source's bytes, off the async threads.
    async fn over_source(
        &self,
        verify: impl FnOnce(&Path) -> authenticity::Result<Evidence> + Send + 'static,
    ) -> Result<Evidence, Short> {
        let path = self.subject.path.to_owned();
        let result = tokio::task::spawn_blocking(move || verify(&path)).await;
        Ok(result.map_err(|error| Short::Stage(ports::PortError::from(error).into()))??)
    }

    fn source(&self) -> Result<SourceUri, Short> {
        self.subject.uri.parse().map_err(|error: upstream::Error| Short::Absent(chain(&error)))
    }

    /// Folder and file of the source's address.
    fn parts(&self) -> (&str, &str) {
        let uri = self.subject.uri.split(['?', '#']).next().unwrap_or_default();
        uri.rsplit_once('/').unwrap_or(("", uri))
    }

    /// A signature file, from the address that the policy gives.
    async fn fetch(
        &mut self,
        template: &Text,
        limit: u64,
        files: &mut Vec<(String, Digest)>,
    ) -> Result<Vec<u8>, Short> {
        let (folder, file) = self.parts();
        let values = [
            ("${uri}", self.subject.uri),
            ("${folder}", folder),
            ("${file}", file),
            ("${version}", self.subject.version),
        ];
        let address = values.iter().fold(template.value.clone(), |text, (name, value)| text.replace(name, value));
        let url = match address.parse() {
            Ok(SourceUri::Address(url)) => url,
            Ok(SourceUri::Package(_)) => return Err(Short::Absent(format!("`{address}` is no address of a file"))),
            Err(error) => return Err(Short::Absent(chain(&error))),
        };
        let document = self.context.upstreams.context().fetcher.document(&url, limit).await.map_err(missing)?;
        self.keep(url, &document.bytes, files);
        Ok(document.bytes.to_vec())
    }

    fn keep(&mut self, address: String, bytes: &[u8], files: &mut Vec<(String, Digest)>) {
        files.push((address, Digest::of(bytes)));
        self.kept.push(bytes.to_vec());
    }

    fn keyring(&self, keys: &OpenPgpKeys) -> Result<Keyring, Short> {
        let files = keys.files.iter().map(|file| Ok((file.as_str(), self.key_file(file)?)));
        let files = files.collect::<Result<Vec<_>, StageError>>().map_err(Short::Stage)?;
        let keyring = Keyring::parse(files.iter().map(|(name, bytes)| (*name, bytes.as_slice())))?;
        let fingerprints: Vec<String> = keys.fingerprints.iter().map(|text| text.value.clone()).collect();
        Ok(keyring.pinned(&fingerprints)?)
    }

    fn roots(&self, file: Option<&Text>) -> Result<Roots, Short> {
        let Some(file) = file else { return Ok(Roots::public()?) };
        let bytes = self.key_file(file).map_err(Short::Stage)?;
        Ok(Roots::parse(file, &String::from_utf8_lossy(&bytes))?)
    }

    /// A file of the catalog's own folder of keys.
    fn key_file(&self, file: &Text) -> Result<Vec<u8>, StageError> {
        let path = self.context.catalog.key_folder().join(file.as_str());
        let refuse = |reason: String| StageError::Rejected(format!("key file `{}`: {reason}", path.display()));
        let metadata = std::fs::metadata(&path).map_err(|error| refuse(error.to_string()))?;
        if metadata.len() > LONGEST_KEY {
            return Err(refuse(format!("it is longer than {LONGEST_KEY} bytes")));
        }
        std::fs::read(&path).map_err(|error| refuse(error.to_string()))
    }
}

fn pinned(publisher: &PublisherPin) -> Publisher {
    let owned = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    match publisher {
        PublisherPin::GitHub { repository, workflow, environment } => Publisher::GitHub {
            repository: repository.value.clone(),
            workflow: owned(workflow),
            environment: owned(environment),
        },
        PublisherPin::GitLab { repository, workflow } => {
            Publisher::GitLab { repository: repository.value.clone(), workflow: owned(workflow) }
        }
        PublisherPin::Google { email } => Publisher::Google { email: email.value.clone() },
        PublisherPin::Identity { identity, issuer } => {
            Publisher::Identity { identity: identity.value.clone(), issuer: issuer.value.clone() }
        }
    }
}

/// A signature that the server says it doesn't have is absent; a longer one than any is wrong; all
/// else may pass.
fn missing(error: upstream::Error) -> Short {
    match error {
        upstream::Error::Status { status: 404 | 410, ref url, .. } => Short::Absent(format!("{url} does not exist")),
        upstream::Error::TooLarge { .. } => Short::Bad(chain(&error)),
        other => Short::Stage(watch::classify("fetch a signature", &other)),
    }
}

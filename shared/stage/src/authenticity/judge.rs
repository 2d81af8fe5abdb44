//! One proof of a policy, tried on one source.

use std::path::Path;

use authenticity::{
    Checksums, Evidence, GitKeys, Judged, Keyring, MinisignKey, ObjectKind, Publisher, Roots, SignifyKey, SshSigners,
    verify_clear_signed, verify_detached, verify_git,
};
use jiff::Timestamp;
use ports::Digest;
use recipe::{AuthenticityPolicy, Ecosystem, OpenPgpKeys, Proof, PublisherPin, SignedBy, Text};
use upstream::SourceUri;

use super::{Subject, Tried, TriedResult, ecosystem_of};
use crate::{Context, StageError, chain, watch};

const LONGEST_SIGNATURE: u64 = 1024 * 1024;
const LONGEST_CHECKSUM_FILE: u64 = 4 * 1024 * 1024;
const LONGEST_BUNDLE: u64 = 16 * 1024 * 1024;
const LONGEST_KEY: u64 = 16 * 1024 * 1024;

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
            authenticity::Error::NotSigned { .. } => Self::Absent(error.to_string()),
            other => Self::Bad(chain(&other)),
        }
    }
}

/// Tries the proofs of one source.
pub(super) struct Judge<'a> {
    context: &'a Context,
    subject: Subject<'a>,
    kept: Vec<Vec<u8>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(context: &'a Context, subject: Subject<'a>) -> Self {
        Self { context, subject, kept: Vec::new() }
    }

    /// The signature files that were judged.
    pub(super) fn kept(self) -> Vec<Vec<u8>> {
        self.kept
    }

    /// Tries one proof.
    ///
    /// # Errors
    /// [`StageError::Rejected`] names the policy's file when the policy itself can't be used;
    /// [`StageError::Environment`] when a signature can't be fetched now.
    pub(super) async fn tried(&mut self, policy: &AuthenticityPolicy, proof: &Proof) -> Result<Tried, StageError> {
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
            Proof::GitTag { keys, ssh_signers } => self.git(keys, ssh_signers, now, files).await,
            Proof::NpmSignature { keys: Some(file) } => self.npm(file, now),
            Proof::NpmSignature { keys: None } => match self.subject.evidence {
                upstream::Evidence::Npm { signed_by: Some(key), .. } => Ok(npm_signature(key)),
                upstream::Evidence::Npm { .. } => {
                    Err(Short::Absent("the registry publishes no keys; pin them with `keys`".to_owned()))
                }
                _ => Err(Short::Absent("the source is no npm package".to_owned())),
            },
            Proof::Ecosystem(wanted) => match ecosystem_of(self.subject.evidence) {
                Some(found) if found == *wanted => Ok(Evidence::Ecosystem { name: found.name().to_owned() }),
                found => Err(Short::Absent(format!(
                    "the source comes from {}",
                    found.map_or("no ecosystem that proves it", Ecosystem::name)
                ))),
            },
        }
    }

    /// The tag that the source was asked for by, or its commit where no tag is named. A tag that is
    /// another object than the commit must itself be signed: whoever can write to the repository
    /// can put an unsigned tag on any signed commit.
    async fn git(
        &mut self,
        keys: &OpenPgpKeys,
        ssh_signers: &[Text],
        now: Timestamp,
        files: &mut Vec<(String, Digest)>,
    ) -> Result<Evidence, Short> {
        let upstream::Evidence::Git { commit, tag, tag_object, object_sha256, .. } = self.subject.evidence else {
            return Err(Short::Absent("the source is no git repository".to_owned()));
        };
        let openpgp = if keys.files.is_empty() { None } else { Some(self.keyring(keys)?) };
        let keys = GitKeys { openpgp, ssh: self.ssh_signers(ssh_signers)? };
        let Some(sha256) = object_sha256 else {
            return Err(Short::Absent(match (tag, tag_object) {
                (Some(tag), None) => format!("tag `{tag}` is a lightweight one, which nobody can sign"),
                _ => "the object that a signature would stand in is too long for one".to_owned(),
            }));
        };
        let object = self.context.upstreams.git_object(sha256).await.map_err(missing)?.ok_or_else(|| {
            let reason = format!("the git object `{sha256}` has gone from the cache since it was fetched");
            Short::Stage(StageError::Environment { action: "read a tag".to_owned(), reason })
        })?;
        let (kind, what) = match tag {
            Some(tag) => (ObjectKind::Tag, format!("tag `{tag}`")),
            None => (ObjectKind::Commit, format!("commit {commit}")),
        };
        self.keep(format!("{} ({what})", self.subject.origin.uri), &object, files);
        Ok(verify_git(kind, &object, commit, tag.as_deref(), &keys, now)?)
    }

    fn ssh_signers(&self, files: &[Text]) -> Result<Option<SshSigners>, Short> {
        let mut all: Option<SshSigners> = None;
        for file in files {
            let bytes = self.key_file(file).map_err(Short::Stage)?;
            let signers = SshSigners::parse(file, &String::from_utf8_lossy(&bytes))?;
            all = Some(match all {
                Some(others) => others.and(signers),
                None => signers,
            });
        }
        Ok(all)
    }

    /// The npm registry's signature, by pinned keys.
    fn npm(&self, file: &Text, now: Timestamp) -> Result<Evidence, Short> {
        if !matches!(self.subject.evidence, upstream::Evidence::Npm { .. }) {
            return Err(Short::Absent("the source is no npm package".to_owned()));
        }
        let keys = self.key_file(file).map_err(Short::Stage)?;
        match upstream::npm_signer(Path::new(file.as_str()), &keys, self.subject.evidence, now) {
            Ok(key) => Ok(npm_signature(&key)),
            Err(error @ upstream::Error::Unproved { .. }) => Err(Short::Bad(chain(&error))),
            // Keys that can't be read are the catalog's fault.
            Err(error) => Err(Short::Stage(StageError::Rejected(chain(&error)))),
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
        self.subject.origin.uri.parse().map_err(|error: upstream::Error| Short::Absent(chain(&error)))
    }

    /// Folder and file of the source's address.
    fn parts(&self) -> (&str, &str) {
        let uri = self.subject.origin.uri.split(['?', '#']).next().unwrap_or_default();
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
            ("${uri}", self.subject.origin.uri),
            ("${folder}", folder),
            ("${file}", file),
            ("${version}", self.subject.origin.version),
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

fn npm_signature(key: &str) -> Evidence {
    Evidence::Npm { key: key.to_owned() }
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

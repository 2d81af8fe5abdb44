use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use apk::{IndexEntry, Package};
use async_trait::async_trait;
use ports::{Condition, Digest, Key, Transaction, Write as StateWrite};
use serde::{Deserialize, Serialize};
use sign::{ResourceDescriptor, Statement, predicate};

use crate::package_build::{BuildResult, UnsignedPackage};
use crate::packages::{Retry, send_due};
use crate::record::{self, Event, Failure, PublishedPackage, RepositoryEntry, Unlisted};
use crate::standing::{built_key, failure_key, published_key};
use crate::{Context, Outcome, Stage, StageError, abi, package_index, package_retest, package_test, provenance};

pub(crate) const MAXIMUM_RESULT_BYTES: u64 = 16 << 20;

/// Checks, signs and publishes the packages of a build.
///
/// This stage holds the key and runs nothing that upstream wrote. A published version never
/// changes: publishing it again with other bytes is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagePublish {
    /// Name of the package definition.
    pub package: String,
    /// Full version.
    pub version: String,
    /// The build's [`BuildResult`].
    pub build: Digest,
}

struct Signed {
    entry: IndexEntry,
    blob: Digest,
    name: String,
}

#[async_trait]
impl Stage for PackagePublish {
    const NAME: &'static str = "package-publish";

    fn subject(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    async fn run(self, context: &Context) -> Result<Outcome, StageError> {
        let result: BuildResult = context.load("build result", self.build, MAXIMUM_RESULT_BYTES).await?;
        let key = published_key(&self.package, &self.version, result.architecture);
        let published = match context.state.get(&key).await? {
            Some(document) => Some(document.decode::<PublishedPackage>()?),
            None => None,
        };
        let comparison = abi::compare(context, &result).await?;
        let outcome = match published {
            Some(published) if published.definition == result.definition => {
                Outcome::Skipped("already published".to_owned())
            }
            Some(_) => {
                let reason = format!(
                    "{} {} is published with other bytes; a published version never changes",
                    self.package, self.version
                );
                return Ok(Outcome::Failed(reason));
            }
            None if !comparison.broken.is_empty() => return self.hold(context, &result, &comparison.broken).await,
            None => match self.publish(context, &result, key, &comparison.warnings).await {
                Ok(outcome) => outcome,
                Err(StageError::Rejected(reason)) => return Ok(Outcome::Failed(reason)),
                Err(error) => return Err(error),
            },
        };
        let rebuilt = abi::rebuild_dependents(context, &result, &comparison.gone).await?;
        send_due(context, result.architecture, Retry::Published { name: &self.package, rebuilt: &rebuilt }).await?;
        Ok(outcome)
    }
}

impl PackagePublish {
    /// Refuses an update that takes symbols from published programs. The last version stays; the
    /// definition is built again when it changes, and tried again with the next day.
    async fn hold(&self, context: &Context, result: &BuildResult, broken: &[String]) -> Result<Outcome, StageError> {
        let time = context.clock.now();
        let reason = format!(
            "not published: {}; build those without the symbols first, or turn the check `abi` off in `checks.disabled`",
            broken.join("; ")
        );
        let failure = Failure { time, reason: reason.clone(), log: None };
        let event = Event {
            time,
            kind: "package.abi-broken".to_owned(),
            subject: self.package.clone(),
            text: format!("{} {}: {reason}", self.package, self.version),
        };
        let mut transaction = Transaction::default();
        transaction.put(failure_key(&self.package, &self.version, result.architecture), Condition::Any, &failure)?;
        transaction.put(event.key(), Condition::Any, &event)?;
        let key = built_key(&self.package, &self.version, result.architecture);
        transaction.writes.push(StateWrite { key, condition: Condition::Any, value: None });
        context.state.commit(transaction).await?;
        send_due(context, result.architecture, Retry::Failed(&self.package)).await?;
        Ok(Outcome::Failed(reason))
    }

    async fn publish(
        &self,
        context: &Context,
        result: &BuildResult,
        key: Key,
        warnings: &[String],
    ) -> Result<Outcome, StageError> {
        let mut signed = Vec::new();
        for unsigned in &result.packages {
            signed.push(sign_package(context, result, unsigned).await?);
        }
        let subjects: Vec<_> = signed.iter().map(|signed| subject(&signed.entry, signed.blob)).collect();
        let provenance = provenance::of_package(result);
        let provenance = attest(context, subjects.clone(), predicate::PROVENANCE, &provenance).await?;
        let tests = match package_test::attestation(result, &result.tests) {
            Some(tested) => Some(attest(context, subjects, predicate::TEST_RESULT, &tested).await?),
            None => None,
        };
        let time = context.clock.now();
        let published = PublishedPackage {
            version: self.version.clone(),
            architecture: result.architecture,
            definition: result.definition,
            packages: signed
                .iter()
                .map(|signed| (signed.name.clone(), signed.entry.checksum.clone()))
                .collect::<BTreeMap<_, _>>(),
            build: self.build,
            time,
            warnings: warnings.to_vec(),
        };
        let names: Vec<&str> = signed.iter().map(|signed| signed.name.as_str()).collect();
        let event = Event {
            time,
            kind: "package.published".to_owned(),
            subject: self.package.clone(),
            text: format!("{} {} for {}: {}", self.package, self.version, result.architecture, names.join(", ")),
        };
        let outcome = Outcome::Done(names.join(", "));
        let mut transaction = Transaction::default();
        transaction.put(key, Condition::Absent, &published)?;
        for signed in &signed {
            let sort = format!("{}={}", signed.name, self.version);
            let entry = RepositoryEntry {
                entry: signed.entry.clone(),
                blob: signed.blob,
                definition: self.package.clone(),
                provenance,
                tests,
            };
            transaction.put(Key::new(record::repository(result.architecture), sort), Condition::Absent, &entry)?;
        }
        transaction.put(event.key(), Condition::Any, &event)?;
        let packages = signed.iter().map(|signed| signed.name.clone()).collect();
        let unlisted = Unlisted { package: self.package.clone(), version: self.version.clone(), packages };
        package_index::announce(&mut transaction, result.architecture, &unlisted, time)?;
        package_retest::note(&mut transaction, result.architecture, &self.package, &self.version, &result.tests)?;
        // Failures of this and of earlier definitions are of no interest any more.
        let failures = context.state.list_all(&record::package(&self.package), "failure#").await?;
        let ending = format!("#{}", result.architecture);
        let failures = failures.into_iter().map(|document| document.key).filter(|key| key.sort.ends_with(&ending));
        for key in failures.chain([built_key(&self.package, &self.version, result.architecture)]) {
            transaction.writes.push(StateWrite { key, condition: Condition::Any, value: None });
        }
        context.state.commit(transaction).await?;
        Ok(outcome)
    }
}

/// Checks one unsigned package against what the build said of it, and signs it.
async fn sign_package(
    context: &Context,
    result: &BuildResult,
    unsigned: &UnsignedPackage,
) -> Result<Signed, StageError> {
    let path = context.blobs.file(unsigned.blob).await?;
    let (checked, expected, version) = (path.clone(), unsigned.clone(), result.version.clone());
    tokio::task::spawn_blocking(move || check(&checked, &expected, &version))
        .await
        .map_err(ports::PortError::from)??;
    let signature = context
        .package_key()?
        .sign_digest(*unsigned.control.as_bytes())
        .await
        .map_err(|error| StageError::environment("sign the package")(&error))?;
    let key_name = context.package_key()?.key_name().to_owned();
    let mtime = u64::try_from(result.source_date_epoch).unwrap_or(0);
    let folder = tempfile::Builder::new()
        .prefix("sign-")
        .tempdir_in(&context.settings.work)
        .map_err(|error| StageError::environment("make a scratch folder")(&error))?;
    let target = folder.path().join("package.apk");
    let entry = {
        let target = target.clone();
        tokio::task::spawn_blocking(move || attach(&path, &key_name, &signature, mtime, &target))
            .await
            .map_err(ports::PortError::from)??
    };
    let blob = context.blobs.put_file(&target).await?;
    Ok(Signed { entry, blob, name: unsigned.name.clone() })
}

fn check(path: &Path, expected: &UnsignedPackage, version: &str) -> Result<(), StageError> {
    let bad = |error: &dyn std::error::Error| {
        StageError::Rejected(format!("package `{}`: {}", expected.name, crate::chain(error)))
    };
    let mut package = Package::open(path).map_err(|error| bad(&error))?;
    package.files().map_err(|error| bad(&error))?;
    let information = package.information();
    let found = (information.name.as_str(), information.version.as_str(), package.control_sha256());
    if found != (expected.name.as_str(), version, expected.control.as_bytes()) {
        let reason = format!(
            "the build said `{}` {version}, its package says `{}` {}",
            expected.name, information.name, information.version
        );
        return Err(StageError::Rejected(reason));
    }
    Ok(())
}

fn attach(
    unsigned: &Path,
    key_name: &str,
    signature: &[u8],
    mtime: u64,
    target: &PathBuf,
) -> Result<IndexEntry, StageError> {
    let failed = |error: &dyn std::error::Error| StageError::environment("write the signed package")(error);
    let mut source = BufReader::new(std::fs::File::open(unsigned).map_err(|error| failed(&error))?);
    let mut sink = BufWriter::new(std::fs::File::create(target).map_err(|error| failed(&error))?);
    apk::attach_signature(&mut source, key_name, signature, mtime, &mut sink).map_err(|error| failed(&error))?;
    sink.flush().map_err(|error| failed(&error))?;
    let package = Package::open(target).map_err(|error| failed(&error))?;
    Ok(package.index_entry())
}

/// A package as attestations are about it.
pub(crate) fn subject(entry: &IndexEntry, blob: Digest) -> ResourceDescriptor {
    ResourceDescriptor::of(blob).named(entry.file_name())
}

/// Attests something of all the packages of a build. The answer is the sigstore bundle.
pub(crate) async fn attest(
    context: &Context,
    subjects: Vec<ResourceDescriptor>,
    predicate_type: &str,
    predicate: &impl Serialize,
) -> Result<Digest, StageError> {
    let failed = |error: &sign::Error| StageError::environment("attest the build")(error);
    if subjects.is_empty() {
        return Err(StageError::Rejected("the build made no package".to_owned()));
    }
    let statement = Statement::about(subjects, predicate_type, predicate).map_err(|error| failed(&error))?;
    let bundle = context.attestor()?.attest(&statement).await.map_err(|error| failed(&error))?;
    Ok(context.blobs.put(bundle).await?)
}

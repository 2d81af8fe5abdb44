//! Whether a source is what its authors released, by the package's policy
//! (`authenticity/NAME.yaml`), before anything of it is run.
//!
//! Signatures are fetched from where the policy says; keys never are. A signature that is wrong
//! stops the build whatever the policy; one that is not there stops it where proof is required.

mod judge;
mod refused;

use std::path::Path;

use authenticity::Evidence;
use ports::Digest;
use recipe::{AuthenticityPolicy, Ecosystem};
use serde::{Deserialize, Serialize};

use self::judge::Judge;
use self::refused::Refusal;
pub use self::refused::{Refused, refused_key};
use crate::{Context, StageError, watch};

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

/// A source as a definition names it.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Name of the package definition.
    pub package: &'a str,
    /// Its upstream version.
    pub version: &'a str,
    /// Whether it is the first of the package's sources.
    pub first: bool,
    /// Where it comes from.
    pub uri: &'a str,
    /// What the definition states of it, as `sha256:HEX`, `sha512:HEX` or `git:COMMIT`; none of a
    /// version that is new to it.
    pub expected: Option<&'a str>,
}

/// A fetched source that is to be proved.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it is fetched as.
    pub origin: Origin<'a>,
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
    /// The files that were judged, by address and digest; they are kept when they are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<(String, Digest)>,
}

impl Tried {
    fn held(kind: String, evidence: Evidence) -> Self {
        let (reason, files) = (String::new(), Vec::new());
        Self { kind, result: TriedResult::Holds, evidence: Some(evidence), reason, files }
    }

    fn short(kind: String, result: TriedResult, reason: String) -> Self {
        Self { kind, result, evidence: None, reason, files: Vec::new() }
    }
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

impl Verdict {
    /// Whether one of the proofs holds; that it is what its definition states proves nothing of who
    /// made it.
    pub fn is_proved(&self) -> bool {
        self.proofs
            .iter()
            .any(|tried| matches!(&tried.evidence, Some(proof) if !matches!(proof, Evidence::Stated { .. })))
    }

    /// In a few words for people.
    pub fn summary(&self) -> String {
        let held: Vec<_> = self.proofs.iter().filter_map(|tried| Some(tried.evidence.as_ref()?.summary())).collect();
        if self.holds && !held.is_empty() {
            return held.join("; ");
        }
        if self.proofs.is_empty() {
            return "its digest alone, without a policy".to_owned();
        }
        let short = self.proofs.iter().filter(|tried| tried.result != TriedResult::Holds);
        let reasons: Vec<_> = short.map(|tried| format!("{}: {}", tried.kind, tried.reason)).collect();
        reasons.join("; ")
    }

    /// The same, beginning with whether it is proved.
    pub fn sentence(&self) -> String {
        let short = self.proofs.iter().any(|tried| tried.result != TriedResult::Holds);
        let standing = match (self.holds, self.is_proved(), short) {
            (false, ..) => "refused",
            (true, true, _) => "proved by",
            (true, false, false) => "taken by",
            (true, false, true) => "not proved, which its policy allows",
        };
        let colon = if standing.ends_with("by") { "" } else { ":" };
        format!("{standing}{colon} {}", self.summary())
    }
}

/// Proves a source by its package's policy.
///
/// # Errors
/// [`StageError::Rejected`] when it may not be built; the source, its signatures and the verdict
/// are kept, and an event tells of it, once for the same. [`StageError::Environment`] when a
/// signature can't be fetched now.
pub async fn prove(context: &Context, subject: Subject<'_>) -> Result<Verdict, StageError> {
    let (verdict, documents) = judge(context, subject).await?;
    if verdict.holds {
        return Ok(verdict);
    }
    let evidence = serde_json::to_value(subject.evidence).map_err(|error| StageError::Rejected(error.to_string()))?;
    let source = Some(context.blobs.put_file(subject.path).await?);
    let refusal = Refusal { origin: subject.origin, source, documents, evidence: Some(evidence), verdict };
    Err(StageError::Rejected(refusal.record(context).await?))
}

/// What fetching a source came to. One that is another than its definition or its ecosystem states
/// is recorded as [`prove`] records what it refuses.
///
/// # Errors
/// As fetching has it: [`StageError::Rejected`] or [`StageError::Environment`].
pub(crate) async fn fetched<T>(
    context: &Context,
    origin: Origin<'_>,
    result: upstream::Result<T>,
) -> Result<T, StageError> {
    let error = match result {
        Ok(fetched) => return Ok(fetched),
        Err(error) => error,
    };
    if error.is_unauthentic() {
        refused::fetch(context, origin, &error).await?;
    }
    Err(watch::classify("fetch the source", &error))
}

/// The policy that a source of a package falls under, if it has one.
pub fn policy_of<'a>(context: &'a Context, package: &str, first: bool) -> Option<&'a AuthenticityPolicy> {
    context.catalog.authenticity.get(package).filter(|policy| first || !policy.first_only)
}

async fn judge(context: &Context, subject: Subject<'_>) -> Result<(Verdict, Vec<Vec<u8>>), StageError> {
    let Origin { package, first, .. } = subject.origin;
    let Some(policy) = policy_of(context, package, first) else {
        return Ok((by_default(context, subject), Vec::new()));
    };
    let mut judge = Judge::new(context, subject);
    let mut proofs = Vec::new();
    for proof in &policy.proofs {
        proofs.push(judge.tried(policy, proof).await?);
    }
    let holds = |tried: &Tried| tried.result == TriedResult::Holds;
    let bad = proofs.iter().any(|tried| tried.result == TriedResult::Bad);
    let enough = if policy.all { proofs.iter().all(holds) } else { proofs.iter().any(holds) };
    let name = policy_name(Some(policy));
    let verdict = Verdict { policy: name.to_owned(), holds: !bad && (enough || !policy.required), proofs };
    Ok((verdict, judge.kept()))
}

/// How verdicts name a policy, or that there is none.
fn policy_name(policy: Option<&AuthenticityPolicy>) -> &'static str {
    match policy {
        Some(policy) if policy.required => "required",
        Some(_) => "preferred",
        None => "default",
    }
}

/// The verdict where there is no policy: what fetched the source has proved its digest already.
fn by_default(context: &Context, subject: Subject<'_>) -> Verdict {
    let stated = subject.origin.expected.and_then(|expected| expected.split_once(':'));
    let proof = match (ecosystem_of(subject.evidence), stated) {
        (Some(ecosystem), _) => {
            let name = ecosystem.name().to_owned();
            Some(Tried::held(name.clone(), Evidence::Ecosystem { name }))
        }
        (None, _) if context.settings.authenticity == DefaultPolicy::Ecosystem => {
            let reason = format!(
                "only the digest that the definition states, or the first answer of its address, stands for it; write \
                 `authenticity/{}.yaml`",
                subject.origin.package
            );
            Some(Tried::short("ecosystem".to_owned(), TriedResult::Absent, reason))
        }
        (None, Some((algorithm, digest))) => Some(Tried::held(
            stated_kind(algorithm),
            Evidence::Stated { algorithm: algorithm.to_owned(), digest: digest.to_owned() },
        )),
        (None, None) => None,
    };
    let holds = proof.as_ref().is_none_or(|proof| proof.result == TriedResult::Holds);
    Verdict { policy: policy_name(None).to_owned(), holds, proofs: proof.into_iter().collect() }
}

/// The kind of the proof that a definition's own statement is, named as melange names it.
fn stated_kind(algorithm: &str) -> String {
    format!("expected-{}", if algorithm == "git" { "commit" } else { algorithm })
}

/// The ecosystem whose proof a source carries.
fn ecosystem_of(evidence: &upstream::Evidence) -> Option<Ecosystem> {
    match evidence {
        upstream::Evidence::Debian { .. } => Some(Ecosystem::DebianArchive),
        upstream::Evidence::Cargo { .. } => Some(Ecosystem::CratesIndex),
        upstream::Evidence::Pypi { .. } => Some(Ecosystem::PypiDigest),
        upstream::Evidence::Npm { signed_by: Some(_), .. } => Some(Ecosystem::NpmSignature),
        _ => None,
    }
}

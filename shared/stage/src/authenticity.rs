//! Whether a source is what its authors released, by the package's policy
//! (`authenticity/NAME.yaml`), before anything of it is run.
//!
//! Signatures are fetched from where the policy says; keys never are. A signature that is wrong
//! stops the build whatever the policy; one that is not there stops it where proof is required.

mod judge;

use std::path::Path;

use authenticity::Evidence;
use jiff::Timestamp;
use ports::{Condition, Digest, Document, Key, Transaction};
use recipe::{AuthenticityPolicy, Ecosystem};
use serde::{Deserialize, Serialize};

use self::judge::Judge;
use crate::record::{self, Event};
use crate::{Context, StageError};

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

impl Refused {
    /// Whether it was refused like this before.
    fn is(&self, subject: Subject<'_>, verdict: &Verdict) -> bool {
        self.uri == subject.uri && self.source.hex() == subject.sha256 && self.verdict == *verdict
    }
}

impl Verdict {
    /// Whether one of the proofs holds.
    pub fn is_proved(&self) -> bool {
        self.proofs.iter().any(|tried| tried.result == TriedResult::Holds)
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
        let standing = match (self.holds, self.is_proved(), self.proofs.is_empty()) {
            (false, ..) => "refused",
            (true, true, _) => "proved by",
            (true, false, true) => "taken by",
            (true, false, false) => "not proved, which its policy allows",
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
    let (verdict, kept) = judge(context, subject).await?;
    if verdict.holds {
        return Ok(verdict);
    }
    let key = refused_key(subject.package, subject.version);
    let reason = format!("`{}` is not proved: {}", subject.uri, verdict.summary());
    let known = context.state.get(&key).await?;
    let known: Option<Refused> = known.as_ref().map(Document::decode).transpose()?;
    if known.is_some_and(|known| known.is(subject, &verdict)) {
        return Err(StageError::Rejected(reason));
    }
    for bytes in kept {
        context.blobs.put(bytes).await?;
    }
    let time = context.clock.now();
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
    transaction.put(key, Condition::Any, &refused)?;
    transaction.put(event.key(), Condition::Any, &event)?;
    context.state.commit(transaction).await?;
    Err(StageError::Rejected(reason))
}

/// Key of the last refused source of a version.
pub fn refused_key(package: &str, version: &str) -> Key {
    Key::new(record::package(package), format!("refused#{version}"))
}

/// The policy that a source of a package falls under, if it has one.
pub fn policy_of<'a>(context: &'a Context, package: &str, first: bool) -> Option<&'a AuthenticityPolicy> {
    context.catalog.authenticity.get(package).filter(|policy| first || !policy.first_only)
}

async fn judge(context: &Context, subject: Subject<'_>) -> Result<(Verdict, Vec<Vec<u8>>), StageError> {
    let Some(policy) = policy_of(context, subject.package, subject.first) else {
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
    let name = if policy.required { "required" } else { "preferred" };
    let verdict = Verdict { policy: name.to_owned(), holds: !bad && (enough || !policy.required), proofs };
    Ok((verdict, judge.kept()))
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
            "only the digest that the definition states, or the first answer of its address, stands for it; write `authenticity/{}.yaml`",
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
        upstream::Evidence::Npm { signed_by: Some(_), .. } => Some(Ecosystem::NpmSignature),
        _ => None,
    }
}

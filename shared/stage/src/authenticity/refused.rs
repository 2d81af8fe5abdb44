//! What is kept and told of a source that was refused.

use jiff::Timestamp;
use ports::{Condition, Digest, Document, Key, Transaction};
use recipe::Ecosystem;
use serde::{Deserialize, Serialize};

use super::{Origin, Tried, TriedResult, Verdict, policy_name, policy_of, stated_kind};
use crate::record::{self, Event};
use crate::{Context, StageError, chain};

/// A source that was refused, as the state keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub time: Timestamp,
    /// The upstream version.
    pub version: String,
    /// Where the source comes from.
    pub uri: String,
    /// The source as it was fetched; none where it was refused on the way, when what came instead is
    /// among the files of the proof that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Digest>,
    /// How the source was had, and what its ecosystem says of it, where that much held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<serde_json::Value>,
    /// What was tried.
    pub verdict: Verdict,
}

impl Refused {
    /// Whether it was refused like this before.
    fn is(&self, other: &Self) -> bool {
        Self { time: other.time, ..self.clone() } == *other
    }
}

/// Key of the last refused source of a version.
pub fn refused_key(package: &str, version: &str) -> Key {
    Key::new(record::package(package), format!("refused#{version}"))
}

/// A source that is to be refused.
pub(super) struct Refusal<'a> {
    pub(super) origin: Origin<'a>,
    /// Its bytes, which are kept already.
    pub(super) source: Option<Digest>,
    /// Signature files, which are not.
    pub(super) documents: Vec<Vec<u8>>,
    pub(super) evidence: Option<serde_json::Value>,
    pub(super) verdict: Verdict,
}

impl Refusal<'_> {
    /// Keeps all, and raises the event `source.unauthentic`, once for the same. The answer is why
    /// the source is refused.
    ///
    /// # Errors
    /// When it can't be kept.
    pub(super) async fn record(self, context: &Context) -> Result<String, StageError> {
        let Origin { package, version, uri, .. } = self.origin;
        let (key, time) = (refused_key(package, version), context.clock.now());
        let reason = format!("`{uri}` is not proved: {}", self.verdict.summary());
        let Self { source, evidence, verdict, .. } = self;
        let refused = Refused { time, version: version.to_owned(), uri: uri.to_owned(), source, evidence, verdict };
        let known = context.state.get(&key).await?;
        let known: Option<Refused> = known.as_ref().map(Document::decode).transpose()?;
        if known.is_some_and(|known| known.is(&refused)) {
            return Ok(reason);
        }
        for bytes in self.documents {
            context.blobs.put(bytes).await?;
        }
        let event = Event {
            time,
            kind: "source.unauthentic".to_owned(),
            subject: package.to_owned(),
            text: format!("{package} {version}: {reason}"),
        };
        let mut transaction = Transaction::default();
        transaction.put(key, Condition::Any, &refused)?;
        transaction.put(event.key(), Condition::Any, &event)?;
        context.state.commit(transaction).await?;
        Ok(reason)
    }
}

/// Records that a source was refused when it was fetched.
///
/// # Errors
/// When it can't be kept.
pub(super) async fn fetch(context: &Context, origin: Origin<'_>, error: &upstream::Error) -> Result<(), StageError> {
    let mut tried = Tried::short(kind(origin, error), TriedResult::Bad, chain(error));
    if let Some((what, path)) = error.kept() {
        tried.files.push((what.to_owned(), context.blobs.put_file(path).await?));
        std::fs::remove_file(path).map_err(|error| StageError::environment("clean up the cache")(&error))?;
    }
    let policy = policy_name(policy_of(context, origin.package, origin.first)).to_owned();
    let verdict = Verdict { policy, holds: false, proofs: vec![tried] };
    let refusal = Refusal { origin, source: None, documents: Vec::new(), evidence: None, verdict };
    refusal.record(context).await.map(drop)
}

/// The kind of the proof that does not hold: the definition's own statement, or its ecosystem's.
fn kind(origin: Origin<'_>, error: &upstream::Error) -> String {
    let ecosystem = origin.uri.strip_prefix("pkg:").and_then(|rest| rest.split('/').next());
    // The digest in which the ecosystem speaks of files.
    let speaks = match ecosystem {
        Some("npm") => "sha512",
        Some(_) => "sha256",
        None => "",
    };
    match error {
        upstream::Error::GitCommit { .. } => return stated_kind("git"),
        // A file that is not what the ecosystem states is its chain's failure, whatever the definition says.
        upstream::Error::Digest { algorithm, expected, kept, .. }
            if (kept.is_none() || *algorithm != speaks)
                && origin.expected.is_some_and(|stated| stated == format!("{algorithm}:{expected}")) =>
        {
            return stated_kind(algorithm);
        }
        _ => {}
    }
    match ecosystem {
        Some("deb") => Ecosystem::DebianArchive.name(),
        Some("cargo") => Ecosystem::CratesIndex.name(),
        Some("pypi") => Ecosystem::PypiDigest.name(),
        Some("npm") if matches!(error, upstream::Error::Unproved { .. }) => Ecosystem::NpmSignature.name(),
        Some("npm") => "npm-integrity",
        _ => "expected-digest",
    }
    .to_owned()
}

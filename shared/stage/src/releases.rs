//! What an image has published: who owns its tags, and what becomes of each digest.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use ports::{Condition, Digest, Document, Key};
use serde::{Deserialize, Serialize};

use crate::record::{self, Published, Release, TagMove};
use crate::{Context, StageError};

const MOVE: &str = "history#";
/// How the sort keys of moves with a number begin; those from before began with their time, and sort before.
const NUMBERED_MOVE: &str = "history#n";

/// A document, if it is there, and the condition under which it is still the same.
pub(crate) async fn decoded<T: serde::de::DeserializeOwned>(
    context: &Context,
    key: &Key,
) -> Result<(Option<T>, Condition), StageError> {
    let document: Option<Document> = context.state.get(key).await?;
    let condition = document.as_ref().map_or(Condition::Absent, |document| Condition::Revision(document.revision));
    Ok((document.map(|document| document.decode()).transpose()?, condition))
}

/// Who owns each tag of an image. Changed only under a revision, so that two streams published at
/// once agree on the tags they share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ownership {
    /// What each tag names.
    pub(crate) tags: BTreeMap<String, Digest>,
    /// The version that each stream is published at.
    pub(crate) streams: BTreeMap<String, String>,
    /// The variant of those streams that are a variant's edition.
    #[serde(default)]
    pub(crate) variants: BTreeMap<String, String>,
    /// How many moves of tags have been recorded with a number.
    #[serde(default)]
    pub(crate) moves: u64,
}

impl Ownership {
    /// The versions at which the other streams are published in the same variant.
    pub(crate) fn others(&self, stream: &str, variant: Option<&str>) -> Vec<String> {
        let same = |other: &String| self.variants.get(other).map(String::as_str) == variant;
        let others = self.streams.iter().filter(|(other, _)| *other != stream && same(other));
        others.map(|(_, version)| version.clone()).collect()
    }

    /// The key of the next move of a tag: keys come in the order in which the moves were made. It is the only one of
    /// its number, since moves are committed with this document under its revision.
    pub(crate) fn next_move(&mut self, image: &str, tag: &str) -> Key {
        self.moves += 1;
        Key::new(record::image(image), format!("{NUMBERED_MOVE}{:012}#{tag}", self.moves))
    }

    /// Whether the tag of a release's version names it.
    pub(crate) fn has_version_tag(&self, release: &Release) -> bool {
        release.tags.first().and_then(|exact| self.tags.get(exact)) == Some(&release.digest)
    }

    /// Whether a release is the one that its version's tag names, and its stream is at that version.
    pub(crate) fn owns(&self, release: &Release) -> bool {
        self.has_version_tag(release) && self.streams.get(&release.stream) == Some(&release.version)
    }
}

/// What becomes of a published digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseStatus {
    /// The newest of its stream: rebuilt when its packages change.
    Current,
    /// The newest of a stream that is no longer built.
    EndOfLife,
    /// The last build of an older version: its version tag still names it, and it is not rebuilt.
    Frozen,
    /// A newer build has taken all its tags but the timestamp.
    Superseded,
    /// Retention took it out of the registry.
    Removed,
}

impl ReleaseStatus {
    /// The status as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::EndOfLife => "end-of-life",
            Self::Frozen => "frozen",
            Self::Superseded => "superseded",
            Self::Removed => "removed",
        }
    }
}

/// What the statuses of an image's releases follow from.
pub(crate) struct Statuses {
    ownership: Ownership,
    /// The newest published digest of each stream, and whether the stream is still built.
    streams: BTreeMap<String, (Digest, bool)>,
}

impl Statuses {
    /// Whether a tag other than its timestamp names a release.
    pub(crate) fn named_by_tag(&self, release: &Release) -> bool {
        let tags = &self.ownership.tags;
        tags.iter().any(|(tag, digest)| *digest == release.digest && *tag != release.timestamp_tag)
    }

    /// The status of a release of this image.
    pub(crate) fn of(&self, release: &Release) -> ReleaseStatus {
        if release.removed.is_some() {
            return ReleaseStatus::Removed;
        }
        match self.streams.get(&release.stream) {
            Some((digest, true)) if *digest == release.digest => ReleaseStatus::Current,
            Some((digest, false)) if *digest == release.digest => ReleaseStatus::EndOfLife,
            _ if self.ownership.has_version_tag(release) => ReleaseStatus::Frozen,
            _ => ReleaseStatus::Superseded,
        }
    }
}

/// Reads what the statuses of an image's releases follow from.
pub(crate) async fn statuses(context: &Context, image: &str) -> Result<Statuses, StageError> {
    let partition = record::image(image);
    let (ownership, _) = decoded::<Ownership>(context, &Key::new(partition.clone(), "tags")).await?;
    let today = context.clock.now().to_zoned_datetime(TimeZone::UTC).date();
    let mut streams = BTreeMap::new();
    for document in context.state.list_all(&partition, "stream#").await? {
        let published: Published = document.decode()?;
        let name = document.key.sort.trim_start_matches("stream#").to_owned();
        let edition = context.catalog.images.get(image).and_then(|source| source.definition.edition(&name));
        let built = edition.is_some_and(|edition| edition.stream.end_of_life.is_none_or(|end| end >= today));
        streams.insert(name, (published.digest, built));
    }
    Ok(Statuses { ownership: ownership.unwrap_or_default(), streams })
}

/// Every move of an image's tags in the order in which they were made; of one tag when it is named.
///
/// # Errors
/// When the state can't be read.
pub async fn tag_history(context: &Context, image: &str, tag: Option<&str>) -> Result<Vec<TagMove>, StageError> {
    let documents = context.state.list_all(&record::image(image), MOVE).await?;
    let mut moves = Vec::with_capacity(documents.len());
    for document in documents {
        let moved: TagMove = document.decode()?;
        if tag.is_none_or(|tag| moved.tag == tag) {
            // The text of times with and without a fraction does not sort as they do.
            let unnumbered = !document.key.sort.starts_with(NUMBERED_MOVE);
            moves.push((unnumbered.then_some(moved.time), moved));
        }
    }
    moves.sort_by_key(|(time, _)| (time.is_none(), *time));
    Ok(moves.into_iter().map(|(_, moved)| moved).collect())
}

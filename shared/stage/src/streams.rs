//! Streams that an image could have: version lines of its primary package that appear in the
//! repository.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ports::{Condition, Document, Key, Transaction};
use serde::{Deserialize, Serialize};

use crate::record::{self, Event};
use crate::rules::streams::{self, Line};
use crate::{Context, StageError, repository};

/// A stream that an image could have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProposedStream {
    /// Image name.
    pub image: String,
    /// Name of the stream.
    pub stream: String,
    /// The highest version of the line.
    pub version: String,
    /// When the line was first seen.
    pub found: Timestamp,
}

/// Looks for version lines that no stream follows, and records those that are new, each with an
/// event.
///
/// # Errors
/// When the state can't be read or written.
pub async fn propose(context: &Context) -> Result<Vec<ProposedStream>, StageError> {
    let proposals = proposed(context).await?;
    for proposal in &proposals {
        let key = key(proposal);
        if context.state.get(&key).await?.is_some() {
            continue;
        }
        let event = Event {
            time: proposal.found,
            kind: "image.stream-proposed".to_owned(),
            subject: format!("{}:{}", proposal.image, proposal.stream),
            text: format!(
                "the repository has version {} of `{}`; add the stream `{}` to its image.yaml to build it",
                proposal.version, proposal.image, proposal.stream
            ),
        };
        let mut transaction = Transaction::default();
        transaction.put(key, Condition::Any, proposal)?;
        transaction.put(event.key(), Condition::Any, &event)?;
        context.state.commit(transaction).await?;
    }
    Ok(proposals)
}

/// The version lines that no stream follows, without recording anything.
///
/// # Errors
/// When the state can't be read.
pub async fn proposed(context: &Context) -> Result<Vec<ProposedStream>, StageError> {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for architecture in &context.settings.architectures {
        for entry in repository::entries(context, *architecture).await? {
            let information = entry.entry.information;
            if let Ok(version) = information.version.parse::<apk::Version>() {
                versions.entry(information.name).or_default().push(version.upstream().to_owned());
            }
        }
    }
    let now = context.clock.now();
    let mut proposals = Vec::new();
    for (image, source) in &context.catalog.images {
        let streams: Vec<&str> = source.definition.streams.iter().map(|stream| stream.name.value.as_str()).collect();
        let known = versions.get(&source.definition.primary.value).map_or(&[][..], Vec::as_slice);
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        for Line { name, version } in streams::proposed(&streams, &known) {
            let mut proposal = ProposedStream { image: image.clone(), stream: name, version, found: now };
            let stored = context.state.get(&key(&proposal)).await?;
            if let Some(stored) = stored.as_ref().map(Document::decode::<ProposedStream>).transpose()? {
                proposal.found = stored.found;
            }
            proposals.push(proposal);
        }
    }
    Ok(proposals)
}

fn key(proposal: &ProposedStream) -> Key {
    Key::new(record::image(&proposal.image), format!("proposal#{}", proposal.stream))
}

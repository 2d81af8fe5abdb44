//! Tags of any git repository, through the `git` command (`git ls-remote`).

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{GitAddress, is_commit};
use crate::error::{Error, Result};
use crate::filter::Candidate;
use crate::provider::Context;

const LONGEST_LIST: u64 = 64 * 1024 * 1024;
const LONGEST_MESSAGE: u64 = 16 * 1024;
const PROTOCOLS: &str = "https:http:git:file";
/// What a caller that runs inside a repository has set for git, which isn't meant for this one.
pub(crate) const CALLERS: [&str; 12] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
    "GIT_PROXY_COMMAND",
    "GIT_PROTOCOL_FROM_USER",
    "GIT_TRACE",
];

/// What git says of a server that it could not reach (with `LC_ALL=C`).
const UNREACHABLE: [&str; 5] =
    ["Could not resolve host", "Failed to connect", "Connection refused", "Connection timed out", "unable to connect"];

/// Tags of repositories.
pub(crate) struct Git {
    context: Context,
    longest_run: Duration,
}

impl Git {
    /// `longest_run` is the time within which a repository must have answered.
    pub(crate) fn new(context: Context, longest_run: Duration) -> Self {
        Self { context, longest_run }
    }

    /// Every tag of a repository, with its commit.
    pub(crate) async fn candidates(&self, address: &GitAddress) -> Result<Vec<Candidate>> {
        self.tags(address, &[]).await
    }

    /// The commit of a tag; `None` when there is no such tag.
    pub(crate) async fn commit(&self, address: &GitAddress, tag: &str) -> Result<Option<String>> {
        let whole = format!("refs/tags/{tag}");
        // What is asked for is a pattern of the shell's form, which a tag's name can't have.
        let is_plain = !tag.is_empty() && !tag.contains(['*', '?', '[', '\\', '\n', '\0']);
        if !is_plain {
            return Ok(None);
        }
        let tags = self.tags(address, &[whole.clone(), format!("{whole}^{{}}")]).await?;
        Ok(tags.into_iter().find(|candidate| candidate.version == tag).and_then(|candidate| candidate.commit))
    }

    async fn tags(&self, address: &GitAddress, wanted: &[String]) -> Result<Vec<Candidate>> {
        if self.context.fetcher.offline() {
            return Err(Error::Offline { url: address.to_string() });
        }
        let fail = |reason: String| Error::Git { url: address.to_string(), reason };
        let hosts = self.context.fetcher.hosts();
        let slot = hosts.enter(address.as_str()).await?;
        let output = match tokio::time::timeout(self.longest_run, self.list(address, wanted)).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                if let Error::Git { reason, .. } = &error
                    && UNREACHABLE.iter().any(|words| reason.contains(words))
                {
                    hosts.unreachable(address.as_str(), reason);
                }
                return Err(error);
            }
            Err(_) => {
                let reason = format!("no answer in {} s", self.longest_run.as_secs());
                hosts.unreachable(address.as_str(), &reason);
                return Err(fail(reason));
            }
        };
        drop(slot);
        let text = String::from_utf8(output).map_err(|_| fail("the list of tags is not UTF-8".to_owned()))?;
        Ok(tags(&text)
            .map_err(|line| fail(format!("`{line}` is not a line of a list of tags")))?
            .into_iter()
            .map(|(tag, (object, commit))| Candidate {
                commit: Some(commit.unwrap_or(object).to_owned()),
                tag_object: commit.map(|_| object.to_owned()),
                ..Candidate::new(tag)
            })
            .collect())
    }

    async fn list(&self, address: &GitAddress, wanted: &[String]) -> Result<Vec<u8>> {
        let fail = |reason: String| Error::Git { url: address.to_string(), reason };
        let mut command = Command::new("git");
        for name in CALLERS {
            command.env_remove(name);
        }
        // A child of git that outlives it ends by the limit of speed.
        let longest = self.longest_run.as_secs().max(1);
        let mut child = command
            .args(["-c", "credential.helper=", "-c", "http.lowSpeedLimit=1"])
            .args(["-c", &format!("http.lowSpeedTime={longest}")])
            .args(["ls-remote", "--quiet", "--tags", "--end-of-options", address.as_str()])
            .args(wanted)
            .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| fail(format!("`git` can't be run: {error}")))?;
        let (list, message) =
            (bounded(child.stdout.take(), LONGEST_LIST), bounded(child.stderr.take(), LONGEST_MESSAGE));
        let (list, message) = tokio::try_join!(list, message).map_err(|error| fail(error.to_string()))?;
        if list.len() as u64 > LONGEST_LIST {
            return Err(Error::TooLarge { url: address.to_string(), limit: LONGEST_LIST });
        }
        let status = child.wait().await.map_err(|error| fail(error.to_string()))?;
        if !status.success() {
            let message = String::from_utf8_lossy(&message);
            return Err(fail(format!("`git ls-remote` failed: {}", message.trim())));
        }
        Ok(list)
    }
}

/// At most one byte more than `limit`, after which the writer finds its pipe closed.
async fn bounded(from: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(limit + 1).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// A tag's own object, and the commit that an annotated one points to.
type Target<'a> = (&'a str, Option<&'a str>);

/// The tags of a list with what they point to, or the line that can't be read. Of an annotated tag
/// a further line, whose name ends in `^{}`, has the commit.
fn tags(list: &str) -> Result<BTreeMap<&str, Target<'_>>, &str> {
    let mut tags = BTreeMap::new();
    for line in list.lines() {
        let (object, name) = line.split_once('\t').ok_or(line)?;
        let tag = name.strip_prefix("refs/tags/").filter(|_| is_commit(object)).ok_or(line)?;
        match tag.strip_suffix("^{}") {
            Some(tag) => tags.entry(tag).or_insert((object, None)).1 = Some(object),
            None => tags.entry(tag).or_insert((object, None)).0 = object,
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotated_tag_has_the_commit_that_it_points_to() {
        let (tag, commit, light) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        let list = format!("{light}\trefs/tags/v0.9\n{tag}\trefs/tags/v1.0\n{commit}\trefs/tags/v1.0^{{}}\n");
        let expected =
            BTreeMap::from([("v0.9", (light.as_str(), None)), ("v1.0", (tag.as_str(), Some(commit.as_str())))]);
        assert_eq!(tags(&list), Ok(expected));
        for bad in ["v1", "0\trefs/tags/v1", &format!("{tag}\trefs/heads/main")] {
            assert_eq!(tags(bad), Err(bad));
        }
    }
}

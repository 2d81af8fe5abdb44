//! A bare repository in scratch space, and the `git` command locked down around it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::error::{Error, Result};
use crate::git_source::{CherryPick, GitCheckout, GitDepth, GitReference};
use crate::monitor::{CALLERS, GitAddress};

const LONGEST_OUTPUT: u64 = 256 * 1024 * 1024;
const LONGEST_MESSAGE: u64 = 16 * 1024;
const LONGEST_WORDS: usize = 1000;
/// Sources come over the network only.
const PROTOCOLS: &str = "https:http:git";
const SIGNAL_FILE_SIZE: &str = "signal 25";
/// What commits hold that older tools have made, and that does no harm.
const HARMLESS: [&str; 5] =
    ["missingSpaceBeforeDate", "zeroPaddedFilemode", "badTimezone", "missingTaggerEntry", "zeroPaddedDate"];

/// Limits of one repository.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Time of one command.
    pub(crate) longest_run: Duration,
    /// Bytes of any one file that git writes, packs among them.
    pub(crate) largest_file: u64,
    /// Bytes of a tree's files together.
    pub(crate) largest_tree: u64,
    /// Files of a tree.
    pub(crate) most_files: usize,
    /// What repositories are fetched over, as `GIT_ALLOW_PROTOCOL` has it.
    pub(crate) protocols: &'static str,
}

impl Default for Bounds {
    /// 15 minutes; packs of 4 GiB; trees of 4 GiB and 500,000 files; over the network.
    fn default() -> Self {
        Self {
            longest_run: Duration::from_secs(900),
            largest_file: 4 << 30,
            largest_tree: 4 << 30,
            most_files: 500_000,
            protocols: PROTOCOLS,
        }
    }
}

/// A bare repository of our own, filled from one address.
pub(crate) struct Repository {
    pub(crate) folder: PathBuf,
    pub(crate) address: GitAddress,
    pub(crate) bounds: Bounds,
}

impl Repository {
    /// Makes an empty one in `folder`: no template, so no hook.
    pub(crate) async fn create(folder: PathBuf, address: GitAddress, bounds: Bounds) -> Result<Self> {
        std::fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        let repository = Self { folder, address, bounds };
        repository.git(&["init", "--quiet", "--bare", "--template="]).await?;
        Ok(repository)
    }

    /// Fetches the commit of a checkout with as much history as is asked for, and checks that tag
    /// or branch lead to it.
    pub(crate) async fn fetch_commit(&self, checkout: &GitCheckout) -> Result<()> {
        let depth = checkout.depth;
        let (place, name) = match &checkout.reference {
            GitReference::Tag(tag) => ("tags", tag),
            GitReference::Branch(branch) | GitReference::BranchTip(branch) => ("heads", branch),
            GitReference::Any => return self.fetch_any(depth, &checkout.commit).await,
        };
        let reference = format!("refs/{place}/{name}");
        let references = [format!("+{reference}:{reference}")];
        self.fetch(depth, &references).await?;
        let found = self.commit(&reference).await.ok_or_else(|| Error::GitTree {
            url: self.address.to_string(),
            reason: format!("{} leads to no commit", checkout.reference),
        })?;
        if found == checkout.commit {
            return Ok(());
        }
        if matches!(checkout.reference, GitReference::Branch(_)) {
            if self.holds(&found, &checkout.commit).await? {
                return Ok(());
            }
            // Older than what a limited depth has brought, or not on the branch.
            self.fetch(GitDepth::Everything, &references).await?;
            if self.holds(&found, &checkout.commit).await? {
                return Ok(());
            }
        }
        Err(Error::GitCommit {
            url: self.address.to_string(),
            reference: checkout.reference.to_string(),
            expected: checkout.commit.clone(),
            found,
            advice: match checkout.reference {
                GitReference::Tag(_) => "either the tag was moved, or the commit belongs to another version",
                GitReference::BranchTip(_) => "the branch has gone on, or the commit belongs to another version",
                GitReference::Branch(_) | GitReference::Any => "the branch does not hold the expected commit",
            },
        })
    }

    /// Fetches a commit by its id; from servers that refuse that, everything.
    async fn fetch_any(&self, depth: GitDepth, commit: &str) -> Result<()> {
        if self.fetch(depth, &[commit.to_owned()]).await.is_err() {
            let all = ["+refs/heads/*:refs/heads/*".to_owned(), "+refs/tags/*:refs/tags/*".to_owned()];
            self.fetch(GitDepth::Everything, &all).await?;
        }
        if self.commit(commit).await.is_none() {
            return Err(Error::GitTree {
                url: self.address.to_string(),
                reason: format!("no branch or tag holds commit `{commit}`"),
            });
        }
        Ok(())
    }

    /// Fetches a submodule's commit, without history.
    pub(crate) async fn fetch_module(&self, commit: &str) -> Result<()> {
        self.fetch_any(GitDepth::Commits(1), commit).await
    }

    /// Fetches a commit to pick, with its parent.
    pub(crate) async fn fetch_pick(&self, pick: &CherryPick) -> Result<()> {
        match &pick.branch {
            None => self.fetch_any(GitDepth::Commits(2), &pick.commit).await,
            Some(branch) => {
                let place = format!("refs/picked/{branch}");
                self.fetch(GitDepth::Everything, &[format!("+refs/heads/{branch}:{place}")]).await?;
                if !self.holds(&place, &pick.commit).await? {
                    return Err(Error::GitTree {
                        url: self.address.to_string(),
                        reason: format!("branch `{branch}` does not hold the cherry-pick `{}`", pick.commit),
                    });
                }
                Ok(())
            }
        }
    }

    /// Fetches references; with the whole history come the tags that point into it.
    async fn fetch(&self, depth: GitDepth, references: &[String]) -> Result<()> {
        let limit: Vec<String> = match depth {
            GitDepth::Commits(count) => vec!["--no-tags".to_owned(), format!("--depth={}", count.max(1))],
            GitDepth::Everything if self.folder.join("shallow").exists() => vec!["--unshallow".to_owned()],
            GitDepth::Everything => Vec::new(),
        };
        let mut arguments = vec!["fetch", "--quiet", "--no-recurse-submodules", "--no-write-fetch-head"];
        arguments.extend(limit.iter().map(String::as_str));
        arguments.extend(["--end-of-options", self.address.as_str()]);
        arguments.extend(references.iter().map(String::as_str));
        self.git(&arguments).await.map(drop)
    }

    /// The commit that a reference leads to, as far as it was fetched.
    async fn commit(&self, reference: &str) -> Option<String> {
        let text = self.git(&["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")]).await.ok()?;
        Some(text.trim().to_owned())
    }

    /// Whether `commit` is `tip` or one of its ancestors, as far as the history was fetched.
    async fn holds(&self, tip: &str, commit: &str) -> Result<bool> {
        if self.commit(commit).await.is_none() {
            return Ok(false);
        }
        let beyond = self.git(&["rev-list", "--max-count=1", commit, &format!("^{tip}")]).await?;
        Ok(beyond.trim().is_empty())
    }

    /// Runs git to its end; its standard output.
    pub(crate) async fn git(&self, arguments: &[&str]) -> Result<String> {
        self.text(self.run(arguments, None).await?)
    }

    /// The same, where names in the answer may be of any bytes.
    pub(crate) async fn git_bytes(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        self.run(arguments, None).await
    }

    /// The same, for what is committed at `date`.
    pub(crate) async fn git_at(&self, date: &str, arguments: &[&str]) -> Result<String> {
        self.text(self.run(arguments, Some(date)).await?)
    }

    fn text(&self, bytes: Vec<u8>) -> Result<String> {
        String::from_utf8(bytes)
            .map_err(|_| Error::Git { url: self.address.to_string(), reason: "git's answer is not UTF-8".to_owned() })
    }

    async fn run(&self, arguments: &[&str], date: Option<&str>) -> Result<Vec<u8>> {
        let fail = |reason: String| Error::Git { url: self.address.to_string(), reason };
        let mut command = tokio::process::Command::from(self.command(arguments));
        if let Some(date) = date {
            command.env("GIT_COMMITTER_DATE", date);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| fail(format!("`git` can't be run: {error}; install the Debian package `git`")))?;
        let (mut output, mut message) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let read = async {
                match stdout {
                    Some(from) => from.take(LONGEST_OUTPUT + 1).read_to_end(&mut output).await.map(drop),
                    None => Ok(()),
                }
            };
            let told = async {
                let Some(mut from) = stderr else { return Ok(()) };
                (&mut from).take(LONGEST_MESSAGE).read_to_end(&mut message).await?;
                tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map(drop)
            };
            tokio::try_join!(read, told)?;
            child.wait().await
        };
        let status = tokio::time::timeout(self.bounds.longest_run, work)
            .await
            .map_err(|_| fail(format!("not done after {} s", self.bounds.longest_run.as_secs())))?
            .map_err(|error| fail(error.to_string()))?;
        if output.len() as u64 > LONGEST_OUTPUT {
            return Err(Error::TooLarge { url: self.address.to_string(), limit: LONGEST_OUTPUT });
        }
        if status.success() {
            return Ok(output);
        }
        let message = String::from_utf8_lossy(&message);
        if message.contains(SIGNAL_FILE_SIZE) {
            return Err(Error::TooLarge { url: self.address.to_string(), limit: self.bounds.largest_file });
        }
        let action = arguments.iter().find(|argument| !argument.starts_with('-')).copied().unwrap_or_default();
        let words: String = message.trim().chars().take(LONGEST_WORDS).collect();
        let reason = format!("`git {action}` failed: {words}");
        // These say what the repository holds, and asking again brings nothing else.
        let settled = ["couldn't find remote ref", "fsck error", "object corrupt", "error in object"];
        if settled.iter().any(|text| words.contains(text)) {
            return Err(Error::GitTree { url: self.address.to_string(), reason });
        }
        Err(fail(reason))
    }

    /// A git that reads no configuration but ours, runs no hook and no helper, asks nobody, and
    /// writes no file beyond the limit.
    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new("prlimit");
        command.arg(format!("--fsize={}", self.bounds.largest_file)).args(["--core=0", "--", "git"]);
        for name in CALLERS {
            command.env_remove(name);
        }
        let longest = self.bounds.longest_run.as_secs().max(1);
        for setting in [
            "credential.helper=",
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.attributesFile=/dev/null",
            "core.excludesFile=/dev/null",
            "core.protectHFS=true",
            "core.protectNTFS=true",
            "core.autocrlf=false",
            "protocol.version=2",
            "fetch.fsckObjects=true",
            "gc.auto=0",
            "maintenance.auto=false",
            "commit.gpgSign=false",
            "rerere.enabled=false",
            "submodule.recurse=false",
            "pack.threads=1",
            "user.name=Minimill",
            "user.email=build@minimill.invalid",
            "http.lowSpeedLimit=1",
        ] {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("http.lowSpeedTime={longest}"));
        for message in HARMLESS {
            command.arg("-c").arg(format!("fetch.fsck.{message}=ignore"));
        }
        command.arg(format!("--git-dir={}", self.folder.display()));
        command
            .args(arguments)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", self.bounds.protocols)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("LC_ALL", "C")
            .env("HOME", &self.folder)
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }
}

//! Commits that are applied on top of the one that is checked out.

use std::path::Path;

use crate::error::{Error, Result};
use crate::git_source::GitCheckout;
use crate::git_source::repository::Repository;
use crate::monitor::is_commit;

/// A commit to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CherryPick {
    /// The branch that holds it, where it is said.
    pub branch: Option<String>,
    /// The commit, 40 lower-case hexadecimal digits.
    pub commit: String,
}

impl CherryPick {
    /// Reads a `cherry-picks` input: lines of `[BRANCH/]COMMIT: REASON`, `#` begins a comment.
    ///
    /// # Errors
    /// [`Error::Source`] with the line that is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty()).map(Self::parse).collect()
    }

    fn parse(line: &str) -> Result<Self> {
        let refuse = || Error::Source {
            text: line.to_owned(),
            reason: "a line of `cherry-picks` is `[BRANCH/]COMMIT: REASON` with a whole commit".to_owned(),
        };
        let (place, reason) = line.split_once(':').ok_or_else(refuse)?;
        let (branch, commit) = match place.trim().rsplit_once('/') {
            Some((branch, commit)) => (Some(branch.to_owned()), commit),
            None => (None, place.trim()),
        };
        if reason.trim().is_empty() || commit.len() != 40 || !is_commit(commit) {
            return Err(refuse());
        }
        Ok(Self { branch, commit: commit.to_owned() })
    }
}

/// Applies the cherry-picks of a checkout, and answers the commit that has come out. Who commits
/// and when is said by the picked commits, so that the result is always the same one.
pub(super) async fn apply(repository: &Repository, checkout: &GitCheckout, scratch: &Path) -> Result<String> {
    if checkout.cherry_picks.is_empty() {
        return Ok(checkout.commit.clone());
    }
    let tree = scratch.join("tree");
    std::fs::create_dir(&tree).map_err(Error::io("create", &tree))?;
    let work_tree = format!("--work-tree={}", tree.display());
    repository.git(&[&work_tree, "checkout", "--quiet", "--force", "--detach", &checkout.commit]).await?;
    for pick in &checkout.cherry_picks {
        repository.fetch_pick(pick).await?;
        let time = repository.git(&["show", "--no-patch", "--format=%ct", &pick.commit]).await?;
        let date = format!("@{} +0000", time.trim());
        let picked = repository.git_at(&date, &[&work_tree, "cherry-pick", "-x", "--no-gpg-sign", &pick.commit]).await;
        picked.map_err(|error| Error::GitTree {
            url: repository.address.to_string(),
            reason: format!("the cherry-pick of `{}` does not apply to `{}`: {error}", pick.commit, checkout.commit),
        })?;
    }
    Ok(repository.git(&["rev-parse", "--verify", "HEAD"]).await?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_branch_a_commit_and_a_reason() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let text = format!("\n# why\nrelease/3.10/{one}: fix a crash # note\n{two}: another\n\n");
        let picks = CherryPick::parse_all(&text).unwrap();
        assert_eq!(
            picks,
            [
                CherryPick { branch: Some("release/3.10".to_owned()), commit: one.clone() },
                CherryPick { branch: None, commit: two }
            ]
        );
        for bad in ["abc: short", &one, &format!("{one}:"), &format!("main/{one} no colon"), "main/: x"] {
            assert!(CherryPick::parse_all(bad).unwrap_err().to_string().contains("cherry-picks"), "{bad}");
        }
    }
}

//! `fileExistenceTests` and `fileContentTests`.

use serde::Deserialize;

use super::environment::expanded;
use super::{excerpt, matches};
use crate::document::{Expression, Text, or_default};
use crate::files::{Entry, Kind};
use crate::report::Finding;
use crate::{Error, Image, Status};

const MAXIMUM_CONTENT: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExistenceTest {
    pub(super) name: Text,
    path: Text,
    #[serde(default = "yes")]
    should_exist: bool,
    #[serde(default, deserialize_with = "or_default")]
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
    is_executable_by: Option<ExecutableBy>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExecutableBy {
    Owner,
    Group,
    Other,
    Any,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ContentTest {
    pub(super) name: Text,
    path: Text,
    #[serde(default, deserialize_with = "or_default")]
    expected_contents: Vec<Expression>,
    #[serde(default, deserialize_with = "or_default")]
    excluded_contents: Vec<Expression>,
}

fn yes() -> bool {
    true
}

pub(super) fn existence(image: &Image, test: &ExistenceTest, environment: &[String]) -> Finding {
    let path = &expanded(&test.path, environment);
    // Layers need not list the root, which is there all the same.
    let root = Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, capabilities: false };
    let is_root = image.files().place(path).is_some_and(|place| place.is_empty());
    let Some(entry) = image.files().get(path).or(is_root.then_some(&root)) else {
        return if test.should_exist {
            Finding::failed(format!("`{path}` is not in the image; it should be"), Vec::new())
        } else {
            Finding::passed(format!("`{path}` is not in the image"))
        };
    };
    if !test.should_exist {
        return Finding::failed(format!("`{path}` is in the image; it should not be"), Vec::new());
    }
    let mut complaints = Vec::new();
    let found = permissions(&entry.kind, entry.mode);
    if !test.permissions.is_empty() && test.permissions != found {
        complaints.push(format!("`{path}` has the permissions `{found}`, expected `{}`", test.permissions));
    }
    for (what, found, expected) in [("user", entry.uid, test.uid), ("group", entry.gid, test.gid)] {
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            complaints.push(format!("`{path}` belongs to the {what} {found}, expected {expected}"));
        }
    }
    if let Some(who) = test.is_executable_by {
        let bits = match who {
            ExecutableBy::Owner => 0o100,
            ExecutableBy::Group => 0o010,
            ExecutableBy::Other => 0o001,
            ExecutableBy::Any => 0o111,
        };
        if entry.mode & bits == 0 {
            let who = format!("{who:?}").to_lowercase();
            complaints.push(format!("`{path}` with permissions `{found}` is not executable by {who}"));
        }
    }
    Finding::of(complaints, format!("`{path}` is there, `{found}` {}:{}", entry.uid, entry.gid))
}

/// Permissions as Go's `os.FileMode` writes them, which is what the format compares with.
fn permissions(kind: &Kind, mode: u32) -> String {
    let mut text = String::new();
    match kind {
        Kind::Directory => text.push('d'),
        Kind::Symlink(_) => text.push('L'),
        Kind::Other => text.push('D'),
        Kind::Regular(_) => {}
    }
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g'), (0o1000, 't')] {
        if mode & bit != 0 {
            text.push(letter);
        }
    }
    if text.is_empty() {
        text.push('-');
    }
    for (position, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if mode & (0o400 >> position) == 0 { '-' } else { letter });
    }
    text
}

pub(super) fn content(image: &Image, test: &ContentTest, environment: &[String]) -> Result<Finding, Error> {
    let path = &expanded(&test.path, environment);
    let Some(bytes) = image.read(path, MAXIMUM_CONTENT)? else {
        return Ok(Finding::failed(format!("`{path}` is no file of the image"), Vec::new()));
    };
    let mut complaints = matches(&format!("`{path}`"), &bytes, &test.expected_contents, true);
    complaints.extend(matches(&format!("`{path}`"), &bytes, &test.excluded_contents, false));
    let mut finding = Finding::of(complaints, format!("`{path}` is as expected"));
    if finding.status == Status::Failed {
        finding.evidence.push(excerpt(path, &bytes));
    }
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_written_as_go_does() {
        assert_eq!(permissions(&Kind::Regular(0), 0o644), "-rw-r--r--");
        assert_eq!(permissions(&Kind::Directory, 0o755), "drwxr-xr-x");
        assert_eq!(permissions(&Kind::Directory, 0o1777), "dtrwxrwxrwx");
        assert_eq!(permissions(&Kind::Symlink(String::new()), 0o777), "Lrwxrwxrwx");
        assert_eq!(permissions(&Kind::Regular(0), 0o4755), "urwxr-xr-x");
    }
}

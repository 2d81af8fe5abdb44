//! The users and groups of an image, read from its own files.

use std::io::Read;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::Error;

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";
const MAXIMUM_BYTES: u64 = 1 << 20;

/// Who a process is, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub id: u32,
    /// The main group's id.
    pub group: u32,
    /// Ids of the other groups that `/etc/group` puts the user in.
    pub other_groups: Vec<u32>,
}

/// The user of an image configuration's `User`, by the rules of its specification: `user`,
/// `uid`, `user:group`, `uid:gid` and mixtures; empty is root. A user without group has the group
/// that `/etc/passwd` says, and group 0 when it isn't there.
///
/// Links in `root` that lead out of it are not followed.
pub(crate) fn resolve(root: &Path, user: &str) -> Result<User, Error> {
    let folder = Dir::open_ambient_dir(root, ambient_authority())
        .map_err(|source| Error::io("open the folder", root, source))?;
    let passwd = read(&folder, root, PASSWD)?;
    let groups = read(&folder, root, GROUP)?;
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let entry = entries(&passwd)
        .find(|fields| fields.first() == Some(&name) || name.parse::<u32>().is_ok() && fields.get(2) == Some(&name));
    let number = |fields: &[&str], index: usize| fields.get(index)?.parse::<u32>().ok();
    let id = match entry.as_ref().and_then(|fields| number(fields, 2)) {
        Some(id) => id,
        None => name.parse().map_err(|_| unknown("user", name, "/etc/passwd"))?,
    };
    let Some(group_name) = group_name.filter(|name| !name.is_empty()) else {
        let member = entry.as_ref().and_then(|fields| fields.first().copied());
        let other_groups = entries(&groups)
            .filter(|fields| {
                member.is_some_and(|member| fields.get(3).is_some_and(|all| all.split(',').any(|one| one == member)))
            })
            .filter_map(|fields| number(&fields, 2))
            .collect();
        let group = entry.as_ref().and_then(|fields| number(fields, 3)).unwrap_or(0);
        return Ok(User { id, group, other_groups });
    };
    let group = entries(&groups)
        .find(|fields| fields.first() == Some(&group_name))
        .and_then(|fields| number(&fields, 2))
        .or_else(|| group_name.parse().ok())
        .ok_or_else(|| unknown("group", group_name, "/etc/group"))?;
    Ok(User { id, group, other_groups: Vec::new() })
}

fn unknown(kind: &'static str, name: &str, file: &'static str) -> Error {
    Error::UnknownAccount { kind, name: name.to_owned(), file }
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn read(folder: &Dir, root: &Path, name: &str) -> Result<String, Error> {
    let failed = |source| Error::io("read", &root.join(name), source);
    match folder.open(name) {
        Ok(file) => {
            let mut text = Vec::new();
            file.take(MAXIMUM_BYTES).read_to_end(&mut text).map_err(failed)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_resolved_in_the_image() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join(PASSWD), "root:x:0:0::/:/bin/sh\nredis:x:999:1000::/:/bin/sh\n").unwrap();
        std::fs::write(root.path().join(GROUP), "root:x:0:\nredis:x:1000:\nlog:x:4:a,redis\n").unwrap();
        let user = |text: &str| {
            resolve(root.path(), text)
                .map(|user| (user.id, user.group, user.other_groups))
                .map_err(|error| error.to_string())
        };
        assert_eq!(user(""), Ok((0, 0, vec![])));
        assert_eq!(user("redis"), Ok((999, 1000, vec![4])));
        assert_eq!(user("999"), Ok((999, 1000, vec![4])));
        assert_eq!(user("redis:log"), Ok((999, 4, vec![])));
        assert_eq!(user("65532"), Ok((65532, 0, vec![])));
        assert_eq!(user("65532:65533"), Ok((65532, 65533, vec![])));
        assert_eq!(user("nobody"), Err("the image has no user `nobody` in `/etc/passwd`".to_owned()));
        assert_eq!(user("redis:web"), Err("the image has no group `web` in `/etc/group`".to_owned()));
    }

    #[test]
    fn a_link_out_of_the_image_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join(PASSWD)).unwrap();
        assert!(matches!(resolve(root.path(), "root"), Err(Error::Io { .. })));
    }
}

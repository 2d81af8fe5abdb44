//! Users and groups added to a root that was unpacked on the disk, for what runs in it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Error;
use crate::accounts::{merge, run_as};
use crate::settings::{Group, Settings, User};

/// Who a process of the root is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootUser {
    /// User number.
    pub id: u32,
    /// Number of the primary group.
    pub group: u32,
    /// Home directory, where `/etc/passwd` has the user.
    pub home: Option<String>,
}

/// Adds accounts to the `/etc/passwd` and `/etc/group` of a root, as composition does, and finds the user
/// that `user` names (`NAME`, `NUMBER`, or either with `:GROUP`); user 0 where it names none.
///
/// # Errors
/// [`Error::Account`] when an account is unusable or `user` names none, [`Error::Write`] when the files can't
/// be read or written. No link in the root is followed out of it.
pub fn add_accounts(root: &Path, users: &[User], groups: &[Group], user: Option<&str>) -> Result<RootUser, Error> {
    let folder = cap_std::fs::Dir::open_ambient_dir(root, cap_std::ambient_authority());
    let failed = |name: &str| Error::write(root.join(name).display().to_string());
    let folder = folder.map_err(failed(""))?;
    let mut brought = BTreeMap::new();
    for name in ["etc/passwd", "etc/group"] {
        match folder.read(name) {
            Ok(bytes) => drop(brought.insert(name.to_owned(), bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(name)(error)),
        }
    }
    let settings = Settings {
        users: users.to_vec(),
        groups: groups.to_vec(),
        run_as: user.map(str::to_owned),
        ..Settings::default()
    };
    let accounts = merge(&settings, &brought)?;
    if !users.is_empty() || !groups.is_empty() {
        folder.create_dir_all("etc").map_err(failed("etc"))?;
        for (name, text) in [("etc/passwd", &accounts.passwd), ("etc/group", &accounts.group)] {
            folder.write(name, text).map_err(failed(name))?;
        }
    }
    let Some(numbers) = run_as(&settings, &accounts)? else { return Ok(RootUser::default()) };
    let (id, group) = numbers.split_once(':').map_or((numbers.as_str(), None), |(id, group)| (id, Some(group)));
    let line = accounts.passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = line.into_iter().find(|fields| fields.get(2) == Some(&id)).unwrap_or_default();
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(RootUser {
        id: number(Some(id)),
        group: number(group.or_else(|| line.get(3).copied())),
        home: line.get(5).map(|home| (*home).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_added_to_what_is_there_and_the_user_is_found() {
        let root = tempfile::tempdir().unwrap();
        let user = User { name: "app".to_owned(), uid: 1000, gid: 1001, shell: None, home: None };
        let group = Group { name: "app".to_owned(), gid: 1001, members: Vec::new() };
        let add = |wanted| add_accounts(root.path(), std::slice::from_ref(&user), std::slice::from_ref(&group), wanted);
        assert_eq!(add(None).unwrap(), RootUser::default());
        let app = RootUser { id: 1000, group: 1001, home: Some("/home/app".to_owned()) };
        assert_eq!(add(Some("app")).unwrap(), app);
        assert_eq!(add(Some("1000")).unwrap(), app);
        assert_eq!(add(Some("1000:7")).unwrap().group, 7);
        assert_eq!(add(Some("5")).unwrap(), RootUser { id: 5, group: 0, home: None });
        assert!(add(Some("ghost")).is_err());
        let passwd = std::fs::read_to_string(root.path().join("etc/passwd")).unwrap();
        assert_eq!(passwd, "app:x:1000:1001:Account created by apko:/home/app:/bin/sh\n");
        std::fs::write(root.path().join("etc/passwd"), "bin:x:1:1::/:/bin/false\n").unwrap();
        assert_eq!(add_accounts(root.path(), &[], &[], Some("bin")).unwrap().group, 1);
        let outside = tempfile::tempdir().unwrap();
        let linked = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), linked.path().join("etc")).unwrap();
        assert!(add_accounts(linked.path(), std::slice::from_ref(&user), &[], None).is_err());
        assert!(!outside.path().join("passwd").exists());
    }
}

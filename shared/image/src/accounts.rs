use std::collections::BTreeMap;

use recipe::rules;

use crate::Error;
use crate::settings::{Group, Settings, User};
use crate::tree::{Kind, Node, Owner, Tree};

/// What apko remarks of the accounts that it adds, byte for byte.
const REMARK: &str = "Account created by apko";

/// The account files after the settings' users and groups were merged into the packages'.
pub(crate) struct Accounts {
    pub passwd: String,
    pub group: String,
}

/// Merges the settings' accounts into the content that packages brought for `/etc/passwd` and
/// `/etc/group`. A user or group that is there with the same number is replaced; with another
/// number it is an error.
pub(crate) fn merge(settings: &Settings, captured: &BTreeMap<String, Vec<u8>>) -> Result<Accounts, Error> {
    let mut passwd = lines(captured, "etc/passwd")?;
    for user in &settings.users {
        check_name(&user.name)?;
        if user.uid == 0 {
            return Err(wrong(&user.name, "its uid is 0; to run as root, say `run-as: 0`".to_owned()));
        }
        for (what, value) in [("shell", &user.shell), ("home directory", &user.home)] {
            let verdict = value.as_deref().map_or(Ok(()), rules::account_field);
            verdict.map_err(|problem| wrong(&user.name, format!("its {what}: {problem}")))?;
        }
        let line = format!(
            "{}:x:{}:{}:{REMARK}:{}:{}",
            user.name,
            user.uid,
            user.gid,
            home(user),
            user.shell.as_deref().unwrap_or("/bin/sh")
        );
        put(&mut passwd, &user.name, user.uid, line)?;
    }
    let mut group = lines(captured, "etc/group")?;
    for wanted in &settings.groups {
        check_name(&wanted.name)?;
        for member in &wanted.members {
            check_name(member)?;
        }
        put(&mut group, &wanted.name, wanted.gid, group_line(wanted))?;
    }
    Ok(Accounts { passwd: joined(&passwd), group: joined(&group) })
}

/// The numeric form of `run-as`, which runtimes and admission rules understand without the image's
/// `/etc/passwd`.
pub(crate) fn run_as(settings: &Settings, accounts: &Accounts) -> Result<Option<String>, Error> {
    let Some(text) = settings.run_as.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let root = (user == "root").then_some(0);
    let user = number(&accounts.passwd, user)
        .or(root)
        .ok_or_else(|| wrong(user, "`run-as` names a user that is not in /etc/passwd".to_owned()))?;
    match group {
        None => Ok(Some(user.to_string())),
        Some(group) => {
            let group = number(&accounts.group, group)
                .ok_or_else(|| wrong(group, "`run-as` names a group that is not in /etc/group".to_owned()))?;
            Ok(Some(format!("{user}:{group}")))
        }
    }
}

/// Creates the home directories of all users, those of packages included, that are not there.
pub(crate) fn homes(tree: &mut Tree, accounts: &Accounts, mtime: u64) -> Result<(), Error> {
    for line in accounts.passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, _] = fields.as_slice() else {
            return Err(wrong("/etc/passwd", format!("its line `{}` has not 7 fields", line.escape_debug())));
        };
        if matches!(*home, "/dev/null" | "") {
            continue;
        }
        let problem = |problem: String| wrong(name, format!("its home `{home}`: {problem}"));
        let inside = rules::absolute_path(home).map_err(|reason| problem(reason.to_owned()))?;
        let path = tree.follow(inside).map_err(problem)?;
        if tree.is_directory(&path) {
            continue;
        }
        if tree.get(&path).is_some() {
            return Err(problem("it is not a directory".to_owned()));
        }
        let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
            return Err(wrong(name, format!("`{uid}:{gid}` are no numbers of a user and a group")));
        };
        let mut node = Node::new(Kind::Directory, 0o700, mtime, Owner::Composition);
        (node.uid, node.gid) = (uid, gid);
        tree.insert(path, node, mtime);
    }
    Ok(())
}

fn home(user: &User) -> String {
    user.home.clone().unwrap_or_else(|| format!("/home/{}", user.name))
}

fn group_line(group: &Group) -> String {
    format!("{}:x:{}:{}", group.name, group.gid, group.members.join(","))
}

/// The lines of an account file, in order; none when no package brings the file.
fn lines(captured: &BTreeMap<String, Vec<u8>>, path: &str) -> Result<Vec<String>, Error> {
    let text = match captured.get(path) {
        None => "",
        Some(bytes) => std::str::from_utf8(bytes)
            .map_err(|_| wrong(&format!("/{path}"), "the packages' file is not UTF-8".to_owned()))?,
    };
    Ok(text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
}

fn put(lines: &mut Vec<String>, name: &str, id: u32, line: String) -> Result<(), Error> {
    let position = lines.iter().position(|line| line.split(':').next() == Some(name));
    match position.and_then(|position| lines.get_mut(position)) {
        None => lines.push(line),
        Some(known) => {
            let found = known.split(':').nth(2).unwrap_or_default();
            if found != id.to_string() {
                let problem = format!("it has number {found} in the packages' files, not {id}");
                return Err(wrong(name, problem));
            }
            *known = line;
        }
    }
    Ok(())
}

fn number(lines: &str, name: &str) -> Option<u32> {
    lines
        .lines()
        .find(|line| line.split(':').next() == Some(name))
        .and_then(|line| line.split(':').nth(2)?.parse().ok())
        .or_else(|| name.parse().ok())
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn check_name(name: &str) -> Result<(), Error> {
    rules::account_name(name).map_err(|problem| wrong(name, problem.to_owned()))
}

fn wrong(account: &str, problem: String) -> Error {
    Error::Account { account: account.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, uid: u32) -> User {
        User { name: name.to_owned(), uid, gid: uid, shell: None, home: None }
    }

    fn packages(passwd: &str) -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([("etc/passwd".to_owned(), passwd.as_bytes().to_vec())])
    }

    #[test]
    fn accounts_join_those_of_packages() {
        let settings = Settings {
            users: vec![user("redis", 65532)],
            groups: vec![Group { name: "redis".to_owned(), gid: 65532, members: vec!["redis".to_owned()] }],
            run_as: Some("redis:redis".to_owned()),
            ..Settings::default()
        };
        let accounts = merge(&settings, &packages("root:x:0:0:root:/root:/bin/ash\n")).unwrap();
        assert_eq!(
            accounts.passwd,
            "root:x:0:0:root:/root:/bin/ash\nredis:x:65532:65532:Account created by apko:/home/redis:/bin/sh\n"
        );
        assert_eq!(accounts.group, "redis:x:65532:redis\n");
        assert_eq!(run_as(&settings, &accounts).unwrap().as_deref(), Some("65532:65532"));
    }

    #[test]
    fn clashes_and_unknown_users_are_refused() {
        let mut settings = Settings { users: vec![user("root", 5)], ..Settings::default() };
        let error = merge(&settings, &packages("root:x:0:0:root:/root:/bin/ash\n")).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("number 0"), "{error}");
        settings.users = vec![user("second-root", 0)];
        let error = merge(&settings, &BTreeMap::new()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("run-as: 0"), "{error}");
        for name in ["", "-x", "a:b", "a b"] {
            settings.users = vec![user(name, 1)];
            assert!(merge(&settings, &BTreeMap::new()).is_err(), "{name:?}");
        }
        settings.users.clear();
        settings.run_as = Some("ghost".to_owned());
        let accounts = merge(&settings, &BTreeMap::new()).unwrap();
        assert!(run_as(&settings, &accounts).is_err());
        settings.run_as = Some("1234".to_owned());
        assert_eq!(run_as(&settings, &accounts).unwrap().as_deref(), Some("1234"));
    }
}

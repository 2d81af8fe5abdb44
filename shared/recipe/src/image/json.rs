//! `/etc/apko.json`: the configuration that an image was made of, as apko writes it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::validate::ARCHITECTURES;
use super::{ImageConfiguration, KeyEntry, NamedContent, PathKind};
use crate::text::Text;

impl ImageConfiguration {
    /// The configuration as JSON, on one line: the keys in apko's order, empty ones left out, `<`, `>`
    /// and `&` escaped as Go escapes them. The passwords of repository and key addresses are replaced
    /// by `xxxxx`.
    ///
    /// # Errors
    /// When JSON can't be written.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(&Document::of(self))?;
        for (plain, escaped) in
            [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029")]
        {
            text = text.replace(plain, escaped);
        }
        text.push('\n');
        Ok(text)
    }
}

/// Go's `omitempty`.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Document<'a> {
    contents: Contents<'a>,
    entrypoint: Entrypoint<'a>,
    #[serde(skip_serializing_if = "is_default")]
    cmd: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    stop_signal: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    work_dir: &'a str,
    accounts: Accounts<'a>,
    #[serde(skip_serializing_if = "is_default")]
    archs: Vec<&'a str>,
    #[serde(skip_serializing_if = "is_default")]
    environment: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<PathMutation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    os_release: Option<BTreeMap<&'a str, &'a str>>,
    #[serde(skip_serializing_if = "is_default")]
    vcs_url: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    annotations: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "is_default")]
    include: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    volumes: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layering: Option<Layering<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificates: Option<Certificates<'a>>,
}

#[derive(Serialize)]
struct Contents<'a> {
    #[serde(skip_serializing_if = "is_default")]
    build_repositories: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    runtime_repositories: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    repositories: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keyring: Vec<Key<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runtime_keyring: Vec<Key<'a>>,
    #[serde(skip_serializing_if = "is_default")]
    packages: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseimage: Option<BaseImage<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Key<'a> {
    Location(String),
    Inline { content: &'a str, name: &'a str },
}

#[derive(Serialize)]
struct BaseImage<'a> {
    image: &'a str,
    apkindex: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Entrypoint<'a> {
    #[serde(rename = "type", skip_serializing_if = "is_default")]
    kind: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    command: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    shell_fragment: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    services: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Accounts<'a> {
    #[serde(skip_serializing_if = "is_default")]
    run_as: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<User<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
struct User<'a> {
    username: &'a str,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    shell: &'a str,
    homedir: String,
}

#[derive(Serialize)]
struct Group<'a> {
    groupname: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    gid: u32,
    #[serde(skip_serializing_if = "is_default")]
    members: Vec<&'a str>,
}

#[derive(Serialize)]
struct PathMutation<'a> {
    path: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    permissions: u32,
    #[serde(skip_serializing_if = "is_default")]
    source: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    recursive: bool,
}

#[derive(Serialize)]
struct Layering<'a> {
    #[serde(skip_serializing_if = "is_default")]
    strategy: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    budget: u64,
}

#[derive(Serialize)]
struct Certificates<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    additional: Vec<Certificate<'a>>,
    #[serde(skip_serializing_if = "is_default")]
    providers: Vec<&'a str>,
}

#[derive(Serialize)]
struct Certificate<'a> {
    name: &'a str,
    content: &'a str,
}

impl<'a> Document<'a> {
    fn of(configuration: &'a ImageConfiguration) -> Self {
        let ImageConfiguration { contents, entrypoint, accounts, certificates, .. } = configuration;
        let certified = !certificates.additional.is_empty() || !certificates.providers.is_empty();
        Self {
            contents: Contents {
                build_repositories: addresses(&contents.build_repositories),
                runtime_repositories: addresses(&contents.runtime_repositories),
                repositories: addresses(&contents.repositories),
                keyring: contents.keyring.iter().map(Key::of).collect(),
                runtime_keyring: contents.runtime_keyring.iter().map(Key::inline).collect(),
                packages: texts(&contents.packages),
                baseimage: contents
                    .base_image
                    .as_ref()
                    .map(|base| BaseImage { image: &base.image, apkindex: &base.apk_index }),
            },
            entrypoint: Entrypoint {
                kind: text(&entrypoint.kind),
                command: text(&entrypoint.command),
                shell_fragment: text(&entrypoint.shell_fragment),
                services: pairs(&entrypoint.services),
            },
            cmd: text(&configuration.command),
            stop_signal: text(&configuration.stop_signal),
            work_dir: text(&configuration.working_directory),
            accounts: Accounts {
                run_as: text(&accounts.run_as),
                users: accounts.users.iter().map(User::of).collect(),
                groups: accounts
                    .groups
                    .iter()
                    .map(|group| Group { groupname: &group.name, gid: group.gid, members: texts(&group.members) })
                    .collect(),
            },
            archs: configuration.architectures.iter().map(|name| architecture(name)).collect(),
            environment: pairs(&configuration.environment),
            paths: configuration.paths.iter().map(PathMutation::of).collect(),
            os_release: configuration.os_release.as_ref().map(|release| {
                let values = [
                    ("id", &release.id),
                    ("name", &release.name),
                    ("pretty-name", &release.pretty_name),
                    ("version-id", &release.version_id),
                    ("home-url", &release.home_url),
                    ("bug-report-url", &release.bug_report_url),
                ];
                values
                    .into_iter()
                    .map(|(key, value)| (key, text(value)))
                    .filter(|(_, value)| !value.is_empty())
                    .collect()
            }),
            vcs_url: text(&configuration.vcs_url),
            annotations: pairs(&configuration.annotations),
            include: text(&configuration.include),
            volumes: texts(&configuration.volumes),
            layering: configuration
                .layering
                .as_ref()
                .map(|layering| Layering { strategy: text(&layering.strategy), budget: layering.budget.unwrap_or(0) }),
            certificates: certified.then(|| Certificates {
                additional: certificates
                    .additional
                    .iter()
                    .map(|certificate| Certificate { name: &certificate.name, content: &certificate.content })
                    .collect(),
                providers: texts(&certificates.providers),
            }),
        }
    }
}

impl<'a> Key<'a> {
    fn of(key: &'a KeyEntry) -> Self {
        match key {
            KeyEntry::Location(location) => Self::Location(without_password(location)),
            KeyEntry::Inline(key) => Self::inline(key),
        }
    }

    fn inline(key: &'a NamedContent) -> Self {
        Self::Inline { content: &key.content, name: &key.name }
    }
}

impl<'a> User<'a> {
    fn of(user: &'a super::User) -> Self {
        let home = text(&user.home);
        Self {
            username: &user.name,
            uid: user.uid,
            gid: user.gid,
            shell: text(&user.shell),
            homedir: if home.is_empty() { format!("/home/{}", user.name) } else { home.to_owned() },
        }
    }
}

impl<'a> PathMutation<'a> {
    fn of(mutation: &'a super::PathMutation) -> Self {
        Self {
            path: &mutation.path,
            kind: match mutation.kind {
                PathKind::Directory => "directory",
                PathKind::EmptyFile => "empty-file",
                PathKind::HardLink => "hardlink",
                PathKind::SymbolicLink => "symlink",
                PathKind::Permissions => "permissions",
            },
            uid: mutation.uid,
            gid: mutation.gid,
            permissions: mutation.permissions.unwrap_or(0),
            source: text(&mutation.source),
            recursive: mutation.recursive,
        }
    }
}

fn text(text: &Option<Text>) -> &str {
    text.as_ref().map_or("", Text::as_str)
}

fn texts(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(Text::as_str).collect()
}

fn pairs(pairs: &[(Text, Text)]) -> BTreeMap<&str, &str> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn architecture(name: &str) -> &str {
    ARCHITECTURES.iter().find(|(known, _)| *known == name).map_or(name, |(_, oci)| oci)
}

fn addresses(lines: &[Text]) -> Vec<String> {
    lines.iter().map(|line| without_password(line.trim_end_matches('/'))).collect()
}

/// Images are read by more people than the address was given to.
fn without_password(address: &str) -> String {
    let hidden = || {
        let (scheme, rest) = address.split_once("://")?;
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        let (login, host) = authority.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        let path = path.map(|path| format!("/{path}")).unwrap_or_default();
        Some(format!("{scheme}://{user}:xxxxx@{host}{path}"))
    };
    hidden().unwrap_or_else(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(yaml: &str) -> String {
        ImageConfiguration::parse(yaml, "apko.yaml").unwrap().to_json().unwrap()
    }

    #[test]
    fn a_configuration_is_written_as_apko_writes_it() {
        assert_eq!(
            json(
                "contents: {keyring: [./melange.rsa.pub], repositories: [./packages/], packages: [replayout]}
entrypoint: {command: /bin/sh -l}
paths: [{path: /run/nginx, type: directory, uid: 10000, gid: 0, permissions: 0o755}]
archs: [x86_64, aarch64]
accounts: {run-as: 1, users: [{username: app, uid: 1}], groups: [{groupname: app, gid: 1}]}
environment: {B: '1', A: a<b}
"
            ),
            "{\"contents\":{\"repositories\":[\"./packages\"],\"keyring\":[\"./melange.rsa.pub\"],\
             \"packages\":[\"replayout\"]},\"entrypoint\":{\"command\":\"/bin/sh -l\"},\
             \"accounts\":{\"run-as\":\"1\",\"users\":[{\"username\":\"app\",\"uid\":1,\"homedir\":\"/home/app\"}],\
             \"groups\":[{\"groupname\":\"app\",\"gid\":1}]},\"archs\":[\"amd64\",\"arm64\"],\
             \"environment\":{\"A\":\"a\\u003cb\",\"B\":\"1\"},\
             \"paths\":[{\"path\":\"/run/nginx\",\"type\":\"directory\",\"uid\":10000,\"gid\":0,\"permissions\":493}]}\n"
        );
        assert_eq!(json(""), "{\"contents\":{},\"entrypoint\":{},\"accounts\":{}}\n");
    }

    #[test]
    fn passwords_do_not_get_into_images() {
        let text = json("contents: {build_repositories: ['https://me:secret@packages.example/os']}");
        assert!(text.contains("https://me:xxxxx@packages.example/os"), "{text}");
        assert_eq!(without_password("@edge https://h/os"), "@edge https://h/os");
        assert_eq!(without_password("@edge https://u:p@h/os"), "@edge https://u:xxxxx@h/os");
    }
}

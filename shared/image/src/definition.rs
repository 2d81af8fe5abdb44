use recipe::{ImageConfiguration, Text};

use crate::Error;
use crate::compress::Compression;
use crate::layering::Layering;
use crate::settings::{
    Certificate, Distribution, Entrypoint, Group, Key, OsRelease, PathKind, PathMutation, Settings, User,
};

impl Settings {
    /// The settings that an image definition states.
    ///
    /// `keys` are the files of the definition's `contents.keyring`, loaded by the caller; those of
    /// `runtime_keyring` are added. `/etc/apk/repositories` gets `repositories` and
    /// `runtime_repositories`. `include` must have been merged before.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a base image, packages of ecosystems, another file system than tar,
    /// and an `include` that is still there.
    pub fn from_definition(definition: &ImageConfiguration, keys: Vec<Key>) -> Result<Self, Error> {
        if definition.contents.base_image.is_some() {
            let advice = "it is composed on the base that it names";
            return Err(Error::Unsupported { setting: "contents.baseimage", advice });
        }
        Self::over_base(definition, keys)
    }

    /// As [`Settings::from_definition`], for an image that [`crate::compose_on`] composes on the base that the
    /// definition names. Such a definition states no accounts, paths, environment or annotations, and nothing of
    /// how a container starts.
    ///
    /// # Errors
    /// As [`Settings::from_definition`], but for a base image.
    pub fn over_base(definition: &ImageConfiguration, keys: Vec<Key>) -> Result<Self, Error> {
        refuse_unsupported(definition)?;
        let json = definition
            .to_json()
            .map_err(|error| Error::Document { document: "apko.json", reason: error.to_string() })?;
        let contents = &definition.contents;
        let mut keys = keys;
        keys.extend(
            contents.runtime_keyring.iter().map(|key| Key { name: text(&key.name), content: text(&key.content) }),
        );
        let mut annotations = pairs(&definition.annotations);
        if let Some(vcs) = definition.vcs_url.as_deref()
            && let Some((url, revision)) = vcs.rsplit_once('@')
        {
            for (name, value) in [("source", url), ("revision", revision)] {
                let name = format!("org.opencontainers.image.{name}");
                annotations.retain(|(known, _)| *known != name);
                annotations.push((name, value.to_owned()));
            }
        }
        Ok(Self {
            distribution: Distribution::default(),
            world: texts(&contents.packages),
            repositories: contents
                .repositories
                .iter()
                .chain(&contents.runtime_repositories)
                .map(|line| line.trim_end_matches('/').to_owned())
                .collect(),
            keys,
            users: definition.accounts.users.iter().map(user).collect(),
            groups: definition
                .accounts
                .groups
                .iter()
                .map(|group| Group { name: text(&group.name), gid: group.gid, members: texts(&group.members) })
                .collect(),
            run_as: definition.accounts.run_as.as_ref().map(text),
            paths: definition.paths.iter().map(mutation).collect(),
            services: pairs(&definition.entrypoint.services),
            certificates: definition
                .certificates
                .additional
                .iter()
                .map(|certificate| Certificate { name: text(&certificate.name), content: text(&certificate.content) })
                .collect(),
            certificate_providers: texts(&definition.certificates.providers),
            os_release: definition.os_release.as_ref().map(os_release),
            layering: definition
                .layering
                .as_ref()
                .filter(|layering| layering.strategy.is_some())
                .map(|layering| Layering { budget: layering.budget.unwrap_or(0) }),
            compression: Compression::default(),
            entrypoint: match (&definition.entrypoint.shell_fragment, &definition.entrypoint.command) {
                (Some(fragment), _) if !fragment.is_empty() => Entrypoint::ShellFragment(text(fragment)),
                (_, Some(command)) if !command.is_empty() => Entrypoint::Command(text(command)),
                _ => Entrypoint::None,
            },
            command: stated(definition.command.as_ref()),
            working_directory: stated(definition.working_directory.as_ref()),
            stop_signal: stated(definition.stop_signal.as_ref()),
            volumes: texts(&definition.volumes),
            environment: pairs(&definition.environment),
            annotations,
            definition: Some(json),
        })
    }
}

fn refuse_unsupported(definition: &ImageConfiguration) -> Result<(), Error> {
    let refused = [
        (
            !definition.contents.ecosystems.is_empty(),
            "contents.ecosystems",
            "images hold apk packages only; build these as apk packages, or take them out",
        ),
        (definition.include.is_some(), "include", "it must be merged before composing"),
        (
            definition.format.as_deref().is_some_and(|format| !matches!(format, "" | "tar")),
            "format",
            "layers are tar; leave it out",
        ),
    ];
    match refused.into_iter().find(|(refused, ..)| *refused) {
        Some((_, setting, advice)) => Err(Error::Unsupported { setting, advice }),
        None => Ok(()),
    }
}

fn os_release(release: &recipe::OsRelease) -> OsRelease {
    let value = |value: &Option<Text>| value.as_ref().map(text).unwrap_or_default();
    OsRelease {
        id: value(&release.id),
        name: value(&release.name),
        pretty_name: value(&release.pretty_name),
        version_id: value(&release.version_id),
        home_url: value(&release.home_url),
        bug_report_url: value(&release.bug_report_url),
    }
}

fn user(user: &recipe::User) -> User {
    User {
        name: text(&user.name),
        uid: user.uid,
        gid: user.gid.unwrap_or(user.uid),
        shell: stated(user.shell.as_ref()),
        home: stated(user.home.as_ref()),
    }
}

fn mutation(mutation: &recipe::PathMutation) -> PathMutation {
    PathMutation {
        path: from_root(&mutation.path),
        kind: match mutation.kind {
            recipe::PathKind::Directory => PathKind::Directory,
            recipe::PathKind::EmptyFile => PathKind::EmptyFile,
            recipe::PathKind::HardLink => PathKind::Hardlink,
            recipe::PathKind::SymbolicLink => PathKind::Symlink,
            recipe::PathKind::Permissions => PathKind::Permissions,
        },
        uid: mutation.uid,
        gid: mutation.gid,
        permissions: mutation.permissions,
        source: match mutation.kind {
            recipe::PathKind::HardLink => mutation.source.as_deref().map(from_root),
            _ => mutation.source.as_ref().map(text),
        },
        recursive: mutation.recursive,
    }
}

/// apko takes paths from the root whether they say so or not.
fn from_root(path: &str) -> String {
    format!("/{}", path.strip_prefix('/').unwrap_or(path))
}

fn stated(value: Option<&Text>) -> Option<String> {
    value.filter(|value| !value.is_empty()).map(text)
}

fn text(value: &Text) -> String {
    value.as_str().to_owned()
}

fn texts(values: &[Text]) -> Vec<String> {
    values.iter().map(text).collect()
}

fn pairs(values: &[(Text, Text)]) -> Vec<(String, String)> {
    values.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str) -> Result<Settings, Error> {
        Settings::from_definition(&ImageConfiguration::parse(yaml, "apko.yaml").unwrap(), Vec::new())
    }

    #[test]
    fn a_definition_becomes_settings() {
        let settings = settings(
            "contents:
  repositories: ['https://packages.example/os']
  runtime_repositories: ['https://mirror.example/os']
  build_repositories: ['./packages']
  packages: [redis=8.2.1-r0, busybox]
entrypoint:
  command: /usr/bin/redis-server --port 6379
cmd: /etc/redis.conf
accounts:
  run-as: redis
  users: [{username: redis, uid: 65532}]
  groups: [{groupname: redis, gid: 65532}]
paths:
  - {path: /data, type: directory, uid: 65532, gid: 65532, permissions: 0o750}
environment: {A: b}
vcs-url: https://code.example/x@abc
annotations: {org.opencontainers.image.title: redis}
",
        )
        .unwrap();
        assert_eq!(settings.repositories, ["https://packages.example/os", "https://mirror.example/os"]);
        assert_eq!(settings.world, ["redis=8.2.1-r0", "busybox"]);
        assert_eq!(settings.entrypoint, Entrypoint::Command("/usr/bin/redis-server --port 6379".to_owned()));
        assert_eq!(settings.users.first().map(|user| user.gid), Some(65532));
        assert_eq!(settings.paths.first().and_then(|path| path.permissions), Some(0o750));
        assert!(settings.annotations.contains(&("org.opencontainers.image.revision".to_owned(), "abc".to_owned())));
    }

    #[test]
    fn what_is_not_built_yet_is_refused_by_name() {
        for (yaml, setting) in [
            ("contents: {baseimage: {image: ./x, apkindex: ./y}}", "contents.baseimage"),
            ("format: erofs", "format"),
            ("include: other.yaml", "include"),
        ] {
            let error = settings(yaml).unwrap_err();
            assert!(error.to_string().contains(setting), "{error}");
        }
    }
}

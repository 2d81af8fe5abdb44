//! What the format's types leave open: values that no image can be made of, each with its place.

use std::collections::BTreeMap;

use super::{ImageConfiguration, KeyEntry, NamedContent, PathKind};
use crate::error::{Error, nearest};
use crate::rules;
use crate::text::{Location, Text};

/// The architectures that apko knows, by every name it takes, and their OCI names.
pub(super) const ARCHITECTURES: [(&str, &str); 15] = [
    ("386", "386"),
    ("x86", "386"),
    ("amd64", "amd64"),
    ("x86_64", "amd64"),
    ("arm64", "arm64"),
    ("aarch64", "arm64"),
    ("arm/v6", "arm/v6"),
    ("armhf", "arm/v6"),
    ("arm/v7", "arm/v7"),
    ("armv7", "arm/v7"),
    ("loong64", "loong64"),
    ("loongarch64", "loong64"),
    ("ppc64le", "ppc64le"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
];
const COMPRESSORS: [&str; 4] = ["zstd", "lz4", "lz4hc", "deflate"];

/// Refuses values that no image can be made of.
pub(super) fn validate(configuration: &ImageConfiguration, file: &str) -> Result<(), Error> {
    let check = Check { file };
    check.contents(configuration)?;
    check.start(configuration)?;
    check.accounts(configuration)?;
    check.files(configuration)?;
    check.about(configuration)?;
    match beside_base(configuration) {
        None => Ok(()),
        Some((field, value)) => check.of(field, value, Err::<(), _>(BESIDE_BASE)),
    }
}

impl ImageConfiguration {
    /// Refuses what a factory can't keep up to date day by day: an image is due when its packages differ from
    /// the last lock, and no lock says on which base it stands, nor is a folder of the catalog's machine there
    /// for others. `file` is the name that errors give.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a `contents.baseimage`.
    pub fn check_for_catalog(&self, file: &str) -> Result<(), Error> {
        let Some(base) = &self.contents.base_image else { return Ok(()) };
        let reason = "an image of a catalog stands on no base: plans compare packages, and would not see that the base changed; list its packages under `contents.packages`, or build the file with `mill image build FILE --lockfile LOCK`";
        Check { file }.of("contents.baseimage.image", &base.image, Err::<(), _>(reason))
    }
}

/// Why [`beside_base`] refuses a value.
pub(super) const BESIDE_BASE: &str =
    "an image on a `contents.baseimage` starts, and is laid out, as its base does; take this out, or the base";

/// What a configuration states that is the base's to say, with its field: apko takes nothing but packages and
/// what belongs to them on top of a base.
pub(super) fn beside_base(configuration: &ImageConfiguration) -> Option<(&'static str, &Text)> {
    configuration.contents.base_image.as_ref()?;
    let entrypoint = &configuration.entrypoint;
    let accounts = &configuration.accounts;
    let layering = configuration.layering.as_ref();
    let stated = [
        ("entrypoint.type", entrypoint.kind.as_ref()),
        ("entrypoint.command", entrypoint.command.as_ref()),
        ("entrypoint.shell-fragment", entrypoint.shell_fragment.as_ref()),
        ("entrypoint.services", entrypoint.services.first().map(|(name, _)| name)),
        ("cmd", configuration.command.as_ref()),
        ("stop-signal", configuration.stop_signal.as_ref()),
        ("work-dir", configuration.working_directory.as_ref()),
        ("accounts.run-as", accounts.run_as.as_ref()),
        ("accounts.users", accounts.users.first().map(|user| &user.name)),
        ("accounts.groups", accounts.groups.first().map(|group| &group.name)),
        ("environment", configuration.environment.first().map(|(name, _)| name)),
        ("paths", configuration.paths.first().map(|mutation| &mutation.path)),
        ("annotations", configuration.annotations.first().map(|(name, _)| name)),
        ("layering.strategy", layering.and_then(|layering| layering.strategy.as_ref())),
    ];
    let stated = stated.into_iter().filter_map(|(field, value)| Some((field, value?)));
    let mut stated = stated.filter(|(_, value)| !value.is_empty());
    stated.next()
}

struct Check<'f> {
    file: &'f str,
}

impl Check<'_> {
    /// Passes a rule's verdict on, with the value's place.
    fn of<T, R: ToString>(&self, field: &str, value: &Text, verdict: Result<T, R>) -> Result<(), Error> {
        self.at(field, value, &value.value, verdict)
    }

    /// As [`Check::of`], for a value that stands beside `place`.
    fn at<T, R: ToString>(&self, field: &str, place: &Text, value: &str, verdict: Result<T, R>) -> Result<(), Error> {
        verdict.map(drop).map_err(|reason| Error::Invalid {
            location: Location::new(self.file, place.position),
            field: field.to_owned(),
            value: value.escape_debug().to_string(),
            reason: reason.to_string(),
        })
    }

    fn once(&self, field: &str, names: &[&Text]) -> Result<(), Error> {
        let mut seen = BTreeMap::new();
        for name in names {
            if let Some(line) = seen.insert(name.as_str(), name.position.line) {
                self.of(field, name, Err::<(), _>(format!("it is named twice, first on line {line}; keep one")))?;
            }
        }
        Ok(())
    }

    fn contents(&self, configuration: &ImageConfiguration) -> Result<(), Error> {
        let contents = &configuration.contents;
        for (number, package) in contents.packages.iter().enumerate() {
            self.of(&format!("contents.packages[{number}]"), package, package.parse::<apk::Dependency>())?;
        }
        let inline = contents.keyring.iter().filter_map(|key| match key {
            KeyEntry::Inline(key) => Some(key),
            KeyEntry::Location(_) => None,
        });
        for (list, keys) in [
            ("contents.keyring", inline.collect::<Vec<_>>()),
            ("contents.runtime_keyring", contents.runtime_keyring.iter().collect()),
        ] {
            for key in &keys {
                self.named(list, key, "PUBLIC KEY")?;
            }
            self.once(&format!("{list}[].name"), &keys.iter().map(|key| &key.name).collect::<Vec<_>>())?;
        }
        for architecture in &configuration.architectures {
            let name = architecture.as_str();
            let known = ARCHITECTURES.map(|(known, _)| known);
            if !known.contains(&name) && !matches!(name, "all" | "host") {
                let near = nearest(name, known);
                let near = near.first().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let reason = format!("no such architecture{near} For example `x86_64`, `aarch64`, `all` or `host`");
                self.of("archs", architecture, Err::<(), _>(reason))?;
            }
        }
        Ok(())
    }

    /// A file given by name and content, which is one PEM block.
    fn named(&self, list: &str, named: &NamedContent, label: &str) -> Result<(), Error> {
        self.of(&format!("{list}[].name"), &named.name, rules::file_name(&named.name))?;
        let shown = format!("the content of `{}`", named.name);
        self.at(&format!("{list}[].content"), &named.content, &shown, rules::one_pem(&named.content, label))
    }

    fn start(&self, configuration: &ImageConfiguration) -> Result<(), Error> {
        let entrypoint = &configuration.entrypoint;
        for (field, line) in [("entrypoint.command", &entrypoint.command), ("cmd", &configuration.command)] {
            if let Some(line) = line {
                self.of(field, line, rules::command_line(line))?;
            }
        }
        for (name, _) in &entrypoint.services {
            self.of("entrypoint.services", name, rules::file_name(name))?;
        }
        if let Some(signal) = configuration.stop_signal.as_ref().filter(|signal| !signal.is_empty()) {
            self.of("stop-signal", signal, rules::stop_signal(signal))?;
        }
        if let Some(folder) = configuration.working_directory.as_ref().filter(|folder| !folder.is_empty()) {
            self.of("work-dir", folder, rules::absolute_path(folder))?;
        }
        for (number, volume) in configuration.volumes.iter().enumerate() {
            self.of(&format!("volumes[{number}]"), volume, rules::absolute_path(volume))?;
        }
        for (name, _) in &configuration.environment {
            self.of("environment", name, rules::environment_name(name))?;
        }
        Ok(())
    }

    fn accounts(&self, configuration: &ImageConfiguration) -> Result<(), Error> {
        let accounts = &configuration.accounts;
        for (number, user) in accounts.users.iter().enumerate() {
            let at = |field: &str| format!("accounts.users[{number}].{field}");
            self.of(&at("username"), &user.name, rules::account_name(&user.name))?;
            let root = if user.uid == 0 {
                Err("a user's number is 1 or more; to run as root, say `run-as: 0`")
            } else {
                Ok(())
            };
            self.at(&at("uid"), &user.name, "0", root)?;
            for (field, value) in [("shell", &user.shell), ("homedir", &user.home)] {
                if let Some(value) = value {
                    self.of(&at(field), value, rules::account_field(value))?;
                }
            }
            if let Some(home) = user.home.as_ref().filter(|home| !home.is_empty()) {
                self.of(&at("homedir"), home, rules::absolute_path(home))?;
            }
        }
        self.once("accounts.users[].username", &accounts.users.iter().map(|user| &user.name).collect::<Vec<_>>())?;
        for (number, group) in accounts.groups.iter().enumerate() {
            let at = |field: &str| format!("accounts.groups[{number}].{field}");
            self.of(&at("groupname"), &group.name, rules::account_name(&group.name))?;
            for member in &group.members {
                self.of(&at("members"), member, rules::account_name(member))?;
            }
        }
        self.once("accounts.groups[].groupname", &accounts.groups.iter().map(|group| &group.name).collect::<Vec<_>>())
    }

    fn files(&self, configuration: &ImageConfiguration) -> Result<(), Error> {
        for (number, mutation) in configuration.paths.iter().enumerate() {
            let at = |field: &str| format!("paths[{number}].{field}");
            self.of(&at("path"), &mutation.path, rules::path_in_root(&mutation.path))?;
            if let Some(mode) = mutation.permissions {
                self.at(&at("permissions"), &mutation.path, &format!("0o{mode:o}"), rules::permissions(mode))?;
            }
            if let (PathKind::HardLink, Some(source)) = (mutation.kind, &mutation.source) {
                self.of(&at("source"), source, rules::path_in_root(source))?;
            }
        }
        for certificate in &configuration.certificates.additional {
            self.named("certificates.additional", certificate, "CERTIFICATE")?;
        }
        Ok(())
    }

    fn about(&self, configuration: &ImageConfiguration) -> Result<(), Error> {
        for (name, _) in &configuration.annotations {
            let verdict = if name.is_empty() { Err("an annotation has a name") } else { Ok(()) };
            self.of("annotations", name, verdict)?;
        }
        if let Some(format) = &configuration.format {
            let known = match format.split_once('+') {
                None => matches!(format.as_str(), "" | "tar" | "erofs"),
                Some((base, compression)) => {
                    let compressor = compression.split(',').next().unwrap_or_default();
                    base == "erofs" && COMPRESSORS.contains(&compressor)
                }
            };
            let reason = "layers are `tar` or `erofs`, the latter with `+zstd`, `+lz4`, `+lz4hc` or `+deflate`";
            self.of("format", format, if known { Ok(()) } else { Err(reason) })?;
        }
        let Some(release) = &configuration.os_release else { return Ok(()) };
        for (field, value, bare) in [
            ("id", &release.id, true),
            ("name", &release.name, false),
            ("pretty-name", &release.pretty_name, false),
            ("version-id", &release.version_id, true),
            ("home-url", &release.home_url, false),
            ("bug-report-url", &release.bug_report_url, false),
        ] {
            if let Some(value) = value {
                self.of(&format!("os-release.{field}"), value, rules::os_release(value, bare))?;
            }
        }
        Ok(())
    }
}

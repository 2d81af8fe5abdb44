use recipe::rules;

use crate::Error;
use crate::compress::Compression;
use crate::layering::Layering;

/// What an image holds beside its packages, and how a container of it starts.
///
/// The fields mean what apko's of the same name mean. Everything is given as values: nothing is
/// read from files or the environment.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Written to `/etc/os-release` if no package brings one.
    pub distribution: Distribution,
    /// The wanted packages, for `/etc/apk/world`.
    pub world: Vec<String>,
    /// Lines of `/etc/apk/repositories`.
    pub repositories: Vec<String>,
    /// Files of `/etc/apk/keys`.
    pub keys: Vec<Key>,
    /// Users for `/etc/passwd`.
    pub users: Vec<User>,
    /// Groups for `/etc/group`.
    pub groups: Vec<Group>,
    /// User that the container runs as: a name of `/etc/passwd` or a number, `:` and a group
    /// if wanted.
    pub run_as: Option<String>,
    /// Changes to the file tree, in order.
    pub paths: Vec<PathMutation>,
    /// What a container starts.
    pub entrypoint: Entrypoint,
    /// Arguments after the entrypoint, one line as a shell would split it.
    pub command: Option<String>,
    /// Working directory, absolute.
    pub working_directory: Option<String>,
    /// Signal that asks a container to stop, for example `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// Absolute paths that are volumes.
    pub volumes: Vec<String>,
    /// Environment variables. `PATH` and `SSL_CERT_FILE` have values of their own unless given.
    pub environment: Vec<(String, String)>,
    /// Services under s6: name and command.
    pub services: Vec<(String, String)>,
    /// Certificates for the image's trust store.
    pub certificates: Vec<Certificate>,
    /// What packages provide whose certificates the image trusts, as their `provides` have it.
    pub certificate_providers: Vec<String>,
    /// Takes the place of whatever `/etc/os-release` packages bring.
    pub os_release: Option<OsRelease>,
    /// How packages are spread over layers; `None` for a single layer.
    pub layering: Option<Layering>,
    /// How layers are compressed.
    pub compression: Compression,
    /// Annotations of the manifest, which are also the labels of the configuration.
    pub annotations: Vec<(String, String)>,
    /// Content of `/etc/apko.json`; `None` for no such file.
    pub definition: Option<String>,
}

/// A certificate to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// One X.509 certificate, PEM.
    pub content: String,
}

/// What `/etc/os-release` says; empty values are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID`.
    pub id: String,
    /// `NAME`.
    pub name: String,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// `VERSION_ID`.
    pub version_id: String,
    /// `HOME_URL`.
    pub home_url: String,
    /// `BUG_REPORT_URL`.
    pub bug_report_url: String,
}

impl OsRelease {
    pub(crate) fn text(&self) -> Result<String, Error> {
        let mut text = String::new();
        for (name, value, bare) in [
            ("ID", &self.id, true),
            ("NAME", &self.name, false),
            ("PRETTY_NAME", &self.pretty_name, false),
            ("VERSION_ID", &self.version_id, true),
            ("HOME_URL", &self.home_url, false),
            ("BUG_REPORT_URL", &self.bug_report_url, false),
        ] {
            if value.is_empty() {
                continue;
            }
            rules::os_release(value, bare).map_err(|problem| Error::Setting {
                setting: "os-release",
                value: value.escape_debug().to_string(),
                problem: problem.to_owned(),
            })?;
            text.push_str(&if bare { format!("{name}={value}\n") } else { format!("{name}=\"{value}\"\n") });
        }
        Ok(text)
    }
}

/// The distribution that `/etc/os-release` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`.
    pub id: String,
    /// `NAME`.
    pub name: String,
    /// `VERSION_ID`; empty for none.
    pub version: String,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { id: "minimill".to_owned(), name: "Minimill".to_owned(), version: String::new() }
    }
}

/// A public key that the image trusts for packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// File name below `/etc/apk/keys`, for example `factory.rsa.pub`.
    pub name: String,
    /// Content of the file.
    pub content: String,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Shell; `/bin/sh` when `None`.
    pub shell: Option<String>,
    /// Home directory; `/home/NAME` when `None`. It is created, owned by the user with mode 0700,
    /// unless it exists or is `/dev/null`.
    pub home: Option<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group number.
    pub gid: u32,
    /// User names.
    pub members: Vec<String>,
}

/// What a container starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Entrypoint {
    /// Nothing: `cmd`, or what the person who starts the container says.
    #[default]
    None,
    /// One line as a shell would split it, run without a shell.
    Command(String),
    /// Run by `/bin/sh -c`.
    ShellFragment(String),
}

/// What to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// Create a directory, with its parents.
    Directory,
    /// Create an empty file, or empty the one that is there.
    EmptyFile,
    /// Create another name for the regular file `source`.
    Hardlink,
    /// Create a symbolic link to `source`.
    Symlink,
    /// Change owner and mode of what is there.
    Permissions,
}

impl PathKind {
    /// The name in an image definition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::EmptyFile => "empty-file",
            Self::Hardlink => "hardlink",
            Self::Symlink => "symlink",
            Self::Permissions => "permissions",
        }
    }
}

/// One change to the file tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMutation {
    /// Absolute path in the image.
    pub path: String,
    /// What to do.
    pub kind: PathKind,
    /// Owner. Where only the group is given it is 0; where neither is, nothing changes.
    pub uid: Option<u32>,
    /// Group. Where only the owner is given it is 0; where neither is, nothing changes.
    pub gid: Option<u32>,
    /// Mode bits up to 0o7777. When `None`: 0755 for a new directory, 0644 for a new file, and no
    /// change for what exists.
    pub permissions: Option<u32>,
    /// Source of a link.
    pub source: Option<String>,
    /// Also everything below a directory.
    pub recursive: bool,
}

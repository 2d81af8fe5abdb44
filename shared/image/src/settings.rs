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
    /// Annotations of the manifest, which are also the labels of the configuration.
    pub annotations: Vec<(String, String)>,
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
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode bits up to 0o7777. When `None`: 0755 for a new directory, 0644 for a new file, and no
    /// change for what exists.
    pub permissions: Option<u32>,
    /// Source of a link.
    pub source: Option<String>,
    /// Also everything below a directory.
    pub recursive: bool,
}

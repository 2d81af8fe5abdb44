//! Image definitions: apko's `ImageConfiguration` format.
//!
//! The same mapping is the `environment:` of package definitions and tests.

mod decode;
mod include;
mod json;
mod validate;

pub use include::LoadedImage;

use crate::text::Text;

/// What goes into an image, and how a container of it starts.
///
/// Lists and maps keep the file's order. Texts are as written; apko's format has no substitutions
/// of its own (`${version}` of a catalog image is replaced by
/// [`ImageDefinition::expand`](crate::ImageDefinition::expand)).
#[derive(Debug, Clone, Default)]
pub struct ImageConfiguration {
    /// `contents`.
    pub contents: Contents,
    /// `entrypoint`.
    pub entrypoint: Entrypoint,
    /// `cmd`: arguments after the entrypoint, one shell-like line.
    pub command: Option<Text>,
    /// `stop-signal`.
    pub stop_signal: Option<Text>,
    /// `work-dir`.
    pub working_directory: Option<Text>,
    /// `accounts`.
    pub accounts: Accounts,
    /// `archs`, as written (`amd64`, `x86_64`, `all`, ...).
    pub architectures: Vec<Text>,
    /// `environment`: variables of the container (of a build, for a package's environment).
    pub environment: Vec<(Text, Text)>,
    /// `paths`: changes to the file tree, in order.
    pub paths: Vec<PathMutation>,
    /// `vcs-url`.
    pub vcs_url: Option<Text>,
    /// `annotations` of the manifests.
    pub annotations: Vec<(Text, Text)>,
    /// `include`: another configuration to merge under this one, which
    /// [`ImageConfiguration::load`] does.
    pub include: Option<Text>,
    /// `volumes`.
    pub volumes: Vec<Text>,
    /// `layering`; an empty one is as good as none.
    pub layering: Option<Layering>,
    /// `format` of the file system: `tar` or `erofs`.
    pub format: Option<Text>,
    /// `certificates`.
    pub certificates: Certificates,
    /// `os-release`, of older files: what to write to `/etc/os-release`.
    pub os_release: Option<OsRelease>,
    /// `options`, of older files: the names of changes that only apko's command line could ask for.
    pub options: Vec<Text>,
}

/// `os-release`.
#[derive(Debug, Clone, Default)]
pub struct OsRelease {
    /// `id`.
    pub id: Option<Text>,
    /// `name`.
    pub name: Option<Text>,
    /// `pretty-name`.
    pub pretty_name: Option<Text>,
    /// `version-id`.
    pub version_id: Option<Text>,
    /// `home-url`.
    pub home_url: Option<Text>,
    /// `bug-report-url`.
    pub bug_report_url: Option<Text>,
}

/// `contents`: where packages come from, and which.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// `build_repositories`: used for the build only.
    pub build_repositories: Vec<Text>,
    /// `runtime_repositories`: written to `/etc/apk/repositories` only.
    pub runtime_repositories: Vec<Text>,
    /// `repositories`: used for both; `@label URL` gives a repository a label.
    pub repositories: Vec<Text>,
    /// `keyring`: public keys that verify the repositories, which the image gets too.
    pub keyring: Vec<KeyEntry>,
    /// `runtime_keyring`: public keys to write into the image.
    pub runtime_keyring: Vec<NamedContent>,
    /// `packages`: wanted packages, `s6` among them for a service bundle, with constraints (`name`, `name=1.2-r0`, `name~1.2`, `name@label`).
    pub packages: Vec<Text>,
    /// `baseimage`.
    pub base_image: Option<BaseImage>,
    /// `ecosystems`: packages of language registries.
    pub ecosystems: Vec<EcosystemPackages>,
}

/// A public key of `contents.keyring`.
#[derive(Debug, Clone)]
pub enum KeyEntry {
    /// A path or URL.
    Location(Text),
    /// The key itself, PEM.
    Inline(NamedContent),
}

/// An entry of `contents.ecosystems`.
#[derive(Debug, Clone)]
pub struct EcosystemPackages {
    /// The ecosystem, such as `python`.
    pub name: Text,
    /// `packages`, with their constraints.
    pub packages: Vec<Text>,
    /// `indexes`: where they come from.
    pub indexes: Vec<Text>,
    /// `python_version`.
    pub python_version: Option<Text>,
    /// `venv`: the folder of a virtual environment.
    pub venv: Option<Text>,
}

/// A file given by name and content.
#[derive(Debug, Clone)]
pub struct NamedContent {
    /// File name.
    pub name: Text,
    /// Content.
    pub content: Text,
}

/// `contents.baseimage`: an image to build on.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// `image`: path of an OCI layout.
    pub image: Text,
    /// `apkindex`: path of a folder with a list `ARCH/APKINDEX` of its packages per architecture.
    pub apk_index: Text,
}

/// `entrypoint`.
#[derive(Debug, Clone, Default)]
pub struct Entrypoint {
    /// `type`: only `service-bundle` means something.
    pub kind: Option<Text>,
    /// `command`: one shell-like line; that of a service bundle starts its supervisor.
    pub command: Option<Text>,
    /// `shell-fragment`: run by `/bin/sh -c`.
    pub shell_fragment: Option<Text>,
    /// `services` of a service bundle: name and command.
    pub services: Vec<(Text, Text)>,
}

impl Entrypoint {
    /// Whether its services are started under a supervisor.
    pub fn is_service_bundle(&self) -> bool {
        self.kind.as_ref().is_some_and(|kind| *kind == "service-bundle")
    }

    /// What is started beside a bundle.
    fn start(&self) -> Option<&Text> {
        self.shell_fragment.as_ref().or(self.command.as_ref()).filter(|line| !line.is_empty())
    }
}

/// `accounts`: users and groups to add.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// `run-as`: user name or number that the container runs as.
    pub run_as: Option<Text>,
    /// `users`.
    pub users: Vec<User>,
    /// `groups`.
    pub groups: Vec<Group>,
}

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    /// `username`.
    pub name: Text,
    /// `uid`.
    pub uid: u32,
    /// `gid`; apko takes the uid where it is absent.
    pub gid: Option<u32>,
    /// `shell`.
    pub shell: Option<Text>,
    /// `homedir`.
    pub home: Option<Text>,
}

/// A group.
#[derive(Debug, Clone)]
pub struct Group {
    /// `groupname`.
    pub name: Text,
    /// `gid`.
    pub gid: u32,
    /// `members`, user names.
    pub members: Vec<Text>,
}

/// What to do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// `directory`: create it.
    Directory,
    /// `empty-file`: create it.
    EmptyFile,
    /// `hardlink` to `source`.
    HardLink,
    /// `symlink` to `source`.
    SymbolicLink,
    /// `permissions`: change owner and mode of what is there.
    Permissions,
}

/// One change to the file tree.
#[derive(Debug, Clone)]
pub struct PathMutation {
    /// `path`, absolute in the image.
    pub path: Text,
    /// `type`.
    pub kind: PathKind,
    /// `uid`; where neither it nor `gid` is given, the owner stays.
    pub uid: Option<u32>,
    /// `gid`; where neither it nor `uid` is given, the group stays.
    pub gid: Option<u32>,
    /// `permissions`: mode bits, `None` when absent.
    pub permissions: Option<u32>,
    /// `source` of a link.
    pub source: Option<Text>,
    /// `recursive`: also below a directory.
    pub recursive: bool,
}

/// `layering`: how packages spread over layers.
#[derive(Debug, Clone)]
pub struct Layering {
    /// `strategy`: only `origin` exists.
    pub strategy: Option<Text>,
    /// `budget`: most layers.
    pub budget: Option<u64>,
}

/// `certificates`: authorities added to the image's trust store.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// `additional`: PEM certificates by name.
    pub additional: Vec<NamedContent>,
    /// `providers`: packages or mechanisms that provide trust stores.
    pub providers: Vec<Text>,
}

//! Image definitions: apko's `ImageConfiguration` format.
//!
//! The same mapping is the `environment:` of package definitions and tests.

use crate::decode::{self, Fields};
use crate::error::Error;
use crate::text::Text;
use crate::yaml::{self, Node};

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
    /// `include`: another configuration to merge under this one. Loading it is the caller's.
    pub include: Option<Text>,
    /// `volumes`.
    pub volumes: Vec<Text>,
    /// `layering`.
    pub layering: Option<Layering>,
    /// `format` of the file system: `tar` or `erofs`.
    pub format: Option<Text>,
    /// `certificates`.
    pub certificates: Certificates,
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
    /// `keyring`: public keys, as paths or URLs.
    pub keyring: Vec<Text>,
    /// `runtime_keyring`: public keys to write into the image.
    pub runtime_keyring: Vec<NamedContent>,
    /// `packages`: wanted packages, with constraints (`name`, `name=1.2-r0`, `name~1.2`, `name@label`).
    pub packages: Vec<Text>,
    /// `baseimage`.
    pub base_image: Option<BaseImage>,
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
    /// `apkindex`: path of an index naming its packages.
    pub apk_index: Option<Text>,
}

/// `entrypoint`.
#[derive(Debug, Clone, Default)]
pub struct Entrypoint {
    /// `type`: only `service-bundle` exists.
    pub kind: Option<Text>,
    /// `command`: one shell-like line.
    pub command: Option<Text>,
    /// `shell-fragment`: run by `/bin/sh -c`.
    pub shell_fragment: Option<Text>,
    /// `services` of a service bundle: name and command.
    pub services: Vec<(Text, Text)>,
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
    /// `uid`, 0 when absent.
    pub uid: u32,
    /// `gid`, 0 when absent.
    pub gid: u32,
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

const KEYS: &[&str] = &[
    "contents",
    "entrypoint",
    "cmd",
    "stop-signal",
    "work-dir",
    "accounts",
    "archs",
    "environment",
    "paths",
    "vcs-url",
    "annotations",
    "include",
    "volumes",
    "layering",
    "format",
    "certificates",
];

impl ImageConfiguration {
    /// Reads an apko file. `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// Not YAML, past a bound, an unknown key, a missing key or a value of the wrong type, each with
    /// its line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        Self::decode(&yaml::parse(text, file)?, file, "")
    }

    pub(crate) fn decode(node: &Node, file: &str, section: &str) -> Result<Self, Error> {
        let fields = Fields::open(node, file, section, KEYS)?;
        Ok(Self {
            contents: fields
                .node("contents")
                .map(|node| contents(node, file, &fields.path("contents")))
                .transpose()?
                .unwrap_or_default(),
            entrypoint: fields
                .node("entrypoint")
                .map(|node| entrypoint(node, file, &fields.path("entrypoint")))
                .transpose()?
                .unwrap_or_default(),
            command: fields.text("cmd")?,
            stop_signal: fields.text("stop-signal")?,
            working_directory: fields.text("work-dir")?,
            accounts: fields
                .node("accounts")
                .map(|node| accounts(node, file, &fields.path("accounts")))
                .transpose()?
                .unwrap_or_default(),
            architectures: fields.texts("archs")?,
            environment: fields.texts_by_name("environment")?,
            paths: fields.list("paths", |node, path| path_mutation(node, file, path))?,
            vcs_url: fields.text("vcs-url")?,
            annotations: fields.texts_by_name("annotations")?,
            include: fields.text("include")?,
            volumes: fields.texts("volumes")?,
            layering: fields.node("layering").map(|node| layering(node, file, &fields.path("layering"))).transpose()?,
            format: fields.text("format")?,
            certificates: fields
                .node("certificates")
                .map(|node| certificates(node, file, &fields.path("certificates")))
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

fn contents(node: &Node, file: &str, section: &str) -> Result<Contents, Error> {
    let known = &[
        "build_repositories",
        "runtime_repositories",
        "repositories",
        "keyring",
        "runtime_keyring",
        "packages",
        "baseimage",
    ];
    let fields = Fields::open(node, file, section, known)?;
    let base_image = match fields.node("baseimage") {
        None => None,
        Some(node) => {
            let base = Fields::open(node, file, &fields.path("baseimage"), &["image", "apkindex"])?;
            Some(BaseImage { image: base.required_text("image")?, apk_index: base.text("apkindex")? })
        }
    };
    Ok(Contents {
        build_repositories: fields.texts("build_repositories")?,
        runtime_repositories: fields.texts("runtime_repositories")?,
        repositories: fields.texts("repositories")?,
        keyring: fields.texts("keyring")?,
        runtime_keyring: fields.list("runtime_keyring", |node, path| named_content(node, file, path))?,
        packages: fields.texts("packages")?,
        base_image,
    })
}

fn named_content(node: &Node, file: &str, section: &str) -> Result<NamedContent, Error> {
    let fields = Fields::open(node, file, section, &["name", "content"])?;
    Ok(NamedContent { name: fields.required_text("name")?, content: fields.required_text("content")? })
}

fn entrypoint(node: &Node, file: &str, section: &str) -> Result<Entrypoint, Error> {
    let fields = Fields::open(node, file, section, &["type", "command", "shell-fragment", "services"])?;
    let kind = fields.text("type")?;
    if let Some(kind) = kind.as_ref().filter(|kind| !kind.is_empty() && **kind != "service-bundle") {
        return Err(fields.invalid("type", kind, "only `service-bundle` exists; leave it out otherwise"));
    }
    Ok(Entrypoint {
        kind,
        command: fields.text("command")?,
        shell_fragment: fields.text("shell-fragment")?,
        services: fields.texts_by_name("services")?,
    })
}

fn accounts(node: &Node, file: &str, section: &str) -> Result<Accounts, Error> {
    let fields = Fields::open(node, file, section, &["run-as", "users", "groups"])?;
    Ok(Accounts {
        run_as: fields.text("run-as")?,
        users: fields.list("users", |node, path| {
            let user = Fields::open(node, file, path, &["username", "uid", "gid", "shell", "homedir"])?;
            Ok(User {
                name: user.required_text("username")?,
                uid: user.integer32("uid")?.unwrap_or(0),
                gid: user.integer32("gid")?,
                shell: user.text("shell")?,
                home: user.text("homedir")?,
            })
        })?,
        groups: fields.list("groups", |node, path| {
            let group = Fields::open(node, file, path, &["groupname", "gid", "members"])?;
            Ok(Group {
                name: group.required_text("groupname")?,
                gid: group.integer32("gid")?.unwrap_or(0),
                members: group.texts("members")?,
            })
        })?,
    })
}

fn path_mutation(node: &Node, file: &str, section: &str) -> Result<PathMutation, Error> {
    let fields =
        Fields::open(node, file, section, &["path", "type", "uid", "gid", "permissions", "source", "recursive"])?;
    let kind_text = fields.required_text("type")?;
    let kind = match kind_text.as_str() {
        "directory" => PathKind::Directory,
        "empty-file" => PathKind::EmptyFile,
        "hardlink" => PathKind::HardLink,
        "symlink" => PathKind::SymbolicLink,
        "permissions" => PathKind::Permissions,
        _ => {
            let reason = "must be `directory`, `empty-file`, `hardlink`, `symlink` or `permissions`";
            return Err(fields.invalid("type", &kind_text, reason));
        }
    };
    let source = fields.text("source")?;
    if matches!(kind, PathKind::HardLink | PathKind::SymbolicLink)
        && source.as_ref().is_none_or(|source| source.is_empty())
    {
        return Err(fields.missing("source"));
    }
    Ok(PathMutation {
        path: fields.required_text("path")?,
        kind,
        uid: fields.integer32("uid")?.unwrap_or(0),
        gid: fields.integer32("gid")?.unwrap_or(0),
        permissions: fields.integer32("permissions")?,
        source,
        recursive: fields.flag("recursive")?,
    })
}

fn layering(node: &Node, file: &str, section: &str) -> Result<Layering, Error> {
    let fields = Fields::open(node, file, section, &["strategy", "budget"])?;
    let strategy = fields.text("strategy")?;
    if let Some(strategy) = strategy.as_ref().filter(|strategy| **strategy != "origin") {
        return Err(fields.invalid("strategy", strategy, "only `origin` exists"));
    }
    Ok(Layering { strategy, budget: fields.integer("budget")? })
}

fn certificates(node: &Node, file: &str, section: &str) -> Result<Certificates, Error> {
    let fields = Fields::open(node, file, section, &["additional", "providers"])?;
    Ok(Certificates {
        additional: fields.list("additional", |node, path| named_content(node, file, path))?,
        providers: fields.list("providers", |node, path| decode::text(node, file, path))?,
    })
}

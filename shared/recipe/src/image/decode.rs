//! Reading the format.

use super::validate::validate;
use super::{
    Accounts, BaseImage, Certificates, Contents, EcosystemPackages, Entrypoint, Group, ImageConfiguration, KeyEntry,
    Layering, NamedContent, OsRelease, PathKind, PathMutation, User,
};
use crate::decode::{self, Fields};
use crate::error::Error;
use crate::text::Text;
use crate::yaml::{self, Node, Value};

/// What starts a service bundle, and the package that it is in.
const SUPERVISOR: &str = "/bin/s6-svscan /sv";
const SUPERVISOR_PACKAGE: &str = "s6";
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
    "os-release",
    "options",
];

impl ImageConfiguration {
    /// Reads an apko file. `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// Not YAML, past a bound, an unknown key, a missing key, a value of the wrong type or one that no
    /// image can be made of, each with its line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let configuration = Self::decode(&yaml::parse(text, file)?, file, "")?;
        validate(&configuration, file)?;
        Ok(configuration)
    }

    pub(crate) fn decode(node: &Node, file: &str, section: &str) -> Result<Self, Error> {
        let fields = Fields::open(node, file, section, KEYS)?;
        let mut configuration = Self {
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
            os_release: fields
                .node("os-release")
                .map(|node| os_release(node, file, &fields.path("os-release")))
                .transpose()?,
            options: match fields.node("options") {
                Some(node) => {
                    let options = Fields::open_any(node, file, &fields.path("options"))?;
                    options.entries().iter().map(|(name, _)| name.clone()).collect()
                }
                None => Vec::new(),
            },
        };
        let bundle = configuration.entrypoint.kind.as_ref().filter(|_| configuration.entrypoint.is_service_bundle());
        if let Some(position) = bundle.map(|kind| kind.position) {
            configuration.entrypoint.command = Some(Text { value: SUPERVISOR.to_owned(), position });
            if !configuration.contents.packages.iter().any(|package| **package == *SUPERVISOR_PACKAGE) {
                let package = Text { value: SUPERVISOR_PACKAGE.to_owned(), position };
                configuration.contents.packages.push(package);
            }
        }
        Ok(configuration)
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
        "ecosystems",
    ];
    let fields = Fields::open(node, file, section, known)?;
    let base_image = match fields.node("baseimage") {
        None => None,
        Some(node) => {
            let base = Fields::open(node, file, &fields.path("baseimage"), &["image", "apkindex"])?;
            Some(BaseImage { image: base.required_text("image")?, apk_index: base.required_text("apkindex")? })
        }
    };
    Ok(Contents {
        build_repositories: fields.texts("build_repositories")?,
        runtime_repositories: fields.texts("runtime_repositories")?,
        repositories: fields.texts("repositories")?,
        keyring: fields.list("keyring", |node, path| key_entry(node, file, path))?,
        runtime_keyring: fields.list("runtime_keyring", |node, path| named_content(node, file, path))?,
        packages: fields.texts("packages")?,
        base_image,
        ecosystems: match fields.node("ecosystems") {
            Some(node) => ecosystems(node, file, &fields.path("ecosystems"))?,
            None => Vec::new(),
        },
    })
}

fn ecosystems(node: &Node, file: &str, section: &str) -> Result<Vec<EcosystemPackages>, Error> {
    let fields = Fields::open_any(node, file, section)?;
    let read = |(name, node): &(Text, Node)| {
        let known = &["packages", "indexes", "python_version", "venv"];
        let fields = Fields::open(node, file, &fields.path(name), known)?;
        Ok(EcosystemPackages {
            name: name.clone(),
            packages: fields.texts("packages")?,
            indexes: fields.texts("indexes")?,
            python_version: fields.text("python_version")?,
            venv: fields.text("venv")?,
        })
    };
    fields.entries().iter().map(read).collect()
}

fn key_entry(node: &Node, file: &str, section: &str) -> Result<KeyEntry, Error> {
    match node.value {
        Value::Scalar { .. } => Ok(KeyEntry::Location(decode::text(node, file, section)?)),
        _ => Ok(KeyEntry::Inline(named_content(node, file, section)?)),
    }
}

fn named_content(node: &Node, file: &str, section: &str) -> Result<NamedContent, Error> {
    let fields = Fields::open(node, file, section, &["name", "content"])?;
    Ok(NamedContent { name: fields.required_text("name")?, content: fields.required_text("content")? })
}

fn entrypoint(node: &Node, file: &str, section: &str) -> Result<Entrypoint, Error> {
    let fields = Fields::open(node, file, section, &["type", "command", "shell-fragment", "services"])?;
    let entrypoint = Entrypoint {
        kind: fields.text("type")?.filter(|kind| !kind.is_empty()),
        command: fields.text("command")?,
        shell_fragment: fields.text("shell-fragment")?,
        services: fields.texts_by_name("services")?,
    };
    match &entrypoint.kind {
        // apko reads past other types, which files have beside a command.
        Some(kind) if !entrypoint.is_service_bundle() && entrypoint.start().is_none() => {
            let reason = "only `service-bundle` exists; say what is started by `command`, or leave it out";
            Err(fields.invalid("type", kind, reason))
        }
        _ => Ok(entrypoint),
    }
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
        uid: fields.integer32("uid")?,
        gid: fields.integer32("gid")?,
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
    let budget = fields.integer("budget")?;
    if strategy.is_none() && budget.is_some() {
        return Err(fields.missing("strategy"));
    }
    Ok(Layering { strategy, budget })
}

fn certificates(node: &Node, file: &str, section: &str) -> Result<Certificates, Error> {
    let fields = Fields::open(node, file, section, &["additional", "providers"])?;
    Ok(Certificates {
        additional: fields.list("additional", |node, path| named_content(node, file, path))?,
        providers: fields.list("providers", |node, path| decode::text(node, file, path))?,
    })
}

fn os_release(node: &Node, file: &str, section: &str) -> Result<OsRelease, Error> {
    let known = &["id", "name", "pretty-name", "version-id", "home-url", "bug-report-url"];
    let fields = Fields::open(node, file, section, known)?;
    Ok(OsRelease {
        id: fields.text("id")?,
        name: fields.text("name")?,
        pretty_name: fields.text("pretty-name")?,
        version_id: fields.text("version-id")?,
        home_url: fields.text("home-url")?,
        bug_report_url: fields.text("bug-report-url")?,
    })
}

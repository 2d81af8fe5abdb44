//! What a container is made of: an image's process on an unpacked root file system.

use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt};
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{self, Capability, LinuxNamespaceType};

use crate::{Error, Limits, User, accounts};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// The whole environment, `NAME=value` each.
    pub environment: Vec<String>,
    /// Who runs it.
    pub user: User,
    /// Where it starts; absolute.
    pub working_directory: String,
}

impl Process {
    /// The process that an image configuration names: entrypoint and command, or `arguments`
    /// in place of both. `root` is the image's unpacked root, for its account names.
    ///
    /// # Errors
    /// [`Error::UnknownAccount`]; [`Error::InvalidJob`] when there is nothing to run.
    pub fn of_image(
        configuration: &ImageConfiguration,
        root: &Path,
        arguments: Option<Vec<String>>,
    ) -> Result<Self, Error> {
        let config = configuration.config().clone().unwrap_or_default();
        let arguments = arguments.unwrap_or_else(|| {
            let entrypoint = config.entrypoint().iter().flatten();
            entrypoint.chain(config.cmd().iter().flatten()).cloned().collect()
        });
        if arguments.is_empty() {
            return Err(Error::InvalidJob { reason: "the image has neither entrypoint nor command".to_owned() });
        }
        let mut environment = config.env().clone().unwrap_or_default();
        if !environment.iter().any(|variable| variable.starts_with("PATH=")) {
            environment.push(DEFAULT_PATH.to_owned());
        }
        let working_directory = config.working_dir().clone().filter(|folder| !folder.is_empty());
        Ok(Process {
            arguments,
            environment,
            user: accounts::resolve(root, config.user().as_deref().unwrap_or_default())?,
            working_directory: working_directory.unwrap_or_else(|| "/".to_owned()),
        })
    }

    pub(crate) fn runtime(&self, capabilities: &[Capability]) -> runtime::Process {
        let set: runtime::Capabilities = capabilities.iter().copied().collect();
        let mut sets = runtime::LinuxCapabilities::default();
        sets.set_bounding(Some(set.clone()));
        // As docker does it: a process that isn't root has no capability that it wasn't given by a file.
        let effective = if self.user.id == 0 { set } else { runtime::Capabilities::new() };
        sets.set_effective(Some(effective.clone()));
        sets.set_permitted(Some(effective));
        sets.set_inheritable(None);
        sets.set_ambient(None);
        let mut user = runtime::User::default();
        user.set_uid(self.user.id);
        user.set_gid(self.user.group);
        user.set_additional_gids(Some(self.user.other_groups.clone()));
        let mut process = runtime::Process::default();
        process.set_terminal(Some(false));
        process.set_user(user);
        process.set_args(Some(self.arguments.clone()));
        process.set_env(Some(self.environment.clone()));
        process.set_cwd(PathBuf::from(&self.working_directory));
        process.set_capabilities(Some(sets));
        process.set_rlimits(None);
        process.set_no_new_privileges(Some(true));
        process
    }
}

/// The network that a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Its own, with a loopback interface that is up, and nothing else.
    Own,
    /// The host's.
    Host,
}

/// A folder in memory, in a container. It has the owner and mode of the folder that it covers;
/// where there is none, anybody may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryFolder {
    /// Its absolute path.
    pub inside: PathBuf,
    /// The most it can hold, in bytes.
    pub size: u64,
}

impl TemporaryFolder {
    fn mount(&self, root: &Path) -> runtime::Mount {
        let inside = self.inside.strip_prefix("/").unwrap_or(&self.inside);
        let covered = Dir::open_ambient_dir(root, ambient_authority())
            .and_then(|root| root.metadata(inside))
            .ok()
            .filter(cap_std::fs::Metadata::is_dir);
        let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "noexec".to_owned()];
        options.push(format!("size={}", self.size));
        // runc gives the mount the mode of the folder below, and leaves it to root.
        match covered {
            Some(covered) => {
                options.push(format!("mode={:o}", covered.mode() & 0o7777));
                options.push(format!("uid={}", covered.uid()));
                options.push(format!("gid={}", covered.gid()));
            }
            None => options.push("mode=1777".to_owned()),
        }
        let mut mount = runtime::Mount::default();
        mount.set_destination(self.inside.clone());
        mount.set_typ(Some("tmpfs".to_owned()));
        mount.set_source(Some("tmpfs".into()));
        mount.set_options(Some(options));
        mount
    }
}

/// A file or folder of this machine, in a container, which can't change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Its path on this machine; absolute.
    pub source: PathBuf,
    /// Its absolute path in the container.
    pub inside: PathBuf,
}

impl BindMount {
    fn mount(&self) -> runtime::Mount {
        let options = ["rbind", "ro", "nosuid", "nodev"];
        let mut mount = runtime::Mount::default();
        mount.set_destination(self.inside.clone());
        mount.set_typ(Some("bind".to_owned()));
        mount.set_source(Some(self.source.clone()));
        mount.set_options(Some(options.map(str::to_owned).to_vec()));
        mount
    }
}

/// One container.
#[derive(Debug, Clone)]
pub struct ContainerJob {
    /// The unpacked root file system. The container changes it, unless `read_only`.
    pub root: PathBuf,
    /// What to run.
    pub process: Process,
    /// The network it sees.
    pub network: Network,
    /// Whether the root file system can't be changed.
    pub read_only: bool,
    /// Folders in memory.
    pub temporary: Vec<TemporaryFolder>,
    /// Files and folders of this machine.
    pub mounts: Vec<BindMount>,
    /// Capabilities of root's processes; the empty set is right for a hardened image.
    pub capabilities: Vec<Capability>,
    /// What it may use. File size and open files are not limited in containers; output is what
    /// standard output and standard error together may carry.
    pub limits: Limits,
}

impl ContainerJob {
    /// A container of `process` on `root` in a network of its own, without capabilities, with a
    /// root file system that it can change.
    #[must_use]
    pub fn new(root: PathBuf, process: Process, limits: Limits) -> Self {
        ContainerJob {
            root,
            process,
            network: Network::Own,
            read_only: false,
            temporary: Vec::new(),
            mounts: Vec::new(),
            capabilities: Vec::new(),
            limits,
        }
    }

    /// The runtime specification's configuration (`config.json`), without resources: limits are
    /// watched from outside, since control groups can't be had on every machine.
    pub(crate) fn runtime(&self, id: &str) -> runtime::Spec {
        let mut root = runtime::Root::default();
        root.set_path(self.root.clone());
        root.set_readonly(Some(self.read_only));

        let mut mounts: Vec<_> = runtime::get_default_mounts()
            .into_iter()
            .filter(|mount| mount.typ().as_deref() != Some("cgroup"))
            .collect();
        mounts.extend(self.temporary.iter().map(|folder| folder.mount(&self.root)));
        mounts.extend(self.mounts.iter().map(BindMount::mount));

        let kinds =
            [LinuxNamespaceType::Pid, LinuxNamespaceType::Ipc, LinuxNamespaceType::Uts, LinuxNamespaceType::Mount]
                .into_iter()
                .chain((self.network == Network::Own).then_some(LinuxNamespaceType::Network));
        let namespaces = kinds
            .map(|kind| {
                let mut namespace = runtime::LinuxNamespace::default();
                namespace.set_typ(kind);
                namespace
            })
            .collect();
        let mut linux = runtime::Linux::default();
        linux.set_namespaces(Some(namespaces));
        linux.set_resources(None);

        let mut spec = runtime::Spec::default();
        spec.set_root(Some(root));
        spec.set_mounts(Some(mounts));
        spec.set_process(Some(self.process.runtime(&self.capabilities)));
        spec.set_hostname(Some(id.to_owned()));
        spec.set_linux(Some(linux));
        spec.set_annotations(None);
        spec
    }
}

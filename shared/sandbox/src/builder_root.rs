//! The root file system of one package build.
//!
//! The tool chain is the host's own, read-only; the libraries that the package is built against
//! are in `/sysroot`. `/lib` is put together from the host's, entry by entry, so that the loader
//! of our own C library can stand beside the host's: programs built in the job can be run in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, Job, Limits, Mount, Program};

const PATH: &str = "/opt/minimill/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Before that, the tools of a target other than the host's.
const TARGET_FOLDER: &str = "/opt/minimill";
const TMP_SIZE: u64 = 2 << 30;
const WORK: &str = "/home/build";
/// Where a repeated build works; the compiler wrappers map both to one path.
const REPEATED_WORK: &str = "/home/rebuild/elsewhere";
/// Leaves a repeated build the first of its processors.
const ONE_PROCESSOR: &[u8] = b"taskset -pc \"$(taskset -pc $$ | sed 's/.*: //; s/[-,].*//')\" $$ > /dev/null || exit\n";
const PASSWD: &[u8] = b"root:x:0:0:root:/home/build:/bin/sh\n\
    nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &[u8] = b"127.0.0.1 localhost\n::1 localhost\n";

/// The folders of the host that one package build is made of.
#[derive(Debug, Clone)]
pub struct BuilderRoot {
    /// The unpacked build dependencies, seen as `/sysroot`, read-only.
    pub sysroot: PathBuf,
    /// The compiler wrappers, seen as `/opt/minimill`, read-only.
    pub bootstrap: PathBuf,
    /// Fetched and verified sources named `sha256:HEX`, seen as `/var/cache/melange`, read-only.
    pub sources: PathBuf,
    /// The working folder, seen as `/home/build`, which the build changes.
    pub work: PathBuf,
    /// Whether this build repeats another in other surroundings, so that what depends on them shows:
    /// [`BuilderRoot::VARIED`].
    pub repeats: bool,
}

impl BuilderRoot {
    /// What differs in a build that [repeats](BuilderRoot::repeats) another. What a root sets for
    /// every build (users, the mask for new files, the rest of the environment) can't differ.
    pub const VARIED: [&str; 5] = [
        "path (`/home/build` is a link to another folder)",
        "host name",
        "locale (`C.UTF-8`)",
        "time zone (14 hours ahead)",
        "processors (one)",
    ];

    /// The mounts of the build on this host.
    ///
    /// # Errors
    /// [`Error::Io`] when a folder is missing or the host's own cannot be read.
    pub fn mounts(&self) -> Result<Vec<Mount>, Error> {
        let mut mounts = vec![
            read_only("/usr", "/usr"),
            // What the host's administrator put there is no part of the tool chain.
            Mount::Temporary { inside: "/usr/local".into(), size: 1 << 20 },
        ];
        for folder in ["/bin", "/sbin", "/lib64"] {
            mounts.extend(host_folder(Path::new(folder))?);
        }
        mounts.extend(host_libraries(Path::new("/lib"))?);
        mounts.extend(self.loaders()?);
        for (inside, content) in [("/etc/passwd", PASSWD), ("/etc/group", GROUP), ("/etc/hosts", HOSTS)] {
            mounts.push(file(inside, content.to_vec()));
        }
        if Path::new("/etc/alternatives").is_dir() {
            mounts.push(read_only("/etc/alternatives", "/etc/alternatives"));
        }
        for (host, inside) in
            [(&self.sysroot, "/sysroot"), (&self.bootstrap, "/opt/minimill"), (&self.sources, "/var/cache/melange")]
        {
            mounts.push(read_only(absolute(host)?, inside));
        }
        let work = if self.repeats { REPEATED_WORK } else { WORK };
        mounts.push(Mount::ReadWrite { host: absolute(&self.work)?, inside: work.into() });
        if self.repeats {
            mounts.push(Mount::Symlink { target: REPEATED_WORK.into(), inside: WORK.into() });
        }
        mounts.push(Mount::Temporary { inside: "/tmp".into(), size: TMP_SIZE });
        mounts.push(Mount::Temporary { inside: "/var/tmp".into(), size: TMP_SIZE });
        Ok(mounts)
    }

    /// Links and path files for each musl loader of the sysroot.
    fn loaders(&self) -> Result<Vec<Mount>, Error> {
        let mut mounts = Vec::new();
        for folder in ["lib", "usr/lib"] {
            let path = self.sysroot.join(folder);
            if !path.is_dir() {
                continue;
            }
            for name in names(&path)? {
                let Some(architecture) = name.strip_prefix("ld-musl-").and_then(|rest| rest.strip_suffix(".so.1"))
                else {
                    continue;
                };
                let inside = PathBuf::from(format!("/lib/{name}"));
                let known = |mount: &Mount| matches!(mount, Mount::Symlink { inside: other, .. } if *other == inside);
                if mounts.iter().any(known) {
                    continue;
                }
                mounts.push(file(
                    &format!("/etc/ld-musl-{architecture}.path"),
                    b"/sysroot/lib\n/sysroot/usr/lib\n".to_vec(),
                ));
                mounts.push(Mount::Symlink { target: PathBuf::from(format!("/sysroot/{folder}/{name}")), inside });
            }
        }
        Ok(mounts)
    }

    /// The environment of a build: fixed variables, then the definition's own, which win.
    ///
    /// `target` is the architecture that is built for, as apk names it: for another one than the
    /// host's, the tools in the bootstrap's folder of that name come first. `source_date_epoch` is
    /// in seconds since 1970. Archives are unpacked as the build's only
    /// user (`TAR_OPTIONS`), since the sandbox has no other.
    #[must_use]
    pub fn environment(
        target: &str,
        source_date_epoch: i64,
        definition: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let path = if target == std::env::consts::ARCH {
            PATH.to_owned()
        } else {
            format!("{TARGET_FOLDER}/{target}/bin:{PATH}")
        };
        let epoch = source_date_epoch.to_string();
        let mut environment: BTreeMap<String, String> = [
            ("PATH", path.as_str()),
            ("HOME", "/home/build"),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
            ("TAR_OPTIONS", "--no-same-owner"),
            ("SOURCE_DATE_EPOCH", &epoch),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        environment.extend(definition.clone());
        environment
    }

    /// The whole job: `script` in this root, in `/home/build`.
    ///
    /// # Errors
    /// As [`BuilderRoot::mounts`].
    pub fn job(
        &self,
        mut script: Vec<u8>,
        mut environment: BTreeMap<String, String>,
        limits: Limits,
        log: PathBuf,
    ) -> Result<Job, Error> {
        if self.repeats {
            script.splice(0..0, ONE_PROCESSOR.iter().copied());
            for (name, fixed, varied) in [("LC_ALL", "C", "C.UTF-8"), ("TZ", "UTC", "AHEAD-14")] {
                // What the definition sets itself is no surrounding.
                if let Some(value) = environment.get_mut(name).filter(|value| *value == fixed) {
                    varied.clone_into(value);
                }
            }
        }
        Ok(Job {
            program: Program::Script(script),
            mounts: self.mounts()?,
            environment,
            working_directory: "/home/build".into(),
            hostname: if self.repeats { "rebuild" } else { "build" }.to_owned(),
            user: (0, 0),
            limits,
            log,
        })
    }
}

fn read_only(host: impl Into<PathBuf>, inside: &str) -> Mount {
    Mount::ReadOnly { host: host.into(), inside: inside.into() }
}

fn file(inside: &str, content: Vec<u8>) -> Mount {
    Mount::File { inside: inside.into(), content }
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::io("use the folder", path, source))
}

/// A folder of the host's root: its link where the host has `/usr` merged, else a bind.
fn host_folder(path: &Path) -> Result<Option<Mount>, Error> {
    if path.is_symlink() {
        let target = std::fs::read_link(path).map_err(|source| Error::io("read the link", path, source))?;
        return Ok(Some(Mount::Symlink { target, inside: path.to_path_buf() }));
    }
    Ok(path.is_dir().then(|| Mount::ReadOnly { host: path.to_path_buf(), inside: path.to_path_buf() }))
}

/// Each entry of the host's `/lib` but musl loaders, as links into `/usr/lib` where that is the
/// same folder, else as binds.
fn host_libraries(path: &Path) -> Result<Vec<Mount>, Error> {
    let mut mounts = vec![Mount::Empty { inside: path.to_path_buf() }];
    for name in names(path)? {
        if name.starts_with("ld-musl-") {
            continue;
        }
        let inside = path.join(&name);
        mounts.push(if path.is_symlink() {
            Mount::Symlink { target: Path::new("/usr/lib").join(&name), inside }
        } else {
            Mount::ReadOnly { host: inside.clone(), inside }
        });
    }
    Ok(mounts)
}

/// The names in a folder, sorted; those that are not UTF-8 are none that a tool chain has.
fn names(path: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::io("list the folder", path, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

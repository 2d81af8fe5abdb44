//! `containerRunOptions`: what a suite's file may ask for its containers.

use std::path::{Path, PathBuf};

use sandbox::{BindMount, Capability};
use serde::Deserialize;

use crate::Error;
use crate::document::or_default;
use crate::environment_file;

const MAXIMUM_ENVIRONMENT_FILE: u64 = 1 << 20;

/// What gives a container nothing of the machine's: containers share its users and devices.
const HARMLESS: [Capability; 18] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RunOptions {
    #[serde(default, deserialize_with = "or_default")]
    user: String,
    #[serde(default, deserialize_with = "or_default")]
    privileged: bool,
    #[serde(default, deserialize_with = "or_default")]
    allocate_tty: bool,
    #[serde(default, deserialize_with = "or_default")]
    env_file: String,
    #[serde(default, deserialize_with = "or_default")]
    env_vars: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    capabilities: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    bind_mounts: Vec<String>,
}

/// What containers get.
pub(super) struct Granted {
    /// In place of the image's user.
    pub(super) user: Option<String>,
    /// Further variables, which count more than a test's own.
    pub(super) environment: Vec<(String, String)>,
    pub(super) capabilities: Vec<Capability>,
    pub(super) mounts: Vec<BindMount>,
}

/// What of the options is granted, or why the commands can't be run with them. `folder` is the image's folder in
/// the catalog.
pub(super) fn granted(options: &RunOptions, folder: &Path) -> Result<Result<Granted, String>, Error> {
    let refused = |reason: String| Ok(Err(format!("`containerRunOptions`: {reason}")));
    if options.privileged {
        return refused(
            "`privileged` would give the container the machine; name what it needs in `capabilities`".to_owned(),
        );
    }
    if options.allocate_tty {
        return refused("`allocateTty` is not offered; containers have no terminal".to_owned());
    }
    if !options.env_vars.is_empty() {
        return refused(
            "`envVars` are those of whoever runs the tests, which must not matter; use `globalEnvVars`".to_owned(),
        );
    }
    let mut capabilities = Vec::new();
    for name in &options.capabilities {
        match capability(name) {
            Ok(capability) => capabilities.push(capability),
            Err(reason) => return refused(reason),
        }
    }
    let mut mounts = Vec::new();
    for text in &options.bind_mounts {
        match mount(text, folder) {
            Ok(mount) => mounts.push(mount),
            Err(reason) => return refused(reason),
        }
    }
    let environment = match environment(&options.env_file, folder)? {
        Ok(environment) => environment,
        Err(reason) => return refused(reason),
    };
    let user = Some(options.user.clone()).filter(|user| !user.is_empty());
    Ok(Ok(Granted { user, environment, capabilities, mounts }))
}

/// A capability with or without `CAP_`, in any case.
pub(crate) fn capability(name: &str) -> Result<Capability, String> {
    let upper = name.to_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match short.parse::<Capability>() {
        Ok(capability) if HARMLESS.contains(&capability) => Ok(capability),
        Ok(_) => Err(format!("the capability `{name}` would give the container something of the machine's")),
        Err(_) => Err(format!("`{name}` is no capability that can be given")),
    }
}

/// `SOURCE:INSIDE[:OPTIONS]`.
fn mount(text: &str, folder: &Path) -> Result<BindMount, String> {
    let mut parts = text.split(':');
    let (source, inside, mode) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    if source.is_empty() || !inside.starts_with('/') || parts.next().is_some() {
        return Err(format!("`{text}` is no mount; `FILE:/PLACE` is expected"));
    }
    if mode.is_some_and(|mode| mode.split(',').any(|option| option == "rw")) {
        return Err(format!("`{text}` asks to write to the catalog; mounts are read-only"));
    }
    Ok(BindMount { source: beside(source, folder)?, inside: inside.into() })
}

/// A path inside the image's folder, links followed.
fn beside(path: &str, folder: &Path) -> Result<PathBuf, String> {
    if Path::new(path).is_absolute() {
        return Err(format!(
            "`{path}` is a path of this machine; put the file into the image's folder and name it there"
        ));
    }
    let found = folder.canonicalize().and_then(|folder| Ok((folder.join(path).canonicalize()?, folder)));
    match found {
        Ok((found, folder)) if found.starts_with(&folder) => Ok(found),
        Ok(_) => Err(format!("`{path}` leads out of the image's folder")),
        Err(error) => Err(format!("`{path}` can't be found in the image's folder: {error}")),
    }
}

fn environment(file: &str, folder: &Path) -> Result<Result<Vec<(String, String)>, String>, Error> {
    if file.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let path = match beside(file, folder) {
        Ok(path) => path,
        Err(reason) => return Ok(Err(reason)),
    };
    let read = |path: &Path| {
        let size = std::fs::metadata(path)?.len();
        if size > MAXIMUM_ENVIRONMENT_FILE {
            return Err(std::io::Error::other(format!(
                "it has {size} bytes, at most {MAXIMUM_ENVIRONMENT_FILE} are read"
            )));
        }
        std::fs::read_to_string(path)
    };
    let text = read(&path).map_err(|source| Error::io("read", &path, source))?;
    Ok(environment_file::parse(&text).map_err(|(line, message)| format!("{file}:{line}: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_known_by_their_names() {
        assert_eq!(capability("net_bind_service"), Ok(Capability::NetBindService));
        assert_eq!(capability("CAP_CHOWN"), Ok(Capability::Chown));
        for name in ["SYS_ADMIN", "CAP_MKNOD", "ALL", "", "chow"] {
            assert!(capability(name).is_err(), "{name}");
        }
    }

    #[test]
    fn mounts_stay_in_the_images_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("out")).unwrap();
        let good = mount("a:/data/a:ro", folder.path()).unwrap();
        assert_eq!(good.source, folder.path().canonicalize().unwrap().join("a"));
        for (text, message) in [
            ("/tmp/test:/tmp/test", "`/tmp/test` is a path of this machine"),
            ("out:/x", "`out` leads out of"),
            ("../a:/x", "can't be found in the image's folder"),
            ("b:/x", "`b` can't be found"),
            ("a:/x:rw", "mounts are read-only"),
            ("a", "`a` is no mount"),
            ("a:x", "`a:x` is no mount"),
        ] {
            let reason = mount(text, folder.path()).unwrap_err();
            assert!(reason.contains(message) || text.starts_with("..") && reason.contains("out of"), "{reason}");
        }
    }
}

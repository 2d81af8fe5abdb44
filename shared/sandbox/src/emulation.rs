//! Whether this machine runs another architecture's programs.

use std::path::Path;

/// How programs of an architecture run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    /// It is the machine's own.
    Native,
    /// The kernel hands them to an emulator, by this entry of binfmt_misc.
    Emulated {
        /// Path of the emulator.
        interpreter: String,
    },
}

const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// How this machine runs programs of an architecture, as apk names it.
///
/// # Errors
/// Why it doesn't, and what to do.
pub fn machine_for(architecture: &str) -> Result<Machine, String> {
    if architecture == std::env::consts::ARCH {
        return Ok(Machine::Native);
    }
    let emulator = format!("qemu-{architecture}");
    registered(Path::new(BINFMT), &emulator)
}

/// The entry of binfmt_misc at `folder` whose interpreter is `emulator` or its static build. It must be loaded
/// when it is registered (flag `F`): an image's root has no emulator in it.
fn registered(folder: &Path, emulator: &str) -> Result<Machine, String> {
    let advice = "register it with `infra/setup/emulation.sh`";
    let entries = std::fs::read_dir(folder)
        .map_err(|error| format!("binfmt_misc can't be read at `{}`: {error}; {advice}", folder.display()))?;
    let mut unusable = None;
    for entry in entries.flatten() {
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        let mut lines = text.lines();
        let enabled = lines.next() == Some("enabled");
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let Some(interpreter) = field("interpreter ") else { continue };
        let name = Path::new(interpreter).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.strip_suffix("-static").unwrap_or(name) != emulator {
            continue;
        }
        if !enabled {
            unusable = Some(format!("`{}` is registered but not enabled; {advice}", interpreter));
        } else if !field("flags:").is_some_and(|flags| flags.contains('F')) {
            unusable = Some(format!("`{interpreter}` is registered without the flag F; {advice}"));
        } else {
            return Ok(Machine::Emulated { interpreter: interpreter.to_owned() });
        }
    }
    Err(unusable.unwrap_or_else(|| format!("`{emulator}` is not registered with the kernel; {advice}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_must_be_enabled_and_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |expected: &str| {
            let error = registered(folder.path(), "qemu-aarch64").unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let write = |state: &str, flags: &str| {
            let text = format!("{state}\ninterpreter /usr/bin/qemu-aarch64-static\nflags: {flags}\noffset 0\n");
            std::fs::write(folder.path().join("arm"), text).unwrap();
        };
        std::fs::write(folder.path().join("status"), "enabled\n").unwrap();
        refused("`qemu-aarch64` is not registered");
        write("disabled", "F");
        refused("not enabled");
        write("enabled", "OC");
        refused("without the flag F");
        write("enabled", "OCF");
        let machine = registered(folder.path(), "qemu-aarch64").unwrap();
        assert_eq!(machine, Machine::Emulated { interpreter: "/usr/bin/qemu-aarch64-static".to_owned() });
        assert!(registered(&folder.path().join("absent"), "qemu-aarch64").unwrap_err().contains("can't be read"));
        assert_eq!(machine_for(std::env::consts::ARCH), Ok(Machine::Native));
    }
}

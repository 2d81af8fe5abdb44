//! Ending what outlived the process that started it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Error;

/// Ends every bubblewrap that works below `folder`, and answers how many there were. To be called
/// by whoever has the sole right to the folder.
///
/// bubblewrap ends with its parent, with one exception: its process in the new namespaces waits
/// for the one outside to set them up, and when that one is killed in this moment waits for ever.
///
/// # Errors
/// [`Error::Io`] when the processes can't be listed.
pub fn end_strays(folder: &Path) -> Result<usize, Error> {
    let failed = |source| Error::io("list the folder", Path::new("/proc"), source);
    let folder = folder.canonicalize().map_err(|source| Error::io("use the folder", folder, source))?;
    let mut ended = 0;
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        // A process that has gone meanwhile is no stray. The handle makes sure that the one that is
        // looked at is the one that is ended.
        let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        if is_ours(&line, &folder) && pidfd_send_signal(&process, Signal::KILL).is_ok() {
            ended += 1;
        }
    }
    Ok(ended)
}

/// Whether a command line, its words ended by NUL, is bubblewrap's with an argument below `folder`.
fn is_ours(line: &[u8], folder: &Path) -> bool {
    let mut words = line.split(|byte| *byte == 0).map(|word| Path::new(OsStr::from_bytes(word)));
    let is_bubblewrap = words.next().and_then(Path::file_name).is_some_and(|name| name == "bwrap");
    is_bubblewrap && words.any(|word| word.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_bubblewrap_below_the_folder_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("job");
        fs::create_dir(&inside).unwrap();
        let start = |path: &Path| {
            let mut command = Command::new("bwrap");
            command.args(["--bind", "/", "/", "--unshare-pid", "--chdir"]).arg(path).args(["sleep", "60"]);
            let child = command.spawn()?;
            // The kernel shows the new command line a moment after the old program is gone.
            let line = Path::new("/proc").join(child.id().to_string()).join("cmdline");
            while fs::read(&line)?.is_empty() {
                std::thread::yield_now();
            }
            std::io::Result::Ok(child)
        };
        let Ok(mut stray) = start(&inside) else {
            println!("not run: no `bwrap` here");
            return;
        };
        let other = tempfile::tempdir().unwrap();
        let mut bystander = start(other.path()).unwrap();
        assert!(end_strays(folder.path()).unwrap() >= 1);
        assert!(!stray.wait().unwrap().success());
        assert!(bystander.try_wait().unwrap().is_none());
        end_strays(other.path()).unwrap();
        bystander.wait().unwrap();
    }

    #[test]
    fn a_command_line_is_ours_by_program_and_whole_path_parts() {
        let folder = Path::new("/home/work");
        assert!(is_ours(b"/usr/bin/bwrap\0--bind\0/home/work/job\0/\0", folder));
        assert!(!is_ours(b"/usr/bin/bwrap\0--bind\0/home/works/job\0/\0", folder));
        assert!(!is_ours(b"/usr/bin/cat\0/home/work/job\0", folder));
        assert!(!is_ours(b"", folder));
    }
}

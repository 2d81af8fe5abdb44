//! What the processes of a running container are and do, read from `/proc`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Container, Error, processes};

const POLL_EVERY: Duration = Duration::from_millis(50);
/// How long the process that is left behind lives.
const ORPHAN: &str = "sleep 0.2 & exit 0";

/// A process of a container that holds capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name, as the kernel has it.
    pub name: String,
    /// The bits of its effective capabilities.
    pub effective: u64,
}

/// What became of a process whose parent has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Orphan {
    /// The main process waited for it.
    Reaped,
    /// It has ended and nobody has waited for it.
    Zombie,
    /// It could not be tried here, for this reason.
    NotTried(String),
}

impl Container {
    /// The TCP ports on which something listens in the container's network, on any address.
    ///
    /// # Errors
    /// [`Error::Io`] when the container has ended.
    pub fn listening(&self) -> Result<BTreeSet<u16>, Error> {
        let mut ports = BTreeSet::new();
        for table in ["tcp", "tcp6"] {
            let path = PathBuf::from(format!("/proc/{}/net/{table}", self.pid));
            match std::fs::read_to_string(&path) {
                Ok(text) => ports.extend(listening(&text)),
                // A kernel without IPv6 has no such table.
                Err(error) if table == "tcp6" && error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::io("read", &path, source)),
            }
        }
        Ok(ports)
    }

    /// The program that its main process runs, as a path in the container; with an emulator the program that it runs.
    ///
    /// # Errors
    /// [`Error::Io`] when the container has ended.
    pub fn program(&self) -> Result<PathBuf, Error> {
        let path = PathBuf::from(format!("/proc/{}/exe", self.pid));
        let program = std::fs::read_link(&path).map_err(|source| Error::io("read the link", &path, source))?;
        let is_emulator = program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu-"));
        if !is_emulator {
            return Ok(program);
        }
        let path = PathBuf::from(format!("/proc/{}/cmdline", self.pid));
        let line = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
        let mut words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let is_qemu =
            |word: &String| Path::new(word).file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu-"));
        Ok(words.find(|word| !is_qemu(word)).map_or(program, PathBuf::from))
    }

    /// The processes that hold capabilities. One that ends meanwhile is not looked at.
    ///
    /// # Errors
    /// [`Error::Io`] when `/proc` can't be read.
    pub fn holders(&self) -> Result<Vec<Holder>, Error> {
        let members = processes::members(self.pid).map_err(|source| Error::io("read", Path::new("/proc"), source))?;
        let holders = members.into_iter().filter_map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let effective = u64::from_str_radix(field(&status, "CapEff")?, 16).ok()?;
            Some(Holder { name: field(&status, "Name")?.to_owned(), effective })
        });
        Ok(holders.filter(|holder| holder.effective != 0).collect())
    }

    /// Leaves a process behind in the container, a program of this machine in the container's process namespace,
    /// and looks whether the main process waits for it within a time after its end.
    ///
    /// # Errors
    /// [`Error::Io`] when a program or `/proc` can't be used.
    pub async fn orphan(&self, within: Duration) -> Result<Orphan, Error> {
        let Some(nsenter) = &self.runc.nsenter else {
            return Ok(Orphan::NotTried(
                "`nsenter` is not installed; install the Debian package `util-linux`".to_owned(),
            ));
        };
        let output = tokio::process::Command::new(nsenter)
            .args(["--target", &self.pid.to_string(), "--pid", "--", "/bin/sh", "-c", ORPHAN])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(within + Duration::from_secs(5), output).await;
        match output {
            Err(_) => return Ok(Orphan::NotTried("`nsenter` does not end".to_owned())),
            Ok(Err(source)) => return Err(Error::io("start", nsenter, source)),
            Ok(Ok(output)) if !output.status.success() => {
                return Ok(Orphan::NotTried(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
            }
            Ok(Ok(_)) => {}
        }
        // The orphan lives 200 ms; whoever is there after it has ended was not waited for.
        let deadline = Instant::now() + Duration::from_millis(400) + within;
        tokio::time::sleep(Duration::from_millis(400)).await;
        loop {
            let zombies =
                processes::zombies(self.pid).map_err(|source| Error::io("read", Path::new("/proc"), source))?;
            if zombies == 0 {
                return Ok(Orphan::Reaped);
            }
            if Instant::now() >= deadline {
                return Ok(Orphan::Zombie);
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

/// The ports of a table of `/proc/net/tcp` whose state is that of listening.
fn listening(table: &str) -> impl Iterator<Item = u16> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let (_, port) = local.rsplit_once(':')?;
        (state == "0A").then(|| u16::from_str_radix(port, 16).ok())?
    })
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(key, value)| (key == name).then(|| value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_ports_are_read_from_the_kernels_tables() {
        let four = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
                    0: 0100007F:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
                    1: 0100007F:9C40 0100007F:18EB 01 00000000:00000000 00:00000000 00000000     0\n";
        assert_eq!(listening(four).collect::<Vec<_>>(), [6379]);
        let six = "  sl  local_address                         remote_address                        st\n   \
                   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A\n";
        assert_eq!(listening(six).collect::<Vec<_>>(), [8080]);
    }
}

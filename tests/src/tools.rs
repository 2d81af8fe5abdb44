//! The tools that upstreams sign with, as they are installed here.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test helper: what can't be set up ends the test, and what isn't installed is said aloud"
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program in a folder, which is its home too; `None`, said aloud, where it isn't installed.
///
/// # Panics
/// When it fails.
pub fn run(folder: &Path, program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("HOME", folder).env("GNUPGHOME", folder.join("gnupg"));
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            println!("not run: `{program}`: {error}; `infra/setup/debian.sh test` installs it");
            return None;
        }
    };
    // One that ends before it has read all says why.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// A gpg home with keys, gone with its agent when it is dropped.
pub struct Gpg {
    folder: tempfile::TempDir,
}

impl Gpg {
    /// A home with a key of a user and a kind, such as `ed25519`; `None` where gpg isn't installed.
    pub fn new(user: &str, kind: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("gnupg");
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let gpg = Self { folder };
        gpg.run(&["--quick-generate-key", user, kind, "sign", "1y"], b"")?;
        Some(gpg)
    }

    /// The folder above the home, in which gpg runs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs gpg without asking anyone.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let all = ["--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""];
        run(self.folder(), "gpg", &[&all, arguments].concat(), input)
    }

    /// A public key, armored.
    pub fn public_key(&self, user: &str) -> Vec<u8> {
        self.run(&["--armor", "--export", user], b"").unwrap()
    }

    /// A detached signature by the first key, armored.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.run(&["--armor", "--detach-sign"], bytes).unwrap()
    }

    /// Fingerprint of a user's primary key, lower-case hexadecimal.
    pub fn fingerprint(&self, user: &str) -> String {
        let list = String::from_utf8(self.run(&["--with-colons", "--list-keys", user], b"").unwrap()).unwrap();
        let line = list.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_ascii_lowercase()
    }

    /// Adds a key that was made at a time (`YYYYMMDDTHHMMSS`) and lives for a gpg period.
    pub fn add_old(&self, user: &str, made: &str, life: &str) {
        let arguments = ["--faked-system-time", made, "--quick-generate-key", user, "ed25519", "sign", life];
        self.run(&arguments, b"").unwrap();
    }

    /// Signs by a user's key, at a time.
    pub fn sign_at(&self, user: &str, time: &str, bytes: &[u8]) -> Vec<u8> {
        self.run(&["--faked-system-time", time, "-u", user, "--detach-sign"], bytes).unwrap()
    }

    /// Revokes a user's key at a time, for a reason by gpg's numbers: 0 none, 1 compromised, 2
    /// superseded, 3 no longer used.
    pub fn revoke(&self, user: &str, time: &str, reason: &str) {
        let answers = format!("y\n{reason}\n\ny\n");
        let talk = ["--faked-system-time", time, "--no-batch", "--no-tty", "--command-fd", "0", "--status-fd", "2"];
        let revoke = ["--output", "revocation", "--gen-revoke", user];
        self.run(&[&talk[..], &revoke].concat(), answers.as_bytes()).unwrap();
        self.run(&["--import", "revocation"], b"").unwrap();
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = run(self.folder.path(), "gpgconf", &["--kill", "all"], b"");
    }
}

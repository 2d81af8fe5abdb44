//! What an image must not hold: ways to more rights, and tools that only help who breaks in.

use crate::database::Database;
use crate::files::{Files, Kind};
use crate::report::{Complaint, Finding};

use super::Compliance;

const BINARIES: [&str; 6] = ["bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"];
const SHELLS: [&str; 12] =
    ["sh", "ash", "bash", "dash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "busybox", "toybox"];
const PACKAGE_MANAGERS: [&str; 12] =
    ["apk", "apt", "apt-get", "aptitude", "dpkg", "rpm", "yum", "dnf", "microdnf", "zypper", "pacman", "opkg"];
const SSH_SERVERS: [&str; 2] = ["sshd", "dropbear"];

/// Setuid and setgid bits (CIS Docker 4.8).
pub(super) fn set_id(files: &Files) -> Finding {
    let marked = files.iter().filter(|(_, entry)| matches!(entry.kind, Kind::Regular(_)) && entry.mode & 0o6000 != 0);
    let complaints = marked.map(|(path, entry)| {
        let message =
            format!("`/{path}` has the mode {:04o}, and runs with its owner's rights; `chmod ug-s` it", entry.mode);
        Complaint::at(path, message)
    });
    Finding::listing(complaints.collect::<Vec<_>>(), "no file has a setuid or setgid bit")
}

/// File capabilities, which give rights as a setuid bit does.
pub(super) fn capabilities(files: &Files) -> Finding {
    let marked = files.iter().filter(|(_, entry)| entry.capabilities);
    let complaints = marked
        .map(|(path, _)| Complaint::at(path, format!("`/{path}` gives capabilities to who runs it; `setcap -r` it")));
    Finding::listing(complaints.collect::<Vec<_>>(), "no file has capabilities")
}

/// Whether others than root can change what everybody runs and reads.
pub(super) fn world_writable(files: &Files) -> Finding {
    let mut complaints = Vec::new();
    for (path, entry) in files.iter() {
        let open = entry.mode & 0o002 != 0;
        let message = match entry.kind {
            Kind::Directory if open && entry.mode & 0o1000 == 0 => format!(
                "everybody can replace files in the folder `/{path}` ({:04o}); `chmod o-w` it, or set its sticky bit",
                entry.mode
            ),
            Kind::Regular(_) if open => {
                format!("everybody can write to `/{path}` ({:04o}); `chmod o-w` it", entry.mode)
            }
            Kind::Regular(_) if entry.mode & 0o111 != 0 && entry.uid != 0 && !path.starts_with("home/") => format!(
                "the program `/{path}` belongs to the user {}, who can change it; `chown` it to root",
                entry.uid
            ),
            _ => continue,
        };
        complaints.push(Complaint::at(path, message));
    }
    Finding::listing(complaints, "only root can change programs and shared files")
}

/// Shells (CIS Docker 4.3), but for images that are for developing, or for their shell.
pub(super) fn shell(files: &Files, database: Option<&Database>, known: &Compliance<'_>) -> Finding {
    if known.development {
        return Finding::not_applicable("the variant is for developing");
    }
    tools(files, database, known.primary, &SHELLS, "is a shell, which an attacker could use")
}

/// Package managers (CIS Docker 4.3), but for images that are for developing, or for theirs.
pub(super) fn package_manager(files: &Files, database: Option<&Database>, known: &Compliance<'_>) -> Finding {
    if known.development {
        return Finding::not_applicable("the variant is for developing");
    }
    tools(files, database, known.primary, &PACKAGE_MANAGERS, "is a package manager, which an attacker could use")
}

/// Servers of SSH (CIS Docker 5.7).
pub(super) fn ssh_server(files: &Files, database: Option<&Database>, known: &Compliance<'_>) -> Finding {
    tools(files, database, known.primary, &SSH_SERVERS, "lets people into the container; `docker exec` does without it")
}

/// Programs of these names in the folders of `PATH`, unless the primary package has them.
fn tools(files: &Files, database: Option<&Database>, primary: Option<&str>, names: &[&str], what: &str) -> Finding {
    let origin = |package: &apk::InstalledPackage| {
        let information = &package.entry.information;
        if information.origin.is_empty() { information.name.clone() } else { information.origin.clone() }
    };
    let purpose = database.zip(primary).and_then(|(database, primary)| database.package(primary)).map(origin);
    let mut complaints = Vec::new();
    for (path, entry) in files.iter().filter(|(_, entry)| entry.kind != Kind::Directory) {
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        if !BINARIES.contains(&folder) || !names.contains(&name) {
            continue;
        }
        // A link belongs to whom it leads to; one that leads nowhere runs nothing.
        let Some(place) = files.follow(path) else { continue };
        let owner = database.and_then(|database| database.owner(&place).or_else(|| database.owner(path)));
        if purpose.is_some() && owner.map(origin) == purpose {
            continue;
        }
        let mut complaint = Complaint::at(
            path,
            format!("`/{path}` {what}; leave its package out, or move it to a variant for developing"),
        );
        if let (Kind::Symlink(_), Some(owner)) = (&entry.kind, owner) {
            complaint.package = Some(owner.entry.information.name.clone());
        }
        complaints.push(complaint);
    }
    let passed = match &purpose {
        Some(purpose) => format!("nothing of that kind beside what `{purpose}` brings"),
        None => "nothing of that kind".to_owned(),
    };
    Finding::listing(complaints, passed)
}

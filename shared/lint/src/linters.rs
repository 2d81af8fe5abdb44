use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Contents, paths, python};

/// Paths that one finding lists.
const LISTED: usize = 20;
/// Differing letters up to which a name is taken for a misspelt one.
const NEAR: usize = 3;

/// What becomes of a linter's finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Looked for only where somebody asks.
    Ignore,
    /// Recorded and shown.
    Warn,
    /// The package is not made.
    Require,
}

/// What the definition says of the package.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The package's name.
    pub name: &'a str,
    /// `checks.disabled`: linters that are not to run.
    pub disabled: &'a [String],
    /// Linters of the level [`Level::Ignore`] that are to run all the same, as warnings.
    pub enabled: &'a [String],
    /// The pipelines that the package's test uses, such as `test/tw/ldd-check`.
    pub tested_with: &'a [String],
    /// `options.no-provides`: an empty package is meant to be one.
    pub no_provides: bool,
}

/// One linter.
pub struct Linter {
    /// What `checks.disabled` calls it.
    pub name: &'static str,
    /// What becomes of its findings.
    pub level: Level,
    /// What is wrong, after the package's name.
    pub problem: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    find: fn(&Contents, &Subject<'_>) -> Option<Vec<String>>,
}

/// What one linter found in one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The package.
    pub package: String,
    /// The linter.
    pub linter: String,
    /// What becomes of it.
    pub level: Level,
    /// What is wrong.
    pub problem: String,
    /// The files, at most 20.
    pub paths: Vec<String>,
    /// How many more files there are.
    pub more: usize,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.problem)?;
        if !self.paths.is_empty() {
            write!(f, ": {}", self.paths.join(", "))?;
        }
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        write!(f, "; {} (linter `{}`)", self.remedy, self.linter)
    }
}

/// The check that compares a library's symbols with its last published version's. It needs the
/// repository, so it is not among [`LINTERS`], but `checks.disabled` turns it off as well.
pub const ABI: &str = "abi";

/// Runs every linter that the subject doesn't turn off. The findings come in the order of
/// [`LINTERS`]. A `-compat` package is exempt, as it is in melange: it exists to break these rules.
pub fn lint(contents: &Contents, subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = unknown(subject).collect();
    if subject.name.ends_with("-compat") {
        return findings;
    }
    let contains = |list: &[String], linter: &Linter| list.iter().any(|name| name == linter.name);
    for linter in LINTERS {
        let asked = linter.level != Level::Ignore || contains(subject.enabled, linter);
        if !asked || contains(subject.disabled, linter) {
            continue;
        }
        let Some(mut paths) = (linter.find)(contents, subject) else { continue };
        let more = paths.len().saturating_sub(LISTED);
        paths.truncate(LISTED);
        findings.push(Finding {
            package: subject.name.to_owned(),
            linter: linter.name.to_owned(),
            level: linter.level.max(Level::Warn),
            problem: linter.problem.to_owned(),
            paths,
            more,
            remedy: linter.remedy.to_owned(),
        });
    }
    findings
}

/// A warning for each name of `checks.disabled` that no linter has.
fn unknown<'a>(subject: &'a Subject<'_>) -> impl Iterator<Item = Finding> + 'a {
    let known = || LINTERS.iter().map(|linter| linter.name).chain([ABI]);
    let unknown = subject.disabled.iter().filter(move |name| known().all(|own| own != name.as_str()));
    unknown.map(move |name| {
        let distances = known().map(|own| (strsim::damerau_levenshtein(name, own), own));
        let remedy = match distances.min().filter(|(distance, _)| *distance <= NEAR) {
            Some((_, nearest)) => format!("did you mean `{nearest}`?"),
            None => "remove the name from `checks.disabled`".to_owned(),
        };
        Finding {
            package: subject.name.to_owned(),
            linter: "checks".to_owned(),
            level: Level::Warn,
            problem: format!("turns off the linter `{name}`, which there is not"),
            paths: Vec::new(),
            more: 0,
            remedy,
        }
    })
}

/// Every linter, in the order in which they run.
pub const LINTERS: &[Linter] = &[
    Linter {
        name: "dev",
        level: Level::Require,
        problem: "writes to /dev",
        remedy: "leave device files to the container engine and remove them in the pipeline",
        find: paths::dev,
    },
    Linter {
        name: "setuidgid",
        level: Level::Require,
        problem: "has setuid or setgid files",
        remedy: "unset the bits in the pipeline, or turn the linter off where the program needs them",
        find: paths::setuidgid,
    },
    Linter {
        name: "tempdir",
        level: Level::Require,
        problem: "writes to a folder for temporary files",
        remedy: "remove the files below /tmp, /var/tmp, /run and /var/run in the pipeline",
        find: paths::tempdir,
    },
    Linter {
        name: "varempty",
        level: Level::Require,
        problem: "writes to /var/empty",
        remedy: "remove the files in the pipeline",
        find: paths::varempty,
    },
    Linter {
        name: "worldwrite",
        level: Level::Require,
        problem: "has files that everybody may write",
        remedy: "`chmod o-w` them in the pipeline",
        find: paths::worldwrite,
    },
    Linter {
        name: "infodir",
        level: Level::Require,
        problem: "has the info folder's index, which every package would overwrite",
        remedy: "remove it with the pipeline `split/infodir`",
        find: paths::infodir,
    },
    Linter {
        name: "usrmerge",
        level: Level::Require,
        problem: "has files in /bin, /sbin, /lib, /lib64 or /usr/sbin",
        remedy: "install programs to /usr/bin and libraries to /usr/lib",
        find: paths::usrmerge,
    },
    Linter {
        name: "opt",
        level: Level::Warn,
        problem: "writes to /opt",
        remedy: "install below /usr, or put the files into a `-compat` package",
        find: paths::opt,
    },
    Linter {
        name: "srv",
        level: Level::Warn,
        problem: "writes to /srv",
        remedy: "install below /usr/share, or put the files into a `-compat` package",
        find: paths::srv,
    },
    Linter {
        name: "usrlocal",
        level: Level::Warn,
        problem: "writes to /usr/local",
        remedy: "set the prefix to /usr, or put the files into a `-compat` package",
        find: paths::usrlocal,
    },
    Linter {
        name: "object",
        level: Level::Warn,
        problem: "has object files",
        remedy: "remove what the compiler left on its way in the pipeline",
        find: paths::object,
    },
    Linter {
        name: "maninfo",
        level: Level::Warn,
        problem: "has manual or info pages and is no documentation package",
        remedy: "move them to a `-doc` subpackage with the pipeline `split/manpages` or `split/infodir`",
        find: paths::maninfo,
    },
    Linter {
        name: "sbom",
        level: Level::Warn,
        problem: "writes to /var/lib/db/sbom",
        remedy: "remove the files: the package's own SPDX document is put there by the factory",
        find: paths::sbom,
    },
    Linter {
        name: "strip",
        level: Level::Warn,
        problem: "has programs or libraries with debug sections",
        remedy: "add the pipeline `strip`, or keep the symbols in a `-dbg` subpackage with `split/debug`",
        find: paths::strip,
    },
    Linter {
        name: "pkgconf",
        level: Level::Warn,
        problem: "has pkg-config files that no test reads",
        remedy: "add `uses: test/pkgconf` to the package's test",
        find: paths::pkgconf,
    },
    Linter {
        name: "lddcheck",
        level: Level::Warn,
        problem: "has shared objects whose libraries no test looks for",
        remedy: "add `uses: test/tw/ldd-check` to the package's test",
        find: paths::lddcheck,
    },
    Linter {
        name: "cudaruntimelib",
        level: Level::Warn,
        problem: "has a library of the CUDA driver, which must come from the host",
        remedy: "remove it, and link against the stub library of the CUDA tool kit",
        find: paths::cudaruntimelib,
    },
    Linter {
        name: "dll",
        level: Level::Warn,
        problem: "has libraries for Windows",
        remedy: "remove them in the pipeline",
        find: paths::dll,
    },
    Linter {
        name: "dylib",
        level: Level::Warn,
        problem: "has libraries for macOS",
        remedy: "remove them in the pipeline",
        find: paths::dylib,
    },
    Linter {
        name: "nonlinux",
        level: Level::Warn,
        problem: "has files named for macOS or Windows",
        remedy: "remove in the pipeline what Linux does not use",
        find: paths::nonlinux,
    },
    Linter {
        name: "unsupportedarch",
        level: Level::Warn,
        problem: "has files named for an architecture other than x86_64 and aarch64",
        remedy: "remove them in the pipeline",
        find: paths::unsupportedarch,
    },
    Linter {
        name: "binaryarch",
        level: Level::Warn,
        problem: "has programs or libraries for an architecture other than x86_64 and aarch64",
        remedy: "remove them in the pipeline",
        find: paths::binaryarch,
    },
    Linter {
        name: "staticarchive",
        level: Level::Warn,
        problem: "has static libraries and is neither a `-dev` nor a `-static` package",
        remedy: "move them to a `-static` subpackage with the pipeline `split/static`, or build without them",
        find: paths::staticarchive,
    },
    Linter {
        name: "duplicate",
        level: Level::Warn,
        problem: "has files of one name and content in several folders",
        remedy: "keep one and link to it",
        find: paths::duplicate,
    },
    Linter {
        name: "python/docs",
        level: Level::Warn,
        problem: "installs a Python package named for documentation",
        remedy: "remove it in the pipeline: every package that does so collides with the others",
        find: python::docs,
    },
    Linter {
        name: "python/multiple",
        level: Level::Warn,
        problem: "installs several Python packages",
        remedy: "make a subpackage of each, and see that `pip` installs no dependencies",
        find: python::multiple,
    },
    Linter {
        name: "python/test",
        level: Level::Warn,
        problem: "installs a Python package named for tests",
        remedy: "remove it in the pipeline: every package that does so collides with the others",
        find: python::test,
    },
    Linter {
        name: "documentation",
        level: Level::Ignore,
        problem: "has documentation and is no documentation package",
        remedy: "move it to a `-doc` subpackage with the pipeline `split/alldocs`",
        find: paths::documentation,
    },
    Linter {
        name: "empty",
        level: Level::Ignore,
        problem: "is empty",
        remedy: "see why the pipeline installs nothing, or set `options.no-provides`",
        find: paths::empty,
    },
];

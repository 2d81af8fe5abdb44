//! What an image is made of and how it behaves alone: Minimill's own `tests/unit.yaml`.
//!
//! ```yaml
//! packages:                         # of the apk database
//!   present: [nginx, "musl>=1.2"]   # by name, or with a constraint
//!   absent: [busybox, apk-tools]
//! environment:                      # of the configuration
//!   set: {PATH: '^/usr/local/sbin:'} # regular expressions over the values
//!   unset: [LD_PRELOAD]
//! exposed: ["8080/tcp"]             # exactly these ports; without protocol they are TCP's
//! owners:                           # of a path and all below it, links not followed
//!   - path: /etc
//!     user: 0
//!     group: 0
//!     most: "0755"                  # no permission beyond these; links have none
//! runs:                             # each in a container of its own
//!   - name: as any user
//!     user: random
//!     read-only: true               # and all other keys of `runtime.yaml`
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::Error as _;

use crate::database::Database;
use crate::document::{self, Expression, Text};
use crate::files::Kind;
use crate::report::{Checks, Finding};
use crate::run::Run;
use crate::structure::value;
use crate::{Error, Facilities, Image, Suite, SuiteReport};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    packages: Option<Packages>,
    environment: Option<Environment>,
    exposed: Option<Vec<Text>>,
    #[serde(default)]
    owners: Vec<Owners>,
    #[serde(default)]
    runs: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Packages {
    #[serde(default, deserialize_with = "wants")]
    present: Vec<(String, apk::Dependency)>,
    #[serde(default)]
    absent: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Environment {
    #[serde(default)]
    set: BTreeMap<String, Expression>,
    #[serde(default)]
    unset: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Owners {
    path: Text,
    user: Option<u32>,
    group: Option<u32>,
    #[serde(default, deserialize_with = "mode")]
    most: Option<u32>,
}

fn wants<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, apk::Dependency)>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = texts.into_iter().map(|text| {
        let want: apk::Dependency = text.parse().map_err(|error| D::Error::custom(format!("`{text}`: {error}")))?;
        if want.conflict {
            return Err(D::Error::custom(format!("`{text}` says that it is absent; name it under `absent`")));
        }
        Ok((text, want))
    });
    parsed.collect()
}

fn mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match u32::from_str_radix(&text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
        _ => Err(D::Error::custom(format!("`{text}` are no permissions; octal digits such as `0755` are expected"))),
    }
}

/// Evaluates a `unit.yaml`. `text` is its content, `file` its name in messages; each container lives within the
/// limits of `facilities`.
///
/// # Errors
/// [`Error::Document`] with line and column when the file is not of its format; trouble with this machine. What the
/// image lacks or does wrong is in the report.
pub async fn unit(image: &Image, text: &str, file: &str, facilities: &Facilities<'_>) -> Result<SuiteReport, Error> {
    let document: Document = document::parse(text, file)?;
    let mut names = BTreeSet::new();
    for run in &document.runs {
        if run.name.is_empty() {
            return Err(document::wrong(file, "each of `runs` needs a `name`"));
        }
        if !names.insert(&run.name) {
            return Err(document::wrong(file, &format!("two of `runs` are called `{}`", run.name)));
        }
        if let Some(message) = run.contradiction() {
            return Err(document::wrong(file, &format!("run `{}`: {message}", run.name)));
        }
    }
    let mut checks = Checks::new(Suite::Unit);
    if let Some(wanted) = &document.packages {
        match Database::of(image)? {
            Ok(database) => installed_packages(wanted, &database, &mut checks),
            Err(reason) => checks.add("unit/packages", Finding::failed(reason, Vec::new())),
        }
    }
    if let Some(expected) = &document.environment {
        environment(image, expected, &mut checks);
    }
    if let Some(expected) = &document.exposed {
        checks.add("unit/exposed", exposed(image, expected));
    }
    for expected in &document.owners {
        checks.add(format!("unit/owners/{}", expected.path), owners(image, expected));
    }
    for run in &document.runs {
        run.run(image, &format!("unit/{}", run.name), facilities, &mut checks).await?;
    }
    Ok(checks.finish())
}

fn installed_packages(wanted: &Packages, database: &Database, checks: &mut Checks) {
    let found = |name: &str| database.package(name).map(|package| &package.entry.information);
    for (text, want) in &wanted.present {
        let finding = match found(&want.name) {
            None => Finding::failed(
                format!("the package `{}` is not installed; add it to `contents.packages`", want.name),
                Vec::new(),
            ),
            Some(package) if want.satisfied_by(package.version.parse().ok().as_ref()) => {
                Finding::passed(format!("{} is installed", package.version))
            }
            Some(package) => Finding::failed(
                format!("the package `{}` is {}, expected `{text}`; pin its version", want.name, package.version),
                Vec::new(),
            ),
        };
        checks.add(format!("unit/package-present/{text}"), finding);
    }
    for name in &wanted.absent {
        let finding = match found(name) {
            None => Finding::passed(format!("`{name}` is not installed")),
            Some(package) => Finding::failed(
                format!(
                    "`{name}` {} is installed; find what wants it by `mill image solve`, and drop it",
                    package.version
                ),
                Vec::new(),
            ),
        };
        checks.add(format!("unit/package-absent/{name}"), finding);
    }
}

fn environment(image: &Image, expected: &Environment, checks: &mut Checks) {
    let config = image.configuration().config().clone().unwrap_or_default();
    let found = config.env().clone().unwrap_or_default();
    for (name, expression) in &expected.set {
        let finding = match value(&found, name) {
            Some(text) if expression.is_match(text.as_bytes()) => Finding::passed(format!("it is `{text}`")),
            Some(text) => {
                Finding::failed(format!("`{name}` is `{text}`, which does not match `{expression}`"), Vec::new())
            }
            None => Finding::failed(format!("`{name}` is not set; add it to `environment` of apko.yaml"), Vec::new()),
        };
        checks.add(format!("unit/environment/{name}"), finding);
    }
    for name in &expected.unset {
        let finding = match value(&found, name) {
            None => Finding::passed(format!("`{name}` is not set")),
            Some(text) => {
                Finding::failed(format!("`{name}` is `{text}`; take it out of `environment` of apko.yaml"), Vec::new())
            }
        };
        checks.add(format!("unit/environment/{name}"), finding);
    }
}

fn exposed(image: &Image, expected: &[Text]) -> Finding {
    let whole = |port: &str| if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
    let config = image.configuration().config().clone().unwrap_or_default();
    let found: BTreeSet<String> = config.exposed_ports().iter().flatten().map(|port| whole(port)).collect();
    let expected: BTreeSet<String> = expected.iter().map(|port| whole(port)).collect();
    let absent = expected.difference(&found).map(|port| format!("the port {port} is not exposed"));
    let strange = found.difference(&expected).map(|port| format!("the port {port} is exposed; it should not be"));
    let shown = found.iter().cloned().collect::<Vec<_>>().join(", ");
    Finding::of(absent.chain(strange).collect(), format!("the exposed ports are: {shown}"))
}

fn owners(image: &Image, expected: &Owners) -> Finding {
    let Some(place) = image.files().follow(&expected.path) else {
        return Finding::failed(format!("`{}` is not in the image", expected.path), Vec::new());
    };
    let below = format!("{place}/");
    let within = |path: &str| place.is_empty() || path == place || path.starts_with(&below);
    let (mut looked_at, mut complaints) = (0, Vec::new());
    for (path, entry) in image.files().iter().filter(|(path, _)| within(path)) {
        looked_at += 1;
        for (what, found, expected) in [("user", entry.uid, expected.user), ("group", entry.gid, expected.group)] {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                complaints.push(format!("`/{path}` belongs to the {what} {found}, expected {expected}"));
            }
        }
        let most = expected.most.filter(|_| !matches!(entry.kind, Kind::Symlink(_)));
        if let Some(most) = most.filter(|most| entry.mode & !most != 0) {
            complaints.push(format!("`/{path}` has the mode {:04o}, expected no more than {most:04o}", entry.mode));
        }
    }
    Finding::listing(complaints, format!("{looked_at} paths are owned as expected"))
}

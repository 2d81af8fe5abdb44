//! Linters over `usr/lib/python3.X/site-packages`.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Contents, Subject};

type Paths = Option<Vec<String>>;

/// What lies directly in `site-packages`, by the Python that it is for.
fn installed(contents: &Contents) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for entry in &contents.entries {
        let Some((python, path)) = entry.path.strip_prefix("usr/lib/").and_then(|rest| rest.split_once('/')) else {
            continue;
        };
        let name = path.strip_prefix("site-packages/").and_then(|path| path.split('/').next());
        if let Some(name) = name.filter(|_| python.starts_with("python3.")) {
            found.entry(python).or_default().insert(name);
        }
    }
    found
}

fn named(contents: &Contents, names: [&str; 2]) -> Paths {
    let mut paths = Vec::new();
    for (python, packages) in installed(contents) {
        let wrong = packages.into_iter().filter(|name| names.contains(name));
        paths.extend(wrong.map(|name| format!("usr/lib/{python}/site-packages/{name}")));
    }
    (!paths.is_empty()).then_some(paths)
}

pub(crate) fn docs(contents: &Contents, _: &Subject<'_>) -> Paths {
    named(contents, ["doc", "docs"])
}

pub(crate) fn test(contents: &Contents, _: &Subject<'_>) -> Paths {
    named(contents, ["test", "tests"])
}

/// Metadata, internal modules, documentation and tests are no packages of their own; a module and
/// its compiled half are one.
pub(crate) fn multiple(contents: &Contents, _: &Subject<'_>) -> Paths {
    let mut paths = Vec::new();
    for (python, names) in installed(contents) {
        let packages: BTreeSet<&str> = names
            .into_iter()
            .filter(|name| !name.starts_with('_') && !["doc", "docs", "test", "tests"].contains(name))
            .filter(|name| ![".egg-info", ".dist-info", ".pth"].iter().any(|metadata| name.ends_with(metadata)))
            .map(|name| name.split('.').next().unwrap_or(name))
            .filter(|name| !name.is_empty())
            .collect();
        if packages.len() > 1 {
            paths.extend(packages.into_iter().map(|name| format!("usr/lib/{python}/site-packages/{name}")));
        }
    }
    (!paths.is_empty()).then_some(paths)
}

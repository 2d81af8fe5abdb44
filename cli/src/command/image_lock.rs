//! apko's lock files: what `mill image lock` writes, and what `mill image build --lockfile` takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::{Lock, LockedConfiguration, LockedContents, LockedKey, LockedPackage, LockedRepository, without_scheme};
use recipe::{KeyEntry, LoadedImage, Text};
use serde_json::json;
use upstream::Fetcher;

use crate::arguments::{Global, LockImage, RepositoryArguments};
use crate::base_image::Bases;
use crate::output::{self, Failure, Format, OrFail};
use crate::sources::{self, Sources};

use super::image_build::{Chosen, Packages, from_repositories};
use super::image_solve;

/// Writes the lock file of a definition.
pub async fn run(global: &Global, command: &LockImage) -> Result<u8, Failure> {
    let file = &command.file;
    if !image_solve::is_file_name(file) {
        return Err(Failure::usage("a file is locked; its name ends in `.yaml`"));
    }
    let definition = image_solve::load(file)?;
    let configuration = &definition.configuration;
    let sources = Sources::of(configuration, file, &command.repositories)?;
    if sources.is_empty() {
        return Err(Failure::bad("the file names no repositories, so there are no files to lock"));
    }
    let bases = Bases::open(configuration, file, &sources::architectures(configuration, None)?)?;
    let arguments = &command.repositories;
    let (packages, _) = from_repositories(global, file, configuration, &bases, &sources, arguments).await?;
    let contents = &configuration.contents;
    let lines = |lines: &[Text]| -> Vec<LockedRepository> {
        let of = |architecture| lines.iter().map(move |line| LockedRepository::new(without_tag(line), architecture));
        packages.keys().flat_map(|architecture| of(*architecture)).collect()
    };
    let mut keyring: Vec<LockedKey> = contents
        .keyring
        .iter()
        .map(|key| match key {
            KeyEntry::Location(at) => {
                LockedKey { name: without_scheme(at).to_owned(), url: at.value.clone(), content: String::new() }
            }
            KeyEntry::Inline(key) => {
                LockedKey { name: key.name.value.clone(), url: String::new(), content: key.content.value.clone() }
            }
        })
        .collect();
    keyring.sort_by(|first, second| first.name.cmp(&second.name));
    let mut locked = Vec::new();
    for (architecture, chosen) in &packages {
        for Chosen { package, location } in chosen {
            locked.push(LockedPackage::of(package, location.clone(), *architecture).or_bad()?);
        }
    }
    let name = file.display().to_string();
    let checksum = checksum(&definition, &command.repositories);
    let count = locked.len();
    let lock = Lock::new(
        LockedConfiguration { name, checksum },
        LockedContents {
            keyring,
            build_repositories: lines(&contents.build_repositories),
            runtime_repositories: lines(&contents.runtime_repositories),
            repositories: lines(&contents.repositories),
            packages: locked,
            ..LockedContents::default()
        },
    );
    let output = command.output.clone().unwrap_or_else(|| file.with_extension("lock.json"));
    let absolute =
        std::path::absolute(&output).map_err(|error| Failure::bad(format!("`{}`: {error}", output.display())))?;
    ports::local::write_atomically(&absolute, lock.to_json().or_bad()?.as_bytes()).or_environment()?;
    match global.format {
        Format::Json => output::json(&json!({ "lock": output, "packages": count }))?,
        Format::Text => output::text(format!("{} {count} packages", output.display()))?,
    }
    Ok(0)
}

/// The packages of a lock file, each held against what the lock says of it.
pub async fn packages(
    global: &Global,
    lockfile: &Path,
    definition: &LoadedImage,
    bases: &Bases,
    arguments: &RepositoryArguments,
) -> Result<Packages, Failure> {
    let lock = Lock::open(lockfile).or_bad()?;
    if !lock.check_configuration(lockfile, &checksum(definition, arguments)).or_bad()? {
        let lockfile = lockfile.display();
        output::warning(&format!("lock file `{lockfile}` does not say which definition it is of; lock it again"))?;
    }
    let fetcher = image_solve::fetcher(global, arguments)?;
    let cache = global.home.join("cache/packages");
    let wants = image_solve::wants(&definition.configuration)?;
    let mut packages = BTreeMap::new();
    for architecture in sources::architectures(&definition.configuration, None)? {
        let mut chosen = Vec::new();
        for locked in lock.packages(architecture) {
            let path = file(locked, &fetcher, &cache).await?;
            chosen.push(locked.check(&path).or_bad()?);
        }
        // With a base there may be nothing to add.
        if chosen.is_empty() && bases.image(architecture).is_none() {
            return Err(Failure::bad(format!(
                "lock file `{}` has no packages for {architecture}; lock the definition again",
                lockfile.display()
            )));
        }
        bases.check_lock(lockfile, &wants, architecture, &chosen)?;
        packages.insert(architecture, chosen);
    }
    Ok(packages)
}

/// Where a locked package's file is on this machine.
async fn file(locked: &LockedPackage, fetcher: &Fetcher, cache: &Path) -> Result<PathBuf, Failure> {
    if without_scheme(&locked.url) == locked.url {
        return Ok(PathBuf::from(&locked.url));
    }
    let wrong = || {
        let LockedPackage { name, version, control, .. } = locked;
        Failure::bad(format!("control checksum `{}` of `{name}-{version}` is not `sha1-BASE64`", control.checksum))
    };
    let encoded = locked.control.checksum.strip_prefix("sha1-").ok_or_else(wrong)?;
    let checksum: apk::Checksum = format!("Q1{encoded}").parse().map_err(|_| wrong())?;
    // The same name that a solved package has there.
    let path = cache.join(format!("{}.apk", checksum.to_hex()));
    if !path.is_file() {
        fetcher.file(&locked.url, apk::limits::PACKAGE_BYTES, &path).await.or_bad()?;
    }
    Ok(path)
}

/// The checksum of a definition, its includes, and what the command line adds to its repositories.
fn checksum(definition: &LoadedImage, arguments: &RepositoryArguments) -> String {
    let mut sources = definition.sources.clone();
    sources.extend(arguments.repository_append.iter().chain(&arguments.keyring_append).cloned());
    image::configuration_checksum(&sources)
}

/// The location of a line `[@tag ]PATH|URL`.
fn without_tag(line: &str) -> &str {
    match line.strip_prefix('@').and_then(|rest| rest.split_once(char::is_whitespace)) {
        Some((_, location)) => location.trim(),
        None => line,
    }
}

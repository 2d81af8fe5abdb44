//! The image that a definition in a file builds on, and the choice of packages for what lies on top.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use apk::{Architecture, Dependency, IndexEntry, IndexRecord};
use image::{BaseImage, PackageFile};
use recipe::{ImageConfiguration, Text};
use repositories::Repositories;
use solve::{Repository, Solution, Task, Universe};

use crate::output::{Failure, OrFail};

/// The image below, for each architecture. Empty where a definition names none.
#[derive(Default)]
pub struct Bases(BTreeMap<Architecture, Base>);

struct Base {
    image: BaseImage,
    entries: Vec<IndexEntry>,
    /// `NAME=VERSION` of every package.
    pins: Vec<Dependency>,
}

impl Bases {
    /// Those of a definition that stands in `file`. Relative paths are looked for beside it, and then in the
    /// working folder.
    pub fn open(
        configuration: &ImageConfiguration,
        file: &Path,
        architectures: &[Architecture],
    ) -> Result<Self, Failure> {
        let Some(named) = &configuration.contents.base_image else { return Ok(Self::default()) };
        let (layout, index) = (folder(file, "image", &named.image)?, folder(file, "apkindex", &named.apk_index)?);
        let mut bases = BTreeMap::new();
        for architecture in architectures {
            let image = BaseImage::open(&layout, &index, *architecture).or_bad()?;
            let entries: Vec<IndexEntry> = image.packages().iter().map(|package| package.entry.clone()).collect();
            let pin = |entry: &IndexEntry| {
                let pin = format!("{}={}", entry.information.name, entry.information.version);
                pin.parse().map_err(|error| Failure::bad(format!("package `{pin}` of the base image: {error}")))
            };
            let pins = entries.iter().map(pin).collect::<Result<_, _>>()?;
            bases.insert(*architecture, Base { image, entries, pins });
        }
        Ok(Self(bases))
    }

    /// The image below for an architecture, if there is one.
    pub fn image(&self, architecture: Architecture) -> Option<&BaseImage> {
        self.0.get(&architecture).map(|base| &base.image)
    }

    fn entries(&self, architecture: Architecture) -> &[IndexEntry] {
        self.0.get(&architecture).map_or(&[], |base| &base.entries)
    }

    /// Whether a package is in the image below.
    pub fn has(&self, architecture: Architecture, name: &str) -> bool {
        self.entries(architecture).iter().any(|entry| entry.information.name == name)
    }

    /// What could be installed for each architecture, every version there for all of them.
    pub fn universes<'a>(
        &'a self,
        repositories: &'a [(Architecture, Repositories)],
    ) -> Result<Vec<Universe<'a>>, Failure> {
        let universe = |(architecture, repositories): &'a (Architecture, Repositories)| {
            repositories.universe_on(self.entries(*architecture)).or_bad()
        };
        let all = repositories.iter().map(universe).collect::<Result<Vec<_>, _>>()?;
        if all.len() < 2 {
            return Ok(all);
        }
        let mut restricted = all.clone();
        for universe in &mut restricted {
            let own = universe.architecture();
            for other in all.iter().filter(|other| other.architecture() != own) {
                universe.require_same_versions_in(other);
            }
        }
        Ok(restricted)
    }

    /// The packages for one architecture, in install order, those of the image below among them.
    pub fn solved<'a>(
        &self,
        universe: &Universe<'a>,
        subject: &str,
        wants: &[Dependency],
    ) -> Result<Solution<'a>, Failure> {
        let base = self.0.get(&universe.architecture());
        let pins = base.map_or(&[][..], |base| &base.pins);
        let solution = solve::solve(universe, &Task { world: pins, ..Task::new(subject, wants) }).or_bad()?;
        for entry in base.map_or(&[][..], |base| &base.entries) {
            let (name, version) = (&entry.information.name, &entry.information.version);
            let chosen = solution.packages().find(|chosen| chosen.entry.name() == name);
            if chosen.as_ref().map(|chosen| chosen.entry.version()) != Some(version) {
                let found = chosen.map_or("none".to_owned(), |chosen| chosen.entry.version().to_owned());
                return Err(Failure::bad(format!(
                    "{subject}: the base image has `{name}={version}`, and `contents.packages` leads to {found}; what is in a base can't be changed: take another base or want"
                )));
            }
        }
        Ok(solution)
    }

    /// Checks that locked packages are what is missing on top of the image below, neither more nor less: nothing
    /// in a lock says on which base it stands.
    pub fn check_lock(
        &self,
        lock: &Path,
        wants: &[Dependency],
        architecture: Architecture,
        packages: &[PackageFile],
    ) -> Result<(), Failure> {
        let Some(base) = self.0.get(&architecture) else { return Ok(()) };
        let again = |problem: String| {
            Failure::bad(format!(
                "lock file `{}` is not for the base image as it is now ({problem}); lock the definition again",
                lock.display()
            ))
        };
        if let Some(both) = packages.iter().find(|package| self.has(architecture, &package.entry.information.name)) {
            return Err(again(format!("`{}` is in both", both.entry.information.name)));
        }
        let records: Vec<IndexRecord<'_>> = packages.iter().map(|package| IndexRecord::from(&package.entry)).collect();
        let installed: Vec<_> = base.entries.iter().map(|entry| (IndexRecord::from(entry), None)).collect();
        let locked = Repository { name: lock.display().to_string(), tag: None, records: &records };
        let universe = Universe::with_installed(architecture, &installed, &[locked]).or_bad()?;
        let without_tags: Vec<Dependency> =
            wants.iter().cloned().map(|want| Dependency { tag: None, ..want }).collect();
        let solution = solve::solve(&universe, &Task { world: &base.pins, ..Task::new("the image", &without_tags) })
            .map_err(|failure| again(failure.to_string()))?;
        for package in packages {
            let name = &package.entry.information.name;
            if solution.packages().all(|chosen| chosen.entry.name() != name) {
                return Err(again(format!("nothing needs `{name}`")));
            }
        }
        Ok(())
    }
}

/// The folder that a key of `contents.baseimage` names.
fn folder(file: &Path, key: &str, path: &Text) -> Result<PathBuf, Failure> {
    let beside = file.parent().unwrap_or(Path::new("")).join(path.as_str());
    let places = [beside, PathBuf::from(path.as_str())];
    places.iter().find(|place| place.is_dir()).cloned().ok_or_else(|| {
        let (file, line) = (file.display(), path.position.line);
        let expected = "expected a folder beside the file or in the working folder";
        Failure::bad(format!("{file}:{line}: `contents.baseimage.{key}` is `{path}`: no such folder; {expected}"))
    })
}

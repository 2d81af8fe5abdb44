//! Which packages satisfy a set of wants, over apk indexes.
//!
//! [`Universe::new`] prepares the indexes once; [`solve`] takes a [`Task`] and gives the packages in
//! the order in which to install them, or a [`Failure`] with the chain of reasons. The semantics are
//! apk-tools' own (version 3): the same wants over the same indexes give the same packages in the
//! same order, and [`Failure::apk_message`] is the text that apk prints.

mod arena;
mod builder;
mod discover;
mod explain;
mod failure;
mod links;
mod names;
mod order;
mod presence;
mod select;
mod solver;
mod state;
mod universe;

use std::collections::{HashSet, VecDeque};

use apk::{Dependency, DependencyParts, IndexRecord, Operator, Requirement};

pub use failure::{Fact, Failure, Problem, Subject};
pub use universe::{Error, MAXIMUM_REPOSITORIES, MAXIMUM_TAGS, Place, Repository, Universe};

use arena::{NameId, PackageId};
use explain::compare_names;
use links::Link;
use solver::{Solver, Want};
use state::Flags;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Task<'t> {
    /// Who wants it, for messages: the image's name, or `world`.
    pub subject: &'t str,
    /// The wants; of two for the same name the later one counts.
    pub wants: &'t [Dependency],
    /// Wants from before that `wants` adds to or replaces. apk-tools decides these names after the
    /// newly named ones, which can matter where several packages provide a name.
    pub world: &'t [Dependency],
    /// For the packages in `wants` and what they depend on.
    pub preference: Preference,
    /// For everything.
    pub world_preference: Preference,
    /// Takes the only package that provides a virtual name, although that package has no
    /// `provider_priority`: apk-tools 2 and apko do so, and indexes made for them rely on it, while
    /// apk-tools 3 wants such a package to be named.
    pub lone_virtuals: bool,
    /// Of packages that are equally good to apk-tools takes one that was built from the same origin,
    /// in the same version, as a package that is chosen already, as apko does; apk-tools takes the one
    /// that is listed first.
    pub same_origin: bool,
    /// How often to try again when apk-tools would give up, each time without a package that a failed
    /// constraint involves, so an older version may come in for a newer one. With 0, what has no
    /// solution for apk-tools has none here.
    pub alternatives: u32,
    /// Drops the wants that can't be satisfied, rather than failing.
    pub drop_broken: bool,
}

impl<'t> Task<'t> {
    /// These wants, on their own, with `lone_virtuals` and `same_origin`, as images want them.
    pub fn new(subject: &'t str, wants: &'t [Dependency]) -> Self {
        Self {
            subject,
            wants,
            world: &[],
            preference: Preference::default(),
            world_preference: Preference::default(),
            lone_virtuals: true,
            same_origin: true,
            alternatives: 0,
            drop_broken: false,
        }
    }
}

/// Which of the packages that fit is the better one. None of these matters on a system where
/// nothing is installed, except `latest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// Newer packages rather than those already installed.
    pub upgrade: bool,
    /// Packages that a repository still has rather than those already installed.
    pub available: bool,
    /// The highest version there is, also where constraints make it impossible.
    pub latest: bool,
    /// Installs again what is installed.
    pub reinstall: bool,
}

impl Preference {
    fn flags(self) -> Flags {
        Flags::UPGRADE
            .when(self.upgrade)
            .with(Flags::AVAILABLE.when(self.available))
            .with(Flags::LATEST.when(self.latest))
            .with(Flags::REINSTALL.when(self.reinstall))
    }
}

/// What satisfies a [`Task`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution<'a> {
    /// In commit order: dependencies before what depends on them.
    pub changes: Vec<Change<'a>>,
}

/// One package that comes, stays, is exchanged for another of its name, or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// What was installed under the name.
    pub old: Option<IndexRecord<'a>>,
    /// What is to be.
    pub new: Option<Selected<'a>>,
}

/// A package that is part of the solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected<'a> {
    /// Its index record.
    pub entry: IndexRecord<'a>,
    /// Where that record stands, of several like it the first. `None` for a package that is
    /// installed already.
    pub place: Option<Place>,
    /// The repository it comes from: position in what [`Universe::new`] was given. `None` for one
    /// that is installed and in no repository.
    pub repository: Option<usize>,
    /// The tag (without `@`) that made its repository visible.
    pub tag: Option<String>,
}

impl Change<'_> {
    /// Whether the package that is there stays. Installing it again, or by another tag, is up to who
    /// asked for that.
    pub fn is_nothing(&self) -> bool {
        self.new.as_ref().map(|new| new.entry) == self.old
    }
}

impl<'a> Solution<'a> {
    /// The packages of the solution, in the order in which to install them.
    pub fn packages(&self) -> impl Iterator<Item = &Selected<'a>> {
        self.changes.iter().filter_map(|change| change.new.as_ref())
    }
}

/// Finds the packages that `task` wants, with everything they need.
///
/// ```
/// use apk::{Architecture, IndexEntry, IndexRecord, PackageInformation};
/// let (name, version) = ("valkey".to_owned(), "8.1.1-r0".to_owned());
/// let information = PackageInformation { name, version, ..PackageInformation::default() };
/// let entry = IndexEntry { information, ..IndexEntry::default() };
/// let records = [IndexRecord::from(&entry)];
/// let repository = solve::Repository { name: "own".into(), tag: None, records: &records };
/// let universe = solve::Universe::new(Architecture::X86_64, &[repository])?;
/// let wants = ["valkey~9".parse()?];
/// let failure = solve::solve(&universe, &solve::Task::new("redis-image", &wants)).unwrap_err();
/// assert_eq!(
///     failure.to_string(),
///     "the wants have no solution:\n  redis-image wants `valkey~9`: no package provides it; versions there: 8.1.1-r0",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn solve<'a>(universe: &Universe<'a>, task: &Task<'_>) -> Result<Solution<'a>, Failure> {
    let (mut wants, names) = read_wants(universe, task)?;
    let mut flags = task.preference.flags();
    let first = loop {
        let setback = match attempt(universe, task, &wants, names, flags, &[]) {
            Ok(solution) => return Ok(solution),
            Err(setback) => setback,
        };
        if !task.drop_broken || setback.broken_wants.is_empty() {
            break setback;
        }
        for &want in &setback.broken_wants {
            if let Some(want) = wants.get_mut(want) {
                want.broken = true;
            }
        }
        // apk-tools forgets them on its way back.
        flags = Flags::default();
    };
    let mut waiting: VecDeque<Vec<PackageId>> = first.blamed.iter().map(|&package| vec![package]).collect();
    let mut seen: HashSet<Vec<PackageId>> = waiting.iter().cloned().collect();
    for _ in 0..task.alternatives {
        let Some(excluded) = waiting.pop_front() else { break };
        let setback = match attempt(universe, task, &wants, names, flags, &excluded) {
            Ok(solution) => return Ok(solution),
            Err(setback) => setback,
        };
        for package in setback.blamed {
            let mut more = excluded.clone();
            more.push(package);
            more.sort();
            more.dedup();
            if more.len() > excluded.len() && seen.insert(more.clone()) {
                waiting.push_back(more);
            }
        }
    }
    Err(Failure::Unsolvable { problems: first.problems })
}

/// An attempt that came to no solution.
struct Setback {
    problems: Vec<Problem>,
    /// The packages without which it might work.
    blamed: Vec<PackageId>,
    /// Positions of the wants that nothing satisfies, without those dropped before.
    broken_wants: Vec<usize>,
}

fn attempt<'a>(
    universe: &Universe<'a>,
    task: &Task<'_>,
    wants: &[Want<'_>],
    names: usize,
    flags: Flags,
    excluded: &[PackageId],
) -> Result<Solution<'a>, Setback> {
    let mut solver = Solver::new(universe, names, task);
    for &package in excluded {
        solver.packages[package].excluded = true;
    }
    for want in wants.iter().filter(|want| want.named) {
        solver.flag_name(want.link.name, flags);
    }
    solver.run(wants, task.world_preference.flags());
    let changes = order::order(&mut solver, wants);
    if solver.errors == 0 {
        return Ok(solution(&solver, &changes));
    }
    let broken = |want: &Want<'_>| {
        let chosen = solver.names[want.link.name].chosen;
        !want.broken && chosen.is_none_or(|chosen| solver.packages[chosen.package].error)
    };
    let broken_wants = wants.iter().enumerate().filter(|(_, want)| broken(want)).map(|(number, _)| number).collect();
    let (problems, blamed) = explain::problems(&solver, task.subject, wants, &changes);
    Err(Setback { problems, blamed, broken_wants })
}

/// The wants in apk's order, and how many names there are with theirs.
fn read_wants<'t>(universe: &Universe<'_>, task: &Task<'t>) -> Result<(Vec<Want<'t>>, usize), Failure> {
    let mut wants: Vec<Want<'t>> = Vec::new();
    let mut names = universe.name_count();
    let world = task.world.iter().map(|want| (want, false));
    for (dependency, named) in world.chain(task.wants.iter().map(|want| (want, true))) {
        let known = wants.iter().position(|want| want.name == dependency.name);
        let id = universe
            .find(&dependency.name)
            .or_else(|| known.and_then(|at| wants.get(at)).map(|want| want.link.name))
            .unwrap_or_else(|| {
                names += 1;
                NameId(u32::try_from(names - 1).unwrap_or(u32::MAX))
            });
        let parts = DependencyParts {
            conflict: dependency.conflict,
            name: &dependency.name,
            tag: dependency.tag.as_deref(),
            constraint: match &dependency.requirement {
                Requirement::Any => None,
                Requirement::Version(operator, version) => Some((*operator, version.as_str())),
                Requirement::Checksum(checksum) => Some((Operator::Checksum, checksum)),
            },
        };
        let tag = parts.tag.map_or(Some(0), |tag| universe.tag(tag));
        let want = Want {
            link: Link::new(id, &parts),
            name: &dependency.name,
            tag_text: parts.tag,
            tag: tag.unwrap_or(MAXIMUM_TAGS),
            named,
            broken: false,
        };
        match known.and_then(|at| wants.get_mut(at)) {
            Some(known) => *known = want,
            None => wants.push(want),
        }
    }
    let unknown: Vec<String> = wants
        .iter()
        .filter(|want| want.tag == MAXIMUM_TAGS)
        .filter_map(|want| Some(format!("{}@{}", want.name, want.tag_text?)))
        .collect();
    if !unknown.is_empty() && !task.drop_broken {
        return Err(Failure::UnknownTags { wants: unknown });
    }
    wants.sort_by(|a, b| compare_names(a.name, b.name));
    Ok((wants, names))
}

fn solution<'a>(solver: &Solver<'_, 'a>, changes: &[order::Change]) -> Solution<'a> {
    let universe = solver.universe;
    let changes = changes.iter().map(|change| Change {
        old: change.old.map(|package| universe.packages[package].record),
        new: change.new.map(|package| {
            let row = &universe.packages[package];
            let visible = row.repositories & universe.opened_by(solver.packages[package].pins);
            let from = if visible != 0 { visible } else { row.repositories };
            let tag = universe.tags.get(change.tag).map(|tag| tag.text.clone());
            Selected {
                entry: row.record,
                place: row.place(),
                repository: (from != 0).then(|| from.trailing_zeros() as usize),
                tag: tag.filter(|tag| !tag.is_empty()),
            }
        }),
    });
    Solution { changes: changes.collect() }
}

//! Real wants against a real index of 4,929 packages.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;

use apk::{Architecture, Dependency, Index, IndexEntry, Trust};
use solve::{Change, Repository, Solution, Task, Universe, solve};
use support::{corpus, entry_of, records, violations};

const WANTS: [&str; 9] = ["nginx", "nodejs", "python3", "git", "curl", "gcc", "cmake", "haproxy", "perl"];

fn index() -> Option<Vec<IndexEntry>> {
    let path = corpus().join("apk/alpine-316/APKINDEX.tar.gz");
    if !path.exists() {
        println!("not run: no corpus at {}", path.display());
        return None;
    }
    Some(Index::open(&path, Trust::Unverified).unwrap().index.entries)
}

fn wants(texts: &[&str]) -> Vec<Dependency> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn universe(entries: &[IndexEntry]) -> Universe<'_> {
    let records = records(entries);
    let repository = Repository { name: "alpine".to_owned(), tag: None, records: &records };
    Universe::new(Architecture::X86_64, &[repository]).unwrap()
}

#[test]
fn servers_and_compilers_together() {
    let Some(entries) = index() else { return };
    let universe = universe(&entries);
    let wants = wants(&WANTS);
    let solution = solve(&universe, &Task::new("tools", &wants)).unwrap();
    let chosen: Vec<&IndexEntry> = solution.packages().map(|selected| entry_of(&entries, selected)).collect();
    assert_eq!(violations(&wants, &chosen), Vec::<String>::new());
    for want in WANTS {
        assert!(chosen.iter().any(|entry| entry.information.name == want), "{want}");
    }
    // Nothing is there without a reason: every package but the wanted ones is what another needs.
    for entry in &chosen {
        let others: Vec<&IndexEntry> = chosen.iter().copied().filter(|other| !std::ptr::eq(*other, *entry)).collect();
        let needed = !violations(&wants, &others).is_empty();
        assert!(needed || !entry.information.install_if.is_empty(), "{} is not needed", entry.information.name);
    }
    println!("{} packages", chosen.len());
}

#[test]
fn dependencies_come_before_dependents() {
    let Some(entries) = index() else { return };
    let universe = universe(&entries);
    let wants = wants(&WANTS);
    let solution = solve(&universe, &Task::new("tools", &wants)).unwrap();
    let mut before: Vec<&IndexEntry> = Vec::new();
    for selected in solution.packages() {
        let entry = entry_of(&entries, selected);
        let own = &entry.information;
        let depends = wants_of(&own.depends);
        before.push(entry);
        let missing = violations(&depends, &before)
            .into_iter()
            .filter(|violation| violation.starts_with("the want"))
            .collect::<Vec<_>>();
        assert!(missing.is_empty(), "{}: {missing:?}", own.name);
    }
}

fn wants_of(texts: &[String]) -> Vec<Dependency> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn every_package_alone_resolves_validly_or_says_why_not() {
    let Some(entries) = index() else { return };
    let universe = universe(&entries);
    let mut failures = Vec::new();
    for entry in entries.iter().step_by(31) {
        let name = entry.information.name.as_str();
        let wants = wants(&[name]);
        match solve(&universe, &Task::new("world", &wants)) {
            Ok(solution) => {
                let chosen: Vec<&IndexEntry> =
                    solution.packages().map(|selected| entry_of(&entries, selected)).collect();
                let violations = violations(&wants, &chosen);
                assert!(violations.is_empty(), "{name}: {violations:?}");
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    println!("{} do not resolve alone:\n{}", failures.len(), failures.join("\n"));
    // Packages that want one of several equal providers, which the user has to name.
    assert!(failures.len() < 10, "{}", failures.join("\n"));
}

#[test]
fn a_want_that_no_version_fits_names_the_versions_there() {
    let Some(entries) = index() else { return };
    let universe = universe(&entries);
    let wants = wants(&["nginx~99"]);
    let failure = solve(&universe, &Task::new("web", &wants)).unwrap_err().to_string();
    let version = universe.packages_named("nginx").first().unwrap().version();
    assert_eq!(
        failure,
        format!(
            "the wants have no solution:\n  web wants `nginx~99`: no package provides it; versions there: {version}"
        )
    );
}

fn names(solution: &Solution<'_>) -> Vec<String> {
    solution.packages().map(|selected| selected.entry.name().to_owned()).collect()
}

/// The names that `texts` bring in, or why they can't.
fn solved(universe: &Universe<'_>, texts: &[&str]) -> Result<Vec<String>, String> {
    let solution = solve(universe, &Task::new("image", &wants(texts)));
    solution.map(|solution| names(&solution)).map_err(|failure| failure.to_string())
}

#[test]
fn virtual_names_are_decided_by_priority() {
    let Some(entries) = index() else { return };
    let universe = universe(&entries);
    let highest = |provided: &str| {
        let provides = |entry: &&IndexEntry| {
            entry.information.provides.iter().any(|text| text.split('=').next() == Some(provided))
        };
        let providers = entries.iter().filter(provides);
        let best = providers.max_by_key(|entry| entry.information.provider_priority).unwrap();
        assert!(best.information.provider_priority > 0, "{provided}");
        best.information.name.clone()
    };
    for name in ["postgresql-client", "dhcp-server", "linux-firmware-any", "icu-data"] {
        let chosen = solved(&universe, &[name]).unwrap();
        assert!(chosen.contains(&highest(name)), "{name}: {chosen:?}");
    }
    // A provider that is wanted by name is enough for the virtual one, whatever its priority.
    let chosen = solved(&universe, &["postgresql13-client", "postgresql-client"]).unwrap();
    assert!(chosen.contains(&"postgresql13-client".to_owned()), "{chosen:?}");
    assert!(!chosen.contains(&"postgresql14-client".to_owned()), "{chosen:?}");
}

#[test]
fn install_if_brings_in_what_belongs_to_two_packages() {
    let Some(entries) = index() else { return };
    let universe = universe(&entries);
    for (first, second, both) in [("nginx", "openrc", "nginx-openrc"), ("git", "perl", "git-perl")] {
        assert!(!solved(&universe, &[first]).unwrap().contains(&both.to_owned()), "{first}");
        assert!(solved(&universe, &[first, second]).unwrap().contains(&both.to_owned()), "{first} and {second}");
        let without = solved(&universe, &[first, second, &format!("!{both}")]).unwrap();
        assert!(!without.contains(&both.to_owned()), "{without:?}");
    }
}

#[test]
fn packages_that_exclude_each_other_are_told() {
    let Some(entries) = index() else { return };
    let universe = universe(&entries);
    let version = |name: &str| universe.packages_named(name).first().unwrap().version().to_owned();
    for (excluding, excluded) in [("byacc", "bison"), ("pstree", "psmisc")] {
        let failure = solved(&universe, &[excluding, excluded]).unwrap_err();
        let reason = format!(
            "\n  image -> {excluding}-{} excludes `{excluded}-{}` by `!{excluded}`, but it is wanted by image (`{excluded}`)",
            version(excluding),
            version(excluded)
        );
        assert!(failure.contains(&reason), "{failure}");
    }
}

#[test]
fn a_tag_opens_a_repository_for_one_want_and_what_it_needs() {
    let Some(entries) = index() else { return };
    let (tagged, plain): (Vec<IndexEntry>, Vec<IndexEntry>) =
        entries.into_iter().partition(|entry| ["nginx", "pcre", "pcre2"].contains(&entry.information.name.as_str()));
    let (tagged, plain) = (records(&tagged), records(&plain));
    let repository =
        |tag: Option<&str>, records| Repository { name: "alpine".to_owned(), tag: tag.map(str::to_owned), records };
    let repositories = [repository(None, &plain), repository(Some("edge"), &tagged)];
    let universe = Universe::new(Architecture::X86_64, &repositories).unwrap();
    let failure = solved(&universe, &["nginx"]).unwrap_err();
    assert!(failure.contains("is only in repositories tagged @edge: want `nginx@edge`"), "{failure}");
    let solution = solve(&universe, &Task::new("image", &wants(&["nginx@edge", "curl"]))).unwrap();
    let tags = |name: &str| {
        let selected = solution.packages().find(|selected| selected.entry.name() == name).unwrap();
        (selected.repository, selected.tag.clone())
    };
    assert_eq!(tags("nginx"), (Some(1), Some("edge".to_owned())));
    assert_eq!(tags("pcre"), (Some(1), Some("edge".to_owned())));
    assert_eq!(tags("curl"), (Some(0), None));
    let failure = solved(&universe, &["nginx@edge", "pcre2"]).unwrap_err();
    assert!(failure.contains("want `pcre2@edge`"), "{failure}");
}

#[test]
fn what_is_installed_stays_until_a_want_goes() {
    let Some(entries) = index() else { return };
    let fresh = universe(&entries);
    let all = wants(&WANTS);
    let first = solve(&fresh, &Task::new("tools", &all)).unwrap();
    let installed: Vec<_> = first.packages().map(|selected| (selected.entry, None)).collect();
    let listed = records(&entries);
    let repository = Repository { name: "alpine".to_owned(), tag: None, records: &listed };
    let universe = Universe::with_installed(Architecture::X86_64, &installed, &[repository]).unwrap();
    let again = solve(&universe, &Task { world: &all, ..Task::new("tools", &[]) }).unwrap();
    assert_eq!(again.changes.len(), installed.len());
    assert!(again.changes.iter().all(Change::is_nothing));
    // Without one of the wants, what came for it alone goes, and all else stays.
    let fewer = wants(&WANTS[1..]);
    let changes = solve(&universe, &Task { world: &fewer, ..Task::new("tools", &[]) }).unwrap().changes;
    let mut gone: Vec<&str> =
        changes.iter().filter(|change| change.new.is_none()).map(|change| change.old.unwrap().name()).collect();
    assert!(gone.contains(&"nginx"), "{gone:?}");
    assert!(changes.iter().all(|change| change.is_nothing() || change.new.is_none()));
    let mut left: Vec<String> = names(&solve(&fresh, &Task::new("tools", &fewer)).unwrap());
    left.extend(gone.drain(..).map(str::to_owned));
    left.sort();
    let mut before = names(&first);
    before.sort();
    assert_eq!(left, before);
}

//! Real wants against a real index of 4,929 packages.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod support;

use apk::{Architecture, Dependency, Index, IndexEntry, Trust};
use solve::{Repository, Task, Universe, solve};
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
    let version = universe.packages_named("nginx").first().unwrap().version;
    assert_eq!(
        failure,
        format!(
            "the wants have no solution:\n  web wants `nginx~99`: no package provides it; versions there: {version}"
        )
    );
}

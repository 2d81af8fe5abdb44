//! What a task may ask for, and what a failure says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use apk::{Architecture, Dependency, IndexEntry, IndexRecord};
use solve::{Change, Error, Failure, Repository, Solution, Task, Universe, solve};
use support::{package, records};

fn wants(texts: &[&str]) -> Vec<Dependency> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn repository<'r, 'a>(tag: Option<&str>, records: &'r [IndexRecord<'a>]) -> Repository<'r, 'a> {
    Repository { name: "own".to_owned(), tag: tag.map(str::to_owned), records }
}

fn universe(entries: &[IndexEntry]) -> Universe<'_> {
    Universe::new(Architecture::X86_64, &[repository(None, &records(entries))]).unwrap()
}

fn names(solution: &Solution<'_>) -> Vec<String> {
    let name = |entry: IndexRecord<'_>| format!("{}={}", entry.name(), entry.version());
    solution.packages().map(|selected| name(selected.entry)).collect()
}

fn try_solve(entries: &[IndexEntry], texts: &[&str]) -> Result<Vec<String>, String> {
    solve(&universe(entries), &Task::new("image", &wants(texts)))
        .map(|solution| names(&solution))
        .map_err(|failure| failure.to_string())
}

#[test]
fn a_failure_names_the_chain_and_the_versions() {
    let entries = [
        package("web", "1", [&["tls"], &[], &[]]),
        package("tls", "3", [&["crypto~9"], &[], &[]]),
        package("crypto", "8.1-r0", [&[], &[], &[]]),
        package("crypto", "8.2-r1", [&[], &[], &[]]),
    ];
    assert_eq!(
        try_solve(&entries, &["web"]).unwrap_err(),
        "the wants have no solution:\n  image -> web-1 -> tls-3 wants `crypto~9`: no package provides it; versions there: 8.2-r1, 8.1-r0"
    );
    assert_eq!(
        try_solve(&entries, &["web", "nothing"]).unwrap_err().lines().nth(1).unwrap(),
        "  image wants `nothing`: no package has or provides that name"
    );
}

#[test]
fn a_failure_names_who_excludes_whom() {
    let entries = [package("a", "1", [&["!b"], &[], &[]]), package("b", "1", [&[], &[], &[]])];
    assert_eq!(
        try_solve(&entries, &["a", "b"]).unwrap_err(),
        "the wants have no solution:\n  image -> a-1 excludes `b-1` by `!b`, but it is wanted by image (`b`)"
    );
}

#[test]
fn a_failure_that_apk_has_no_words_for_is_explained() {
    let mut entries = [
        package("app", "2", [&["old-interface"], &[], &[]]),
        package("app", "1", [&["gone"], &[], &[]]),
        package("library", "1", [&[], &["old-interface"], &[]]),
        package("library", "2", [&[], &[], &[]]),
    ];
    for entry in &mut entries {
        entry.information.provider_priority = 1;
    }
    let both = wants(&["app", "library"]);
    let failure = solve(&universe(&entries), &Task::new("image", &both)).unwrap_err();
    assert!(failure.apk_message().ends_with("Huh? Error reporter did not find the broken constraints."));
    assert_eq!(
        failure.to_string(),
        "the wants have no solution:\n  `library-1` and `library-2` both provide `library` and exclude each other, but image -> app-2 wants `old-interface` and image wants `library`"
    );
}

#[test]
fn the_only_provider_of_a_virtual_name_is_taken_where_the_task_allows() {
    let entries = [
        package("script", "1", [&["/bin/sh"], &[], &[]]),
        package("busybox", "1.35", [&[], &["/bin/sh"], &[]]),
        package("busybox", "1.36", [&[], &["/bin/sh"], &[]]),
    ];
    assert_eq!(try_solve(&entries, &["script"]).unwrap(), ["busybox=1.36", "script=1"]);
    let wants = wants(&["script"]);
    let strict = Task { lone_virtuals: false, ..Task::new("image", &wants) };
    let failure = solve(&universe(&entries), &strict).unwrap_err().to_string();
    assert!(failure.contains("want one of its providers: busybox"), "{failure}");
}

#[test]
fn of_equal_providers_the_one_of_an_origin_that_is_there_is_taken() {
    let mut entries = [
        package("one-client", "1", [&[], &["client=1"], &[]]),
        package("two-client", "1", [&[], &["client=1"], &[]]),
        package("two-server", "1", [&[], &[], &[]]),
        package("three-client", "1", [&[], &["client=1"], &[]]),
        package("three-server", "2", [&[], &[], &[]]),
    ];
    for entry in &mut entries {
        let (origin, _) = entry.information.name.split_once('-').unwrap();
        entry.information.origin = origin.to_owned();
    }
    let both = ["client", "two-server"];
    assert_eq!(try_solve(&entries, &both).unwrap(), ["two-client=1", "two-server=1"]);
    // apk-tools does not look at origins, and another version of an origin is none that is there.
    let wanted = wants(&both);
    let strict = Task { same_origin: false, ..Task::new("image", &wanted) };
    assert_eq!(names(&solve(&universe(&entries), &strict).unwrap()), ["one-client=1", "two-server=1"]);
    assert_eq!(try_solve(&entries, &["client", "three-server"]).unwrap(), ["one-client=1", "three-server=2"]);
    // What apk-tools prefers for a reason stays preferred.
    entries[3].information.provider_priority = 1;
    assert_eq!(try_solve(&entries, &both).unwrap(), ["three-client=1", "two-server=1"]);
}

#[test]
fn alternatives_go_back_to_an_older_version() {
    let entries = [package("web", "2", [&["gone"], &[], &[]]), package("web", "1", [&[], &[], &[]])];
    assert!(try_solve(&entries, &["web"]).is_err());
    let wants = wants(&["web"]);
    let task = Task { alternatives: 10, ..Task::new("image", &wants) };
    assert_eq!(names(&solve(&universe(&entries), &task).unwrap()), ["web=1"]);
}

#[test]
fn all_architectures_get_the_same_versions() {
    let x86_64 = [package("a", "1", [&[], &[], &[]]), package("a", "2", [&[], &[], &[]])];
    let aarch64 = [package("a", "1", [&[], &[], &[]])];
    let mut here = universe(&x86_64);
    let there = Universe::new(Architecture::Aarch64, &[repository(None, &records(&aarch64))]).unwrap();
    let any = wants(&["a"]);
    assert_eq!(names(&solve(&here, &Task::new("image", &any)).unwrap()), ["a=2"]);
    here.require_same_versions_in(&there);
    assert_eq!(names(&solve(&here, &Task::new("image", &any)).unwrap()), ["a=1"]);
    let newer = wants(&["a>1"]);
    let failure = solve(&here, &Task::new("image", &newer)).unwrap_err().to_string();
    assert!(failure.contains("`a-2` is not there for aarch64"), "{failure}");
}

#[test]
fn what_an_install_if_brings_is_installed_as_soon_as_its_rule_holds() {
    let entries = [
        package("desktop", "1", [&["protocol"], &[], &[]]),
        package("book", "1", [&["toolkit"], &[], &[]]),
        package("toolkit", "1", [&[], &[], &[]]),
        package("protocol", "1", [&[], &[], &[]]),
        package("bridge", "1", [&[], &[], &["protocol", "toolkit"]]),
    ];
    let order = ["toolkit=1", "book=1", "protocol=1", "bridge=1", "desktop=1"];
    assert_eq!(try_solve(&entries, &["desktop", "book"]).unwrap(), order);
}

#[test]
fn a_tagged_repository_is_invisible_without_its_tag() {
    let stable = [package("a", "1", [&[], &[], &[]])];
    let edge = [package("a", "2", [&[], &[], &[]]), package("b", "1", [&[], &[], &[]])];
    let (stable, edge) = (records(&stable), records(&edge));
    let universe =
        Universe::new(Architecture::X86_64, &[repository(None, &stable), repository(Some("edge"), &edge)]).unwrap();
    let run = |text: &str| solve(&universe, &Task::new("image", &wants(&[text])));
    assert_eq!(names(&run("a").unwrap()), ["a=1"]);
    let pinned = run("a@edge").unwrap();
    let selected = pinned.packages().next().unwrap();
    assert_eq!((selected.repository, selected.tag.as_deref()), (Some(1), Some("edge")));
    let failure = run("b").unwrap_err().to_string();
    assert!(failure.contains("`b-1` is only in repositories tagged @edge: want `b@edge`"), "{failure}");
    assert_eq!(run("b@nowhere").unwrap_err(), Failure::UnknownTags { wants: vec!["b@nowhere".to_owned()] });
}

#[test]
fn packages_for_another_architecture_or_with_unreadable_dependencies_are_named() {
    let mut foreign = package("a", "1", [&[], &[], &[]]);
    foreign.information.architecture = "riscv64".to_owned();
    let failure = try_solve(&[foreign], &["a"]).unwrap_err();
    assert!(failure.contains("`a-1` is for riscv64, not for x86_64"), "{failure}");
    let failure = try_solve(&[package("a", "1", [&["b=x"], &[], &[]])], &["a"]).unwrap_err();
    assert!(failure.contains("`a-1` has dependencies that can't be read: `b=x`"), "{failure}");
}

#[test]
fn one_package_in_two_repositories_is_one_package() {
    let mut entry = package("a", "1", [&[], &[], &[]]);
    entry.checksum = "Q1EyN5AdpAOBJWKMR89pp/C66o+OE=".to_owned();
    let (first, second) = ([entry.clone()], [entry]);
    let (first, second) = (records(&first), records(&second));
    let universe = Universe::new(Architecture::X86_64, &[repository(None, &first), repository(None, &second)]).unwrap();
    assert_eq!(universe.package_count(), 1);
    let wants = wants(&["a><Q1EyN5AdpAOBJWKMR89pp/C66o+OE="]);
    let solution = solve(&universe, &Task::new("image", &wants)).unwrap();
    assert_eq!(solution.packages().next().unwrap().repository, Some(0));
}

#[test]
fn what_is_installed_stays_unless_an_upgrade_is_wanted() {
    let old = package("a", "1", [&[], &[], &[]]);
    let gone = package("unneeded", "1", [&[], &[], &[]]);
    let entries = [package("a", "2", [&["b"], &[], &[]]), package("b", "1", [&[], &[], &[]])];
    let installed = [(IndexRecord::from(&old), None), (IndexRecord::from(&gone), None)];
    let universe =
        Universe::with_installed(Architecture::X86_64, &installed, &[repository(None, &records(&entries))]).unwrap();
    let any = wants(&["a"]);
    let mut task = Task::new("image", &any);
    let kept = solve(&universe, &task).unwrap();
    assert_eq!(names(&kept), ["a=1"]);
    task.preference.upgrade = true;
    let upgraded = solve(&universe, &task).unwrap();
    assert_eq!(names(&upgraded), ["b=1", "a=2"]);
    let exchanged = upgraded.changes.iter().find(|change| change.old.is_some() && change.new.is_some()).unwrap();
    assert_eq!(exchanged.old.unwrap().version(), "1");
    assert!(upgraded.changes.iter().any(|change| change.new.is_none() && change.old == Some(IndexRecord::from(&gone))));
}

#[test]
fn a_provider_that_is_installed_stays_although_another_is_listed_first() {
    let entries =
        [package("first", "2", [&[], &["cmd:tool=1"], &[]]), package("second", "1", [&[], &["cmd:tool=1"], &[]])];
    let listed = records(&entries);
    let installed = [(listed[1], None)];
    let fresh = universe(&entries);
    let kept = Universe::with_installed(Architecture::X86_64, &installed, &[repository(None, &listed)]).unwrap();
    let any = wants(&["cmd:tool"]);
    let task = Task::new("image", &any);
    assert_eq!(names(&solve(&fresh, &task).unwrap()), ["first=2"]);
    let solution = solve(&kept, &task).unwrap();
    assert_eq!(names(&solution), ["second=1"]);
    assert!(solution.changes.iter().all(Change::is_nothing), "{:?}", solution.changes);
}

#[test]
fn limits_and_damage_are_errors() {
    let entries = [package("a", "1", [&[], &[], &[]])];
    let one = records(&entries);
    let repositories = vec![repository(None, &one); 65];
    let error = Universe::new(Architecture::X86_64, &repositories).unwrap_err();
    assert_eq!(error, Error::TooManyRepositories { found: 65, limit: 64 });
    let tags: Vec<Repository<'_, '_>> = (0..64).map(|tag| repository(Some(&format!("t{tag}")), &one)).collect();
    let error = Universe::new(Architecture::X86_64, &tags).unwrap_err();
    assert_eq!(error, Error::TooManyTags { found: 65, limit: 63 });
    let nameless = [package("", "1", [&[], &[], &[]])];
    let error = Universe::new(Architecture::X86_64, &[repository(None, &records(&nameless))]).unwrap_err();
    assert_eq!(error.to_string(), "repository `own`: record 0 has no package name");
}

#[test]
fn a_chain_of_a_hundred_thousand_packages_needs_no_stack() {
    let entries: Vec<IndexEntry> = (0..100_000)
        .map(|number| package(&format!("p{number}"), "1", [&[&format!("p{}", number + 1)], &[], &[]]))
        .chain([package("p100000", "1", [&[], &[], &[]])])
        .collect();
    let solution = solve(&universe(&entries), &Task::new("image", &wants(&["p0"]))).unwrap();
    let names = names(&solution);
    assert_eq!((names.len(), names[0].as_str()), (100_001, "p100000=1"));
}

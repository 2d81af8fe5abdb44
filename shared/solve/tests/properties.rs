//! Random small universes: what the solver gives is valid by an independent checker, and where it
//! gives up, trying every set of packages finds nothing either.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use apk::{Architecture, Dependency, IndexEntry};
use proptest::prelude::*;
use solve::{Repository, Task, Universe, solve};
use support::{entry_of, package, records, violations};

const NAMES: usize = 5;
const VERSIONS: [&str; 4] = ["1", "1.2", "2_rc1", "2"];

fn constraint() -> impl Strategy<Value = String> {
    (0..NAMES, prop::sample::select(vec!["", "", "", "", "=", "<", ">", ">=", "<=", "~"]), 0..VERSIONS.len()).prop_map(
        |(name, operator, version)| match operator {
            "" => format!("n{name}"),
            operator => format!("n{name}{operator}{}", VERSIONS[version]),
        },
    )
}

fn conflict() -> impl Strategy<Value = String> {
    constraint().prop_map(|constraint| format!("!{constraint}"))
}

fn provision() -> impl Strategy<Value = String> {
    (0..3_usize, prop::option::of(0..VERSIONS.len())).prop_map(|(name, version)| match version {
        None => format!("v{name}"),
        Some(version) => format!("v{name}={}", VERSIONS[version]),
    })
}

fn virtual_want() -> impl Strategy<Value = String> {
    (0..3_usize).prop_map(|name| format!("v{name}"))
}

fn entry(conflicts: bool) -> impl Strategy<Value = IndexEntry> {
    let depend = if conflicts {
        prop_oneof![6 => constraint(), 1 => conflict(), 2 => virtual_want()].boxed()
    } else {
        prop_oneof![6 => constraint(), 2 => virtual_want()].boxed()
    };
    (
        0..NAMES,
        0..VERSIONS.len(),
        prop::collection::vec(depend, 0..3),
        prop::option::of(provision()),
        prop::option::weighted(0.2, prop::collection::vec(constraint(), 1..3)),
    )
        .prop_map(|(name, version, depends, provides, install_if)| {
            let texts = |texts: &[String]| texts.iter().map(String::clone).collect::<Vec<_>>();
            let mut entry = package(&format!("n{name}"), VERSIONS[version], [&[], &[], &[]]);
            entry.information.depends = texts(&depends);
            entry.information.provides.extend(provides);
            entry.information.install_if = install_if.unwrap_or_default();
            entry.information.provider_priority = 1;
            entry
        })
}

/// A set of packages that satisfies `wants`, by trying all.
fn by_trying_all<'e>(wants: &[Dependency], entries: &'e [IndexEntry]) -> Option<Vec<&'e IndexEntry>> {
    (0_u32..1 << entries.len())
        .map(|set| {
            let chosen = entries.iter().enumerate().filter(|(number, _)| set & (1 << number) != 0);
            chosen.map(|(_, entry)| entry).collect::<Vec<_>>()
        })
        .find(|chosen| violations(wants, chosen).is_empty())
}

fn describe(entries: &[&IndexEntry]) -> String {
    let lines: Vec<String> = entries
        .iter()
        .map(|entry| {
            let information = &entry.information;
            format!(
                "{}-{} D:{} p:{} i:{}",
                information.name,
                information.version,
                information.depends.join(" "),
                information.provides.join(" "),
                information.install_if.join(" ")
            )
        })
        .collect();
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn solutions_are_valid(
        entries in prop::collection::vec(entry(true), 1..12),
        wants in prop::collection::vec(constraint(), 1..4),
    ) {
        let records = records(&entries);
        let repository = Repository { name: "random".to_owned(), tag: None, records: &records };
        let universe = Universe::new(Architecture::X86_64, &[repository]).unwrap();
        let mut wants: Vec<Dependency> = wants.iter().map(|want| want.parse().unwrap()).collect();
        wants.sort_by(|a, b| a.name.cmp(&b.name));
        wants.dedup_by(|a, b| a.name == b.name);
        let all: Vec<&IndexEntry> = entries.iter().collect();
        let mut task = Task::new("world", &wants);
        task.alternatives = 500;
        match solve(&universe, &task) {
            Ok(solution) => {
                let chosen: Vec<&IndexEntry> = solution.packages().map(|selected| entry_of(&entries, selected)).collect();
                let violations = violations(&wants, &chosen);
                prop_assert!(violations.is_empty(), "{violations:?}\nof\n{}\nfrom\n{}", describe(&chosen), describe(&all));
            }
            Err(failure) => {
                let found = by_trying_all(&wants, &entries);
                prop_assert!(
                    found.is_none(),
                    "{failure}\nwanted {wants:?}\nbut\n{}\nfrom\n{}",
                    describe(&found.unwrap_or_default()),
                    describe(&all)
                );
                prop_assert!(failure.apk_message().starts_with("unable to select packages:\n"));
                prop_assert!(failure.to_string().contains("world"), "nobody who wants it in: {failure}");
            }
        }
    }
}

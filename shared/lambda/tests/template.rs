//! template.yaml and the functions' crates say the same: each crate is a function, and each function
//! has a queue for every stage that it handles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The template's functions: their resource's lines, by the folder of the code.
fn functions() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("template.yaml")).unwrap();
    let (_, resources) = text.split_once("\nResources:\n").unwrap();
    let mut found = BTreeMap::new();
    let mut lines: Vec<String> = Vec::new();
    let mut flush = |lines: &mut Vec<String>| {
        if lines.iter().any(|line| line == "Type: AWS::Serverless::Function") {
            let code = lines.iter().find_map(|line| line.strip_prefix("CodeUri: functions/")).unwrap();
            assert!(found.insert(code.to_owned(), lines.clone()).is_none(), "two functions of `{code}`");
        }
        lines.clear();
    };
    for line in resources.lines() {
        if line.strip_prefix("  ").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_alphabetic())) {
            flush(&mut lines);
        }
        lines.push(line.trim().to_owned());
    }
    flush(&mut lines);
    found
}

/// The stages in a function's `main`, by the names of their messages.
fn stages(function: &str) -> BTreeSet<String> {
    let main = fs::read_to_string(root().join("functions").join(function).join("src/main.rs")).unwrap();
    let (_, list) = main.split_once("lambda::stages!(").unwrap();
    let list = list.split_once(')').unwrap().0;
    let name = |stage: &str| {
        let mut name = String::new();
        for character in stage.trim().strip_prefix("stage::").unwrap().chars() {
            if character.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(character.to_ascii_lowercase());
        }
        name
    };
    list.split(',').map(name).collect()
}

#[test]
fn every_crate_is_a_function_and_every_function_a_crate() {
    let folders = fs::read_dir(root().join("functions")).unwrap();
    let crates: BTreeSet<String> = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(functions().into_keys().collect::<BTreeSet<_>>(), crates);
}

#[test]
fn functions_have_their_own_name_binary_and_queues() {
    for (name, lines) in functions() {
        assert!(lines.contains(&format!("Binary: {name}")), "{name}: another binary");
        assert!(lines.contains(&format!("MINIMILL_FUNCTION: {name}")), "{name}: another outbox");
        let own = lines.iter().find_map(|line| line.strip_prefix("Queue: !GetAtt ")).unwrap();
        let own = own.strip_suffix("Queue.Arn").unwrap();
        let mut handled = BTreeSet::new();
        for line in &lines {
            let Some((variable, queue)) =
                line.strip_prefix("MINIMILL_QUEUE_").and_then(|rest| rest.split_once(": !Ref "))
            else {
                continue;
            };
            if queue == format!("{own}Queue") {
                let dead = format!("MINIMILL_DEAD_{variable}: !Ref {own}DeadQueue");
                assert!(lines.contains(&dead), "{name}: no `{dead}`");
                handled.insert(variable.to_lowercase().replace('_', "-"));
            }
        }
        assert_eq!(handled, stages(&name), "{name}: what its queue brings, and what it handles");
        let scheduled = lines.iter().any(|line| line == "Type: ScheduleV2");
        assert_eq!(scheduled, handled.contains("schedule"), "{name}: a schedule and its message");
    }
}

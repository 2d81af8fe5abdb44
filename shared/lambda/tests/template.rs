//! template.yaml and the functions' crates say the same: each crate is a function, and each function
//! has a queue for every stage that it handles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lambda::Event;
use serde_json::Value;
use stage::Stage;

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

/// Decodes a message's body as the stage of this name has it.
fn decoded(envelope: &ports::Envelope) -> Result<(), serde_json::Error> {
    macro_rules! stages {
        ($($stage:ident),+) => {
            match envelope.stage.as_str() {
                $(<stage::$stage as Stage>::NAME => {
                    assert_eq!(envelope.version, <stage::$stage as Stage>::VERSION);
                    serde_json::from_value::<stage::$stage>(envelope.body.clone()).map(drop)
                })+
                other => panic!("no stage `{other}`"),
            }
        };
    }
    stages!(
        UpstreamCheck,
        PackageBuild,
        PackagePublish,
        PackageIndex,
        PackageTest,
        ImagePlan,
        ImageBuild,
        ImageTest,
        ImagePublish,
        ImageVex,
        VulnerabilityScan,
        Schedule
    )
}

#[test]
fn every_function_has_examples_of_its_events() {
    let event = |name: &str| -> Value {
        let path = root().join("events").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap()
    };
    let mut files = BTreeSet::new();
    for (name, lines) in functions() {
        let file = format!("{name}.json");
        let Event::Sqs { records } = serde_json::from_value(event(&file)).unwrap() else { panic!("{file}") };
        files.insert(file);
        let mut found = BTreeSet::new();
        for record in records {
            let envelope: ports::Envelope = serde_json::from_str(&record.body).unwrap();
            let proper = ports::Envelope::new(&envelope.stage, envelope.version, envelope.body.clone());
            assert_eq!(envelope.id, proper.id, "{name}: {}", record.body);
            decoded(&envelope).unwrap_or_else(|error| panic!("{name}: {}: {error}", record.body));
            found.insert(envelope.stage);
        }
        assert_eq!(found, stages(&name), "{name}: an example of each message");
        // What the scheduler sends is the template's own text, with the time put in.
        for input in lines.iter().filter_map(|line| line.strip_prefix("Input: '")) {
            let input = input.trim_end_matches('\'');
            let schedule = serde_json::from_str::<Value>(input).unwrap()["schedule"].as_str().unwrap().to_owned();
            let file = format!("{schedule}.schedule.json");
            let example = event(&file);
            let sent = input.replace("<aws.scheduler.scheduled-time>", example["time"].as_str().unwrap());
            assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), example);
            assert!(matches!(serde_json::from_value(example).unwrap(), Event::Schedule(_)));
            files.insert(file);
        }
    }
    let there = fs::read_dir(root().join("events")).unwrap();
    let there: BTreeSet<String> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, files);
}

#[test]
fn the_buildspec_of_jobs_is_the_file_and_their_role_reaches_one_place_each_way() {
    let template = fs::read_to_string(root().join("template.yaml")).unwrap();
    let (_, project) = template.split_once("        BuildSpec: |\n").unwrap();
    let inline: Vec<&str> = project.lines().map_while(|line| line.strip_prefix("          ")).collect();
    let file = fs::read_to_string(root().join("infra/buildspec.yml")).unwrap();
    assert_eq!(inline, file.lines().collect::<Vec<_>>());

    let (_, role) = template.split_once("\n  JobRole:\n").unwrap();
    let (role, _) = role.split_once("\n  JobProject:\n").unwrap();
    let resources: Vec<&str> = role.lines().filter_map(|line| line.trim().strip_prefix("Resource: ")).collect();
    let (input, output) = ("!Sub ${Bucket.Arn}/jobs/input/*", "!Sub ${Bucket.Arn}/jobs/output/*");
    let bucket = "!GetAtt Bucket.Arn";
    assert_eq!(resources, [input, bucket, bucket, output, "!GetAtt DataKey.Arn", "!GetAtt JobLog.Arn"]);
    for action in ["kms:Sign", "dynamodb:", "sqs:", "s3:DeleteObject", "ecr:"] {
        assert!(!role.contains(action), "a job may {action}");
    }
}

//! Every watched definition of the corpus taken to a version that does not exist.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

mod support;

use recipe::{
    BuildPlan, ChecksumKind, Expected, MissingPipelines, NewChecksum, Options, PackageDefinition, Pipelines, evaluate,
    update_definition_text, versioned_sources,
};
use support::corpus;

/// The version with its last number one higher.
fn next(version: &str) -> String {
    let end = version.rfind(|character: char| character.is_ascii_digit()).unwrap() + 1;
    let start = version[..end].rfind(|character: char| !character.is_ascii_digit()).map_or(0, |at| at + 1);
    let number: u128 = version[start..end].parse().unwrap();
    format!("{}{}{}", &version[..start], number + 1, &version[end..])
}

fn plan(text: &str, file: &str, pipelines: &Pipelines) -> BuildPlan {
    let definition = PackageDefinition::parse(text, file).unwrap();
    let options =
        Options { missing_pipelines: MissingPipelines::Report, ..Options::new(apk::Architecture::X86_64, pipelines) };
    evaluate(&definition, &options).unwrap()
}

#[test]
fn an_update_changes_the_lines_it_must_and_no_others() {
    let Some(definitions) = corpus() else { return };
    let pipelines = Pipelines::built_in().unwrap();
    let (mut updated_count, mut checksums_count, mut kept_count) = (0, 0, 0);
    for (file, text) in &definitions {
        let definition = PackageDefinition::parse(text, file).unwrap();
        let version = next(&definition.package.version);
        let sources = versioned_sources(text, file).unwrap();
        let checksums: Vec<NewChecksum> = sources
            .iter()
            .enumerate()
            .map(|(index, source)| match source.kind {
                ChecksumKind::Sha256 => NewChecksum::Sha256(format!("{:064x}", index + 1)),
                ChecksumKind::Sha512 => NewChecksum::Sha512(format!("{:0128x}", index + 1)),
                ChecksumKind::Commit => NewChecksum::Commit(format!("{:040x}", index + 1)),
            })
            .collect();
        let updated = update_definition_text(text, file, &version, &checksums)
            .unwrap_or_else(|error| panic!("{file} to {version}: {error}"));

        let changed: Vec<(&str, &str)> = text.lines().zip(updated.lines()).filter(|(old, new)| old != new).collect();
        let with_epoch = usize::from(definition.package.epoch != 0);
        let sums = changed.iter().filter(|(_, new)| new.contains("expected-")).count();
        assert!(sums >= checksums.len(), "{file}: {changed:?}");
        assert_eq!(changed.len(), 1 + with_epoch + sums, "{file}: {changed:?}");
        for (old, new) in &changed {
            let (old_key, old_rest) = old.split_once(':').unwrap();
            let (new_key, new_rest) = new.split_once(':').unwrap();
            assert_eq!(old_key, new_key, "{file}");
            let comment = |rest: &str| rest.split_once(" #").map(|(_, comment)| comment.to_owned());
            assert_eq!(comment(old_rest), comment(new_rest), "{file}: the comment stays");
        }

        let (before, after) = (plan(text, file, &pipelines), plan(&updated, file, &pipelines));
        assert_eq!(after.full_version, format!("{version}-r0"), "{file}");
        assert_eq!(before.sources.len(), after.sources.len(), "{file}");
        for (before, after) in before.sources.iter().zip(&after.sources) {
            let follows = sources.iter().any(|source| source.location == after.location);
            let moved = before.uri != after.uri || before.git != after.git;
            if moved && before.expected != Expected::None {
                assert!(follows, "{file}: {} moved with the version and keeps its checksum", after.uri);
            }
            if follows {
                checksums_count += 1;
                assert_ne!(before.expected, after.expected, "{file}: {}", after.uri);
            } else {
                kept_count += 1;
                assert_eq!(before.expected, after.expected, "{file}: {}", after.uri);
            }
        }
        updated_count += 1;
    }
    println!("{updated_count} definitions updated: {checksums_count} checksums changed, {kept_count} kept");
    assert_eq!(updated_count, definitions.len());
}

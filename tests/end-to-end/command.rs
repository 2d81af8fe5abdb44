//! The command line itself: usage errors, exit codes, format tools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::process::{Command, Stdio};

fn mill() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mill"))
}

#[test]
fn versions_compare_line_by_line() {
    let mut child = mill().args(["apk", "compare"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"1.2-r0 1.10-r0\n2.0 2.0\n3_rc1 2.9\n1.2 1.x.y\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "<\n=\n>\ninvalid\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_wrong_call_is_exit_2_and_says_what_is_expected() {
    let output = mill().args(["image", "biuld"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("biuld") && text.contains("build"), "{text}");
}

#[test]
fn the_catalog_of_this_repository_is_valid() {
    let catalog = concat!(env!("CARGO_MANIFEST_DIR"), "/../catalog");
    let output = mill().args(["--format", "json", "--catalog", catalog, "catalog", "check"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["failed"], 0, "{report:#}");
    assert_eq!(report["warnings"].as_array().unwrap().len(), 0, "{report:#}");
    assert!(report["ok"].as_u64().unwrap() >= 16, "{report:#}");
    assert_eq!(output.status.code(), Some(0));
}

/// What other tools of the field read past is read past, and told; the rest of a folder does not suffer from
/// one wrong definition.
#[test]
fn definitions_are_checked_and_ordered_with_what_is_odd_about_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let package = |name: &str, build: &str, more: &str| {
        let text = format!(
            "package:\n  name: {name}\n  version: '1'\n  epoch: 0\n  copyright: [{{license: MIT}}]\n{more}environment: {{contents: {{packages: [{build}]}}}}\npipeline: [{{uses: own/step}}]\nupdate: {{enabled: false, exclude-reason: a test}}\ntest: {{pipeline: [{{runs: 'true'}}]}}\n"
        );
        write(&format!("packages/{name}.yaml"), &text);
    };
    package("compiler", "library", "  description: of ${{nobody}}\n");
    package("library", "compiler", "");
    package("program", "compiler", "");
    package("twin", "", "subpackages: [{name: program}]\n");
    write("packages/odd.yaml", "package: {name: odd, version: 1, epoch: 0, nmae: odd}\n");
    write("pipelines/own/step.yaml", "provides: [x]\npipeline: [{runs: 'true'}]\n");
    let run = |command: &str| {
        let packages = folder.path().join("packages");
        let mut mill = mill();
        mill.args(["--format", "json", "catalog", command, "--packages"]).arg(packages);
        let output = mill.arg("--pipeline-dirs").arg(folder.path().join("pipelines")).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let report = run("check");
    assert_eq!((report["ok"].as_u64(), report["failed"].as_u64()), (Some(4), Some(1)), "{report:#}");
    let failure = &report["failures"][0];
    assert!(failure["error"].as_str().unwrap().contains("unknown key `nmae` in `package`; did you mean `name`?"));
    let rules: Vec<&str> =
        report["warnings"].as_array().unwrap().iter().map(|warning| warning["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["unknown-variable", "unknown-key"], "{report:#}");

    // Without their folder, pipelines that are not found are warnings, apart from errors.
    std::fs::remove_file(folder.path().join("packages/odd.yaml")).unwrap();
    write("install-if/program.yaml", "programme: [x]\n");
    let mut check = mill();
    check.args(["--format", "json", "catalog", "check", "--packages"]).arg(folder.path().join("packages"));
    let report: serde_json::Value = serde_json::from_slice(&check.output().unwrap().stdout).unwrap();
    assert_eq!((report["ok"].as_u64(), report["failed"].as_u64()), (Some(3), Some(1)), "{report:#}");
    assert!(report["failures"][0]["error"].as_str().unwrap().contains("no package of this name"), "{report:#}");
    std::fs::remove_file(folder.path().join("install-if/program.yaml")).unwrap();
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = report["warnings"].as_array().unwrap();
    let missing: Vec<_> = warnings.iter().filter(|warning| warning["rule"] == "unknown-pipeline").collect();
    assert_eq!((missing.len(), report["failed"].as_u64()), (4, Some(0)), "{report:#}");
    assert!(missing[0]["error"].as_str().unwrap().contains("`own/step` is not found"), "{report:#}");
    assert_eq!(check.arg("--deny-warnings").output().unwrap().status.code(), Some(1));
    write("packages/odd.yaml", "package: {name: odd, version: 1, epoch: 0, nmae: odd}\n");

    let graph = run("graph");
    assert_eq!(graph["order"], serde_json::json!([["compiler", "library", "twin"], ["program"]]), "{graph:#}");
    let cycle = graph["cycles"][0].as_str().unwrap();
    assert!(cycle.contains("(`compiler` builds with `library`; `library` builds with `compiler`)"), "{cycle}");
    let failures = graph["failures"].as_array().unwrap();
    let made_twice = "package `program` is made by both `program` and `twin`; rename one";
    assert!(failures.len() == 2 && failures[1]["error"] == made_twice, "{graph:#}");
}

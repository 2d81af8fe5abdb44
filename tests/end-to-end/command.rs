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

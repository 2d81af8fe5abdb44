//! The factory on AWS, as ministack plays it: template.yaml through SAM's transform to CloudFormation, the
//! functions' real binaries behind Lambda's runtime interface, woken by their queues. `make test-aws` builds
//! the functions and runs this.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::print_stdout)]

mod cloud;
#[allow(dead_code)]
#[path = "../../contract/faults.rs"]
mod faults;

use std::path::Path;
use std::process::Command;

use cloud::Cloud;
use serde_json::{Value, json};
use tests::factory::Factory;

const MILL: &str = env!("CARGO_BIN_EXE_mill");

#[test]
fn a_cycle_on_aws_ends_with_an_image_that_skopeo_pulls_and_mill_verifies() {
    let factory = Factory::new(MILL);
    factory.release("hello-mill", "1.1.0");
    let Some(cloud) = Cloud::deploy(&factory) else { return };
    every_resource_is_made(&cloud);
    every_function_answers_its_events(&cloud);
    what_is_no_message_is_put_aside(&cloud);
    cloud.run("upstream-check");
    let released = cloud.document("document#package#hello", "upstream");
    assert_eq!(released["version"], "1.1.0", "{released}");
    cloud.run("package-build");
    packages_are_published(&cloud);
    cloud.run("image-plan");
    images_are_published(&cloud);
    cloud.run("vulnerability-scan");
    // Feeds are imported on a laptop only.
    assert!(cloud.said("not run: no vulnerability records are imported"), "{}", cloud.log());
    nothing_is_done_twice(&cloud);
}

/// What the deployment reports; whatever was made otherwise than the template says is named.
fn every_resource_is_made(cloud: &Cloud) {
    let resources = cloud.report["resources"].as_array().unwrap();
    for resource in resources {
        let state = resource["state"].as_str().unwrap();
        let is_made = ["as the template says", "made, and completed by the script"].contains(&state);
        let is_left_out = state == "condition not met" && resource["name"] == "AlarmSubscription";
        assert!(is_made || is_left_out, "{resource}");
    }
    assert_eq!(cloud.functions().len(), 8);
}

/// The examples of `events/`: nothing waits under these messages, so each is done already.
fn every_function_answers_its_events(cloud: &Cloud) {
    for function in cloud.functions() {
        let answer = cloud.invoke(&function, &cloud.example(&format!("{function}.json")));
        assert_eq!(answer, Ok(json!({"batchItemFailures": []})), "{function}");
        let unknown = json!({"source": "aws.health", "detail": {}});
        let error = cloud.invoke(&function, &unknown).unwrap_err();
        assert_eq!(error["errorType"], "Event", "{function}: {error}");
        let message = error["errorMessage"].as_str().unwrap();
        assert!(message.starts_with("the event is neither a batch of messages nor a schedule"), "{function}: {error}");
    }
}

/// Through the queue itself: SQS, the event source, the function's process, the dead-letter queue.
fn what_is_no_message_is_put_aside(cloud: &Cloud) {
    cloud.send("image-plan", "not a message");
    let (body, reason) = cloud.put_aside("image-plan");
    assert_eq!(body, "not a message");
    assert!(reason.contains("does not decode"), "{reason}");
    assert_eq!(cloud.waiting("image-plan"), 0);
}

fn packages_are_published(cloud: &Cloud) {
    let index = cloud.object("PackageRepository", "apk/x86_64/APKINDEX.tar.gz");
    let key = cloud.public_key("PackageKey", "minimill-kms.rsa.pub");
    let mut verify = Command::new(MILL);
    verify.current_dir(cloud.folder.path()).args(["apk", "verify"]).arg(&index).arg("--key").arg(key);
    let output = verify.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = Command::new("tar").args(["-xzOf"]).arg(&index).arg("APKINDEX").output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for package in ["P:hello\nV:1.1.0-r0\n", "P:greeting-data\nV:2025a-r0\n"] {
        assert!(listed.contains(package), "no {package:?} in\n{listed}");
    }
}

fn images_are_published(cloud: &Cloud) {
    let image = format!("{}/minimill/hello:1", cloud.address());
    let folder = cloud.folder.path().join("pulled");
    let mut pull = Command::new("skopeo");
    pull.args(["copy", "--src-tls-verify=false", "--all"]);
    pull.arg(format!("docker://{image}")).arg(format!("oci:{}:1", folder.display()));
    let output = pull.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = cloud.public_key("ImageKey", "minimill.pub");
    let verify = |key: &Path| {
        let mut command = Command::new(MILL);
        command.current_dir(cloud.folder.path()).args(["--format", "json", "verify", &image, "--key"]).arg(key);
        command.output().unwrap()
    };
    let output = verify(&key);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    let manifests = verified["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2, "the index and its platform: {verified:#}");
    for statement in manifests.iter().flat_map(|manifest| manifest["statements"].as_array().unwrap()) {
        assert_eq!(statement["outcome"], "good", "{verified:#}");
    }
    let other = cloud.public_key("PackageKey", "other.pub");
    assert_eq!(verify(&other).status.code(), Some(1), "another key's signature is none");
}

/// The same schedules once more, a day later: nothing new is built, planned or published.
fn nothing_is_done_twice(cloud: &Cloud) {
    let before = (cloud.tags("hello"), cloud.documents("document#package#hello", "version#"));
    for function in ["upstream-check", "package-build", "image-plan"] {
        cloud.run(function);
    }
    assert_eq!((cloud.tags("hello"), cloud.documents("document#package#hello", "version#")), before);
}

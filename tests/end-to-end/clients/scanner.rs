//! Images as the scanner `syft` sees them.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::support::{Server, factory, installed, run};

#[test]
fn syft_sees_exactly_the_packages_of_the_apk_database() {
    let Some(factory) = factory() else { return };
    if !installed("syft") {
        return;
    }
    let server = Server::start(&factory.home);
    for image in factory.images() {
        let place = format!("registry:{}/{}:{}", server.address, image.name, image.tag);
        let report = run(Command::new("syft")
            .args(["scan", "--quiet", "--output", "json", &place])
            .env("SYFT_REGISTRY_INSECURE_USE_HTTP", "true")
            .env("SYFT_CHECK_FOR_APP_UPDATE", "false"));
        let report: Value = serde_json::from_str(&report).unwrap();
        let seen: BTreeSet<(String, String)> = report["artifacts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|artifact| artifact["type"] == "apk")
            .map(|artifact| {
                (artifact["name"].as_str().unwrap().to_owned(), artifact["version"].as_str().unwrap().to_owned())
            })
            .collect();
        let expected = server.installed(&image);
        assert!(expected.len() >= 2, "{}: {expected:?}", image.name);
        assert_eq!(seen, expected, "{}", image.name);
    }
}

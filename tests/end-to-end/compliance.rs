//! What keeps an image back, and what lets it pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use tests::factory::{Factory, text};

const MILL: &str = env!("CARGO_BIN_EXE_mill");
const FINDING: &str = "compliance/secrets failed: `/etc/keeper.ini` holds an AWS access key";

/// The stream's package, which holds what looks like a key; of parts, so that no scanner takes this for a leak.
fn add_keeper(factory: &Factory, version: &str) {
    let script =
        "mkdir -p ${{targets.destdir}}/etc\necho 'id = AKIA''QYLPMN5HHHFPZAM2' > ${{targets.destdir}}/etc/keeper.ini";
    factory.add_package("keeper", version, &[], script);
}

#[test]
fn a_finding_keeps_an_image_back_until_it_is_waived_and_again_once_the_waiver_has_expired() {
    let mut factory = Factory::new(MILL);
    add_keeper(&factory, "1.0");
    factory.add_image("keeper", "keeper", &[("1", "~1")]);
    let refused = factory.cycle();
    refused.expect_code(1);
    let told = refused.json.to_string();
    assert!(told.contains(FINDING), "{told}");

    let waiver =
        "waivers:\n  - {check: compliance/secrets, package: keeper, reason: a key of a test, expires: 2026-03-31}\n";
    factory.write("images/keeper/waivers.yaml", waiver);
    factory.at("2026-03-05T06:00:00Z");
    let waived = factory.cycle();
    waived.expect_code(0);
    assert_eq!(text(&waived.image("keeper", "1")["version"]), "1.0");

    add_keeper(&factory, "1.1");
    factory.at("2026-04-01T06:00:00Z");
    let expired = factory.cycle();
    expired.expect_code(1);
    let told = expired.json.to_string();
    assert!(told.contains(FINDING) && told.contains("has expired on 2026-03-31 (a key of a test)"), "{told}");
}

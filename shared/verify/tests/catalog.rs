//! The suites of the catalog's own images are of their formats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod fixture;

use fixture::{Bench, Layer};
use sandbox::Limits;
use serde_json::json;
use verify::{Containers, runtime, structure, unit};

#[tokio::test]
async fn every_suite_of_the_catalog_can_be_read() {
    let bench = Bench::new();
    let image = bench.image(&[Layer::default()], json!({}));
    let (containers, limits) = (Containers::Unavailable("not asked".into()), Limits::default());
    let mut read = 0;
    for folder in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../catalog/images")).unwrap() {
        let folder = folder.unwrap().path().join("tests");
        for name in ["structure.yaml", "unit.yaml", "runtime.yaml"] {
            let path = folder.join(name);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let file = path.display().to_string();
            let report = match name {
                "unit.yaml" => unit(&image, &text, &file, &bench.facilities(&containers, &limits)).await,
                "runtime.yaml" => runtime(&image, &text, &file, &bench.facilities(&containers, &limits)).await,
                _ => structure(&image, &text, &file, &bench.facilities(&containers, &limits)).await,
            };
            assert!(!report.unwrap().checks.is_empty(), "{file}");
            read += 1;
        }
    }
    assert!(read >= 2);
}

//! The settings of a function in a test.

use std::path::Path;

use aws::Queues;
use lambda::Settings;

/// Of a function whose table and buckets are called `name`, with its catalog and scratch space in `folder`; it signs
/// nothing and starts no jobs.
pub fn settings(name: &str, folder: &Path, queues: Queues) -> Settings {
    Settings {
        function: "package-build".to_owned(),
        table: name.to_owned(),
        bucket: name.to_owned(),
        repository_bucket: name.to_owned(),
        registry: "registry.example".to_owned(),
        registry_prefix: "minimill".to_owned(),
        catalog: folder.join("catalog"),
        architectures: vec![apk::Architecture::X86_64],
        queues,
        package_key: None,
        image_key: None,
        build_project: None,
        local_jobs: false,
        work: folder.join("tmp"),
    }
}

//! What the benches of this crate share.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;

use apk::Architecture;
use ports::SystemClock;
use ports::local::{Database, FileBlobs};
use stage::{Catalog, Context, FolderRepository, LocalBuilder, Settings, Silent};
use upstream::{EndpointSettings, Endpoints, Surroundings, Upstreams};

/// A number from the environment.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// A factory in `folder` whose catalog is `folder/catalog`; `None`, said so, where it can't be had.
pub async fn context(folder: &Path, architectures: Vec<Architecture>) -> Option<Context> {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let (bubblewrap, containers) =
        (sandbox::Bubblewrap::find(&search_path, folder), verify::Containers::find(&search_path, folder).await);
    let (Ok(bubblewrap), Ok(containers)) = (bubblewrap, containers) else {
        println!("not run: bubblewrap or runc is not installed");
        return None;
    };
    for part in ["blobs", "apk", "registry", "work", "logs", "cache"] {
        std::fs::create_dir(folder.join(part)).unwrap();
    }
    let clock = Arc::new(SystemClock);
    let database = Database::open(&folder.join("state.sqlite"), clock.clone()).unwrap();
    let surroundings = Surroundings::of_machine(|name| std::env::var(name).ok(), folder.to_owned());
    let endpoints = Endpoints::new(EndpointSettings::default(), surroundings);
    Some(Context {
        state: Arc::new(database.clone()),
        queue: Arc::new(database),
        blobs: Arc::new(FileBlobs::new(folder.join("blobs"))),
        clock,
        catalog: Catalog::load(&folder.join("catalog")).unwrap(),
        upstreams: Upstreams::new(endpoints, &folder.join("cache"), upstream::Options::default()).unwrap(),
        jobs: None,
        builder: Arc::new(LocalBuilder::new(bubblewrap, folder.join("work"), folder.join("logs"))),
        containers,
        repository: Arc::new(FolderRepository::new(folder.join("apk"))),
        registry: Arc::new(registry::Layouts::new(folder.join("registry"))),
        package_key: Some(Arc::new(sign::LocalRsaKey::load_or_create(&folder.join("bench.rsa"), 4096).unwrap())),
        attestor: Some(Arc::new(sign::LocalEcdsaKey::load_or_create(&folder.join("bench.key")).unwrap())),
        stopping: Arc::default(),
        caches: stage::Caches::default(),
        progress: Arc::new(Silent),
        settings: Settings::new(architectures, folder.join("work")),
    })
}

/// Resident memory now.
pub fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: unknown");
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

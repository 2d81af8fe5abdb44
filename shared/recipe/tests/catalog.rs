//! The catalog in this repository: every definition is whole, and all of it can be ordered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use apk::Architecture;
use recipe::{Graph, ImageConfiguration, ImageDefinition, Node, Options, PackageDefinition, Pipelines, evaluate};

fn folder(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../catalog")).join(path)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

#[test]
fn packages_evaluate_and_have_an_order() {
    let pipelines = Pipelines::built_in().unwrap();
    let mut nodes = Vec::new();
    for path in entries(&folder("packages")) {
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let definition = PackageDefinition::parse(&text, &path.display().to_string()).unwrap();
        let findings = recipe::lint::lint(&definition);
        assert!(findings.is_empty(), "{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        for architecture in Architecture::ALL {
            let plan = evaluate(&definition, &Options::new(architecture, &pipelines)).unwrap();
            assert!(plan.sources.iter().all(|source| source.expected != recipe::Expected::None), "{}", path.display());
            if architecture == Architecture::X86_64 {
                nodes.push(Node::from_plan(&plan));
            }
        }
    }
    // What the host's tool chain gives is not built first.
    let bootstrap = fs::read_to_string(folder("bootstrap/bootstrap.yaml")).unwrap();
    for node in &mut nodes {
        node.build.retain(|want| !bootstrap.contains(&format!("\n  {want}:\n")));
    }
    let order: Vec<String> = Graph::new(&nodes).unwrap().order().unwrap().concat();
    assert_eq!(order.len(), nodes.len());
}

#[test]
fn images_want_what_packages_make() {
    let pipelines = Pipelines::built_in().unwrap();
    let mut made = BTreeSet::new();
    for path in entries(&folder("packages")) {
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            let definition = PackageDefinition::parse(&text, &path.display().to_string()).unwrap();
            let plan = evaluate(&definition, &Options::new(Architecture::X86_64, &pipelines)).unwrap();
            made.extend(plan.outputs.into_iter().map(|output| output.name));
        }
    }
    for path in entries(&folder("images")) {
        let file = path.join("image.yaml");
        let image = ImageDefinition::parse(&fs::read_to_string(&file).unwrap(), &file.display().to_string()).unwrap();
        assert!(made.contains(image.primary.as_str()), "{}: {}", path.display(), image.primary);
        let apko = fs::read_to_string(path.join("apko.yaml")).unwrap();
        for stream in &image.streams {
            let text = ImageDefinition::expand(&apko, stream);
            let configuration = ImageConfiguration::parse(&text, "apko.yaml").unwrap();
            let wanted: Vec<&str> = configuration.contents.packages.iter().map(|want| want.as_str()).collect();
            assert!(
                wanted.contains(&format!("{}{}", image.primary, stream.version).as_str()),
                "{}: {wanted:?}",
                path.display()
            );
        }
    }
}

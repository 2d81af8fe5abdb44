//! A catalog's own pipelines stand in front of the built-in ones, and builds made with them are told apart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use apk::Architecture;
use recipe::{BuildPlan, Options, evaluate};
use stage::Catalog;

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn plan(folder: &Path) -> BuildPlan {
    let catalog = Catalog::load(folder).unwrap();
    assert!(catalog.problems.is_empty());
    let definition = &catalog.packages.get("hello").unwrap().definition;
    evaluate(definition, &Options::new(Architecture::X86_64, &catalog.pipelines)).unwrap()
}

#[test]
fn a_catalogs_own_pipelines_stand_in_front_of_the_built_in_ones() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(
        folder,
        "packages/hello.yaml",
        "package: {name: hello, version: '1', epoch: 0}\npipeline: [{uses: strip}, {uses: own/install, with: {to: /opt}}]\n",
    );
    write(
        folder,
        "pipelines/own/install.yaml",
        "inputs: {to: {required: true}}\npipeline: [{runs: 'put ${{inputs.to}}'}]\n",
    );
    let built_in = plan(folder);
    assert!(built_in.script.contains("put /opt\n") && !built_in.script.contains("own strip"));
    write(folder, "pipelines/strip.yaml", "pipeline: [{runs: own strip}]\n");
    let own = plan(folder);
    assert!(own.script.contains("own strip\n") && own.script.contains("put /opt\n"));
    assert_ne!(own.recipe_digest, built_in.recipe_digest, "a pipeline in use is part of what is built");
    write(
        folder,
        "pipelines/own/install.yaml",
        "inputs: {to: {required: true}}\npipeline: [{runs: 'move ${{inputs.to}}'}]\n",
    );
    let changed = plan(folder);
    assert_ne!(changed.recipe_digest, own.recipe_digest);
    write(folder, "pipelines/unused.yaml", "pipeline: [{runs: x}]\n");
    assert_eq!(plan(folder).recipe_digest, changed.recipe_digest, "one that is not in use is not");
}

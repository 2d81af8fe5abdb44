//! What `mill catalog check` and `mill catalog graph` do over a distribution's 3,402 definitions: those of the
//! corpus, repeated. The baseline is the YAML parser alone over the same texts.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::time::Duration;

use apk::Architecture;
use criterion::{Criterion, criterion_group, criterion_main};
use recipe::{
    BuildPlan, Graph, MissingPipelines, Node, NodePackage, Options, PackageDefinition, Pipelines, evaluate, lint,
};

const DEFINITIONS: usize = 3402;

fn texts() -> Option<Vec<(String, String)>> {
    let corpus = std::env::var("MINIMILL_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").to_owned());
    let folder = std::path::Path::new(&corpus).join("wolfi-packages");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("not run: no corpus at {}", folder.display());
        return None;
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let read = |path: &std::path::PathBuf| (path.display().to_string(), std::fs::read_to_string(path).unwrap());
    Some(paths.iter().cycle().take(DEFINITIONS).map(read).collect())
}

fn plan(file: &str, text: &str, pipelines: &Pipelines) -> (PackageDefinition, BuildPlan) {
    let definition = PackageDefinition::parse(text, file).unwrap();
    let mut options = Options::new(Architecture::X86_64, pipelines);
    options.missing_pipelines = MissingPipelines::Report;
    let plan = evaluate(&definition, &options).unwrap();
    (definition, plan)
}

/// The nodes of the corpus again and again, each time with names of their own, as that many definitions have.
fn nodes(texts: &[(String, String)], pipelines: &Pipelines) -> Vec<Node> {
    let mut seen = BTreeSet::new();
    let first = texts.iter().filter(|(file, _)| seen.insert(file.as_str()));
    let first: Vec<Node> = first.map(|(file, text)| Node::from_plan(&plan(file, text, pipelines).1)).collect();
    let made: BTreeSet<&str> = first
        .iter()
        .flat_map(|node| &node.packages)
        .flat_map(|package| package.provides.iter().chain([&package.name]))
        .map(|name| bare(name))
        .collect();
    let mut all = first.clone();
    for turn in 1.. {
        let renamed = |name: &String| match made.contains(bare(name)) {
            true => format!("{}-{turn}{}", bare(name), name.get(bare(name).len()..).unwrap_or_default()),
            false => name.clone(),
        };
        let list = |names: &[String]| names.iter().map(renamed).collect::<Vec<_>>();
        for node in &first {
            if all.len() == DEFINITIONS {
                return all;
            }
            let packages = node.packages.iter().map(|package| NodePackage {
                name: renamed(&package.name),
                provides: list(&package.provides),
                runtime: list(&package.runtime),
            });
            all.push(Node {
                name: format!("{}-{turn}", node.name),
                build: list(&node.build),
                packages: packages.collect(),
            });
        }
    }
    all
}

fn bare(want: &str) -> &str {
    want.split(['=', '<', '>', '~', '@']).next().unwrap_or_default()
}

fn catalog(criterion: &mut Criterion) {
    let Some(texts) = texts() else { return };
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    println!("{} definitions, {bytes} bytes", texts.len());
    let pipelines = Pipelines::built_in().unwrap();
    let mut group = criterion.benchmark_group("3,402 definitions");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function("baseline: the YAML parser alone", |bencher| {
        bencher.iter(|| {
            let events = texts.iter().flat_map(|(_, text)| saphyr_parser::Parser::new_from_str(text));
            events.filter(Result::is_ok).count()
        });
    });
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            texts.iter().map(|(file, text)| PackageDefinition::parse(text, file).unwrap().pipeline.len()).sum::<usize>()
        });
    });
    group.bench_function("check: parse, evaluate, lint", |bencher| {
        bencher.iter(|| {
            let plans: Vec<_> = texts.iter().map(|(file, text)| plan(file, text, &pipelines)).collect();
            let definitions: Vec<&PackageDefinition> = plans.iter().map(|(definition, _)| definition).collect();
            let alone: usize = definitions.iter().map(|definition| lint::lint(definition).len()).sum();
            alone + lint::lint_together(&definitions).len()
        });
    });
    let nodes = nodes(&texts, &pipelines);
    group.bench_function("graph: link, order, cycles", |bencher| {
        bencher.iter(|| {
            let graph = Graph::tolerant(&nodes);
            (graph.order_around_cycles().len(), graph.cycles().len())
        });
    });
    group.finish();
}

criterion_group!(benches, catalog);
criterion_main!(benches);

//! Every definition of the corpus parses, evaluates for both architectures, and gives a script that a shell
//! can read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use recipe::{Graph, LibraryC, MissingPipelines, Node, Options, PackageDefinition, Pipelines, evaluate};
use support::corpus;

fn shell_reads(script: &str) -> Result<(), String> {
    let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn all_of_the_corpus_parses_and_resolves() {
    let Some(definitions) = corpus() else {
        return;
    };
    let pipelines = Pipelines::built_in().unwrap();
    let mut failures = Vec::new();
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    let (mut parsed, mut evaluated, mut outputs, mut sources) = (0, 0, 0, 0);
    let started = std::time::Instant::now();
    for (file, text) in &definitions {
        let definition = match PackageDefinition::parse(text, file) {
            Ok(definition) => definition,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        parsed += 1;
        for architecture in apk::Architecture::ALL {
            let options = Options {
                libc: LibraryC::Glibc,
                missing_pipelines: MissingPipelines::Report,
                ..Options::new(architecture, &pipelines)
            };
            match evaluate(&definition, &options) {
                Ok(plan) => {
                    evaluated += 1;
                    outputs += plan.outputs.len();
                    sources += plan.sources.len();
                    for pipeline in &plan.missing_pipelines {
                        *missing.entry(pipeline.name.clone()).or_default() += 1;
                    }
                    assert!(!plan.script.contains("${{"), "{file}: a substitution is left in the script");
                }
                Err(error) => failures.push(format!("{architecture}: {error}")),
            }
        }
    }
    println!(
        "{parsed} of {} parsed, {evaluated} of {} evaluated, {outputs} outputs, {sources} sources, in {:?}",
        definitions.len(),
        definitions.len() * 2,
        started.elapsed()
    );
    println!("pipelines not found: {missing:?}");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(parsed, definitions.len());
}

#[test]
fn every_script_of_the_corpus_is_one_that_a_shell_can_read() {
    let Some(definitions) = corpus() else {
        return;
    };
    let pipelines = Pipelines::built_in().unwrap();
    let mut failures = Vec::new();
    let mut scripts = 0;
    for (file, text) in &definitions {
        let definition = PackageDefinition::parse(text, file).unwrap();
        let options = Options {
            missing_pipelines: MissingPipelines::Report,
            ..Options::new(apk::Architecture::X86_64, &pipelines)
        };
        let plan = evaluate(&definition, &options).unwrap();
        let tests = plan.outputs.iter().filter_map(|output| output.test.as_ref()).map(|test| &test.script);
        for script in std::iter::once(&plan.script).chain(tests) {
            scripts += 1;
            if let Err(message) = shell_reads(script) {
                failures.push(format!("{file}: {message}"));
            }
        }
    }
    println!("{scripts} scripts read, {} refused:\n{}", failures.len(), failures.join("\n"));
    assert!(failures.is_empty());
}

#[test]
fn the_corpus_has_an_order_or_its_cycles_are_told() {
    let Some(definitions) = corpus() else { return };
    let pipelines = Pipelines::built_in().unwrap();
    let nodes: Vec<Node> = definitions
        .iter()
        .map(|(file, text)| {
            let definition = PackageDefinition::parse(text, file).unwrap();
            let options = Options {
                missing_pipelines: MissingPipelines::Report,
                tests: false,
                ..Options::new(apk::Architecture::X86_64, &pipelines)
            };
            Node::from_plan(&evaluate(&definition, &options).unwrap())
        })
        .collect();
    let started = std::time::Instant::now();
    let graph = Graph::new(&nodes).unwrap();
    let cycles = graph.cycles();
    println!("{} definitions, {} cycles, {:?}", nodes.len(), cycles.len(), started.elapsed());
    for cycle in &cycles {
        println!("{cycle}");
        let first = &cycle.links.first().unwrap().from;
        assert_eq!(&cycle.links.last().unwrap().to, first);
        assert!(cycle.links.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert!(graph.build_dependencies(first).contains(first));
    }
    match graph.order() {
        Ok(order) => {
            assert!(cycles.is_empty());
            assert_eq!(order.concat().len(), nodes.len());
        }
        Err(cycle) => assert!(cycles.contains(&cycle)),
    }
}

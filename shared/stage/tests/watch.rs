//! What `update:` blocks watch: those of the corpus, and one against a repository made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use apk::Architecture;
use recipe::{PackageDefinition, Pipelines};
use stage::{Watched, watched};
use upstream::{
    Candidate, EndpointSettings, Endpoints, Monitored, Options, Rules, Surroundings, Upstreams, Verdict, Watch, choose,
};

fn watch(update: &str) -> Result<upstream::Watch, stage::StageError> {
    watch_of("https://localhost/hello.git", update)
}

fn watch_of(repository: &str, update: &str) -> Result<upstream::Watch, stage::StageError> {
    let text = format!(
        "package:\n  name: hello\n  version: '1.0'\n  epoch: 0\npipeline:\n  - uses: git-checkout\n    with:\n      repository: {repository}\n      tag: v${{{{package.version}}}}\n      expected-commit: {}\n  - uses: no/such-pipeline\nupdate:\n{update}",
        "1".repeat(40)
    );
    let definition = PackageDefinition::parse(&text, "hello.yaml").unwrap();
    watched(&definition, None, Architecture::X86_64, &Pipelines::built_in().unwrap()).map(|watched| watched.watch)
}

#[test]
fn a_block_names_its_provider_and_its_rules() {
    let github = "  github:\n    identifier: mill/hello\n    use-tag: true\n    tag-filter: hello-\n    strip-prefix: hello-v\n    strip-suffix: .final\n    tag-filter-contains: v\n";
    let watch_github = watch(github).unwrap();
    assert_eq!(watch_github.monitored.to_string(), "github:mill/hello (tags)");
    assert_eq!(watch_github.current.as_deref(), Some("1.0"));
    let rules = Rules {
        filter_prefix: Some("hello-".to_owned()),
        filter_contains: Some("v".to_owned()),
        strip_prefix: Some("hello-v".to_owned()),
        strip_suffix: Some(".final".to_owned()),
        ..Rules::default()
    };
    assert_eq!(watch_github.rules, rules);
    let checkout = watch_of("https://github.com/mill/hello.git", "  github:\n    use-tag: true\n").unwrap();
    assert_eq!(checkout.monitored.to_string(), "github:mill/hello (tags)");
    let monitor = watch("  release-monitor:\n    identifier: 15\n    version-filter-prefix: '1.'\n").unwrap();
    assert_eq!(monitor.monitored, Monitored::ReleaseMonitor(15));
    assert_eq!(monitor.rules, Rules { filter_prefix: Some("1.".to_owned()), ..Rules::default() });
    let oci = watch("  oci:\n    identifier: localhost/hello\n    strip-prefix: v\n").unwrap();
    assert_eq!(oci.monitored.to_string(), "oci:localhost/hello");
    assert_eq!(oci.rules, Rules { strip_prefix: Some("v".to_owned()), ..Rules::default() });
    assert_eq!(watch("  git: {}\n").unwrap().monitored.to_string(), "git:https://localhost/hello.git");
}

#[test]
fn a_block_that_cannot_be_watched_says_why() {
    for (update, reason) in [
        ("  github:\n    identifier: hello\n", "OWNER/NAME"),
        ("  github:\n    use-tag: true\n", "nothing is checked out from GitHub"),
        ("  git: {}\n  github:\n    identifier: mill/hello\n", "several providers"),
        ("  oci:\n    identifier: localhost/hello:1.0\n", "without tag"),
        ("  git: {}\n  version_data:\n    sources:\n      - name: hello\n", "version_data"),
    ] {
        let error = watch(update).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("hello.yaml"), "{error}");
    }
}

fn provider(monitored: &Monitored) -> &'static str {
    match monitored {
        Monitored::GitHub { .. } => "github",
        Monitored::ReleaseMonitor(_) => "release-monitor",
        Monitored::Git(_) => "git",
        _ => "source",
    }
}

#[test]
fn every_block_of_the_corpus_can_be_watched() {
    let root = std::env::var("MINIMILL_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").to_owned());
    let folder = PathBuf::from(root).join("wolfi-packages");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("not run: no corpus at {}", folder.display());
        return;
    };
    let pipelines = Pipelines::built_in().unwrap();
    let (mut counts, mut used) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
    let (mut failures, mut others, mut recognised) = (Vec::new(), Vec::new(), 0_usize);
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let definition = PackageDefinition::parse(&std::fs::read_to_string(&path).unwrap(), &name).unwrap();
        let update = &definition.update;
        let named = update.github.is_some() || update.git.is_some() || update.release_monitor.is_some();
        if !named && update.enabled != Some(true) {
            *counts.entry("not watched").or_default() += 1;
            continue;
        }
        match watched(&definition, None, Architecture::X86_64, &pipelines) {
            Ok(Watched { watch, sources }) => {
                *counts.entry(provider(&watch.monitored)).or_default() += 1;
                for key in keys(update, &watch.rules) {
                    *used.entry(key).or_default() += 1;
                }
                // What upstream calls the definition's own version must be taken for it.
                let monitored = matches!(watch.monitored, Monitored::GitHub { .. } | Monitored::Git(_));
                let stated =
                    sources.iter().flatten().filter(|_| monitored).find_map(|source| source.git.as_ref()?.tag.clone());
                let tag = stated.unwrap_or_else(|| as_upstream_has_it(&watch));
                match choose(&[Candidate::new(tag)], &watch.rules, watch.current.as_deref()) {
                    Err(error) => failures.push(format!("{name}: {error}")),
                    Ok(decision) => match decision.considered[0].verdict {
                        Verdict::Current => recognised += 1,
                        _ => others.push(format!("{name}: {}", decision.considered[0].reason)),
                    },
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    println!("watched by provider: {counts:?}");
    println!("keys: {used:?}");
    println!("own version recognised: {recognised}, not: {}\n  {}", others.len(), others.join("\n  "));
    assert!(counts.values().sum::<usize>() + failures.len() >= 300, "{counts:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // The rest state a tag of another repository than the one that is watched.
    assert!(recognised * 100 >= 95 * (recognised + others.len()), "{}", others.join("\n"));
}

/// The tag of the definition's own version, where the definition states none and no transform is in the way.
fn as_upstream_has_it(watch: &Watch) -> String {
    let rules = &watch.rules;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let mut version = watch.current.clone().unwrap();
    if let Some(separator) = rules.version_separator.as_ref() {
        version = version.replace('.', separator);
    }
    let mut tag = format!("{}{version}{}", part(&rules.strip_prefix), part(&rules.strip_suffix));
    for filter in [&rules.filter_prefix, &rules.filter_contains].into_iter().flatten() {
        if !tag.starts_with(filter.as_str()) && !tag.contains(filter.as_str()) {
            tag = format!("{filter}{tag}");
        }
    }
    tag
}

/// The keys of a block that say something.
fn keys(update: &recipe::Update, rules: &Rules) -> Vec<&'static str> {
    [
        ("filter-prefix", rules.filter_prefix.is_some()),
        ("filter-contains", rules.filter_contains.is_some()),
        ("strip-prefix", rules.strip_prefix.is_some()),
        ("strip-suffix", rules.strip_suffix.is_some()),
        ("ignore-regex-patterns", !rules.ignore_regex_patterns.is_empty()),
        ("version-separator", rules.version_separator.is_some()),
        ("version-transform", !rules.version_transform.is_empty()),
        ("enable-prerelease-tags", rules.enable_prerelease_tags),
        ("require-sequential", rules.require_sequential),
        ("use-tag", update.github.as_ref().is_some_and(|github| github.use_tags)),
        ("manual", update.manual),
        ("shared", update.shared),
        ("schedule", update.schedule.is_some()),
        ("exclude-reason", update.exclude_reason.is_some()),
        ("enabled: false", update.enabled == Some(false)),
    ]
    .into_iter()
    .filter_map(|(key, is_used)| is_used.then_some(key))
    .collect()
}

#[test]
fn a_bad_pattern_fails_its_package_alone() {
    let watch = watch("  ignore-regex-patterns: ['*ignore_me']\n  release-monitor:\n    identifier: 15\n").unwrap();
    let error = choose(&[], &watch.rules, watch.current.as_deref()).unwrap_err().to_string();
    assert!(error.contains("*ignore_me"), "{error}");
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=mill", "-c", "user.email=mill@localhost"];
    let output = Command::new("git").arg("-C").arg(folder).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_git_checkout_is_watched_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let repository = folder.path().join("hello");
    std::fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "--quiet"]);
    git(&repository, &["commit", "--quiet", "--allow-empty", "--message", "one"]);
    git(&repository, &["tag", "v1.0"]);
    git(&repository, &["tag", "--annotate", "--message", "release", "v1.1"]);
    let text = format!(
        "package:\n  name: hello\n  version: '1.0'\n  epoch: 0\npipeline:\n  - uses: git-checkout\n    with:\n      repository: file://{}\n      tag: v${{{{package.version}}}}\n      expected-commit: {}\nupdate:\n  enabled: true\n  git:\n    strip-prefix: v\n",
        repository.display(),
        git(&repository, &["rev-parse", "HEAD"])
    );
    let definition = PackageDefinition::parse(&text, "hello.yaml").unwrap();
    let watch = watched(&definition, None, Architecture::X86_64, &Pipelines::built_in().unwrap()).unwrap().watch;
    assert_eq!(watch.seen["v1.0"], git(&repository, &["rev-parse", "HEAD"]));
    let surroundings = Surroundings::of_machine(|_| None, folder.path());
    let endpoints = Endpoints::new(EndpointSettings::default(), surroundings);
    let upstreams = Upstreams::new(endpoints, &folder.path().join("cache"), Options::default()).unwrap();
    let chosen = upstreams.check(&watch).await.unwrap().chosen.unwrap();
    assert_eq!(chosen.version, "1.1");
    assert_eq!(chosen.commit, Some(git(&repository, &["rev-parse", "HEAD"])));
}

/// Three definitions of the corpus say no more than this.
#[test]
fn a_block_with_nothing_in_it_means_tags_such_as_the_definitions_own() {
    let prefix = |tag: &str, more: &str| {
        let text = format!(
            "package: {{name: hello, version: '1.0', epoch: 0}}\npipeline: [{{uses: git-checkout, with: {{repository: 'https://localhost/hello.git', tag: '{tag}', expected-commit: {}}}}}]\nupdate: {{enabled: true, git: {{{more}}}}}\n",
            "a".repeat(40)
        );
        let definition = PackageDefinition::parse(&text, "hello.yaml").unwrap();
        watched(&definition, None, Architecture::X86_64, &Pipelines::built_in().unwrap()).unwrap().watch.rules
    };
    assert_eq!(prefix("v${{package.version}}", "").strip_prefix.as_deref(), Some("v"));
    assert_eq!(prefix("hello-${{package.version}}", "").strip_prefix.as_deref(), Some("hello-"));
    assert_eq!(prefix("hello-${{package.version}}", "strip-prefix: h").strip_prefix.as_deref(), Some("h"));
    for tag in ["${{package.version}}", "11.0", "2.1.0", "v1_0"] {
        assert_eq!(prefix(tag, "").strip_prefix, None, "{tag}");
    }
    let rules = prefix("v${{package.version}}", "");
    let decision = choose(&[Candidate::new("v1.1"), Candidate::new("1.2")], &rules, Some("1.0")).unwrap();
    assert_eq!(decision.chosen.unwrap().version, "1.2");
    let decision = choose(&[Candidate::new("v1.1")], &rules, Some("1.0")).unwrap();
    assert_eq!(decision.chosen.unwrap().version, "1.1");
}

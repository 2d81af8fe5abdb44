//! Named pipelines: the built-in ones, and those of the user's folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::decode::Fields;
use crate::error::{Error, nearest};
use crate::package::{Step, StepKeys, decode_step};
use crate::text::Text;
use crate::yaml;

pub use unknown::UnknownKey;

mod unknown;

const MAXIMUM_DEPTH: usize = 8;
const MAXIMUM_FILES: usize = 10_000;

/// What a pipeline takes from outside the build.
///
/// Said by the key `source` that Minimill's own pipeline files have beside melange's keys. Such a
/// pipeline's script finds the fetched file through `${{source.path}}`, and its own name through
/// `${{source.name}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A file at the input `uri`.
    File,
    /// A git tree of the input `repository`.
    Git,
    /// The folder `path` of the repository that the definition is kept in.
    Own,
}

/// One named pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) step: Step,
    pub(crate) source: Option<SourceKind>,
}

impl Pipeline {
    /// What the pipeline declares: inputs, needed packages and steps.
    #[must_use]
    pub fn step(&self) -> &Step {
        &self.step
    }
}

/// The pipelines that `uses:` may name.
#[derive(Debug, Clone)]
pub struct Pipelines {
    by_name: BTreeMap<String, Pipeline>,
    unknown_keys: Vec<UnknownKey>,
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!("../pipelines/", $name, ".yaml")))),*];
    };
}

built_in![
    "R/build",
    "auth/github",
    "auth/gradle",
    "auth/guarded-repo",
    "auth/libraries",
    "auth/maven",
    "auth/npm",
    "auth/pip",
    "auth/uv",
    "auth/uv/v2",
    "autoconf/configure",
    "autoconf/make",
    "autoconf/make-install",
    "bitnami/compat",
    "bitnami/validate-welcome-message",
    "bump",
    "cargo/build",
    "cmake/build",
    "cmake/configure",
    "cmake/install",
    "compiler/disable-openssf-flags",
    "compiler/filter-openssf-flags",
    "compiler/undisable-openssf-flags",
    "copy",
    "cran/build",
    "cran/fetch",
    "cran/install",
    "ecosystems/auth",
    "ecosystems/gradle",
    "ecosystems/maven",
    "fetch",
    "fonts/gftools-build",
    "git-am",
    "git-archive",
    "git-checkout",
    "git/gnulib-bootstrap",
    "glibc/ld-so-conf",
    "go/assert-no-crypto",
    "go/build",
    "go/build/v2",
    "go/bump",
    "go/covdata",
    "go/deps",
    "go/install",
    "goreleaser/build",
    "iamguarded/build-compat",
    "iamguarded/finalize-compat",
    "iamguarded/test-compat",
    "java/fetch-jar",
    "java/replace-jar",
    "llvm/covreport",
    "maven/configure-mirror",
    "maven/pombump",
    "meson/compile",
    "meson/configure",
    "meson/install",
    "meson/test",
    "move",
    "npm/install",
    "ocaml/dune",
    "patch",
    "pecl/install",
    "pecl/phpize",
    "pecl/phpize-8.1",
    "pecl/phpize-8.2",
    "perl/cleanup",
    "perl/cpan-install",
    "perl/dzil",
    "perl/make",
    "php/composer-install",
    "py/build-installer",
    "py/bump-vendored",
    "py/bundle",
    "py/collect-wheels",
    "py/compile-requirements",
    "py/install",
    "py/install-compile",
    "py/numpy-migration-check",
    "py/one-python",
    "py/pip-build-install",
    "py/pip-build-install-bootstrap",
    "py/pip-check",
    "py/pip-vendor-bump",
    "py/tw/bump-constraints",
    "py/venv",
    "python/build",
    "python/build-gpep517",
    "python/build-wheel",
    "python/import",
    "python/install",
    "python/pipinstall",
    "python/test",
    "redis-valkey/make",
    "redis-valkey/subpackage-benchmark",
    "redis-valkey/subpackage-cli",
    "redis-valkey/tests",
    "ruby/build",
    "ruby/clean",
    "ruby/install",
    "ruby/install_runtime_deps",
    "ruby/require",
    "ruby/test",
    "ruby/unlock-spec",
    "rust/cargo-build",
    "rust/cargobump",
    "sccache/enable",
    "sed",
    "split/alldocs",
    "split/bin",
    "split/debug",
    "split/dev",
    "split/docs",
    "split/infodir",
    "split/lib",
    "split/locales",
    "split/manpages",
    "split/static",
    "strip",
    "test/apko/build",
    "test/compiler-hardening-check",
    "test/compiler/asan",
    "test/compiler/clang",
    "test/compiler/fortran-hardening-check",
    "test/compiler/hardening-check",
    "test/compiler/smoke",
    "test/daemon-check-output",
    "test/docker",
    "test/docs",
    "test/emptypackage",
    "test/execs",
    "test/font-family",
    "test/fonts",
    "test/glibc/ld-so-conf",
    "test/hardening-check",
    "test/headers",
    "test/install-cypress",
    "test/jar-check",
    "test/k3s",
    "test/kwok/cluster",
    "test/ldd-check",
    "test/metapackage",
    "test/no-docs",
    "test/perl-module-check",
    "test/php-tidy",
    "test/pkgconf",
    "test/populated-etc-passwd",
    "test/py-bundled-crypto-check",
    "test/python/import",
    "test/qackage",
    "test/staticpackage",
    "test/systemd-tmpfiles",
    "test/tw/byproductpackage",
    "test/tw/configpackage",
    "test/tw/contains-files",
    "test/tw/debugpackage",
    "test/tw/devpackage",
    "test/tw/docs",
    "test/tw/emptypackage",
    "test/tw/gem-check",
    "test/tw/gem-installed",
    "test/tw/header-check",
    "test/tw/help-check",
    "test/tw/langpackage",
    "test/tw/ldd-check",
    "test/tw/lua-syntax-check",
    "test/tw/metapackage",
    "test/tw/no-docs",
    "test/tw/pip-check",
    "test/tw/shell-deps-check",
    "test/tw/shell-deps-check-packages",
    "test/tw/shell-syntax-check",
    "test/tw/srcpackage",
    "test/tw/staticpackage",
    "test/tw/symlink-check",
    "test/tw/ver-check",
    "test/tw/verify-service",
    "test/tw/virtualpackage",
    "test/tw/xml-syntax-check",
    "test/verify-service",
    "test/virtualpackage",
    "xcover/ensure",
    "xcover/profile",
    "xcover/status",
    "xcover/stop",
    "xcover/wait",
];

impl Pipelines {
    /// The pipelines that come with Minimill.
    ///
    /// # Errors
    ///
    /// A built-in file that does not parse, which the crate's tests rule out.
    pub fn built_in() -> Result<Self, Error> {
        let mut pipelines = Self { by_name: BTreeMap::new(), unknown_keys: Vec::new() };
        for (name, text) in BUILT_IN {
            pipelines.insert(name, text, &format!("built-in pipeline {name}"), true)?;
        }
        Ok(pipelines)
    }

    /// Adds every `NAME.yaml` below `directory`; `a/b.yaml` is `uses: a/b`. One that has a built-in's
    /// name, or the name of one added before, takes its place.
    ///
    /// # Errors
    ///
    /// An unreadable folder, more than 10,000 files or 8 levels, or a file that does not parse.
    pub fn add_directory(&mut self, directory: &Path) -> Result<(), Error> {
        let mut files = Vec::new();
        collect(directory, String::new(), 0, &mut files)?;
        files.sort();
        for (name, path) in files {
            let text = fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
            self.add(&name, &text, &path.display().to_string())?;
        }
        Ok(())
    }

    /// Adds one pipeline from its text. `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// A text that is not a pipeline.
    pub fn add(&mut self, name: &str, text: &str, file: &str) -> Result<(), Error> {
        self.insert(name, text, file, false)
    }

    fn insert(&mut self, name: &str, text: &str, file: &str, own: bool) -> Result<(), Error> {
        let (mut node, _) = yaml::parse_first(text, file)?;
        let keys = if own { StepKeys::BuiltIn } else { StepKeys::Pipeline };
        if !own {
            unknown::take(&mut node, file, &mut self.unknown_keys);
        }
        let step = decode_step(&node, file, "", keys)?;
        let source = match Fields::open_any(&node, file, "")?.text("source")? {
            Some(kind) if own => source_kind(&kind),
            _ => None,
        };
        let pipeline = Pipeline { file: file.to_owned(), text: text.to_owned(), step, source };
        self.by_name.insert(name.to_owned(), pipeline);
        Ok(())
    }

    /// Keys of added pipelines that have no effect, in the order of the files.
    #[must_use]
    pub fn unknown_keys(&self) -> &[UnknownKey] {
        &self.unknown_keys
    }

    /// The names, a to z.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The pipeline called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Pipeline> {
        self.by_name.get(name)
    }

    pub(crate) fn nearest(&self, name: &str) -> Vec<String> {
        nearest(name, self.names())
    }
}

fn source_kind(text: &Text) -> Option<SourceKind> {
    match text.as_str() {
        "file" => Some(SourceKind::File),
        "git" => Some(SourceKind::Git),
        "own" => Some(SourceKind::Own),
        _ => None,
    }
}

fn collect(directory: &Path, prefix: String, depth: usize, files: &mut Vec<(String, PathBuf)>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    if depth > MAXIMUM_DEPTH {
        return Err(failed(std::io::Error::other(
            "more than 8 levels of folders; name the folder that holds the pipelines",
        )));
    }
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() && !name.starts_with('.') {
            collect(&entry.path(), format!("{prefix}{name}/"), depth + 1, files)?;
        } else if let (true, Some(stem)) = (kind.is_file(), name.strip_suffix(".yaml")) {
            if files.len() >= MAXIMUM_FILES {
                return Err(failed(std::io::Error::other(
                    "more than 10,000 files; name the folder that holds the pipelines",
                )));
            }
            files.push((format!("{prefix}{stem}"), entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_file_is_listed_and_parses() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines"));
        let mut files = Vec::new();
        collect(folder, String::new(), 0, &mut files).unwrap();
        let mut on_disk: Vec<String> = files.into_iter().map(|(name, _)| name).collect();
        on_disk.sort();
        let pipelines = Pipelines::built_in().unwrap();
        assert_eq!(pipelines.names().collect::<Vec<_>>(), on_disk);
    }

    #[test]
    fn a_folder_replaces_and_adds() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("py")).unwrap();
        fs::write(folder.path().join("py/build.yaml"), "pipeline: [{runs: build}]").unwrap();
        fs::write(folder.path().join("strip.yaml"), "pipeline: [{runs: own strip}]").unwrap();
        let mut pipelines = Pipelines::built_in().unwrap();
        pipelines.add_directory(folder.path()).unwrap();
        assert_eq!(pipelines.get("strip").unwrap().step().pipeline[0].runs.as_deref().unwrap(), "own strip");
        assert!(pipelines.get("py/build").is_some());
        assert!(pipelines.unknown_keys().is_empty());
        assert!(pipelines.add("x", "pipeline: run", "x.yaml").is_err());
    }

    /// melange reads past them.
    #[test]
    fn keys_of_pipelines_that_mean_nothing_are_told() {
        let mut pipelines = Pipelines::built_in().unwrap();
        let text = "source: file\nprovides: [a=1]\ninputs: {a: {defaults: 1, default: 2}}\nneeds: {package: [x], packages: [y]}\npipeline:\n  - description: d\n    run: x\n    pipeline: [{runs: 'echo ${{inputs.a}}', uri: y}]\n";
        pipelines.add("x", text, "x.yaml").unwrap();
        let told: Vec<String> = pipelines.unknown_keys().iter().map(|key| format!("{} {key}", key.location)).collect();
        assert_eq!(
            told,
            [
                "x.yaml:1:1 key `source` has no effect in a pipeline; take it out",
                "x.yaml:2:1 key `provides` has no effect in a pipeline; take it out",
                "x.yaml:3:14 key `defaults` has no effect in a pipeline; did you mean `default`?",
                "x.yaml:4:9 key `package` has no effect in a pipeline; did you mean `packages`?",
                "x.yaml:7:5 key `run` has no effect in a pipeline; did you mean `runs`?",
                "x.yaml:8:45 key `uri` has no effect in a pipeline; take it out",
            ]
        );
        let step = pipelines.get("x").unwrap();
        assert!(step.source.is_none() && step.step.needs[0] == "y" && step.step.pipeline[0].pipeline.len() == 1);
    }
}

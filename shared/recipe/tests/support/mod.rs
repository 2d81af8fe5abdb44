//! Runs evaluated scripts in a temporary folder.
#![allow(dead_code)] // Each test binary uses its part.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use apk::Architecture;
use recipe::{BuildPlan, Options, PackageDefinition, Pipelines, evaluate};
use tempfile::TempDir;

const HEAD: &str = "package: {name: hello, version: '1.0', epoch: 0}\n";

pub fn plan(text: &str) -> BuildPlan {
    let pipelines = Pipelines::built_in().unwrap();
    let definition = PackageDefinition::parse(&format!("{HEAD}{text}"), "hello.yaml").unwrap();
    evaluate(&definition, &Options::new(Architecture::X86_64, &pipelines)).unwrap()
}

/// A build's folders, moved into a temporary one.
pub struct Build {
    pub root: TempDir,
}

impl Build {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("build")).unwrap();
        fs::create_dir(root.path().join("sources")).unwrap();
        Self { root }
    }

    pub fn workspace(&self) -> PathBuf {
        self.root.path().join("build")
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.workspace().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn run(&self, plan: &BuildPlan) -> Output {
        self.run_script(&plan.script)
    }

    /// Runs a script with the folders of a job root moved below the temporary one.
    pub fn run_script(&self, script: &str) -> Output {
        let root = self.root.path().display();
        let script = script
            .replace("/usr/lib/apk", &format!("{root}/apk"))
            .replace("/home/build", &self.workspace().display().to_string())
            .replace("/var/cache/melange", &self.root.path().join("sources").display().to_string());
        let mut shell = Command::new("sh")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        shell.wait_with_output().unwrap()
    }

    pub fn succeed(&self, plan: &BuildPlan) -> String {
        let output = self.run(plan);
        let errors = String::from_utf8_lossy(&output.stderr);
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{answer}\n{errors}");
        answer.into_owned()
    }

    pub fn fail(&self, plan: &BuildPlan) -> String {
        let output = self.run(plan);
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Files and links below a folder of the workspace.
    pub fn files(&self, below: &str) -> BTreeSet<String> {
        fn walk(folder: &Path, prefix: &str, files: &mut BTreeSet<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), files);
                } else {
                    files.insert(name);
                }
            }
        }
        let mut files = BTreeSet::new();
        walk(&self.workspace().join(below), "", &mut files);
        files
    }
}

pub fn have(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools
        .iter()
        .filter(|tool| {
            !Command::new("sh").args(["-c", &format!("command -v {tool} > /dev/null")]).status().unwrap().success()
        })
        .collect();
    if !missing.is_empty() {
        println!("not run: {missing:?} missing");
    }
    missing.is_empty()
}

pub fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Names and texts of the corpus's definitions; `None`, having said so, where there is no corpus.
pub fn corpus() -> Option<Vec<(String, String)>> {
    let root = std::env::var("MINIMILL_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").to_owned());
    let folder = PathBuf::from(root).join("wolfi-packages");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("not run: no corpus at {}", folder.display());
        return None;
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "no definitions in {}", folder.display());
    let read = |path: PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    Some(files.into_iter().map(read).collect())
}

/// A root with one installed package of these files and headers.
pub fn installed(headers: &str, files: &[&str]) -> Build {
    let build = Build::new();
    let mut database = format!("P:other\nF:usr/share/other\nR:file\n\nP:hello\nV:1.0-r0\n{headers}");
    database.push_str("F:var/lib/db/sbom\nR:hello.spdx.json\n");
    for file in files {
        let path = build.workspace().join(file);
        let (folder, name) = path.to_str().unwrap().trim_start_matches('/').rsplit_once('/').unwrap();
        database.push_str(&format!("F:{folder}\nR:{name}\na:0:0:755\n"));
    }
    fs::create_dir_all(build.root.path().join("apk/db")).unwrap();
    fs::write(build.root.path().join("apk/db/installed"), database + "\n").unwrap();
    build
}

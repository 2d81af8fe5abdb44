//! apk-tools' own solver cases, from the corpus: every `*.test` of the folder, expected to the
//! letter.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use apk::{Architecture, Dependency, IndexEntry, IndexRecord, Operator, PackageInformation, Requirement};
use solve::{Change, Failure, Preference, Repository, Solution, Task, Universe, solve};
use support::{corpus, read_index, records};

/// A `*.test` file.
#[derive(Default)]
struct Case {
    arguments: Vec<String>,
    world: Vec<String>,
    installed: Vec<IndexEntry>,
    /// Tag and index; the cache counts as an untagged repository.
    repositories: Vec<(Option<String>, Vec<IndexEntry>)>,
    expected: String,
}

fn read_case(path: &Path) -> Result<Case, String> {
    let folder = path.parent().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let mut case = Case::default();
    let mut expecting = false;
    for line in text.lines() {
        let index = |name: &str| {
            std::fs::read_to_string(folder.join(name))
                .map(|text| read_index(&text))
                .map_err(|error| format!("{name}: {error}"))
        };
        let (directive, value) = line.split_once(' ').unwrap_or((line, ""));
        let words = || value.split_whitespace().map(str::to_owned);
        match directive {
            _ if expecting && !line.starts_with('@') => {
                case.expected.push_str(line);
                case.expected.push('\n');
            }
            "@ARGS" => case.arguments.extend(words()),
            "@WORLD" => case.world.extend(words()),
            "@INSTALLED" => case.installed = index(value)?,
            "@CACHE" => case.repositories.push((None, index(value)?)),
            "@REPO" => {
                let words: Vec<String> = words().collect();
                case.repositories.push(match words.as_slice() {
                    [tag, name] if tag.starts_with('@') => (Some(tag[1..].to_owned()), index(name)?),
                    [name] => (None, index(name)?),
                    _ => return Err(format!("unknown form of `{line}`")),
                });
            }
            "@EXPECT" => expecting = true,
            _ => return Err(format!("unknown directive `{line}`")),
        }
    }
    Ok(case)
}

/// apk's command line, as far as the cases use it.
#[derive(Default)]
struct Command {
    applet: String,
    operands: Vec<String>,
    virtual_package: Option<String>,
    preference: Preference,
    force_broken: bool,
    recursive: bool,
    ignore: bool,
}

fn read_command(arguments: &[String]) -> Result<Command, String> {
    let mut command = Command::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--force-broken-world" | "--force" | "-f" => command.force_broken = true,
            "-u" | "--upgrade" => command.preference.upgrade = true,
            "-l" | "--latest" => command.preference.latest = true,
            "-a" | "--available" => command.preference.available = true,
            "-r" | "--reinstall" => command.preference.reinstall = true,
            "-R" | "--rdepends" => command.recursive = true,
            "--ignore" => command.ignore = true,
            "-t" | "--virtual" => command.virtual_package = arguments.next().cloned(),
            "-v" | "-vv" | "-q" | "--no-network" | "--simulate" | "-s" => {}
            option if option.starts_with("--root-tmpfs") => {}
            option if option.starts_with('-') => return Err(format!("unknown option `{option}`")),
            word if command.applet.is_empty() => command.applet = word.to_owned(),
            word => command.operands.push(word.to_owned()),
        }
    }
    Ok(command)
}

fn lines_with(prefix: &str, text: &str) -> String {
    format!("{prefix}{text}\n")
}

fn failure_text(failure: &Failure) -> String {
    let message = failure.apk_message();
    match failure {
        Failure::UnknownTags { .. } => {
            let lines: Vec<&str> = message.lines().collect();
            let (last, warnings) = lines.split_last().unwrap();
            let warnings: String = warnings.iter().map(|line| lines_with("WARNING: ", line)).collect();
            warnings + &lines_with("ERROR: ", last)
        }
        Failure::Unsolvable { .. } => lines_with("ERROR: ", &message),
    }
}

fn size_text(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f32, 0);
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut whole = bytes;
    while unit < units.len() - 1 && size >= 10_000.0 {
        size /= 1024.0;
        whole /= 1024;
        unit += 1;
    }
    if unit < 2 { format!("{whole} {}", units[unit]) } else { format!("{size:.1} {}", units[unit]) }
}

fn verb(change: &Change<'_>, reinstall: bool) -> Option<(&'static str, String)> {
    let version = |entry: IndexRecord<'_>| entry.version().to_owned();
    Some(match (change.old, &change.new) {
        (None, Some(new)) => ("Installing", version(new.entry)),
        (Some(old), None) => ("Purging", version(old)),
        (Some(old), Some(new)) if old == new.entry => {
            if !reinstall {
                return None;
            }
            ("Reinstalling", version(old))
        }
        (Some(old), Some(new)) => {
            let (old, new) = (version(old), version(new.entry));
            let verb = match apk::compare_versions(&new, &old).unwrap() {
                std::cmp::Ordering::Less => "Downgrading",
                std::cmp::Ordering::Equal => "Replacing",
                std::cmp::Ordering::Greater => "Upgrading",
            };
            (verb, format!("{old} -> {new}"))
        }
        (None, None) => return None,
    })
}

fn solution_text(solution: &Solution<'_>, reinstall: bool) -> String {
    let changes: Vec<(&Change<'_>, &str, String)> = solution
        .changes
        .iter()
        .filter_map(|change| {
            let (verb, version) = verb(change, reinstall)?;
            Some((change, verb, version))
        })
        .collect();
    let total = changes.len();
    let width = total.to_string().len();
    let mut text = String::new();
    for (number, (change, verb, version)) in (1..).zip(&changes) {
        let (name, tag) = match &change.new {
            Some(new) => (new.entry.name(), new.tag.as_ref().map_or(String::new(), |tag| format!("@{tag}"))),
            None => (change.old.unwrap().name(), String::new()),
        };
        writeln!(text, "({number:width$}/{total}) {verb} {name}{tag} ({version})").unwrap();
    }
    let size: u64 = solution.packages().map(|selected| selected.entry.installed_size()).sum();
    let count = solution.packages().count();
    writeln!(text, "OK: {} in {count} packages", size_text(size)).unwrap();
    text
}

fn run(case: &Case) -> Result<String, String> {
    let command = read_command(&case.arguments)?;
    let parse = |text: &String| text.parse::<Dependency>();
    let mut world: Vec<Dependency> = Vec::new();
    for text in &case.world {
        world.push(parse(text).map_err(|error| error.to_string())?);
    }
    let mut wants = Vec::new();
    let mut made_up = Vec::new();
    let mut task = Task::new("world", &[]);
    match command.applet.as_str() {
        "add" => {
            task.preference = command.preference;
            for operand in &command.operands {
                let valid = parse(operand)
                    .ok()
                    .filter(|dependency| command.virtual_package.is_none() || dependency.tag.is_none());
                let Some(dependency) = valid else {
                    let (kind, form) = match command.virtual_package {
                        None => ("world", "name(@tag)([<>~=]version)"),
                        Some(_) => ("package", "name([<>~=]version)"),
                    };
                    return Ok(format!("ERROR: '{operand}' is not a valid {kind} dependency, format is {form}\n"));
                };
                wants.push(dependency);
            }
            if let Some(text) = &command.virtual_package {
                let fits = parse(text).ok().filter(|dependency| match &dependency.requirement {
                    Requirement::Any => true,
                    Requirement::Version(operator, _) => *operator == Operator::Equal,
                    Requirement::Checksum(_) => false,
                });
                if fits.is_none() {
                    return Ok(format!("ERROR: {text}: bad package specifier\n"));
                }
                let (name, version) = text.split_once('=').unwrap_or((text, "20000101.000000"));
                let depends = wants.iter().map(ToString::to_string).collect();
                made_up.push(IndexEntry {
                    information: PackageInformation {
                        name: name.to_owned(),
                        version: version.to_owned(),
                        depends,
                        ..PackageInformation::default()
                    },
                    ..IndexEntry::default()
                });
                wants = vec![format!("{name}={version}").parse().unwrap()];
            }
        }
        "upgrade" => {
            task.world_preference = command.preference;
            task.world_preference.upgrade = true;
        }
        "del" => world.retain(|want| !command.operands.contains(&want.name)),
        "fix" => {
            task.preference = command.preference;
            for operand in &command.operands {
                let known = world.iter().find(|want| want.name == *operand);
                wants.extend(known.cloned());
            }
        }
        other => return Err(format!("unknown applet `{other}`")),
    }
    let installed: Vec<(IndexRecord<'_>, Option<&str>)> =
        case.installed.iter().map(|entry| (IndexRecord::from(entry), None)).collect();
    let indexes: Vec<Vec<IndexRecord<'_>>> = case.repositories.iter().map(|(_, entries)| records(entries)).collect();
    let mut repositories: Vec<Repository<'_, '_>> = case
        .repositories
        .iter()
        .zip(&indexes)
        .enumerate()
        .map(|(number, ((tag, _), records))| Repository {
            name: format!("repository {number}"),
            tag: tag.clone(),
            records,
        })
        .collect();
    let made_up = records(&made_up);
    repositories.push(Repository { name: "virtual".to_owned(), tag: None, records: &made_up });
    let universe =
        Universe::with_installed(Architecture::X86_64, &installed, &repositories).map_err(|error| error.to_string())?;
    task.wants = &wants;
    task.world = &world;
    task.drop_broken = command.force_broken;
    task.lone_virtuals = false;
    task.same_origin = false;
    Ok(match solve(&universe, &task) {
        Ok(solution) => solution_text(&solution, command.preference.reinstall),
        Err(failure) => failure_text(&failure),
    })
}

#[test]
fn solves_apk_tools_cases() {
    let folder = corpus().join("apk-solver");
    let Ok(listing) = std::fs::read_dir(&folder) else {
        println!("not run: no corpus at {}", folder.display());
        return;
    };
    let mut paths: Vec<_> = listing
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap().to_string_lossy();
        let expected_and_found = read_case(path).and_then(|case| {
            let found = run(&case)?;
            Ok((case.expected, found))
        });
        match expected_and_found {
            Ok((expected, found)) if expected.trim_end() == found.trim_end() => {}
            Ok((expected, found)) => {
                wrong.push(format!("{name}: expected\n{expected}found\n{found}"));
            }
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases fail\n{}", wrong.len(), paths.len(), wrong.join("\n"));
    assert!(!paths.is_empty(), "no cases in {}", folder.display());
    println!("{} cases hold", paths.len());
}

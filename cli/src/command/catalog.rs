use std::path::{Path, PathBuf};

use apk::Architecture;
use recipe::lint::{Finding, Severity};
use recipe::{
    BuildPlan, Graph, ImageConfiguration, ImageDefinition, InstallIf, Location, MissingPipelines, Node, Options,
    PackageDefinition, Pipelines, UnknownKey, evaluate,
};
use serde::Serialize;

use crate::arguments::{Catalog, Global};
use crate::output::{self, Failure, Format, OrFail};

#[derive(Serialize)]
struct Report {
    ok: usize,
    failed: usize,
    failures: Vec<Problem>,
    warnings: Vec<Warning>,
}

/// Something that a definition can be built with, though it should not stay.
#[derive(Serialize)]
struct Warning {
    file: String,
    line: usize,
    rule: String,
    severity: Severity,
    error: String,
}

impl Warning {
    fn line(&self) -> String {
        format!("{}: {}:{}: {} [{}]", self.severity, self.file, self.line, self.error, self.rule)
    }
}

impl From<Finding> for Warning {
    fn from(finding: Finding) -> Self {
        Self {
            file: finding.location.file,
            line: finding.location.line,
            rule: finding.rule.to_owned(),
            severity: finding.severity,
            error: finding.message,
        }
    }
}

#[derive(Serialize)]
struct Problem {
    file: String,
    line: Option<usize>,
    error: String,
}

impl Problem {
    fn of(file: &Path, error: &recipe::Error) -> Self {
        Self {
            file: file.display().to_string(),
            line: error.location().map(|location| location.line),
            error: stage::chain(error),
        }
    }
}

pub fn run(global: &Global, command: Catalog) -> Result<u8, Failure> {
    match command {
        Catalog::Check { packages, images, pipeline_dirs, deny_warnings } => {
            let only_packages = packages.is_some() && images.is_none();
            let only_images = images.is_some() && packages.is_none();
            let packages = (!only_images).then(|| packages.unwrap_or_else(|| global.catalog.join("packages")));
            let images = (!only_packages).then(|| images.unwrap_or_else(|| global.catalog.join("images")));
            check(global, packages.as_deref(), images.as_deref(), &pipeline_dirs, deny_warnings)
        }
        Catalog::Graph { packages, pipeline_dirs } => {
            graph(global, &packages.unwrap_or_else(|| global.catalog.join("packages")), &pipeline_dirs)
        }
    }
}

fn pipelines(global: &Global, folders: &[PathBuf]) -> Result<Pipelines, Failure> {
    let mut pipelines = Pipelines::built_in().or_bad()?;
    let own = global.catalog.join("pipelines");
    for folder in own.is_dir().then_some(&own).into_iter().chain(folders) {
        pipelines.add_directory(folder).or_bad()?;
    }
    Ok(pipelines)
}

fn listing(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error| Failure::bad(format!("read `{}`: {error}", folder.display()));
    let mut paths = std::fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::bad(format!("read `{}`: {error}", path.display())))
}

/// The definitions of a folder with their resolved plans, and what is wrong with the rest.
struct Plans {
    plans: Vec<(PackageDefinition, BuildPlan)>,
    failures: Vec<Problem>,
    /// Keys of pipeline files that have no effect.
    unknown_keys: Vec<UnknownKey>,
}

fn plans(global: &Global, folder: &Path, pipeline_folders: &[PathBuf]) -> Result<Plans, Failure> {
    let pipelines = pipelines(global, pipeline_folders)?;
    let unknown_keys = pipelines.unknown_keys().to_vec();
    let mut plans = Plans { plans: Vec::new(), failures: Vec::new(), unknown_keys };
    let mut options = Options::new(Architecture::host().unwrap_or(Architecture::X86_64), &pipelines);
    options.missing_pipelines = MissingPipelines::Report;
    let mut paths = listing(folder)?;
    paths.retain(|path| is_definition(path));
    for plan in stage::in_parallel(&paths, |path| plan(path, &options)) {
        match plan {
            Ok(plan) => plans.plans.push(plan),
            Err(problem) => plans.failures.push(problem),
        }
    }
    Ok(plans)
}

fn plan(path: &Path, options: &Options<'_>) -> Result<(PackageDefinition, BuildPlan), Problem> {
    let label = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Problem {
        file: label.clone(),
        line: None,
        error: format!("read: {error}"),
    })?;
    let beside = install_if(path)?;
    let options = Options { install_if: beside.as_ref(), ..options.clone() };
    PackageDefinition::parse(&text, &label)
        .and_then(|definition| evaluate(&definition, &options).map(|plan| (definition, plan)))
        .map_err(|error| Problem::of(path, &error))
}

/// What `install-if/NAME.yaml` says, in the folder beside that of the definitions.
fn install_if(definition: &Path) -> Result<Option<InstallIf>, Problem> {
    let (Some(folder), Some(name)) = (definition.parent().and_then(Path::parent), definition.file_name()) else {
        return Ok(None);
    };
    let path = folder.join("install-if").join(name);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let file = path.display().to_string();
            return Err(Problem { file, line: None, error: format!("read: {error}") });
        }
    };
    InstallIf::parse(&text, &path.display().to_string()).map(Some).map_err(|error| Problem::of(&path, &error))
}

/// A file `NAME.yaml`; hidden ones are settings of editors and tools.
fn is_definition(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "yaml")
}

fn warnings(Plans { plans, unknown_keys, .. }: &Plans) -> Vec<Warning> {
    let told = |location: &Location, rule: &str, error: String| Warning {
        file: location.file.clone(),
        line: location.line,
        rule: rule.to_owned(),
        severity: Severity::Warning,
        error,
    };
    let mut warnings: Vec<Warning> =
        unknown_keys.iter().map(|unknown| told(&unknown.location, "unknown-key", unknown.to_string())).collect();
    for (definition, plan) in plans {
        warnings.extend(plan.missing_pipelines.iter().map(|missing| {
            let error = format!("pipeline `{}` is not found; name its folder with --pipeline-dirs", missing.name);
            told(&missing.location, "unknown-pipeline", error)
        }));
        let inputs = plan.unknown_inputs.iter();
        warnings.extend(inputs.map(|unknown| told(&unknown.location, "unknown-input", unknown.to_string())));
        let variables = plan.unknown_variables.iter();
        warnings.extend(variables.map(|unknown| told(&unknown.location, "unknown-variable", unknown.to_string())));
        warnings.extend(recipe::lint::lint(definition).into_iter().map(Warning::from));
    }
    let definitions: Vec<&PackageDefinition> = plans.iter().map(|(definition, _)| definition).collect();
    warnings.extend(recipe::lint::lint_together(&definitions).into_iter().map(Warning::from));
    warnings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    warnings
}

fn check(
    global: &Global,
    packages: Option<&Path>,
    images: Option<&Path>,
    pipeline_folders: &[PathBuf],
    deny_warnings: bool,
) -> Result<u8, Failure> {
    let mut report = Report { ok: 0, failed: 0, failures: Vec::new(), warnings: Vec::new() };
    if let Some(folder) = packages {
        let plans = plans(global, folder, pipeline_folders)?;
        report.ok += plans.plans.len();
        report.warnings = warnings(&plans);
        report.failures.extend(plans.failures);
    }
    for folder in images.map(listing).transpose()?.unwrap_or_default().into_iter().filter(|path| path.is_dir()) {
        match check_image(&folder)? {
            None => report.ok += 1,
            Some(problem) => report.failures.push(problem),
        }
    }
    let beside = ["authenticity", "vex"].iter().any(|folder| global.catalog.join(folder).is_dir());
    if packages.is_some() && images.is_some() && beside {
        report.failures.extend(problems_beside(&global.catalog)?);
    }
    report.failed = report.failures.len();
    match global.format {
        Format::Json => output::json(&report)?,
        Format::Text => {
            let mut lines: Vec<String> = report.warnings.iter().map(Warning::line).collect();
            lines.extend(report.failures.iter().map(line));
            lines.push(format!("{} ok, {} failed, {} warnings", report.ok, report.failed, report.warnings.len()));
            output::text(lines.join("\n"))?;
        }
    }
    let denied = deny_warnings && report.warnings.iter().any(|warning| warning.severity >= Severity::Warning);
    Ok(u8::from(report.failed > 0 || denied))
}

/// What is wrong with the catalog's authenticity policies and its statements about vulnerabilities.
fn problems_beside(catalog: &Path) -> Result<Vec<Problem>, Failure> {
    let problems = stage::Catalog::load(catalog).or_bad()?.problems;
    let beside = |problem: &stage::Problem| ["authenticity/", "vex/"].iter().any(|at| problem.file.starts_with(at));
    let problems = problems.into_iter().filter(beside);
    Ok(problems.map(|problem| Problem { file: problem.file, line: problem.line, error: problem.error }).collect())
}

fn line(problem: &Problem) -> String {
    if problem.error.starts_with(&problem.file) {
        problem.error.clone()
    } else {
        format!("{}: {}", problem.file, problem.error)
    }
}

fn check_image(folder: &Path) -> Result<Option<Problem>, Failure> {
    let file = folder.join("image.yaml");
    let definition = match ImageDefinition::parse(&read(&file)?, &file.display().to_string()) {
        Ok(definition) => definition,
        Err(error) => return Ok(Some(Problem::of(&file, &error))),
    };
    let file = folder.join("apko.yaml");
    let text = read(&file)?;
    for stream in &definition.streams {
        let name = file.display().to_string();
        let parsed = ImageConfiguration::parse(&ImageDefinition::expand(&text, stream), &name);
        if let Err(error) = parsed.and_then(|configuration| configuration.check_for_catalog(&name)) {
            return Ok(Some(Problem::of(&file, &error)));
        }
    }
    Ok(None)
}

fn graph(global: &Global, folder: &Path, pipeline_folders: &[PathBuf]) -> Result<u8, Failure> {
    let mut plans = plans(global, folder, pipeline_folders)?;
    let bootstrap = global.catalog.join("bootstrap/bootstrap.yaml");
    let bootstrap = if bootstrap.is_file() {
        sandbox::Bootstrap::load(&bootstrap).or_bad()?
    } else {
        sandbox::Bootstrap::default()
    };
    let nodes: Vec<Node> = plans
        .plans
        .iter()
        .map(|(_, plan)| {
            let mut node = Node::from_plan(plan);
            node.build.retain(|want| !bootstrap.provides(want));
            node
        })
        .collect();
    let graph = Graph::tolerant(&nodes);
    plans.failures.extend(graph.duplicates().iter().map(|duplicate| Problem {
        file: format!("{}.yaml", folder.join(&duplicate.second).display()),
        line: None,
        error: duplicate.to_string(),
    }));
    let cycles: Vec<String> = graph.cycles().iter().map(ToString::to_string).collect();
    let order = graph.order_around_cycles();
    match global.format {
        Format::Json => {
            output::json(&serde_json::json!({ "order": order, "cycles": cycles, "failures": plans.failures }))?
        }
        Format::Text => {
            let groups = order.iter().map(|group| group.join(" "));
            let lines: Vec<String> =
                groups.chain(cycles.iter().cloned()).chain(plans.failures.iter().map(line)).collect();
            output::text(lines.join("\n"))?;
        }
    }
    Ok(u8::from(!cycles.is_empty() || !plans.failures.is_empty()))
}

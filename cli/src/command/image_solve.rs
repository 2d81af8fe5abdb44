//! `mill image solve` and the choice of packages for `mill image build FILE.yaml`.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use apk::{Architecture, Dependency};
use recipe::{ImageConfiguration, LoadedImage};
use repositories::Repositories;

use crate::arguments::{Global, RepositoryArguments, Solve};
use crate::base_image::Bases;
use crate::factory::clock;
use crate::output::{self, Failure, Format, OrFail};
use crate::sources::{Sources, architectures};

use super::image_build;

/// Solves a file whose repositories are on this machine, with no runtime, no state and no network;
/// `None` where that does not do.
pub fn run_local(global: &Global, command: &Solve) -> Result<Option<u8>, Failure> {
    if !is_file_name(&command.file) {
        return Ok(None);
    }
    let (configuration, mut sources) = read(&command.file, &command.repositories)?;
    let architectures = architectures(&configuration, command.arch)?;
    if sources.is_empty() {
        let first = architectures.first().copied().unwrap_or(Architecture::X86_64);
        sources = Sources::home(&global.home, first)?;
    }
    if !sources.is_local() {
        return Ok(None);
    }
    warn_if_unverified(&sources)?;
    let open = |architecture: &Architecture| Ok((*architecture, sources.open_local(*architecture)?));
    let repositories = architectures.iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
    print(global.format, &chosen(&command.file, &configuration, &repositories)?)?;
    Ok(Some(0))
}

/// The same, fetching what is not on this machine.
pub async fn run(global: &Global, command: &Solve) -> Result<u8, Failure> {
    if !is_file_name(&command.file) {
        return image_build::solve_from_catalog(global, &command.file, command.arch).await;
    }
    let (configuration, sources) = read(&command.file, &command.repositories)?;
    warn_if_unverified(&sources)?;
    let fetcher = fetcher(global, &command.repositories)?;
    let mut repositories = Vec::new();
    for architecture in architectures(&configuration, command.arch)? {
        repositories.push((architecture, sources.open(architecture, &fetcher).await?));
    }
    print(global.format, &chosen(&command.file, &configuration, &repositories)?)?;
    Ok(0)
}

pub fn print(format: Format, lines: &[String]) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(&lines),
        Format::Text => output::text(lines.join("\n")),
    }
}

/// What is not the name of a catalog image.
pub fn is_file_name(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// The most bytes of a definition.
const DEFINITION_BYTES: u64 = 1 << 20;

/// A definition in a file, with what it includes: paths beside the file, else in the working folder.
pub fn load(file: &Path) -> Result<LoadedImage, Failure> {
    let name = file.display().to_string();
    let text = read_text(file).map_err(|error| Failure::bad(format!("read `{name}`: {error}")))?;
    let beside = file.parent().unwrap_or(Path::new(""));
    let mut include = |include: &str| {
        let here = beside.join(include);
        let path = if here.is_file() { here } else { include.into() };
        read_text(&path).map_err(|error| format!("read `{}`: {error}", path.display()))
    };
    ImageConfiguration::load(&text, &name, &mut include).or_bad()
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(DEFINITION_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > DEFINITION_BYTES {
        return Err(std::io::Error::other(format!("it has more than {DEFINITION_BYTES} bytes")));
    }
    Ok(text)
}

/// A definition in a file, and where its packages come from.
pub fn read(file: &Path, arguments: &RepositoryArguments) -> Result<(ImageConfiguration, Sources), Failure> {
    let configuration = load(file)?.configuration;
    let sources = Sources::of(&configuration, file, arguments)?;
    Ok((configuration, sources))
}

/// The HTTP client whose cache of indexes and keys is in the home.
pub fn fetcher(global: &Global, arguments: &RepositoryArguments) -> Result<upstream::Fetcher, Failure> {
    let options = upstream::FetchOptions { offline: arguments.offline, ..upstream::FetchOptions::default() };
    let clock = clock()?;
    let now = Arc::new(move || clock.now());
    upstream::Fetcher::new(global.home.join("cache/repositories"), options, now).or_environment()
}

fn warn_if_unverified(sources: &Sources) -> Result<(), Failure> {
    if sources.is_unverified() {
        output::warning("no keyring is named, so nobody vouches for the indexes; see --keyring-append")?;
    }
    Ok(())
}

pub fn wants(configuration: &ImageConfiguration) -> Result<Vec<Dependency>, Failure> {
    configuration.contents.packages.iter().map(|want| want.value.parse()).collect::<Result<_, _>>().or_bad()
}

/// `NAME=VERSION` for the host's architecture, or else for the first one.
fn chosen(
    file: &Path,
    configuration: &ImageConfiguration,
    repositories: &[(Architecture, Repositories)],
) -> Result<Vec<String>, Failure> {
    let wants = wants(configuration)?;
    let architectures: Vec<Architecture> = repositories.iter().map(|(architecture, _)| *architecture).collect();
    let bases = Bases::open(configuration, file, &architectures)?;
    let universes = bases.universes(repositories)?;
    let host = Architecture::host();
    let shown = universes.iter().find(|universe| Some(universe.architecture()) == host).or(universes.first());
    let universe = shown.ok_or_else(|| Failure::bad("no architecture is named"))?;
    let solution = bases.solved(universe, &file.display().to_string(), &wants)?;
    Ok(solution.packages().map(|selected| format!("{}={}", selected.entry.name(), selected.entry.version())).collect())
}

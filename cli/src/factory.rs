use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use apk::Architecture;
use ports::local::{Database, FileBlobs, Home, HomeLock};
use ports::{Clock, FixedClock, SystemClock};
use sandbox::Bubblewrap;
use serde::Deserialize;
use stage::rules::retention::Retention;
use stage::{Catalog, Context, FolderRepository, LocalBuilder, Settings};
use upstream::{EndpointSettings, Endpoints, Surroundings, Upstreams};

use crate::arguments::Global;
use crate::keys::Keys;
use crate::leftovers;
use crate::output::{Failure, OrFail};
use crate::progress::Bars;
use crate::registries::RegistrySettings;
use crate::signing::Signing;

/// `mill.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Configuration {
    /// Addresses of registries; what is not set is taken from the standard clients' own configuration.
    pub endpoints: EndpointSettings,
    /// Architectures to build; when not set, those that this machine can build and run.
    pub architectures: Option<Vec<Architecture>>,
    /// How images are signed.
    pub signing: Signing,
    /// How other registries are reached, and what this one allows.
    pub registry: RegistrySettings,
    /// What packages must have to be published.
    pub packages: PackagePolicy,
    /// Which digests are kept beyond what tags need; all when it is not set.
    pub retention: Option<Retention>,
    /// How sources must be proved.
    pub authenticity: Authenticity,
}

/// `[packages]` of `mill.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PackagePolicy {
    /// Publish only what a test of its own has passed.
    pub require_tests: bool,
}

/// `[authenticity]` of `mill.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Authenticity {
    /// What does for packages without a policy file: `pinned` (a stated digest, or the proof of the source's
    /// ecosystem) or `ecosystem` (that proof alone).
    pub default: stage::DefaultPolicy,
}

/// A factory in this process.
pub struct Factory {
    /// What the stages work with.
    pub context: Arc<Context>,
    /// The home's folders.
    pub home: Home,
    /// State and queue, for what only their owner may do.
    pub database: Database,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The configuration: `mill.toml` in the home, else in the working folder, under the `MINIMILL_*` variables.
pub fn configuration(home: &Path) -> Result<Configuration, Failure> {
    let found = [home.join("mill.toml"), "mill.toml".into()].into_iter().find(|path| path.is_file());
    let mut configuration = match found {
        None => Configuration::default(),
        Some(path) => {
            let text = fs::read_to_string(&path)
                .map_err(|error| Failure::environment(format!("read `{}`: {error}", path.display())))?;
            toml::from_str(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?
        }
    };
    configuration.endpoints = configuration.endpoints.overridden_by(variable);
    if let Some(text) = variable("MINIMILL_ARCHITECTURES") {
        let names = text.split([',', ' ']).filter(|name| !name.is_empty());
        let parsed = names.map(str::parse).collect::<Result<Vec<Architecture>, _>>();
        configuration.architectures =
            Some(parsed.map_err(|error| Failure::usage(format!("MINIMILL_ARCHITECTURES: {error}")))?);
    }
    Ok(configuration)
}

/// The time: `MINIMILL_NOW` (RFC 3339) for rebuilding a past day, else the system's.
pub fn clock() -> Result<Arc<dyn Clock>, Failure> {
    match variable("MINIMILL_NOW") {
        None => Ok(Arc::new(SystemClock)),
        Some(text) => {
            let time = text.parse().map_err(|error| Failure::usage(format!("MINIMILL_NOW `{text}`: {error}")))?;
            Ok(Arc::new(FixedClock(time)))
        }
    }
}

/// The name that stands for a compiler in the bootstrap.
const TOOL_CHAIN: &str = "build-base";

/// The architectures to build, and those that are left out, each with the reason. What is asked
/// for by name must work; else what does not work here is left out.
fn architectures(
    catalog: &Catalog,
    asked: Option<&[Architecture]>,
) -> Result<(Vec<Architecture>, BTreeMap<Architecture, String>), Failure> {
    let mut built = Vec::new();
    let mut left_out = BTreeMap::new();
    for architecture in Architecture::ALL {
        if asked.is_some_and(|asked| !asked.contains(&architecture)) {
            left_out.insert(architecture, "it is not among the `architectures` of mill.toml".to_owned());
            continue;
        }
        match usable(catalog, architecture) {
            Ok(()) => built.push(architecture),
            Err(reason) if asked.is_some() => {
                return Err(Failure::environment(format!("{architecture} can't be built here: {reason}")));
            }
            Err(reason) => {
                left_out.insert(architecture, reason);
            }
        }
    }
    if built.is_empty() {
        return Err(Failure::environment(
            "there is no architecture to build; name one in `architectures` of mill.toml",
        ));
    }
    Ok((built, left_out))
}

fn usable(catalog: &Catalog, architecture: Architecture) -> Result<(), String> {
    sandbox::machine_for(architecture.apk())?;
    let tools = [TOOL_CHAIN.to_owned()];
    if Architecture::host() != Some(architecture) && catalog.bootstrap.provides(TOOL_CHAIN) {
        let missing = catalog.bootstrap.missing(&tools, architecture.apk());
        if !missing.is_empty() {
            return Err(missing.join("; "));
        }
    }
    Ok(())
}

/// `SOURCE_DATE_EPOCH`, in seconds since 1970.
pub fn source_date_epoch() -> Result<Option<i64>, Failure> {
    variable("SOURCE_DATE_EPOCH")
        .map(|text| {
            text.parse().map_err(|_| Failure::usage(format!("SOURCE_DATE_EPOCH `{text}` is not a number of seconds")))
        })
        .transpose()
}

impl Factory {
    /// Opens the home and the catalog, and makes the keys at first use.
    pub async fn open(global: &Global) -> Result<Self, Failure> {
        Self::open_for(global, None).await
    }

    /// The same, to build one package definition and what it builds with only.
    pub async fn open_for(global: &Global, focus: Option<&str>) -> Result<Self, Failure> {
        let home = Home::open(&global.home).or_environment()?;
        let configuration = configuration(home.root())?;
        let catalog = Catalog::load(&global.catalog).or_bad()?;
        let (architectures, left_out) = architectures(&catalog, configuration.architectures.as_deref())?;
        let clock = clock()?;
        // Leases and lock files count real time also when the factory works on a past day.
        let database = Database::open(&home.path("state.sqlite"), Arc::new(SystemClock)).or_environment()?;
        let keys = home.folder("keys").or_environment()?;
        let signers = configuration.signing.signers(&Keys::open(&keys)?, variable).await?;
        let working_folder = std::env::current_dir().or_environment()?;
        let endpoints = Endpoints::new(configuration.endpoints, Surroundings::of_machine(variable, working_folder));
        let upstreams =
            Upstreams::new(endpoints, &home.path("cache"), upstream::Options::default()).or_environment()?;
        let (work, logs) = (home.folder("work").or_environment()?, home.folder("logs").or_environment()?);
        let registry = configuration.registry.published(&home).await?;
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        let bubblewrap = Bubblewrap::find(&search_path, &work).or_environment()?;
        let containers = verify::Containers::find(&search_path, &work).await.or_environment()?;
        let context = Context {
            state: Arc::new(database.clone()),
            queue: Arc::new(database.clone()),
            blobs: Arc::new(FileBlobs::new(home.folder("blobs").or_environment()?)),
            clock,
            catalog,
            upstreams,
            jobs: None,
            builder: Arc::new(LocalBuilder::new(bubblewrap, work.clone(), logs)),
            containers,
            repository: Arc::new(FolderRepository::new(home.folder("apk").or_environment()?)),
            registry,
            package_key: Some(signers.package),
            attestor: Some(signers.attestor),
            stopping: Arc::default(),
            caches: stage::Caches::default(),
            progress: Arc::new(Bars::new()),
            settings: Settings {
                left_out,
                source_date_epoch: source_date_epoch()?,
                legacy_signatures: configuration.signing.legacy_tags,
                retention: configuration.retention,
                require_tests: configuration.packages.require_tests,
                focus: focus.map(str::to_owned),
                // What runs, even when its file has been replaced meanwhile.
                program: Some("/proc/self/exe".into()),
                authenticity: configuration.authenticity.default,
                search_path,
                layer_cache: Some(home.folder("cache/layers").or_environment()?),
                ..Settings::new(architectures, work)
            },
        };
        Ok(Self { context: Arc::new(context), home, database })
    }

    /// Takes the sole right to work in this home, and clears what a process that died has left.
    pub async fn lock(&self) -> Result<HomeLock, Failure> {
        let lock = self.home.lock().or_environment()?;
        self.database.end_leases().await.or_environment()?;
        leftovers::remove(self.home.root()).map_err(Failure::environment)?;
        Ok(lock)
    }
}

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use apk::Architecture;
use ports::Digest;
use recipe::{AuthenticityPolicy, ImageDefinition, InstallIf, PackageDefinition, Pipelines, Text, VexFile, VexProduct};
use sandbox::Bootstrap;

use crate::catalog_files::{CatalogFile, MAXIMUM_FOLDER_DEPTH, files, folder_digest};
use crate::watch_file::WatchFile;
use crate::{chain, shared};

const MAXIMUM_DEFINITION_BYTES: u64 = 1 << 20;

/// The definitions that a factory builds: `packages/NAME.yaml`, `watch/NAME.yaml`,
/// `install-if/NAME.yaml`, `images/NAME/`, `authenticity/NAME.yaml`, `vex/NAME.yaml`, `compliance.yaml`,
/// `pipelines/` and `bootstrap/` of one folder.
#[derive(Debug)]
pub struct Catalog {
    root: PathBuf,
    /// Package definitions by name.
    pub packages: BTreeMap<String, PackageSource>,
    /// Image definitions by name.
    pub images: BTreeMap<String, ImageSource>,
    /// How the sources of packages must be proved, by name; most have no policy of their own.
    pub authenticity: BTreeMap<String, AuthenticityPolicy>,
    /// What people have found out about vulnerabilities, by file.
    pub vex: Vec<VexFile>,
    /// What is asked of every image: `compliance.yaml`.
    pub policy: verify::Policy,
    /// The built-in pipelines and the catalog's own.
    pub pipelines: Pipelines,
    /// What the host's tool chain stands in for.
    pub bootstrap: Bootstrap,
    bootstrap_files: Vec<CatalogFile>,
    /// Definitions that can't be used, and why. The others are built all the same.
    pub problems: Vec<Problem>,
    shared_outputs: OnceLock<BTreeMap<String, String>>,
}

/// A definition that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The definition's name.
    pub name: String,
    /// The file, and the line where one is known.
    pub file: String,
    /// Line, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub error: String,
}

/// A package definition and the folder of files beside it.
#[derive(Clone, Debug)]
pub struct PackageSource {
    /// The definition as the catalog has it.
    pub definition: PackageDefinition,
    /// `packages/NAME/`, whose files are put into the build's workspace.
    pub folder: Option<PathBuf>,
    /// Digest of the folder's content.
    pub folder_digest: Option<Digest>,
    /// `watch/NAME.yaml`, or what is wrong with it.
    pub watch: Option<Result<WatchFile, String>>,
    /// `install-if/NAME.yaml`.
    pub install_if: Option<InstallIf>,
}

/// An image's folder.
#[derive(Clone, Debug)]
pub struct ImageSource {
    /// `images/NAME/`.
    pub folder: PathBuf,
    /// `image.yaml`.
    pub definition: ImageDefinition,
    /// Text of `apko.yaml`, `${version}` included.
    pub configuration: String,
    /// `waivers.yaml`: findings that are let pass.
    pub waivers: verify::Waivers,
    /// Digest of the whole folder: definition, tests and waivers.
    pub digest: Digest,
}

/// The catalog as a whole can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A file can't be read.
    #[error("read `{}`: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A pipeline of the catalog is wrong.
    #[error(transparent)]
    Pipeline(#[from] recipe::Error),
    /// `bootstrap.yaml` is wrong.
    #[error(transparent)]
    Bootstrap(#[from] sandbox::Error),
    /// A file or folder is larger than a definition may be.
    #[error("`{}` has more than {limit} bytes or more than {MAXIMUM_FOLDER_DEPTH} levels of folders", path.display())]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
    /// `compliance.yaml` is wrong; no image can be judged without it.
    #[error(transparent)]
    Policy(#[from] verify::Error),
    /// `bootstrap.yaml` lists a file that is not there.
    #[error("bootstrap/bootstrap.yaml: `files` lists `{0}`, and `bootstrap/` has no such file or folder")]
    BootstrapFile(String),
    /// Neither `packages/` nor `images/` is there.
    #[error("`{}` is no catalog: it has neither a `packages` nor an `images` folder", .0.display())]
    Empty(PathBuf),
}

pub(crate) type Result<T, E = CatalogError> = std::result::Result<T, E>;

impl Catalog {
    /// Reads a catalog folder.
    ///
    /// # Errors
    /// When the folder, its pipelines or its bootstrap can't be read. A definition that is wrong
    /// becomes a [`Problem`] instead.
    pub fn load(root: &Path) -> Result<Self> {
        let root = fs::canonicalize(root).map_err(|source| CatalogError::File { path: root.to_owned(), source })?;
        let (package_folder, image_folder) = (root.join("packages"), root.join("images"));
        if !package_folder.is_dir() && !image_folder.is_dir() {
            return Err(CatalogError::Empty(root));
        }
        let mut pipelines = Pipelines::built_in()?;
        let own = root.join("pipelines");
        if own.is_dir() {
            pipelines.add_directory(&own)?;
        }
        let bootstrap_file = root.join("bootstrap/bootstrap.yaml");
        let bootstrap = if bootstrap_file.is_file() { Bootstrap::load(&bootstrap_file)? } else { Bootstrap::default() };
        let bootstrap_files = bootstrap_files(&root.join("bootstrap"), &bootstrap)?;
        let mut catalog = Self {
            packages: BTreeMap::new(),
            images: BTreeMap::new(),
            authenticity: BTreeMap::new(),
            vex: Vec::new(),
            policy: policy(&root)?,
            pipelines,
            bootstrap,
            bootstrap_files,
            problems: Vec::new(),
            shared_outputs: OnceLock::new(),
            root,
        };
        catalog.load_packages(&package_folder)?;
        catalog.load_images(&image_folder)?;
        catalog.load_authenticity(&catalog.root.join("authenticity"))?;
        catalog.load_vex(&catalog.root.join("vex"))?;
        Ok(catalog)
    }

    /// The catalog's folder, without links on its way.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder seen as `/opt/minimill` in builds.
    pub fn bootstrap_folder(&self) -> PathBuf {
        self.root.join("bootstrap")
    }

    /// The files of that folder that a build with these wants uses: those that the wants list in
    /// `bootstrap.yaml`, and those that nothing lists. Paths within the folder, a to z.
    pub(crate) fn bootstrap_files(&self, wants: &[String], architecture: Architecture) -> Vec<&CatalogFile> {
        let (used, listed) = (self.bootstrap.files(wants, architecture.apk()), self.bootstrap.listed_files());
        let is_used = |file: &&CatalogFile| {
            used.iter().any(|place| file.is_at(place)) || !listed.iter().any(|place| file.is_at(place))
        };
        self.bootstrap_files.iter().filter(is_used).collect()
    }

    /// The keys that authenticity policies name.
    pub fn key_folder(&self) -> PathBuf {
        self.root.join("authenticity/keys")
    }

    /// Vulnerability records that the catalog ships.
    pub fn feed_folder(&self) -> PathBuf {
        self.root.join("feed")
    }

    /// The file of a package definition.
    pub fn definition_file(&self, definition: &PackageDefinition) -> PathBuf {
        self.root.join(&definition.file)
    }

    /// The names of packages that definitions with `update.shared` make, with those definitions;
    /// found when first asked for.
    pub(crate) fn shared_outputs(&self, architecture: Architecture) -> &BTreeMap<String, String> {
        self.shared_outputs.get_or_init(|| shared::outputs(self, architecture))
    }

    fn load_packages(&mut self, folder: &Path) -> Result<()> {
        for path in entries(folder)? {
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let label = self.label(&path);
            let text = text(&path)?;
            match PackageDefinition::parse(&text, &label) {
                Ok(definition) => {
                    let files = path.with_extension("");
                    let folder = files.is_dir().then_some(files);
                    let folder_digest = folder.as_deref().map(folder_digest).transpose()?;
                    let name = definition.package.name.value.clone();
                    let watch = self.watch_file(&name)?;
                    match self.install_if(&name)? {
                        Ok(install_if) => {
                            let source = PackageSource { definition, folder, folder_digest, watch, install_if };
                            self.packages.insert(name, source);
                        }
                        // It would be made without what its file says.
                        Err((file, error)) => self.problem(name, file, &error),
                    }
                }
                Err(error) => self.problem(stem(&path), label, &error),
            }
        }
        Ok(())
    }

    /// Reads the policies. A package whose policy is wrong can't be built: it is taken out, since
    /// without the policy it would be built unproved.
    fn load_authenticity(&mut self, folder: &Path) -> Result<()> {
        for path in entries(folder)? {
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let (name, label) = (stem(&path), self.label(&path));
            let refused = match AuthenticityPolicy::parse(&text(&path)?, &label) {
                Err(error) => Some((error.location().map(|location| location.line), chain(&error))),
                Ok(policy) => {
                    let files = policy.proofs.iter().flat_map(recipe::Proof::key_files);
                    let absent = files.into_iter().find(|file| !self.key_folder().join(file.as_str()).is_file());
                    let absent = absent.map(|file| {
                        let reason = format!("no key file `authenticity/keys/{file}`");
                        (Some(file.position.line), reason)
                    });
                    if absent.is_none() && !self.packages.contains_key(&name) {
                        Some((None, format!("it is about `{name}`, which is no usable package of the catalog")))
                    } else {
                        self.authenticity.insert(name.clone(), policy);
                        absent
                    }
                }
            };
            if let Some((line, error)) = refused {
                self.packages.remove(&name);
                self.problems.push(Problem { name, file: label, line, error });
            }
        }
        Ok(())
    }

    /// Reads the statements about vulnerabilities. Those of a file that is wrong are not used, so what they are
    /// about is scanned without them.
    fn load_vex(&mut self, folder: &Path) -> Result<()> {
        for path in entries(folder)? {
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let (name, label) = (stem(&path), self.label(&path));
            let file = match VexFile::parse(&text(&path)?, &label) {
                Ok(file) => file,
                Err(error) => {
                    self.problem(name, label, &error);
                    continue;
                }
            };
            let unknown = |kind: &'static str, name: &Text, known: Vec<&str>| {
                let is_unknown = !known.contains(&name.as_str());
                is_unknown.then(|| {
                    let near = recipe::nearest(name, known).into_iter().next();
                    let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    (name.position.line, format!("the catalog has no usable {kind} `{name}`{hint}"))
                })
            };
            let packages = || self.packages.keys().map(String::as_str).collect();
            let images = || self.images.keys().map(String::as_str).collect();
            let of_product = match &file.product {
                VexProduct::Package(name) => unknown("package", name, packages()),
                VexProduct::Image(name) => unknown("image", name, images()),
            };
            let mut named = file.statements.iter().flat_map(|statement| &statement.images);
            match of_product.or_else(|| named.find_map(|name| unknown("image", name, images()))) {
                None => self.vex.push(file),
                Some((line, error)) => self.problems.push(Problem { name, file: label, line: Some(line), error }),
            }
        }
        Ok(())
    }

    fn watch_file(&self, name: &str) -> Result<Option<Result<WatchFile, String>>> {
        let path = self.root.join("watch").join(format!("{name}.yaml"));
        if !path.is_file() {
            return Ok(None);
        }
        Ok(Some(WatchFile::parse(&text(&path)?, Path::new(&self.label(&path)))))
    }

    /// Reads `install-if/NAME.yaml` of a definition; the file's name and what is wrong with it otherwise.
    fn install_if(&self, name: &str) -> Result<Result<Option<InstallIf>, (String, recipe::Error)>> {
        let path = self.root.join("install-if").join(format!("{name}.yaml"));
        if !path.is_file() {
            return Ok(Ok(None));
        }
        let label = self.label(&path);
        Ok(InstallIf::parse(&text(&path)?, &label).map(Some).map_err(|error| (label, error)))
    }

    fn load_images(&mut self, folder: &Path) -> Result<()> {
        for path in entries(folder)? {
            if !path.is_dir() {
                continue;
            }
            let file = path.join("image.yaml");
            let label = self.label(&file);
            let digest = folder_digest(&path)?;
            let configuration = text(&path.join("apko.yaml"))?;
            let waivers = match self.waivers(&path.join("waivers.yaml"))? {
                Ok(waivers) => waivers,
                // Without them the image would be refused, for another reason than this.
                Err(problem) => {
                    self.problems.push(Problem { name: stem(&path), ..problem });
                    continue;
                }
            };
            match ImageDefinition::parse(&text(&file)?, &label) {
                Ok(definition) => {
                    let source = ImageSource { folder: path.clone(), definition, configuration, waivers, digest };
                    self.images.insert(stem(&path), source);
                }
                Err(error) => self.problem(stem(&path), label, &error),
            }
        }
        Ok(())
    }

    /// Reads the waivers of an image, which may have none; what is wrong with the file otherwise.
    fn waivers(&self, file: &Path) -> Result<Result<verify::Waivers, Problem>> {
        if !file.is_file() {
            return Ok(Ok(verify::Waivers::default()));
        }
        let label = self.label(file);
        Ok(verify::Waivers::parse(&text(file)?, &label).map_err(|error| {
            let line = match &error {
                verify::Error::Document { line, .. } => usize::try_from(*line).ok().filter(|line| *line > 0),
                _ => None,
            };
            Problem { name: String::new(), file: label, line, error: chain(&error) }
        }))
    }

    fn label(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    fn problem(&mut self, name: String, file: String, error: &recipe::Error) {
        let line = error.location().map(|location| location.line);
        self.problems.push(Problem { name, file, line, error: chain(error) });
    }
}

/// What is asked of every image.
fn policy(root: &Path) -> Result<verify::Policy> {
    let file = root.join("compliance.yaml");
    let policy = if file.is_file() {
        verify::Policy::parse(&text(&file)?, "compliance.yaml")
    } else {
        verify::Policy::standard()
    };
    Ok(policy?)
}

/// The compiler wrappers and what else builds see as `/opt/minimill`.
fn bootstrap_files(folder: &Path, bootstrap: &Bootstrap) -> Result<Vec<CatalogFile>> {
    let mut found = if folder.is_dir() { files(folder)? } else { Vec::new() };
    found.retain(|file| file.path != "bootstrap.yaml");
    match bootstrap.listed_files().into_iter().find(|place| !found.iter().any(|file| file.is_at(place))) {
        Some(absent) => Err(CatalogError::BootstrapFile(absent.to_owned())),
        None => Ok(found),
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |source| CatalogError::File { path: folder.to_owned(), source };
    let mut paths = fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn text(path: &Path) -> Result<String> {
    let failed = |source| CatalogError::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAXIMUM_DEFINITION_BYTES {
        return Err(CatalogError::TooLarge { path: path.to_owned(), limit: MAXIMUM_DEFINITION_BYTES });
    }
    fs::read_to_string(path).map_err(failed)
}

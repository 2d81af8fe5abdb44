use std::io;
use std::path::PathBuf;

/// An image can't be composed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A package can't be read.
    #[error(transparent)]
    Package(#[from] apk::Error),
    /// A package is not the one that was chosen.
    #[error("`{file}` has checksum {found}, expected {expected}: fetch it again")]
    OtherPackage {
        /// The package's file name, and where it lies.
        file: String,
        /// The checksum of the index entry, `Q1...`.
        expected: String,
        /// The checksum of the file, `Q1...`.
        found: String,
    },
    /// A package is for another architecture.
    #[error("package `{package}` is for `{found}`, the image for `{expected}`")]
    Architecture {
        /// Name and version.
        package: String,
        /// The package's architecture.
        found: String,
        /// The image's architecture.
        expected: String,
    },
    /// The layout of a base image is not one that can be built on.
    #[error("base image `{}`: {problem}", layout.display())]
    Base {
        /// Its folder.
        layout: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A blob of a base image is not what its digest and size say.
    #[error("base image `{}`: its {what} has the digest {found}, expected {expected}: fetch it again", layout.display())]
    BaseDigest {
        /// Its folder.
        layout: PathBuf,
        /// `index`, `manifest`, `configuration`, `layer` or `uncompressed layer`.
        what: &'static str,
        /// The digest that refers to it.
        expected: String,
        /// Its own digest, and how large it is.
        found: String,
    },
    /// A base image is not there for the architecture.
    #[error("base image `{}` is not there for linux/{expected}; it has: {}", layout.display(), listed(.found))]
    BasePlatform {
        /// Its folder.
        layout: PathBuf,
        /// OCI name of the architecture.
        expected: String,
        /// The platforms that it has.
        found: Vec<String>,
    },
    /// A layer of a base image can't be built on.
    #[error("base image `{}`: {}layer {layer}: {problem}", layout.display(), within(.path))]
    BaseLayer {
        /// Its folder.
        layout: PathBuf,
        /// Digest of the layer.
        layer: String,
        /// The path in the layer, empty where the layer as a whole is wrong.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The list of a base image's packages can't be used.
    #[error("packages of the base image in `{}`: {problem}", file.display())]
    BaseIndex {
        /// The list.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A package holds a file that the base image has and no package of it owns.
    #[error("`/{path}` is in the base image, where no package owns it, and in `{package}`: take it out of one of them")]
    BaseConflict {
        /// The path, without its leading `/`.
        path: String,
        /// Name and version of the package.
        package: String,
    },
    /// Two packages hold the same path.
    #[error("`/{path}` is in both `{first}` and `{second}`: let one `replaces` the other, or take only one")]
    Conflict {
        /// The path, without its leading `/`.
        path: String,
        /// Name and version of the package that is installed first.
        first: String,
        /// Name and version of the package that is installed later.
        second: String,
    },
    /// One package is to be installed twice.
    #[error("`{first}` and `{second}` are the same package: install one of them")]
    Twice {
        /// Name and version of the one that comes first.
        first: String,
        /// Name and version of the other.
        second: String,
    },
    /// What a package says it replaces can't be read.
    #[error("package `{package}` replaces `{value}`: {reason}")]
    Replaces {
        /// Name and version.
        package: String,
        /// The text of its `replaces`.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path of a package can't be placed.
    #[error("`/{path}` of package `{package}`: {problem}")]
    Placement {
        /// The path, without its leading `/`.
        path: String,
        /// Name and version.
        package: String,
        /// Why not.
        problem: String,
    },
    /// A path that the settings name can't be placed or changed.
    #[error("{setting} `{path}`: {problem}")]
    Path {
        /// Where the path comes from, for example `paths: directory`.
        setting: String,
        /// The path as written.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of a package that composing has to read is not as expected.
    #[error("`/{path}` of package `{package}`: {problem}")]
    Content {
        /// The path, without its leading `/`.
        path: String,
        /// Name and version.
        package: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An account can't be added.
    #[error("account `{account}`: {problem}")]
    Account {
        /// User or group name.
        account: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting has a value that an image can't have.
    #[error("`{setting}` can't be `{value}`: {problem}")]
    Setting {
        /// The setting's name in the image definition.
        setting: &'static str,
        /// The value.
        value: String,
        /// Why not.
        problem: String,
    },
    /// A setting asks for what is not built yet.
    #[error("`{setting}` is not supported: {advice}")]
    Unsupported {
        /// The setting's name in the image definition.
        setting: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// A lock file can't be used.
    #[error("lock file `{file}`: {problem}")]
    Lock {
        /// The file.
        file: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A document can't be made.
    #[error("the {document} can't be made: {reason}")]
    Document {
        /// `configuration`, `manifest`, `index`, `descriptor` or `lock`.
        document: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Writing a blob failed.
    #[error("writing {what}")]
    Write {
        /// `layer`, `configuration`, `manifest`, `index` or a path.
        what: String,
        /// What the sink or the file system said.
        #[source]
        source: io::Error,
    },
    /// The directory to unpack into is not empty.
    #[error("`{0}` is not empty: a root is unpacked into an empty directory")]
    NotEmpty(PathBuf),
}

fn listed(platforms: &[String]) -> String {
    if platforms.is_empty() { "no image".to_owned() } else { platforms.join(", ") }
}

fn within(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("`/{path}` in ") }
}

impl Error {
    /// A failure to write `what`.
    pub(crate) fn write(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Write { what, source }
    }
}

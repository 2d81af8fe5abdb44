use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use recipe::LayerCompression;

use crate::output::Format;

/// A factory for minimal, hardened container images.
#[derive(Debug, Parser)]
#[command(name = "mill", version, about)]
pub struct Arguments {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Folder that holds everything the factory knows.
    #[arg(long, global = true, default_value = ".mill", value_name = "DIR")]
    pub home: PathBuf,
    /// Folder of package and image definitions.
    #[arg(long, global = true, default_value = "catalog", value_name = "DIR")]
    pub catalog: PathBuf,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub format: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One whole day now: check upstreams, build what is due, plan, build, test and publish images, scan
    Cycle,
    /// The schedules for ever, and what `serve` serves; drains on SIGTERM
    Run {
        /// Address to serve on.
        #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDR")]
        listen: SocketAddr,
    },
    /// Serve the OCI registry (`/v2/`) and the apk repository (`/apk/`)
    Serve {
        /// Address to serve on.
        #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDR")]
        listen: SocketAddr,
        /// Accept pushes to the registry.
        #[arg(long)]
        writable: bool,
    },
    /// Check definitions, or show their build order
    #[command(subcommand)]
    Catalog(Catalog),
    /// What upstream offers
    #[command(subcommand)]
    Upstream(Upstream),
    /// Build packages
    #[command(subcommand)]
    Package(Package),
    /// apk format tools
    #[command(subcommand)]
    Apk(Apk),
    /// Plan, solve, build, test and list images
    #[command(subcommand)]
    Image(Image),
    /// Verify an image's signature, SBOM attestation and provenance
    Verify(Verify),
    /// Build and test jobs as files, for machines without a home
    #[command(subcommand)]
    Job(Job),
    /// This home's signing keys
    #[command(subcommand)]
    Key(Key),
    /// Vulnerability records
    #[command(subcommand)]
    Feed(Feed),
    /// Match the published images with the vulnerability records
    Scan {
        /// Image name; all when not given.
        image: Option<String>,
    },
}

/// `mill verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// `NAME:TAG` or `NAME@sha256:HEX` of this home, or with a registry's address before it, or
    /// `oci:FOLDER[:TAG]`.
    pub image: String,
    /// PEM file of a trusted public key; by default this home's, the rotated ones among them.
    #[arg(long, value_name = "PUB", conflicts_with_all = ["identity", "issuer", "trusted_root"])]
    pub key: Vec<PathBuf>,
    /// Trusted identity (e-mail address or URI) in place of a key.
    #[arg(long, requires_all = ["issuer", "trusted_root"])]
    pub identity: Option<String>,
    /// Who vouches for the identity.
    #[arg(long, value_name = "URL", requires = "identity")]
    pub issuer: Option<String>,
    /// sigstore `trusted_root.json`: which authorities and logs count.
    #[arg(long, value_name = "FILE", requires = "identity")]
    pub trusted_root: Option<PathBuf>,
}

/// `mill job`.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Run the job in a tar file and write its answer, which says when the build or a test failed
    Run {
        /// The job: the tar file that a factory handed in.
        input: PathBuf,
        /// Where the answer goes, a tar file.
        output: PathBuf,
    },
}

/// `mill key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Every key and the time in which it signed
    List,
    /// Make a new key; the old one stays trusted
    Rotate {
        /// What the key is for.
        #[arg(value_enum)]
        used_for: KeyUse,
    },
}

/// What a key is for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum KeyUse {
    /// Images and attestations.
    Image,
    /// Packages and indexes.
    Package,
}

/// `mill feed`.
#[derive(Debug, Subcommand)]
pub enum Feed {
    /// Import OSV records from a folder or file
    Import {
        /// Folder of `.json` and `.yaml` files, or one such file.
        path: PathBuf,
    },
}

/// `mill catalog`.
#[derive(Debug, Subcommand)]
pub enum Catalog {
    /// Parse and validate every definition
    Check {
        /// Folder of package definitions, in place of the catalog's.
        #[arg(long, value_name = "DIR")]
        packages: Option<PathBuf>,
        /// Folder of image definitions, in place of the catalog's.
        #[arg(long, value_name = "DIR")]
        images: Option<PathBuf>,
        /// Folders of further pipelines.
        #[arg(long, value_name = "DIR")]
        pipeline_dirs: Vec<PathBuf>,
        /// Fail on findings of severity warning or error too; by default only definitions that can't be built fail.
        #[arg(long)]
        deny_warnings: bool,
    },
    /// Build order of the packages
    Graph {
        /// Folder of package definitions, in place of the catalog's.
        #[arg(long, value_name = "DIR")]
        packages: Option<PathBuf>,
        /// Folders of further pipelines.
        #[arg(long, value_name = "DIR")]
        pipeline_dirs: Vec<PathBuf>,
    },
}

/// `mill upstream`.
#[derive(Debug, Subcommand)]
pub enum Upstream {
    /// Newest release per package, and why each candidate was taken or passed over
    Check {
        /// Package definitions, whatever their schedules say; all whose schedule has come when none is given.
        names: Vec<String>,
    },
    /// Print a definition with the newest release's version and checksum in place
    Update {
        /// Package definition.
        name: String,
        /// Write it into the catalog's file.
        #[arg(long)]
        write: bool,
    },
    /// Take a release that has become another than it was when it was first seen
    Accept {
        /// Package definition.
        name: String,
        /// Version, or the release's name upstream.
        version: String,
    },
}

/// `mill package`.
#[derive(Debug, Subcommand)]
pub enum Package {
    /// Build and publish a package and what it builds with
    Build {
        /// Package definition.
        name: String,
        /// Then build it again in other surroundings, and compare: exit code 1 when a byte differs.
        #[arg(long)]
        check_reproducible: bool,
    },
    /// Run the test pipelines of the packages that a definition makes, as they are published
    Test {
        /// Package definition.
        name: String,
    },
    /// Every published version of every definition
    List,
    /// The published versions of a definition: packages, lint warnings, test results, withdrawals
    Show {
        /// Package definition.
        name: String,
    },
    /// Take a bad version out of the index and plan the images that hold it; its files and records stay
    Withdraw {
        /// Package definition and full version, such as `hello=1.1.0-r0`: all its packages go.
        #[arg(value_name = "NAME=VERSION")]
        version: String,
        /// Why, for whoever meets the version later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// `mill apk`.
#[derive(Debug, Subcommand)]
pub enum Apk {
    /// Read `A B` per line; print `<`, `=`, `>` or `invalid` per line
    Compare,
    /// Check a package or index: structure, digests, signature
    Verify {
        /// `.apk` or `APKINDEX.tar.gz`.
        file: PathBuf,
        /// Public key files, named as in `/etc/apk/keys`.
        #[arg(long, required = true, num_args = 1.., value_name = "PUB")]
        key: Vec<PathBuf>,
    },
    /// Show what a package says of itself and the files it holds
    Show {
        /// `.apk` file.
        file: PathBuf,
    },
    /// Run the package linters over finished packages
    Lint {
        /// `.apk` files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Run also these linters, which are off by default.
        #[arg(long, value_name = "LINTER")]
        with: Vec<String>,
        /// Do not run these linters.
        #[arg(long, value_name = "LINTER")]
        without: Vec<String>,
    },
    /// Write `DIR/APKINDEX.tar.gz` over the packages in a folder
    Index {
        /// Folder of `.apk` files of one architecture.
        folder: PathBuf,
        /// Private key (PEM) that signs the index.
        #[arg(long, value_name = "KEY")]
        key: PathBuf,
    },
}

/// `mill image`.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Say why each stream is or is not due
    Plan,
    /// Print `NAME=VERSION` of the packages that an image definition gets
    Solve(Solve),
    /// Build an image of the catalog, or of an apko YAML file, as an OCI layout
    Build {
        /// Image name, or a file whose name ends in `.yaml`.
        name: String,
        /// Folder for the OCI layout.
        #[arg(long, value_name = "DIR", default_value = "image")]
        output: PathBuf,
        /// Of a file, its lock: exactly these packages, and none if the file has changed since.
        #[arg(long, value_name = "FILE")]
        lockfile: Option<PathBuf>,
        /// Folder for SPDX documents: `sbom-ARCH.spdx.json`, and `sbom-index.spdx.json` of the index.
        #[arg(long, value_name = "DIR")]
        sbom_path: Option<PathBuf>,
        /// How layers are compressed: `gzip` or `zstd`; by default as the catalog says, or gzip.
        #[arg(long, value_name = "HOW")]
        compression: Option<LayerCompression>,
        /// Of a file, where its packages come from.
        #[command(flatten)]
        repositories: RepositoryArguments,
    },
    /// Write which package files an apko YAML file gets now, in the format of apko's lock files
    Lock(LockImage),
    /// Run the test suites of a catalog image on what was built; 1 when a check fails or can't be run
    Test(TestImage),
    /// Every published version
    List,
    /// Take digests out of the registry that `[retention]` of mill.toml lets go
    Prune {
        /// Only tell what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// Every move of an image's tags: when, from which digest to which, and why
    History {
        /// Image name.
        name: String,
        /// Only this tag.
        #[arg(long)]
        tag: Option<String>,
    },
}

/// `mill image solve`.
#[derive(Debug, Args)]
pub struct Solve {
    /// apko YAML file, or the name of a catalog image.
    pub file: PathBuf,
    /// Architecture; those under `archs`, or else the host's, when not given.
    #[arg(long, value_name = "A")]
    pub arch: Option<apk::Architecture>,
    /// Where its packages come from.
    #[command(flatten)]
    pub repositories: RepositoryArguments,
}

/// `mill image test`.
#[derive(Debug, Args)]
pub struct TestImage {
    /// `NAME`, whose newest builds are tested, or `NAME:TAG` or `NAME@sha256:HEX` of what is published.
    pub image: String,
    /// Write the results as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write what blocks as SARIF 2.1.0.
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
}

/// `mill image lock`.
#[derive(Debug, Args)]
pub struct LockImage {
    /// apko YAML file.
    pub file: PathBuf,
    /// The lock file; by default the YAML file's name with `.lock.json`.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where its packages come from.
    #[command(flatten)]
    pub repositories: RepositoryArguments,
}

/// Where the packages of an apko YAML file come from, beside what it names itself.
#[derive(Debug, Args)]
pub struct RepositoryArguments {
    /// A further repository: `[@tag ]PATH|URL`.
    #[arg(long, visible_alias = "repository", value_name = "REPOSITORY")]
    pub repository_append: Vec<String>,
    /// A further public key that may sign indexes: `PATH|URL`.
    #[arg(long, visible_alias = "keyring", value_name = "KEY")]
    pub keyring_append: Vec<String>,
    /// Use indexes whoever signs them.
    #[arg(long)]
    pub ignore_signatures: bool,
    /// Take everything from the cache, nothing from the network.
    #[arg(long)]
    pub offline: bool,
}

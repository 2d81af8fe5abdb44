//! Release providers, source fetch and authenticity checks.
//!
//! [`Upstreams`] answers two questions: is there a newer release than the one built
//! ([`Upstreams::check`]), and where are the proved bytes of a release ([`Upstreams::fetch`]).
//! Each ecosystem is a [`Provider`] with its own proof; [`filter::choose`] holds the rules that
//! they share.

mod cache;
mod crates;
mod debian;
mod direct;
mod endpoints;
mod error;
mod fetcher;
pub mod filter;
mod git_source;
mod hosts;
mod monitor;
mod mtime;
mod npm;
mod provider;
mod pypi;
mod rate_limit;
mod source;
mod store;
mod upstreams;

pub use crates::Crates;
pub use debian::{Debian, DebianOptions};
pub use direct::Direct;
pub use endpoints::{DebianArchive, EndpointSettings, Endpoints, Surroundings, Token};
pub use error::{Error, Result};
pub use fetcher::{Document, FetchOptions, Fetcher};
pub use filter::{Candidate, Chosen, Considered, Decision, Rules, Transform, Verdict, choose};
pub use git_source::{CherryPick, GitCheckout, GitDepth, GitReference, OwnTree};
pub use monitor::{
    GitAddress, GitHubListing, GitHubRepository, GitLabListing, GitLabProject, ImageRepository, Monitored, WebPage,
};
pub use mtime::source_date_epoch;
pub use npm::{Npm, NpmSignature, npm_signer};
pub use provider::{Context, Evidence, Obtained, Provider};
pub use pypi::Pypi;
pub use rate_limit::Lifted;
pub use source::{PackageUrl, SourceUri};
pub use store::BlobStore;
pub use upstreams::{Computed, Fetched, Options, Upstreams, Watch};

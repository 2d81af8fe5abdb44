//! OCI distribution: an embedded registry over OCI image layouts, its HTTP interface, and a client.
//!
//! A [`Layout`] is one repository as an OCI image layout on disk; [`Layouts`] are many under one
//! root. [`Layouts`] and [`Remote`] (a registry reached over HTTP) both are a [`Registry`], so
//! that [`copy`], [`attach`] and [`verify_image`] work on either. [`router`] serves [`Layouts`]
//! under `/v2/` (distribution spec 1.1).

mod attach;
mod copy;
mod error;
mod immutable;
mod layout;
mod layouts;
mod manifest;
mod name;
mod registry;
mod remote;
mod server;
mod verify;

pub use attach::{Attachment, attach, attach_simple_signature};
pub use copy::{CopyOptions, CopyReport, copy};
pub use error::{Error, Result};
pub use immutable::ImmutableTags;
pub use layout::{BlobReader, BlobWriter, Layout, PutManifest, TagRule};
pub use layouts::{Layouts, file_stream};
pub use manifest::{MAX_MANIFEST_BYTES, Manifest, ManifestFacts, canonical_json, digest_of, media_type};
pub use name::{Reference, Repository, Tag};
pub use oci_spec::image::Descriptor;
pub use registry::{Blob, ByteStream, Registry, bytes_stream};
pub use remote::{Credentials, DockerConfig, Provider, Remote, RemoteOptions, Retry};
pub use server::{RouterOptions, router};
pub use sign::Digest;
pub use verify::{ContentCheck, Expectations, Finding, ManifestReport, Outcome, Report, verify_image};

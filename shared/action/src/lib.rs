#![doc = include_str!("../README.md")]

mod backoff;
mod endpoint;
mod error;
mod filter;
mod network;
mod payload;
mod seal;
mod secret;

pub use backoff::{ATTEMPTS, delay};
pub use endpoint::{Endpoint, Host};
pub use error::Error;
pub use filter::{Filter, Globs, subject_name};
pub use network::{Reason, Rules};
pub use payload::{CONTENT_TYPE, Event, PAYLOAD_VERSION, body};
pub use seal::{Sealed, SealingKey};
pub use secret::Secret;

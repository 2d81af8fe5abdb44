//! State, blobs, queue and clock: what the stages need from the world, as traits, and their local
//! adapters over SQLite and files.
//!
//! A stage changes the world in one way: [`State::commit`] writes documents under conditions and
//! sends messages in the same transaction. Everything else is content-addressed and free to repeat.

mod blobs;
mod clock;
mod error;
mod jobs;
mod message;
mod state;

pub mod local;

pub use blobs::Blobs;
pub use clock::{Clock, FixedClock, SystemClock};
pub use error::PortError;
pub use jobs::{JobRun, Jobs};
pub use message::{Delivery, Envelope, Queue, Release};
pub use sign::{Digest, InvalidDigest};
pub use state::{Condition, Document, Key, Page, State, Transaction, Write};

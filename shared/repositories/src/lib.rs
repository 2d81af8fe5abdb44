//! apk repositories as image definitions name them: `[@tag ]PATH|URL`.
//!
//! [`Repositories::open_local`] opens folders without a runtime or a network; [`Repositories::open`]
//! also fetches indexes over HTTP, asking only whether they changed. [`Repositories::universe`] is
//! what [`solve::solve`] chooses from, and [`Repositories::package`] gets a chosen package's file,
//! checked against the index. An index is used only when a key of the keyring signs it, unless
//! [`Signatures::Ignored`] says otherwise.

mod error;
mod line;
mod open;
mod package;
mod trust;

pub use error::{Error, Result};
pub use line::{Location, RepositoryLine};
pub use open::{Repositories, Repository};
pub use trust::{KeySource, Signatures};

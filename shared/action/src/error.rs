use std::net::IpAddr;

use crate::Reason;

/// What is wrong with an action, or with where it leads.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pattern of names that is none.
    #[error("`{pattern}` is not a pattern: {reason}; `*` stands for any text, `?` for one character")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address that no webhook may be sent to.
    #[error("`{url}` can't take webhooks: {reason}")]
    Endpoint {
        /// The address, at most 200 characters of it and without user and password.
        url: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A host that leads to an address which is refused.
    #[error(
        "`{host}` leads to {address}, which is {reason}; name the network in `allow-networks` under `[actions]` of mill.toml if webhooks may go there"
    )]
    Refused {
        /// The host of the URL.
        host: String,
        /// Its address.
        address: IpAddr,
        /// Why it is refused.
        reason: Reason,
    },
    /// A network in the settings that is none.
    #[error("`{text}` is not a network such as `10.0.0.0/8`")]
    Network {
        /// The text as given.
        text: String,
    },
    /// A port or range in the settings that is none.
    #[error("`{text}` is not a port or a range of ports such as `8000-8999`")]
    Ports {
        /// The text as given.
        text: String,
    },
    /// A secret of another length.
    #[error("a secret has 24 to 64 bytes, not {found}")]
    SecretLength {
        /// Bytes found.
        found: usize,
    },
    /// A sealed secret that this key does not open.
    #[error("the secret of `{name}` can't be opened: it was sealed with another key; rotate it")]
    Unsealed {
        /// What the secret belongs to.
        name: String,
    },
    /// A sealing key that is none.
    #[error("a sealing key is 64 hexadecimal digits")]
    SealingKey,
}

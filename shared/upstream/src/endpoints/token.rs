//! Secrets of the settings.

use std::fmt;

use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::error::{Error, Result};

/// A secret that a server knows the caller by. It is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A token with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The value of an `Authorization` header (RFC 6750), marked so that it isn't logged.
    pub(crate) fn bearer(&self) -> Result<HeaderValue> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {}", self.0.trim())).map_err(|_| Error::Configuration {
                origin: "token".to_owned(),
                reason: "it has characters that no token has".to_owned(),
            })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(hidden)")
    }
}

use std::error::Error;

use ports::PortError;

/// The error of a call, with its causes.
pub(crate) fn failed<E: Error + 'static>(service: &'static str, action: &'static str) -> impl FnOnce(E) -> PortError {
    move |error| PortError::Service { service, action, reason: sign::chain(&error) }
}

/// An answer that lacks something, or has it in another shape.
pub(crate) fn malformed(service: &'static str, action: &'static str, reason: impl Into<String>) -> PortError {
    PortError::Service { service, action, reason: reason.into() }
}

//! Release providers, source fetch and authenticity checks.

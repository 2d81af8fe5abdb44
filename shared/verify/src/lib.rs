//! The image test suites.

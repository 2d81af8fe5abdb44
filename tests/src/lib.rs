//! Helpers shared by the end-to-end tests.

pub mod archive;
pub mod factory;
pub mod git;
pub mod layout;
pub mod openvex;
pub mod servers;
pub mod tools;
pub mod watched;

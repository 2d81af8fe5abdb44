//! The stages of the factory, one file each, and the rules of versions, tags and days.

//! Packages to a root file system, reproducible layers, image configuration, manifest and index.

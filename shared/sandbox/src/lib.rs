//! Runs one job without network, keys or host files: bubblewrap for builds, runc for image tests.

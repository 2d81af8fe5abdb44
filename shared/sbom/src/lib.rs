//! SPDX documents for packages and images.

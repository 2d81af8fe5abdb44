//! apk v2: versions, dependencies, packages, indexes, signatures and automatic dependencies. Synchronous, no I/O runtime.

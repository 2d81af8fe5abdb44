//! State, blobs, queue, clock and jobs: the traits, and their local adapters (SQLite, files).

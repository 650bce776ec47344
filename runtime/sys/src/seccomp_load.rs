//! Loading of seccomp filters.

//! Path resolution beneath an open directory.

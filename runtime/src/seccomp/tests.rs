//! Whole filters.

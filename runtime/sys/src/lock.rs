//! flock guards.

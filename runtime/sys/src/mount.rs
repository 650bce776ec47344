//! Mount values and the new mount API.

//! One suite for all drivers.

//! User and group id maps.

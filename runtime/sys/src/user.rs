//! Users and groups of the host.

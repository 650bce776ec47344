//! Kernel features, probed once.

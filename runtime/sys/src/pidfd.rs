//! Process descriptors.

//! Real groups; these need root and a writable control group file system.

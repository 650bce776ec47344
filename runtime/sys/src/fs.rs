//! Files: atomic writes, bounded reads, errors that carry their path.

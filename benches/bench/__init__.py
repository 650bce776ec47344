"""Parts of benches/compare."""

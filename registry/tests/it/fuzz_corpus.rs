//! The inputs that fuzzing kept, and those that once broke something, through the same code.

use std::path::Path;

#[test]
fn what_fuzzing_kept_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fuzz");
    for (name, target) in registry::testing::promises::TARGETS {
        let entries: Vec<_> = std::fs::read_dir(root.join(name)).unwrap().collect();
        assert!(entries.len() >= 8, "{name}: {} inputs", entries.len());
        for entry in entries {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let held = std::panic::catch_unwind(|| target(&bytes));
            assert!(held.is_ok(), "{} breaks a promise", path.display());
        }
    }
}

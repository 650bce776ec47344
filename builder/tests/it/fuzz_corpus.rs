//! The inputs that fuzzing kept, and those that once broke something, through the same code: no panic, nothing slow.

use crate::sizes::used;
use std::path::Path;
use std::time::Duration;

#[test]
fn what_fuzzing_kept_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fuzz");
    for (name, target) in builder::testing::TARGETS {
        let entries: Vec<_> = std::fs::read_dir(root.join(name)).unwrap().collect();
        assert!(entries.len() >= 20, "{name}: {} inputs", entries.len());
        for entry in entries {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let begin = used();
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                panic!("{} breaks a promise", path.display());
            }
            let elapsed = used() - begin;
            assert!(elapsed < Duration::from_secs(5), "{} took {elapsed:?}", path.display());
        }
    }
}

//! Cache keys: the cheap one from definitions alone, the content one from the selected files too.

use crate::graph::Op;
use oci::{Digest, Digester};
use std::fmt;

/// Names the result of an operation: equal keys, equal results.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) Digest);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.short())
    }
}

/// Bumped whenever an operation's result changes with this program's version.
const GENERATION: &[u8] = b"davit build key 2";

impl Key {
    /// The key of an operation with these inputs: of an input whose content counts, the digest of the selection
    /// stands for the whole.
    pub(crate) fn of<'a>(definition: &Digest, inputs: impl IntoIterator<Item = Input<'a>>) -> Self {
        let mut digester = Digester::new();
        digester.update(GENERATION);
        digester.update(definition.as_str().as_bytes());
        for input in inputs {
            let (tag, digest) = match input {
                Input::Whole(key) => (b"=", &key.0),
                Input::Content(digest) => (b"~", digest),
            };
            digester.update(tag);
            digester.update(digest.as_str().as_bytes());
        }
        Key(digester.finish())
    }
}

/// What an input adds to a key.
pub(crate) enum Input<'a> {
    /// All of it.
    Whole(&'a Key),
    /// The digest of what the operation selects.
    Content(&'a Digest),
}

/// Digest of an operation without its inputs.
pub(crate) fn definition(op: &Op) -> Digest {
    // The types hold nothing that JSON cannot: string keys only, no floats.
    let bytes = serde_json::to_vec(op).expect("an op is plain data");
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{FileTimes, WorkdirOp};

    #[test]
    fn whole_and_content_inputs_do_not_collide() {
        let definition = definition(&Op::Workdir(WorkdirOp {
            path: "/a".into(),
            user: String::new(),
            times: FileTimes::Kept,
        }));
        let digest = Digest::of(b"x");
        let whole = Key::of(&definition, [Input::Whole(&Key(digest.clone()))]);
        let content = Key::of(&definition, [Input::Content(&digest)]);
        assert_ne!(whole, content);
        assert_ne!(whole, Key::of(&definition, []));
    }
}

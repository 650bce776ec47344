//! Rules by the literal text that they begin with, so that a path meets only those that may match it.

/// A tree of bytes: each node holds the rules whose prefix ends there.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefixes {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// The next byte, and its node, in the order of the bytes.
    next: Vec<(u8, usize)>,
    /// Rules in their order.
    rules: Vec<usize>,
}

/// Bytes of a prefix that are looked at: enough to tell rules apart, few enough to be small.
const LONGEST: usize = 64;

impl Prefixes {
    /// Adds a rule; returns how many have its prefix.
    pub(super) fn add(&mut self, prefix: &[u8], rule: usize) -> usize {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for &byte in prefix.iter().take(LONGEST) {
            at = match self.nodes[at].next.binary_search_by_key(&byte, |&(byte, _)| byte) {
                Ok(found) => self.nodes[at].next[found].1,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes[at].next.insert(place, (byte, new));
                    self.nodes.push(Node::default());
                    new
                }
            };
        }
        self.nodes[at].rules.push(rule);
        self.nodes[at].rules.len()
    }

    /// Gives the rules whose prefixes the path begins with.
    pub(super) fn each(&self, path: &[u8], look: &mut dyn FnMut(&[usize])) {
        let mut node = self.nodes.first();
        for byte in path {
            let Some(here) = node else { return };
            let found = here.next.binary_search_by_key(byte, |&(byte, _)| byte);
            node = found.ok().and_then(|found| self.nodes.get(here.next[found].1));
            if let Some(node) = node.filter(|node| !node.rules.is_empty()) {
                look(&node.rules);
            }
        }
    }
}

//! Many patterns at once, by sampling.
//!
//! Only each so-manieth place of the text is looked at: so many that every occurrence of the shortest pattern has one
//! of them in it. The four bytes there are looked up in a small table of bits that says whether some pattern has them
//! anywhere; nearly always none has, and that was all. The rest is compared in full. With patterns of twenty bytes that
//! is one look in seventeen places, which costs little beside the hashing of the same bytes.

use std::collections::HashMap;

/// Bytes that are looked up at once.
const GRAM: usize = 4;
/// Logarithm of the number of bits in the table: 16 KiB, which stay in the nearest cache.
const BITS: u32 = 17;
/// Looks without a branch between them.
const BATCH: usize = 8;

/// Patterns, ready to be looked for.
pub(super) struct Grams {
    patterns: Vec<Vec<u8>>,
    /// Distance of the places that are looked at.
    stride: usize,
    table: Box<[u64]>,
    /// Where grams stand: pattern, offset in it.
    places: HashMap<[u8; GRAM], Vec<(usize, usize)>>,
}

/// An occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) pattern: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

fn slot(gram: [u8; GRAM]) -> (usize, u64) {
    let hash = u32::from_le_bytes(gram).wrapping_mul(0x9e37_79b1) >> (32 - BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

fn gram_at(bytes: &[u8], at: usize) -> Option<[u8; GRAM]> {
    bytes.get(at..at + GRAM)?.try_into().ok()
}

impl Grams {
    /// Prepares patterns of at least [`GRAM`] bytes; `None` without any.
    pub(super) fn new(patterns: Vec<Vec<u8>>) -> Option<Self> {
        let shortest = patterns.iter().map(Vec::len).min().filter(|length| *length >= GRAM)?;
        let stride = shortest - GRAM + 1;
        let mut table = vec![0; 1 << (BITS - 6)].into_boxed_slice();
        let mut places: HashMap<[u8; GRAM], Vec<(usize, usize)>> = HashMap::new();
        for (number, pattern) in patterns.iter().enumerate() {
            for offset in 0..stride {
                let Some(gram) = gram_at(pattern, offset) else { break };
                let (word, bit) = slot(gram);
                table[word] |= bit;
                places.entry(gram).or_default().push((number, offset));
            }
        }
        Some(Self { patterns, stride, table, places })
    }

    /// Length of the longest pattern, bytes.
    pub(super) fn longest(&self) -> usize {
        self.patterns.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The occurrence that begins first.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<Match> {
        let mut at = 0;
        let reach = self.stride * (BATCH - 1) + GRAM;
        while let Some(window) = bytes.get(at..at + reach) {
            let mut any = 0;
            for look in 0..BATCH {
                let from = look * self.stride;
                let gram = [window[from], window[from + 1], window[from + 2], window[from + 3]];
                let (word, bit) = slot(gram);
                any |= self.table[word] & bit;
            }
            if any != 0
                && let Some(found) = self.find_from(bytes, at, at + reach - GRAM)
            {
                return Some(found);
            }
            at += self.stride * BATCH;
        }
        self.find_from(bytes, at, bytes.len())
    }

    /// The first occurrence with one of the places from `at` to `last` in it.
    fn find_from(&self, bytes: &[u8], at: usize, last: usize) -> Option<Match> {
        (at..=last).step_by(self.stride).find_map(|at| {
            let gram = gram_at(bytes, at)?;
            let (word, bit) = slot(gram);
            if self.table[word] & bit == 0 {
                return None;
            }
            let candidates = self.places.get(&gram)?.iter();
            let matches = candidates.filter_map(|&(pattern, offset)| {
                let start = at.checked_sub(offset)?;
                let text = &self.patterns[pattern];
                let end = start + text.len();
                (bytes.get(start..end)? == &text[..]).then_some(Match { pattern, start, end })
            });
            matches.min_by_key(|found| found.start)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The same as looking at each place for each pattern.
        #[test]
        fn as_the_simple_search(
            patterns in proptest::collection::vec(proptest::collection::vec(0u8..3, 4..12), 1..6),
            text in proptest::collection::vec(0u8..3, 0..300),
        ) {
            let simple = (0..text.len()).find(|&at| patterns.iter().any(|pattern| text[at..].starts_with(pattern)));
            let grams = Grams::new(patterns.clone()).unwrap();
            let found = grams.find(&text);
            prop_assert_eq!(found.map(|found| found.start), simple);
            if let Some(found) = found {
                prop_assert_eq!(&text[found.start..found.end], &patterns[found.pattern][..]);
            }
        }
    }

    #[test]
    fn the_edges() {
        assert!(Grams::new(Vec::new()).is_none());
        assert!(Grams::new(vec![b"abc".to_vec()]).is_none());
        let grams = Grams::new(vec![b"abcd".to_vec(), b"a long pattern".to_vec()]).unwrap();
        assert_eq!(grams.longest(), 14);
        for text in ["", "abc", "a long patter", "bcd abc"] {
            assert_eq!(grams.find(text.as_bytes()), None, "{text}");
        }
        assert_eq!(grams.find(b"abcd"), Some(Match { pattern: 0, start: 0, end: 4 }));
        assert_eq!(grams.find(b"xx a long pattern").map(|found| found.start), Some(3));
    }
}

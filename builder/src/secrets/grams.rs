//! Many patterns at once, by sampling.
//!
//! Only each so-manieth place of the text is looked at: so many that every occurrence of the shortest pattern has one
//! of them in it. The four bytes there are looked up in a small table of bits that says whether some pattern has them
//! anywhere; nearly always none has, and that was all. The rest is compared in full. With patterns of twenty bytes that
//! is one look in seventeen places. Distances that are known when this is compiled leave a few instructions of each
//! look, a third of the time that it takes otherwise.

use std::collections::HashMap;

/// Bytes that are looked up at once.
const GRAM: usize = 4;
/// Logarithm of the number of bits in the table.
const BITS: u32 = 17;
/// Bytes of the table: 16 KiB, which stay in the nearest cache.
const TABLE: usize = 1 << (BITS - 3);
/// Looks without a branch between them.
const BATCH: usize = 8;

type Table = [u8; TABLE];
/// The second table has the same grams at other places and is asked where the first one says yes.
type Tables = [Table; 2];
/// What the two spread grams by.
const FACTORS: [u32; 2] = [0x9e37_79b1, 0x85eb_ca6b];

/// Looks through bytes from a place on: whether one of a batch of places may be in a pattern, and where that batch
/// begins. Without one, where the last places begin, too few for a batch, which nobody has looked at.
type Scan = fn(&Tables, &[u8], usize) -> (bool, usize);

/// Distances for which there is code. A smaller one than could be is right too.
const SCANS: [(usize, Scan); 10] = [
    (25, scan::<25, { 25 * (BATCH - 1) + GRAM }>),
    (21, scan::<21, { 21 * (BATCH - 1) + GRAM }>),
    (17, scan::<17, { 17 * (BATCH - 1) + GRAM }>),
    (13, scan::<13, { 13 * (BATCH - 1) + GRAM }>),
    (10, scan::<10, { 10 * (BATCH - 1) + GRAM }>),
    (7, scan::<7, { 7 * (BATCH - 1) + GRAM }>),
    (5, scan::<5, { 5 * (BATCH - 1) + GRAM }>),
    (3, scan::<3, { 3 * (BATCH - 1) + GRAM }>),
    (2, scan::<2, { 2 * (BATCH - 1) + GRAM }>),
    (1, scan::<1, { BATCH - 1 + GRAM }>),
];

/// Has the distance of the places, and the length of a batch of them.
fn scan<const STRIDE: usize, const REACH: usize>(
    tables: &Tables,
    bytes: &[u8],
    from: usize,
) -> (bool, usize) {
    let mut at = from;
    while let Some(window) = bytes.get(at..).and_then(|rest| rest.first_chunk::<REACH>()) {
        let gram = |look: usize| {
            let from = look * STRIDE;
            [window[from], window[from + 1], window[from + 2], window[from + 3]]
        };
        let mut any = 0;
        for look in 0..BATCH {
            any |= bit::<0>(tables, gram(look));
        }
        if any != 0 {
            let mut sure = 0;
            for look in 0..BATCH {
                sure |= bit::<0>(tables, gram(look)) & bit::<1>(tables, gram(look));
            }
            if sure != 0 {
                return (true, at);
            }
        }
        at += STRIDE * BATCH;
    }
    (false, at)
}

/// Byte and bit of a gram in a table.
fn slot<const NUMBER: usize>(gram: [u8; GRAM]) -> (usize, u32) {
    let hash = u32::from_le_bytes(gram).wrapping_mul(FACTORS[NUMBER]) >> (32 - BITS);
    ((hash >> 3) as usize, hash & 7)
}

/// 1 if some pattern may have the gram, else 0.
fn bit<const NUMBER: usize>(tables: &Tables, gram: [u8; GRAM]) -> u8 {
    let (byte, bit) = slot::<NUMBER>(gram);
    (tables[NUMBER][byte] >> bit) & 1
}

/// Patterns, ready to be looked for.
pub(super) struct Grams {
    patterns: Vec<Vec<u8>>,
    /// Distance of the places that are looked at.
    stride: usize,
    scan: Scan,
    tables: Box<Tables>,
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

fn gram_at(bytes: &[u8], at: usize) -> Option<[u8; GRAM]> {
    bytes.get(at..at + GRAM)?.try_into().ok()
}

impl Grams {
    /// Prepares patterns of at least [`GRAM`] bytes; `None` without any.
    pub(super) fn new(patterns: Vec<Vec<u8>>) -> Option<Self> {
        let shortest = patterns.iter().map(Vec::len).min().filter(|length| *length >= GRAM)?;
        let widest = shortest - GRAM + 1;
        let (stride, scan) = SCANS.into_iter().find(|(stride, _)| *stride <= widest)?;
        let mut tables = Box::new([[0; TABLE]; 2]);
        let mut places: HashMap<[u8; GRAM], Vec<(usize, usize)>> = HashMap::new();
        for (number, pattern) in patterns.iter().enumerate() {
            for offset in 0..stride {
                let Some(gram) = gram_at(pattern, offset) else { break };
                let [one, other] = [slot::<0>(gram), slot::<1>(gram)];
                tables[0][one.0] |= 1 << one.1;
                tables[1][other.0] |= 1 << other.1;
                places.entry(gram).or_default().push((number, offset));
            }
        }
        Some(Self { patterns, stride, scan, tables, places })
    }

    /// Length of the longest pattern, bytes.
    pub(super) fn longest(&self) -> usize {
        self.patterns.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The occurrence that begins first.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<Match> {
        let mut at = 0;
        let batch = self.stride * BATCH;
        loop {
            let (hit, end) = (self.scan)(&self.tables, bytes, at);
            if !hit {
                return self.find_from(bytes, end, bytes.len());
            }
            if let Some(found) = self.find_from(bytes, end, end + batch - self.stride) {
                return Some(found);
            }
            at = end + batch;
        }
    }

    /// The first occurrence with one of the places from `at` to `last` in it.
    fn find_from(&self, bytes: &[u8], at: usize, last: usize) -> Option<Match> {
        (at..=last).step_by(self.stride).find_map(|at| {
            let gram = gram_at(bytes, at)?;
            if bit::<0>(&self.tables, gram) & bit::<1>(&self.tables, gram) == 0 {
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

//! Content-defined chunking: cuts a stream where its content says so, so that an insertion moves only the cuts near it.
//!
//! A gear hash rolls over the bytes: at each byte it is shifted by one and gets a random word added, so its upper bits
//! depend on the last 64 bytes. A cut is where some of them are zero; before the wanted length more of them must be than
//! after it, which draws the lengths together. The table and the lengths are part of the format of what is exported:
//! changing them costs one full export.

use std::io::{self, Read};

/// Shortest chunk but for the last one, in bytes.
pub const SHORTEST: usize = 32 << 10;
/// Wanted length, in bytes.
pub const WANTED: usize = 128 << 10;
/// Longest chunk, in bytes.
pub const LONGEST: usize = 512 << 10;

/// Two bits more, and two less, than the wanted length alone would ask for.
const BEFORE: u64 = !0 << (64 - 19);
const AFTER: u64 = !0 << (64 - 15);

const GEAR: [u64; 256] = gear();

/// 256 words without pattern, by the splitmix64 sequence.
const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state: u64 = 0x6461_7669_7420_6331;
    let mut index = 0;
    while index < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[index] = word ^ (word >> 31);
        index += 1;
    }
    table
}

/// Length of the first chunk of `bytes`, which hold at least [`LONGEST`] bytes or all that is left.
fn cut(bytes: &[u8]) -> usize {
    let end = bytes.len().min(LONGEST);
    if end <= SHORTEST {
        return end;
    }
    let middle = end.min(WANTED);
    let mut hash = 0u64;
    for (mask, from, to) in [(BEFORE, SHORTEST, middle), (AFTER, middle, end)] {
        for (offset, byte) in bytes[from..to].iter().enumerate() {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            if hash & mask == 0 {
                return from + offset + 1;
            }
        }
    }
    end
}

/// Gives the chunks of a stream.
#[derive(Debug)]
pub struct Chunker<R> {
    source: R,
    buffer: Vec<u8>,
    /// What is not given yet.
    start: usize,
    end: usize,
    finished: bool,
}

impl<R: Read> Chunker<R> {
    /// Chunks of this stream.
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), start: 0, end: 0, finished: false }
    }

    /// Begins another stream with the same buffer.
    pub fn restart(&mut self, source: R) {
        (self.source, self.start, self.end, self.finished) = (source, 0, 0, false);
    }

    /// The next chunk; `None` at the end.
    pub fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        self.fill()?;
        if self.start == self.end {
            return Ok(None);
        }
        let length = cut(&self.buffer[self.start..self.end]);
        let chunk = &self.buffer[self.start..self.start + length];
        self.start += length;
        Ok(Some(chunk))
    }

    /// Reads until a whole chunk is there, or all of the stream.
    fn fill(&mut self) -> io::Result<()> {
        if self.finished || self.end - self.start >= LONGEST {
            return Ok(());
        }
        self.buffer.resize(2 * LONGEST, 0);
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < self.buffer.len() {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.finished = true;
                    break;
                }
                Ok(length) => self.end += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashSet;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect()
    }

    fn chunks(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::new(bytes);
        let mut found = Vec::new();
        while let Some(chunk) = chunker.next_chunk().unwrap() {
            found.push(chunk.to_vec());
        }
        found
    }

    #[test]
    fn chunks_are_the_stream_and_have_the_lengths_that_are_wanted() {
        let bytes = noise(16 << 20, 1);
        let found = chunks(&bytes);
        assert_eq!(found.concat(), bytes);
        let (last, others) = found.split_last().unwrap();
        assert!(others.iter().all(|chunk| (SHORTEST..=LONGEST).contains(&chunk.len())));
        assert!(last.len() <= LONGEST);
        let mean = bytes.len() / found.len();
        assert!((90 << 10..190 << 10).contains(&mean), "{mean}");
        assert!(chunks(b"").is_empty());
        assert_eq!(chunks(b"x"), [b"x"]);
        // No content makes them longer than they may be.
        assert!(chunks(&vec![0; 3 << 20]).iter().all(|chunk| chunk.len() <= LONGEST));
    }

    #[test]
    fn an_insertion_changes_what_is_near_it() {
        let bytes = noise(8 << 20, 2);
        let known: HashSet<Vec<u8>> = chunks(&bytes).into_iter().collect();
        let mut changed = bytes[..3_000_000].to_vec();
        changed.extend_from_slice(b"inserted");
        changed.extend_from_slice(&bytes[3_000_000..]);
        let new = chunks(&changed).into_iter().filter(|chunk| !known.contains(chunk)).count();
        assert!(new <= 3, "{new} new chunks");
    }
}

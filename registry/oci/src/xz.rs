//! The framing of xz files, followed without decoding them: decoders take as much memory as a block's header asks for,
//! up to 4 GiB, so it has to be known before they see it.
//!
//! Stream header, blocks (header, LZMA2 chunks, padding, check), index, footer, padding; the .xz file format, version 1.2.

use std::io::{self, Read};

/// Largest dictionary in bytes: that of `xz -9`.
pub const MAX_DICTIONARY: u64 = 64 << 20;

/// The filter that ends every chain, and the only one that takes memory.
const LZMA2: u64 = 0x21;

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the beginning of a stream, or in the padding behind one.
    Start,
    /// At the first byte of a block's header, or of the index.
    Block,
    /// At a chunk's control byte.
    Chunk,
    /// In the numbers of the index, of which so many are to come.
    Index { numbers: Option<u64> },
    /// Between frames that are passed over.
    Skip(Next),
}

/// What comes behind bytes that are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Block,
    Chunk,
    Start,
}

/// Gives the bytes of an xz file on, and fails before a block that asks for too much memory.
#[derive(Debug)]
pub struct BoundedXz<R> {
    inner: R,
    state: State,
    /// Bytes to pass over, with [`State::Skip`].
    skip: u64,
    /// A frame that is read as a whole: a stream's header, a block's, a chunk's.
    frame: Vec<u8>,
    /// Bytes of the check behind each block.
    check: u64,
    /// Bytes of the block or the index so far, for their padding.
    length: u64,
    /// The number of the index that is being read, and its bits so far.
    number: (u64, u32),
}

impl<R: Read> BoundedXz<R> {
    /// Follows `inner` from the beginning of a stream.
    pub fn new(inner: R) -> Self {
        let (state, number) = (State::Start, (0, 0));
        Self { inner, state, skip: 0, frame: Vec::new(), check: 0, length: 0, number }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let [first, rest @ ..] = bytes {
            match self.state {
                State::Skip(next) => {
                    let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                    self.skip -= passed as u64;
                    bytes = &bytes[passed..];
                    if self.skip == 0 {
                        self.state = match next {
                            Next::Block => State::Block,
                            Next::Chunk => State::Chunk,
                            Next::Start => State::Start,
                        };
                    }
                    continue;
                }
                State::Start if self.frame.is_empty() && *first == 0 => {}
                State::Start => self.stream_header(*first)?,
                State::Block => self.block_header(*first)?,
                State::Chunk => self.chunk(*first)?,
                State::Index { numbers } => self.index(numbers, *first)?,
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Passes over `count` bytes.
    fn pass(&mut self, count: u64, next: Next) {
        self.frame.clear();
        self.skip = count;
        self.state = match (count, next) {
            (0, Next::Block) => State::Block,
            (0, Next::Chunk) => State::Chunk,
            (0, Next::Start) => State::Start,
            (_, next) => State::Skip(next),
        };
    }

    /// Twelve bytes: magic, flags, their checksum.
    fn stream_header(&mut self, byte: u8) -> io::Result<()> {
        self.frame.push(byte);
        if self.frame.len() < 12 {
            return Ok(());
        }
        if !self.frame.starts_with(b"\xfd7zXZ\0\0") {
            return Err(damaged("no header of a stream"));
        }
        self.check =
            [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64][usize::from(self.frame[7] & 0x0f)];
        self.frame.clear();
        self.state = State::Block;
        Ok(())
    }

    /// A block's header, whose first byte says how long it is; 0 begins the index instead.
    fn block_header(&mut self, byte: u8) -> io::Result<()> {
        if self.frame.is_empty() && byte == 0 {
            (self.length, self.number) = (1, (0, 0));
            self.state = State::Index { numbers: None };
            return Ok(());
        }
        self.frame.push(byte);
        if self.frame.len() < (usize::from(self.frame[0]) + 1) * 4 {
            return Ok(());
        }
        let dictionary = dictionary(&self.frame).ok_or_else(|| damaged("no header of a block"))?;
        if dictionary > MAX_DICTIONARY {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the xz stream wants a dictionary of {} MiB, and {} MiB are the most: pack it with `xz -9` or less",
                    dictionary >> 20,
                    MAX_DICTIONARY >> 20
                ),
            ));
        }
        self.length = 0;
        self.frame.clear();
        self.state = State::Chunk;
        Ok(())
    }

    /// An LZMA2 chunk's header: control byte, sizes, properties.
    fn chunk(&mut self, byte: u8) -> io::Result<()> {
        self.frame.push(byte);
        let control = self.frame[0];
        let needed = match control {
            0 => 1,
            1 | 2 => 3,
            0x80..=0xbf => 5,
            0xc0.. => 6,
            _ => return Err(damaged("no chunk")),
        };
        if self.frame.len() < needed {
            return Ok(());
        }
        let size = |at: usize| u64::from(self.frame[at]) << 8 | u64::from(self.frame[at + 1]);
        let content = match control {
            0 => {
                // the end of the block: padding to four bytes, then the check
                self.length += 1;
                let padding = self.length.wrapping_neg() % 4;
                self.pass(padding + self.check, Next::Block);
                return Ok(());
            }
            1 | 2 => size(1) + 1,
            _ => size(3) + 1,
        };
        self.length += needed as u64 + content;
        self.pass(content, Next::Chunk);
        Ok(())
    }

    /// The numbers of the index: how many records, and two for each; padding, a checksum and the footer follow.
    fn index(&mut self, numbers: Option<u64>, byte: u8) -> io::Result<()> {
        self.length += 1;
        let (value, bits) = self.number;
        if bits >= 63 {
            return Err(damaged("no index"));
        }
        let value = value | u64::from(byte & 0x7f) << bits;
        if byte & 0x80 != 0 {
            self.number = (value, bits + 7);
            return Ok(());
        }
        self.number = (0, 0);
        let left = match numbers {
            None => value.checked_mul(2).ok_or_else(|| damaged("no index"))?,
            Some(left) => left - 1,
        };
        if left > 0 {
            self.state = State::Index { numbers: Some(left) };
            return Ok(());
        }
        let padding = self.length.wrapping_neg() % 4;
        self.pass(padding + 4 + 12, Next::Start);
        Ok(())
    }
}

impl<R: Read> Read for BoundedXz<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.follow(&buffer[..count])?;
        Ok(count)
    }
}

/// The dictionary in bytes that a block's header asks for.
fn dictionary(header: &[u8]) -> Option<u64> {
    let flags = *header.get(1)?;
    let mut rest = header.get(2..header.len() - 4)?;
    for size in [0x40, 0x80] {
        if flags & size != 0 {
            number(&mut rest)?;
        }
    }
    for _ in 0..=flags & 3 {
        let filter = number(&mut rest)?;
        let length = usize::try_from(number(&mut rest)?).ok()?;
        let properties = rest.get(..length)?;
        rest = &rest[length..];
        if filter == LZMA2 {
            let [bits] = properties else { return None };
            return match bits {
                0..=39 => Some((2 | u64::from(bits & 1)) << (bits / 2 + 11)),
                40 => Some(u64::from(u32::MAX)),
                _ => None,
            };
        }
    }
    None
}

/// A number in seven bits a byte, lowest first.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(value);
        }
    }
    None
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the xz stream is damaged: {what} where one should be"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What `printf 'hello\n' | xz -0 --check=crc32` gives.
    const HELLO: &[u8; 60] = b"\xfd\x37\x7a\x58\x5a\x00\x00\x01\x69\x22\xde\x36\x02\x00\x21\x01\x0c\x00\x00\x00\x8f\x98\x41\x9c\x01\x00\x05\x68\x65\x6c\x6c\x6f\x0a\x00\x00\x00\x20\x30\x3a\x36\x00\x01\x1a\x06\xc5\xea\xc8\x79\x90\x42\x99\x0d\x01\x00\x00\x00\x00\x01\x59\x5a";

    /// Where the size of the dictionary stands in it.
    const DICTIONARY: usize = 16;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        BoundedXz::new(bytes).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn bytes_pass_as_they_are() {
        let several = [HELLO.as_slice(), &[0; 8], HELLO].concat();
        for whole in [HELLO.as_slice(), &several] {
            assert_eq!(read(whole).unwrap(), whole);
            // also one at a time
            let mut bounded = BoundedXz::new(whole);
            let mut one = [0];
            let mut seen = Vec::new();
            while bounded.read(&mut one).unwrap() == 1 {
                seen.push(one[0]);
            }
            assert_eq!(seen, whole);
            assert_eq!(bounded.state, State::Start);
        }
    }

    #[test]
    fn a_dictionary_is_bounded_in_every_block() {
        let sizes = [(0, 4 << 10), (28, 64 << 20), (29, 96 << 20), (40, u64::from(u32::MAX))];
        for (bits, size) in sizes {
            let mut changed = HELLO.to_vec();
            changed[DICTIONARY] = bits;
            assert_eq!(dictionary(&changed[12..24]), Some(size));
            assert_eq!(read(&changed).is_ok(), size <= MAX_DICTIONARY, "{bits}");
            let second = [HELLO.as_slice(), &changed].concat();
            assert_eq!(read(&second).is_ok(), size <= MAX_DICTIONARY, "{bits}");
        }
        let mut changed = HELLO.to_vec();
        changed[DICTIONARY] = 40;
        assert!(read(&changed).unwrap_err().to_string().contains("4095 MiB"));
    }

    #[test]
    fn damage_never_panics() {
        for at in 0..HELLO.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut changed = HELLO.to_vec();
                changed[at] ^= bits;
                let _ = read(&changed);
                let _ = read(&changed[..at]);
            }
        }
    }
}

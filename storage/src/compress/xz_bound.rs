//! A bound on the memory that an xz stream asks for.
//!
//! Each block's header says how large a dictionary the decoder shall have, up to 4 GiB. This reads along the frame of the
//! format (xz file format 1.2; LZMA2 chunks say their lengths) and ends a stream that asks for more than the format's own
//! tool does at its highest level. What does not follow the format is an error here too, so that both readers see the same blocks.

use std::io::{self, Read};

/// Largest dictionary, bytes: twice what `xz -9` makes.
const MAX_DICTIONARY: u64 = 128 << 20;
/// Bytes of a stream's header.
const STREAM_HEADER: usize = 12;
/// Bytes of a stream's footer.
const STREAM_FOOTER: u64 = 12;
/// ID of the LZMA2 filter.
const LZMA2: u64 = 0x21;

/// Passes a stream on and looks at its frame.
pub(super) struct XzBound<R> {
    inner: R,
    frame: Frame,
}

impl<R: Read> XzBound<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, frame: Frame::default() }
    }
}

impl<R: Read> Read for XzBound<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.frame.feed(&buffer[..read])?;
        Ok(read)
    }
}

/// Where in the frame the next byte lies.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a stream's header, or in the zeros between two streams.
    #[default]
    Stream,
    /// At the first byte of a block's header, or of the index.
    Block,
    /// In a block's header of so many bytes.
    BlockHeader(usize),
    /// At the first byte of a chunk.
    Chunk,
    /// In a chunk's header of so many bytes.
    ChunkHeader(usize),
    /// In the index: numbers that are still to come; `None` before their count.
    Index(Option<u64>),
}

#[derive(Debug, Default)]
struct Frame {
    state: State,
    /// What has come of the current header.
    header: Vec<u8>,
    /// Bytes that are passed over before the state counts.
    skip: u64,
    /// Bytes of the check behind each block.
    check: u64,
    /// Bytes of the current block's content, or of the index.
    length: u64,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("xz: {what}"))
}

impl Frame {
    fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let part = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= part as u64;
                bytes = &bytes[part..];
                continue;
            }
            let (first, rest) = (bytes[0], &bytes[1..]);
            self.byte(first)?;
            bytes = rest;
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> io::Result<()> {
        match self.state {
            State::Stream => {
                // zeros may stand between two streams
                if self.header.is_empty() && byte == 0 {
                    return Ok(());
                }
                self.header.push(byte);
                if self.header.len() == STREAM_HEADER {
                    if !self.header.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0, 0]) {
                        return Err(invalid("no header of a stream"));
                    }
                    let sizes = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
                    self.check = sizes[usize::from(self.header[7] & 0x0f)];
                    self.enter(State::Block);
                }
            }
            State::Block if byte == 0 => {
                self.length = 1;
                self.enter(State::Index(None));
            }
            State::Block => {
                self.enter(State::BlockHeader((usize::from(byte) + 1) * 4));
                self.header.push(byte);
            }
            State::BlockHeader(size) => {
                self.header.push(byte);
                if self.header.len() == size {
                    check_block(&self.header)?;
                    self.length = 0;
                    self.enter(State::Chunk);
                }
            }
            State::Chunk => {
                self.length += 1;
                match byte {
                    0 => {
                        self.skip = padding(self.length) + self.check;
                        self.enter(State::Block);
                    }
                    // 1 and 2 are followed by the length of bytes that are not compressed
                    1 | 2 => self.begin_chunk(byte, 3),
                    0x80..=0xbf => self.begin_chunk(byte, 5),
                    0xc0..=0xff => self.begin_chunk(byte, 6),
                    _ => return Err(invalid("no chunk begins so")),
                }
            }
            State::ChunkHeader(size) => {
                self.header.push(byte);
                if self.header.len() == size {
                    let at = if size == 3 { 1 } else { 3 };
                    let length = u64::from(self.header[at]) << 8 | u64::from(self.header[at + 1]);
                    self.length += (size as u64 - 1) + length + 1;
                    self.skip = length + 1;
                    self.enter(State::Chunk);
                }
            }
            State::Index(left) => self.index(left, byte)?,
        }
        Ok(())
    }

    fn enter(&mut self, state: State) {
        self.header.clear();
        self.state = state;
    }

    fn begin_chunk(&mut self, control: u8, size: usize) {
        self.enter(State::ChunkHeader(size));
        self.header.push(control);
    }

    /// The index is a count, two numbers for each block, zeros up to a multiple of four, and a checksum.
    fn index(&mut self, left: Option<u64>, byte: u8) -> io::Result<()> {
        self.length += 1;
        self.header.push(byte);
        if byte & 0x80 != 0 {
            if self.header.len() >= 9 {
                return Err(invalid("a number of the index is too long"));
            }
            return Ok(());
        }
        let number = number(&self.header).ok_or_else(|| invalid("a number of the index is cut off"))?.0;
        self.header.clear();
        let left = match left {
            None => number.checked_mul(2).ok_or_else(|| invalid("the index has too many blocks"))?,
            Some(left) => left - 1,
        };
        self.state = State::Index(Some(left));
        if left == 0 {
            self.skip = padding(self.length) + 4 + STREAM_FOOTER;
            self.enter(State::Stream);
        }
        Ok(())
    }
}

/// Zeros up to a multiple of four.
fn padding(length: u64) -> u64 {
    (4 - length % 4) % 4
}

/// A number of seven bits a byte, and how many bytes it has.
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (place, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

/// Refuses a block whose dictionary is too large.
fn check_block(header: &[u8]) -> io::Result<()> {
    let broken = || invalid("a block's header is broken");
    let flags = header[1];
    let mut rest = &header[2..];
    let next = |rest: &mut &[u8]| -> io::Result<u64> {
        let (value, length) = number(rest).ok_or_else(broken)?;
        *rest = &rest[length..];
        Ok(value)
    };
    // the lengths of the block, where they are told
    for bit in [0x40, 0x80] {
        if flags & bit != 0 {
            next(&mut rest)?;
        }
    }
    for _ in 0..=(flags & 3) {
        let id = next(&mut rest)?;
        let size = usize::try_from(next(&mut rest)?).map_err(|_| broken())?;
        let properties = rest.get(..size).ok_or_else(broken)?;
        rest = &rest[size..];
        if id != LZMA2 {
            continue;
        }
        let bits = u32::from(*properties.first().ok_or_else(broken)?);
        let dictionary = match bits {
            0..=39 => (2 | u64::from(bits & 1)) << (bits / 2 + 11),
            40 => u64::from(u32::MAX),
            _ => return Err(broken()),
        };
        if dictionary > MAX_DICTIONARY {
            let (asked, most) = (dictionary >> 20, MAX_DICTIONARY >> 20);
            return Err(invalid(&format!(
                "a dictionary of {asked} MiB is asked for, at most {most} MiB are given"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What the xz tool makes of bytes.
    fn xz(arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut child = Command::new("xz")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("xz is installed: run tests/run");
        let mut stdin = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
        let made = child.wait_with_output().unwrap().stdout;
        writer.join().unwrap();
        made
    }

    fn plain(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        lzma_rust2::XzReader::new(XzBound::new(stream), true).read_to_end(&mut out)?;
        Ok(out)
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut step = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| step()).collect()
    }

    #[test]
    fn streams_of_every_shape_pass() {
        let mut text = noise(300_000);
        text.extend(std::iter::repeat_n(b'a', 500_000));
        for arguments in [
            &["-c", "-0"][..],
            &["-c", "-9e"],
            &["-c", "--block-size=100000"],
            &["-c", "-T2", "--block-size=65536"],
            &["-c", "--check=none"],
            &["-c", "--check=sha256"],
            &["-c", "--x86", "--lzma2=preset=6"],
        ] {
            let stream = xz(arguments, &text);
            assert_eq!(plain(&stream).unwrap(), text, "{arguments:?}");
            // two streams, with zeros between
            let two = [&stream[..], &[0; 8], &stream].concat();
            assert_eq!(plain(&two).unwrap().len(), 2 * text.len(), "{arguments:?}");
            // byte by byte
            let mut frame = Frame::default();
            stream.iter().for_each(|byte| frame.feed(&[*byte]).unwrap());
            assert_eq!((frame.state, frame.skip), (State::Stream, 0), "{arguments:?}");
        }
    }

    #[test]
    fn large_dictionaries_are_refused_wherever_they_are_asked_for() {
        let large = xz(&["-c", "--lzma2=dict=512MiB"], b"x");
        assert!(plain(&large).unwrap_err().to_string().contains("512 MiB"));
        // in the second stream
        let two = [xz(&["-c"], b"x"), large.clone()].concat();
        assert!(plain(&two).unwrap_err().to_string().contains("512 MiB"));
        // and in the second block of one
        let small = xz(&["-c", "--check=none"], b"small");
        let large = xz(&["-c", "--check=none", "--lzma2=dict=512MiB"], b"large");
        let end = |stream: &[u8]| stream.len() - 12 - 8;
        let blocks = [&small[..end(&small)], &large[12..]].concat();
        assert!(plain(&blocks).unwrap_err().to_string().contains("512 MiB"));
    }
}

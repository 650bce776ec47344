//! Decompression; the format is known by its first bytes, never by a name.

use std::io::{self, BufRead, Cursor, Read};

use oci::Compression;

/// Longest magic number.
const MAGIC: usize = 6;
/// Largest zstd window, as a power of two: what the format's own tool takes without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// None.
    Plain,
    /// gzip, also of several members.
    Gzip,
    /// bzip2, also of several streams.
    Bzip2,
    /// xz, also of several streams.
    Xz,
    /// zstd, also of several frames.
    Zstd,
}

impl Format {
    /// Tells the format from the first bytes of a stream; six are enough.
    pub fn detect(first: &[u8]) -> Format {
        match Compression::from_magic(first) {
            Compression::Gzip => Format::Gzip,
            Compression::Zstd => Format::Zstd,
            Compression::None => match first {
                [b'B', b'Z', b'h', b'1'..=b'9', ..] => Format::Bzip2,
                [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
                _ => Format::Plain,
            },
        }
    }

    /// The format as a layer's compression, where a layer may have it.
    pub fn compression(self) -> Option<Compression> {
        match self {
            Format::Plain => Some(Compression::None),
            Format::Gzip => Some(Compression::Gzip),
            Format::Zstd => Some(Compression::Zstd),
            Format::Bzip2 | Format::Xz => None,
        }
    }
}

/// Detects the format of a stream and returns its plain bytes. A stream cut short reads as an error.
pub fn decoder<'a>(mut source: impl BufRead + Send + 'a) -> io::Result<(Format, Box<dyn Read + Send + 'a>)> {
    let mut first = [0; MAGIC];
    let mut filled = 0;
    while filled < MAGIC {
        match source.read(&mut first[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let format = Format::detect(&first[..filled]);
    let whole = Cursor::new(first[..filled].to_vec()).chain(source);
    let plain: Box<dyn Read + Send + 'a> = match format {
        Format::Plain => Box::new(whole),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Format::Xz => Box::new(lzma_rust2::XzReader::new(oci::xz::BoundedXz::new(whole), true)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    };
    Ok((format, plain))
}

/// Tells whether a file is a tar archive, compressed or not, as ADD asks of local files.
pub fn sniff_tar(source: impl BufRead + Send) -> io::Result<Option<Format>> {
    let (format, mut plain) = decoder(source)?;
    let mut block = [0; crate::tar::header::BLOCK];
    match plain.read_exact(&mut block) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        // Bytes that only look compressed are a file like any other.
        Err(_) if format != Format::Plain => return Ok(None),
        Err(error) => return Err(error),
    }
    let empty = block.iter().all(|b| *b == 0);
    Ok((!empty && crate::tar::header::checksum_matches(&block)).then_some(format))
}

//! Compression of layers, and its undoing by content.
//!
//! Compressed bytes are part of a layer's identity in a registry, so they must not depend on the machine: input
//! is cut into pieces of fixed size, each compressed on its own (a gzip member, or a zstd frame) and written in
//! order. The result is the same with any number of threads, and every decoder reads it as one stream.

mod decoder;
mod encoder;

pub use decoder::{Format, decoder, sniff_tar};
pub use encoder::{DEFAULT_GZIP_LEVEL, DEFAULT_ZSTD_LEVEL, Encoder};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};

    use oci::Compression;

    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        let mut state = 7_u32;
        (0..length)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 5 == 0 { state.to_le_bytes()[3] } else { b'a' }
            })
            .collect()
    }

    fn encode(data: &[u8], compression: Compression, step: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), compression, None);
        for piece in data.chunks(step.max(1)) {
            encoder.write_all(piece).unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn round_trips_whatever_the_sizes() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            for length in [0, 1, 4096, 1 << 20, (5 << 20) + 3] {
                let data = sample(length);
                let once = encode(&data, compression, 1 << 16);
                assert_eq!(once, encode(&data, compression, 999_983), "bytes depend on the write sizes");
                let (format, mut reader) = decoder(&once[..]).unwrap();
                let mut back = Vec::new();
                reader.read_to_end(&mut back).unwrap();
                assert_eq!(back, data);
                if length > 0 {
                    assert_eq!(format.compression(), Some(compression));
                }
            }
        }
    }

    #[test]
    fn truncation_is_an_error() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let bytes = encode(&sample(100_000), compression, 1 << 16);
            let (_, mut reader) = decoder(&bytes[..bytes.len() - 5]).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err());
        }
    }

    #[test]
    fn other_formats_are_known_by_their_first_bytes() {
        let mut bz = Vec::new();
        bzip2::read::BzEncoder::new(&b"some text"[..], bzip2::Compression::fast())
            .read_to_end(&mut bz)
            .unwrap();
        let (format, mut reader) = decoder(&bz[..]).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((format, &text[..]), (Format::Bzip2, "some text"));
        // Two streams one after the other, as parallel compressors write them.
        const XZ: &[u8] = b"\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3\x01\x00\x08\x73\x6f\x6d\x65\x20\x74\x65\x78\x74\x00\x00\x00\x00\x91\x80\x54\x63\xbb\x2f\x70\xaf\x00\x01\x21\x09\x6c\x18\xc5\xd5\x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04\x59\x5a";
        let twice = [XZ, XZ].concat();
        let (format, mut reader) = decoder(&twice[..]).unwrap();
        text.clear();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((format, &text[..]), (Format::Xz, "some textsome text"));
        assert_eq!(Format::detect(b"\x50\x2a\x4d\x18"), Format::Zstd);
        assert_eq!(Format::detect(b""), Format::Plain);
    }

    #[test]
    fn tar_is_known_by_content() {
        let mut tar = crate::tar::TarWriter::new(Vec::new());
        tar.header(&crate::tar::Entry::new(crate::tar::EntryKind::Directory, "d")).unwrap();
        let (bytes, _) = tar.finish().unwrap();
        assert_eq!(sniff_tar(&bytes[..]).unwrap(), Some(Format::Plain));
        let gzip = encode(&bytes, Compression::Gzip, 100);
        assert_eq!(sniff_tar(&gzip[..]).unwrap(), Some(Format::Gzip));
        assert_eq!(sniff_tar(&encode(b"text", Compression::Gzip, 100)[..]).unwrap(), None);
        assert_eq!(sniff_tar(&b"short"[..]).unwrap(), None);
        assert_eq!(sniff_tar(&[0_u8; 4096][..]).unwrap(), None);
    }
}

//! PEM and as much of DER as keys and certificates need. Only definite, shortest lengths; everything is bounded by the
//! input.

use super::json::{Parsed, shorten};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One block of PEM.
pub(super) struct Pem {
    pub(super) label: String,
    pub(super) bytes: Vec<u8>,
}

/// All blocks of a text; what stands between them is passed over.
pub(super) fn pem(text: &[u8]) -> Parsed<Vec<Pem>> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no PEM text".to_owned())?;
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut body = String::new();
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                // headers such as `Proc-Type: 4,ENCRYPTED`
                Some(line) if line.contains(':') => {
                    return Err(format!(
                        "PEM block {:?} has headers, which are not supported",
                        shorten(label)
                    ));
                }
                Some(line) => body.push_str(line),
                None => return Err(format!("PEM block {:?} has no end", shorten(label))),
            }
        }
        let bytes = STANDARD
            .decode(&body)
            .map_err(|_| format!("PEM block {:?} is not valid base64", shorten(label)))?;
        blocks.push(Pem { label: label.to_owned(), bytes });
    }
    Ok(blocks)
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const BOOLEAN: u8 = 0x01;

/// The rest of some DER.
#[derive(Clone, Copy)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content.
    pub(super) fn any(&mut self) -> Parsed<(u8, &'a [u8])> {
        let cut = || "DER is cut off".to_owned();
        let (&tag, rest) = self.0.split_first().ok_or_else(cut)?;
        if tag & 0x1f == 0x1f {
            return Err("DER has a long tag".to_owned());
        }
        let (&first, mut rest) = rest.split_first().ok_or_else(cut)?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) || rest.len() < count {
                return Err("DER has a length that is not valid".to_owned());
            }
            length = rest[..count].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            if length < 0x80 || rest[0] == 0 {
                return Err("DER has a length that is not the shortest".to_owned());
            }
            rest = &rest[count..];
        }
        if rest.len() < length {
            return Err(cut());
        }
        let (content, rest) = rest.split_at(length);
        self.0 = rest;
        Ok((tag, content))
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Parsed<&'a [u8]> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            (found, _) => Err(format!("DER has tag {found:#04x}, not {tag:#04x}")),
        }
    }

    /// The content of the next element, if it has this tag.
    pub(super) fn take_if(&mut self, tag: u8) -> Parsed<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) { self.take(tag).map(Some) } else { Ok(None) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(self) -> Parsed<()> {
        if self.0.is_empty() { Ok(()) } else { Err("DER has more than it should".to_owned()) }
    }
}

/// The bytes of a bit string that has whole bytes.
pub(super) fn whole_bits(content: &[u8]) -> Parsed<&[u8]> {
    match content.split_first() {
        Some((0, bytes)) => Ok(bytes),
        _ => Err("a bit string has no whole bytes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lengths_are_exact() {
        assert_eq!(Der(&[0x30, 0]).any().unwrap(), (0x30, &[][..]));
        let long = [&[0x04, 0x81, 0x80][..], &[7; 128]].concat();
        assert_eq!(Der(&long).take(OCTET_STRING).unwrap().len(), 128);
        for bad in [
            &[0x30][..],
            &[0x30, 1],
            &[0x30, 0x80],
            &[0x30, 0x81, 1, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x1f, 0x81, 0],
        ] {
            assert!(Der(bad).any().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn blocks_are_found_between_text() {
        let text = b"x\n-----BEGIN A B-----\neHg=\n-----END A B-----\ny\n-----BEGIN C-----\r\neA==\r\n-----END C-----\r\n";
        let blocks = pem(text).unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!((blocks[0].label.as_str(), &blocks[0].bytes[..]), ("A B", &b"xx"[..]));
        assert!(pem(b"-----BEGIN A-----\neHg=\n").is_err());
        assert!(pem(b"-----BEGIN A-----\n%\n-----END A-----\n").is_err());
    }
}

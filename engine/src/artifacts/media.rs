//! The media type of a file, told from how it begins.
//!
//! The table follows the WHATWG's MIME sniffing standard, as far as it speaks of types that no script depends on.

/// Bytes that are looked at.
pub(super) const LOOKED_AT: usize = 512;

/// Beginnings of files, at an offset in bytes.
const SIGNATURES: [(usize, &[u8], &str); 25] = [
    (0, b"%PDF-", "application/pdf"),
    (0, b"%!PS-Adobe-", "application/postscript"),
    (0, b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
    (0, b"\xfe\xff", "text/plain; charset=utf-16be"),
    (0, b"\xff\xfe", "text/plain; charset=utf-16le"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"BM", "image/bmp"),
    (0, b"\0\0\x01\0", "image/x-icon"),
    (8, b"WEBPVP", "image/webp"),
    (8, b"WAVE", "audio/wave"),
    (8, b"AVI ", "video/avi"),
    (0, b"OggS\0", "application/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"MThd\0\0\0\x06", "audio/midi"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"\x1f\x8b\x08", "application/x-gzip"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (0, b"\0asm", "application/wasm"),
    (0, b"wOF2", "font/woff2"),
    (0, b"wOFF", "font/woff"),
    (0, b"OTTO", "font/otf"),
];

/// How a text of a type begins, in lower case, behind white space.
const MARKUP: [(&str, &str); 8] = [
    ("<!doctype html", "text/html; charset=utf-8"),
    ("<html", "text/html; charset=utf-8"),
    ("<head", "text/html; charset=utf-8"),
    ("<body", "text/html; charset=utf-8"),
    ("<script", "text/html; charset=utf-8"),
    ("<table", "text/html; charset=utf-8"),
    ("<!--", "text/html; charset=utf-8"),
    ("<?xml", "text/xml; charset=utf-8"),
];

/// The type of a file that begins like this.
pub(super) fn media_type(first: &[u8]) -> &'static str {
    let text = first.trim_ascii_start();
    for (begin, kind) in MARKUP {
        let same = text.get(..begin.len()).is_some_and(|head| head.eq_ignore_ascii_case(begin.as_bytes()));
        let ends = matches!(text.get(begin.len()), Some(b' ' | b'>' | b'\n' | b'\t' | b'\r'));
        if same && (ends || kind.starts_with("text/xml") || begin == "<!--") {
            return kind;
        }
    }
    for (at, bytes, kind) in SIGNATURES {
        let riff = at == 0 || first.starts_with(b"RIFF");
        if riff && first.get(at..).is_some_and(|rest| rest.starts_with(bytes)) {
            return kind;
        }
    }
    let binary = |byte: &u8| matches!(byte, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if first.iter().any(binary) { "application/octet-stream" } else { "text/plain; charset=utf-8" }
}

#[cfg(test)]
mod tests {
    use super::media_type;

    #[test]
    fn types_by_the_first_bytes() {
        for (bytes, kind) in [
            (b"".as_slice(), "text/plain; charset=utf-8"),
            (b"hello\n", "text/plain; charset=utf-8"),
            (b"{\"a\": 1}", "text/plain; charset=utf-8"),
            (b"\x7fELF\x02\x01\x01\0", "application/octet-stream"),
            (b"\x1f\x8b\x08\0", "application/x-gzip"),
            (b" \n<!DOCTYPE HTML>", "text/html; charset=utf-8"),
            (b"<?xml version=\"1.0\"?>", "text/xml; charset=utf-8"),
            (b"<tables", "text/plain; charset=utf-8"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
            (b"\0asm\x01\0\0\0", "application/wasm"),
        ] {
            assert_eq!(media_type(bytes), kind, "{bytes:?}");
        }
    }
}

//! JSON arrays of strings, with the place of each string.

use super::source::Spanned;
use super::words::Args;

/// What a text that may be a JSON array is.
pub(super) enum Array {
    /// An array of strings.
    Strings(Vec<Spanned<String>>),
    /// JSON, but with something else than strings in it.
    Mixed,
    /// No JSON: the text means itself.
    No,
}

pub(super) fn read(args: &Args<'_>) -> Array {
    if !args.text().starts_with('[') {
        return Array::No;
    }
    let mut reader = Reader { args, bytes: args.text().as_bytes(), position: 1 };
    if let Some(strings) = reader.strings() {
        return Array::Strings(strings);
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(args.text()) {
        Ok(values) if values.iter().any(|value| !value.is_string()) => Array::Mixed,
        _ => Array::No,
    }
}

struct Reader<'a> {
    args: &'a Args<'a>,
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn strings(&mut self) -> Option<Vec<Spanned<String>>> {
        let mut strings = Vec::new();
        self.blanks();
        if self.take(b']') {
            return self.at_end().then_some(strings);
        }
        loop {
            self.blanks();
            let start = self.position;
            let value = self.string()?;
            strings.push(Spanned::new(value, self.args.span(start, self.position)));
            self.blanks();
            if self.take(b']') {
                return self.at_end().then_some(strings);
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn blanks(&mut self) {
        while matches!(self.bytes.get(self.position), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.position += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.position) == Some(&byte);
        self.position += usize::from(found);
        found
    }

    fn at_end(&mut self) -> bool {
        self.blanks();
        self.position == self.bytes.len()
    }

    fn string(&mut self) -> Option<String> {
        if !self.take(b'"') {
            return None;
        }
        let mut result = String::new();
        let text = self.args.text();
        loop {
            let char = text.get(self.position..)?.chars().next()?;
            self.position += char.len_utf8();
            match char {
                '"' => return Some(result),
                '\\' => {
                    let escape = *self.bytes.get(self.position)?;
                    self.position += 1;
                    result.push(match escape {
                        b'"' | b'\\' | b'/' => char::from(escape),
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.unicode()?,
                        _ => return None,
                    });
                }
                char if char < ' ' => return None,
                char => result.push(char),
            }
        }
    }

    /// The character of `\uXXXX`; half of a surrogate pair becomes the replacement character, as in Go.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex()?;
        if let Some(char) = char::from_u32(high) {
            return Some(char);
        }
        let back = self.position;
        if (0xd800..0xdc00).contains(&high) && self.take(b'\\') && self.take(b'u') {
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            }
        }
        self.position = back;
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.args.text().get(self.position..self.position + 4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.position += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}

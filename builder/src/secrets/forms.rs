//! The ways to write a value.

use super::Form;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Longest pattern, bytes. Of a longer value its middle is looked for.
const LONGEST: usize = 4096;
/// Length of the windows into which base64 and hexadecimal are cut; less than the lines of any program that breaks them.
const WINDOW: usize = 28;

/// All forms of a value.
pub(super) fn of(value: &[u8]) -> Vec<(Form, Vec<u8>)> {
    let value = middle(value, LONGEST);
    let mut forms = vec![(Form::Raw, value.to_vec())];
    for shift in 0..3 {
        for text in [base64(&STANDARD_NO_PAD, value, shift), base64(&URL_SAFE_NO_PAD, value, shift)] {
            forms.extend(windows(&text).map(|window| (Form::Base64, window.to_vec())));
        }
    }
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        let text = hex(value, digits);
        forms.extend(windows(&text).map(|window| (Form::Hex, window.to_vec())));
    }
    // RFC 3986, what JavaScript's encodeURIComponent keeps beside it, and forms, where a space is a plus.
    for (kept, space) in [("-_.~", "%20"), ("-_.~!*'()", "%20"), ("-_.*", "+"), ("-_.~/", "%20")] {
        for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            forms.push((Form::Url, url(value, kept, space, digits)));
        }
    }
    forms
}

fn middle(bytes: &[u8], length: usize) -> &[u8] {
    let length = length.min(bytes.len());
    let start = (bytes.len() - length) / 2;
    &bytes[start..start + length]
}

/// The characters that the value alone determines when `shift` other bytes stand before it in its group of three.
fn base64(engine: &impl base64::Engine, value: &[u8], shift: usize) -> Vec<u8> {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(value);
    let text = engine.encode(&bytes).into_bytes();
    let first = (shift * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    text[first..last].to_vec()
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    value.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

fn url(value: &[u8], kept: &str, space: &str, digits: &[u8; 16]) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in value {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            text.push(byte);
        } else if byte == b' ' {
            text.extend_from_slice(space.as_bytes());
        } else {
            text.push(b'%');
            text.extend(hex(&[byte], digits));
        }
    }
    text
}

/// The text as it is, or two windows side by side in its middle.
fn windows(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let long = text.len() >= 2 * WINDOW;
    let pair = middle(text, 2 * WINDOW);
    let (first, second) = if long { pair.split_at(WINDOW) } else { (text, text) };
    std::iter::once(first).chain(long.then_some(second))
}

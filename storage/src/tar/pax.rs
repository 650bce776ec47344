//! PAX extended header records: `LENGTH KEY=VALUE\n`, where the length counts itself.

use super::error::HeaderFault;
use super::read::Timestamp;

/// Prefix of the keys that carry extended attributes.
pub const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// One record, as raw bytes: values may hold newlines and NULs.
pub type Record = (Vec<u8>, Vec<u8>);

/// Parses the records of one extended header, in order.
pub fn parse(mut data: &[u8]) -> Result<Vec<Record>, HeaderFault> {
    let mut records = Vec::new();
    while !data.is_empty() {
        // Some writers pad with NULs.
        if data.iter().all(|b| *b == 0) {
            break;
        }
        let space = data.iter().take(20).position(|b| *b == b' ').ok_or(HeaderFault::PaxRecord)?;
        let length = decimal(&data[..space]).ok_or(HeaderFault::PaxRecord)?;
        let length = usize::try_from(length).map_err(|_| HeaderFault::PaxRecord)?;
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err(HeaderFault::PaxRecord);
        }
        let body = &data[space + 1..length - 1];
        let equals = body.iter().position(|b| *b == b'=').ok_or(HeaderFault::PaxRecord)?;
        if equals == 0 {
            return Err(HeaderFault::PaxRecord);
        }
        records.push((body[..equals].to_vec(), body[equals + 1..].to_vec()));
        data = &data[length..];
    }
    Ok(records)
}

/// Appends one record.
pub fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + digits(body);
    if digits(length) + body != length {
        length = body + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(value: usize) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Parses an unsigned decimal number.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|d| *d <= 9)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Parses a time in seconds with an optional fraction, possibly negative.
pub fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|b| *b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let seconds = if whole.is_empty() { 0 } else { i64::try_from(decimal(whole)?).ok()? };
    let mut nanoseconds = 0_u32;
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit.checked_sub(b'0').filter(|d| *d <= 9)?);
    }
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp { seconds: -seconds, nanoseconds },
        // The kernel counts nanoseconds upwards from a second that is lower.
        (true, _) => Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// Renders a time; the fraction without trailing zeros, so that one time has one spelling.
pub fn render_time(time: Timestamp) -> String {
    let (sign, seconds, nanoseconds) = if time.seconds < 0 && time.nanoseconds > 0 {
        ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanoseconds)
    } else if time.seconds < 0 {
        ("-", time.seconds.unsigned_abs(), 0)
    } else {
        ("", time.seconds.unsigned_abs(), time.nanoseconds)
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{nanoseconds:09}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        for length in 0..1200 {
            let mut out = Vec::new();
            push(&mut out, b"k", &vec![b'\n'; length]);
            push(&mut out, b"other", b"a=b");
            let records = parse(&out).unwrap();
            assert_eq!(records[0].1.len(), length);
            assert_eq!(records[1], (b"other".to_vec(), b"a=b".to_vec()));
        }
    }

    #[test]
    fn times_have_one_spelling() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("12.5", 12, 500_000_000),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.000000001", -1, 999_999_999),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
        ] {
            let want = Timestamp { seconds, nanoseconds };
            assert_eq!(time(text.as_bytes()), Some(want));
            assert_eq!(render_time(want), text);
        }
        for bad in ["", ".", "1.x", "--1", "1e3", "99999999999999999999"] {
            assert_eq!(time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn malformed_records() {
        for bad in
            [&b"5"[..], b"999 a=b\n", b"6 a=bc\n", b"4 =\n\n", b"x a=b\n", b"6 abcd", b"0 a=b\n", b"3 \n"]
        {
            assert_eq!(parse(bad), Err(HeaderFault::PaxRecord), "{bad:?}");
        }
    }
}

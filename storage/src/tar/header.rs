//! Number fields of header blocks.

use super::error::HeaderFault;

/// Size of a block, in bytes.
pub const BLOCK: usize = 512;

/// Parses a number field: octal text with blanks or NULs around it, or base 256 when the top bit is set.
/// An empty field is 0, as every reader has it.
pub fn parse_number(field: &[u8], name: &'static str) -> Result<i64, HeaderFault> {
    let fault = HeaderFault::Number(name);
    let first = *field.first().ok_or(fault)?;
    if first & 0x80 != 0 {
        // Two's complement over the whole field without its top bit.
        let negative = first & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let mut byte = *byte;
            if at == 0 {
                byte = if negative { byte | 0x80 } else { byte & 0x7f };
            }
            if !((i64::MIN >> 8)..=(i64::MAX >> 8)).contains(&value) {
                return Err(fault);
            }
            value = (value << 8) | i64::from(byte);
        }
        return Ok(value);
    }
    let text = field.trim_ascii_start();
    let end = text.iter().position(|b| *b == 0 || *b == b' ').unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    // Old writers pad with NULs in front of nothing, or leave bytes after the first NUL.
    if rest.first() == Some(&b' ') && rest.iter().any(|b| *b != b' ' && *b != 0) {
        return Err(fault);
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) || value > (i64::MAX >> 3) {
            return Err(fault);
        }
        value = (value << 3) | i64::from(digit - b'0');
    }
    Ok(value)
}

/// Writes `value` as octal with a closing NUL; false when it does not fit.
pub fn write_octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    if digits < 21 && value >> (3 * digits) != 0 {
        return false;
    }
    let mut rest = value;
    for slot in field[..digits].iter_mut().rev() {
        *slot = b'0' + u8::try_from(rest & 7).unwrap_or(0);
        rest >>= 3;
    }
    field[digits] = 0;
    true
}

/// Checks the block's sum, taken over unsigned bytes or, as very old writers did, over signed ones.
pub fn checksum_matches(block: &[u8; BLOCK]) -> bool {
    let Ok(want) = parse_number(&block[148..156], "checksum") else { return false };
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    want == unsigned || want == signed
}

/// Bytes of a text field up to its first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"12x\0", None),
            (b"12 9", None),
            (b"-1\0", None),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(parse_number(field, "f").ok(), want, "{field:?}");
        }
    }

    #[test]
    fn octal_round_trip() {
        let mut field = [0; 8];
        assert!(write_octal(&mut field, 0o7_777_777));
        assert_eq!(parse_number(&field, "f").unwrap(), 0o7_777_777);
        assert!(!write_octal(&mut field, 0o10_000_000));
    }
}

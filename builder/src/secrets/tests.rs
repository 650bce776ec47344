#![allow(clippy::unwrap_used)]
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

fn search(value: &[u8]) -> Search {
    Search::new(&[("token".to_owned(), value.to_vec())].into()).unwrap()
}

#[test]
fn each_form_is_found_and_named() {
    let value = b"p?ss>w~rd /+\xff!";
    let search = search(value);
    let hex = |upper: bool| -> String {
        value.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    let cases: [(Vec<u8>, Form); 8] = [
        (value.to_vec(), Form::Raw),
        (STANDARD.encode(value).into(), Form::Base64),
        (STANDARD.encode([b"user:", &value[..]].concat()).into(), Form::Base64),
        (URL_SAFE.encode([b"x", &value[..], b"yz"].concat()).into(), Form::Base64),
        (hex(false).into(), Form::Hex),
        (hex(true).into(), Form::Hex),
        (b"p%3Fss%3Ew~rd%20%2F%2B%FF%21".to_vec(), Form::Url),
        (b"p%3fss%3ew%7erd+%2f%2b%ff%21".to_vec(), Form::Url),
    ];
    for (text, form) in cases {
        let found = search.find(&[b"before ", &text[..], b" after"].concat()).unwrap();
        assert_eq!((found.id.as_str(), found.form), ("token", form), "{}", String::from_utf8_lossy(&text));
    }
    for innocent in ["p?ss>w~rd", "cD9zcz53fnJk", "", "703f73733e"] {
        assert_eq!(search.find(innocent.as_bytes()), None, "{innocent}");
    }
}

#[test]
fn text_broken_into_lines_is_found() {
    let value: Vec<u8> = (0..200u8).map(|number| number.wrapping_mul(37) ^ 0x5a).collect();
    let search = search(&value);
    for width in [60, 64, 76] {
        for before in 0..3 {
            let mut bytes = vec![b'x'; before];
            bytes.extend_from_slice(&value);
            for text in [STANDARD.encode(&bytes), bytes.iter().map(|byte| format!("{byte:02x}")).collect()] {
                let lines: Vec<&str> =
                    text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
                assert!(search.find(lines.join("\n").as_bytes()).is_some(), "{width} {before}");
            }
        }
    }
}

#[test]
fn short_and_empty_values_are_told_not_looked_for() {
    let secrets: Secrets = [
        ("a".to_owned(), b"12345\n".to_vec()),
        ("b".to_owned(), Vec::new()),
        ("c".to_owned(), b"123456".to_vec()),
    ]
    .into();
    assert_eq!(too_short(&secrets), ["a", "b"]);
    let search = Search::new(&secrets).unwrap();
    assert_eq!(search.find(b"12345"), None);
    assert_eq!(search.find(b"x123456").map(|found| (found.id, found.offset)), Some(("c".to_owned(), 1)));
    assert!(Search::new(&[("a".to_owned(), b"x".to_vec())].into()).is_none());
}

#[test]
fn many_and_very_long_values() {
    let secrets: Secrets = (0..60)
        .map(|number| (format!("s{number}"), format!("value {number:04} of a secret").into_bytes()))
        .chain([("long".to_owned(), (0..50_000u32).flat_map(|number| number.to_le_bytes()).collect())])
        .collect();
    let search = Search::new(&secrets).unwrap();
    let mut stream = search.stream();
    for piece in secrets["long"].chunks(1000) {
        stream.push(piece);
    }
    assert_eq!(stream.finish().unwrap().id, "long");
    assert_eq!(search.find(b"...value 0042 of a secret").unwrap().id, "s42");
    assert_eq!(search.redact("a value 0007 of a secret, and value 0008 of a secret"), "a ***, and ***");
    assert_eq!(search.redact("nothing"), "nothing");
    assert_eq!(search.redact_path("a/value 0008 of a secret.txt"), "a/***.txt");
    // The ends of an encoded value are not determined by it alone, and are left out all the same.
    let text = format!("x-{}-y", STANDARD.encode("ab value 0008 of a secret"));
    assert_eq!(search.redact(&text), "x-***-y");
}

#[test]
fn nothing_of_a_value_is_printed() {
    assert!(!format!("{:?}", search(b"s3cr3t-value")).contains("s3cr3t"));
}

proptest! {
    /// However a stream is cut, the same is found at the same place.
    #[test]
    fn pieces_make_no_difference(
        before in proptest::collection::vec(any::<u8>(), 0..300),
        after in proptest::collection::vec(any::<u8>(), 0..300),
        form in 0usize..3,
        cuts in proptest::collection::vec(1usize..60, 1..40),
    ) {
        let value = b"correct horse battery";
        let text = match form {
            0 => value.to_vec(),
            1 => STANDARD.encode(value).into_bytes(),
            _ => value.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
        };
        let bytes = [&before[..], &text[..], &after[..]].concat();
        let search = search(value);
        let mut stream = search.stream();
        let mut rest = &bytes[..];
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            stream.push(piece);
            rest = next;
        }
        prop_assert_eq!(stream.finish().unwrap().offset, before.len() as u64);
    }
}

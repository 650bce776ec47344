#![allow(clippy::unwrap_used)]
use super::*;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "A" => "value",
        "EMPTY" => "",
        "PATH" => "/usr/bin:/bin",
        "FILE" => "dir/archive.tar.gz",
        "STAR" => "a*b*c",
        "TWO" => "one  two",
        _ => return None,
    };
    Some(value.to_owned())
}

fn expanded(text: &str) -> Result<String, String> {
    let word = Word::new(text, Span::new(0, text.len()), Escape::Backslash);
    word.expand(&lookup).map_err(|error| error.message)
}

#[test]
fn values() {
    let cases = [
        ("plain", "plain"),
        ("$A", "value"),
        ("${A}", "value"),
        ("x${A}y", "xvaluey"),
        ("$A/b", "value/b"),
        ("$NONE", ""),
        ("${NONE}x", "x"),
        ("$", "$"),
        ("a$", "a$"),
        ("$ A", "$ A"),
        ("$1x", "x"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ("\"$A\"", "value"),
        ("\"\\$A\"", "$A"),
        ("\"a\\b\"", "a\\b"),
        ("a\\b", "ab"),
        ("\"it's\"", "it's"),
        ("'say \"x\"'", "say \"x\""),
        ("a\"b c\"d'e'", "ab cde"),
        ("trailing\\", "trailing"),
        // With a default.
        ("${A:-w}", "value"),
        ("${EMPTY:-w}", "w"),
        ("${EMPTY-w}", ""),
        ("${NONE:-w}", "w"),
        ("${NONE-w}", "w"),
        ("${NONE:-}", ""),
        ("${NONE:-a b}", "a b"),
        ("${NONE:-\"a}b\"}", "a}b"),
        ("${NONE:-a\\}b}", "a}b"),
        ("${NONE:-$A}", "value"),
        ("${NONE:-${EMPTY:-${A}x}y}z", "valuexyz"),
        ("${NONE:-'$A'}", "$A"),
        // With an alternative.
        ("${A:+w}", "w"),
        ("${EMPTY:+w}", ""),
        ("${EMPTY+w}", "w"),
        ("${NONE+w}", ""),
        // Required.
        ("${A:?w}", "value"),
        ("${EMPTY?w}", ""),
        ("${A:-${NONE:?never evaluated}}", "value"),
        // Trimmed.
        ("${FILE#*/}", "archive.tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE#*.}", "tar.gz"),
        ("${FILE%.*}", "dir/archive.tar"),
        ("${FILE%%.*}", "dir/archive"),
        ("${FILE#dir?}", "archive.tar.gz"),
        ("${FILE#x}", "dir/archive.tar.gz"),
        ("${FILE#$NONE}", "dir/archive.tar.gz"),
        ("${FILE%%*}", ""),
        ("${FILE%*}", "dir/archive.tar.gz"),
        ("${STAR#a\\*}", "b*c"),
        ("${STAR##*\\*}", "c"),
        ("${NONE#x}", ""),
        // Replaced.
        ("${PATH/bin/sbin}", "/usr/sbin:/bin"),
        ("${PATH//bin/sbin}", "/usr/sbin:/sbin"),
        ("${PATH//\\//-}", "-usr-bin:-bin"),
        ("${PATH/:*/}", "/usr/bin"),
        ("${PATH//?in/x}", "/usr/x:/x"),
        ("${PATH/nothing/x}", "/usr/bin:/bin"),
        ("${A//?/.}", "....."),
        ("${A//*/x}", "x"),
        ("${EMPTY//*/x}", "x"),
        ("${A/v/$EMPTY}", "alue"),
        ("${NONE/a/b}", ""),
    ];
    for (text, value) in cases {
        assert_eq!(expanded(text).as_deref(), Ok(value), "{text}");
    }
}

#[test]
fn errors() {
    let cases = [
        ("${", "missing `}`"),
        ("${A", "missing `}`"),
        ("${}", "name is missing"),
        ("${:-x}", "name is missing"),
        ("${A:-x", "missing `}`"),
        ("${A:=x}", "unsupported operator `:=`"),
        ("${A^}", "unsupported operator `^`"),
        ("${A b}", "unsupported operator ` `"),
        ("${A/b}", "missing `/`"),
        ("${A/b/c", "missing `}`"),
        ("${A#\\q}", "invalid escape `\\q`"),
        ("\"a", "missing double quote"),
        ("'a", "missing single quote"),
        ("${NONE:?please set it}", "NONE: please set it"),
        ("${NONE?}", "NONE: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
    ];
    for (text, part) in cases {
        let error = expanded(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn an_error_points_at_the_substitution() {
    let word = Word::new("abc${NONE:?x}def", Span::new(10, 26), Escape::Backslash);
    assert_eq!(word.expand(&lookup).unwrap_err().span, Span::new(13, 23));
    // Not where the word was joined from several lines.
    let word = Word::new("abc${NONE:?x}def", Span::new(10, 30), Escape::Backslash);
    assert_eq!(word.expand(&lookup).unwrap_err().span, Span::new(10, 30));
}

#[test]
fn the_other_escape_character() {
    let word =
        |text: &str| Word::new(text, Span::new(0, text.len()), Escape::Backtick).expand(&lookup).unwrap();
    assert_eq!(word("`$A"), "$A");
    assert_eq!(word("c:\\$A"), "c:\\value");
    assert_eq!(word("\"`\"\""), "\"");
}

#[test]
fn words_are_split_at_blanks_that_are_not_quoted() {
    let words = |text: &str| {
        Word::new(text, Span::new(0, text.len()), Escape::Backslash).expand_words(&lookup).unwrap()
    };
    assert_eq!(words("$TWO"), ["one", "two"]);
    assert_eq!(words("\"$TWO\""), ["one  two"]);
    assert_eq!(words("x${TWO}y"), ["xone", "twoy"]);
    assert_eq!(words("a\\ b"), ["a b"]);
    assert!(words("$NONE").is_empty());
}

#[test]
fn unset_variables_are_told() {
    let all = |text: &str| {
        Word::new(text, Span::new(0, text.len()), Escape::Backslash).expand_all(&lookup).unwrap()
    };
    let expanded = all("$A $NONE ${OTHER:-$THIRD} ${FOURTH+$FIFTH} ${SIXTH#x}");
    assert_eq!(expanded.used.into_iter().collect::<Vec<_>>(), ["A"]);
    assert_eq!(expanded.unset.into_iter().collect::<Vec<_>>(), ["NONE", "SIXTH", "THIRD"]);
}

#[test]
fn quotes_in_bodies_are_characters() {
    let body = |text: &str| {
        expand(text, Escape::Backslash, Quotes::Kept, Span::new(0, text.len()), &lookup).unwrap().value
    };
    assert_eq!(body("'$A' \"$A\" \\$A it's\n"), "'value' \"value\" $A it's\n");
}

#[test]
fn values_cannot_explode() {
    let big = "x".repeat(MAX_VALUE / 4);
    let text = "$A$A$A$A$A";
    let word = Word::new(text, Span::new(0, text.len()), Escape::Backslash);
    let error = word.expand(&|_| Some(big.clone())).unwrap_err();
    assert!(error.message.contains("larger than"), "{}", error.message);
    let text = "${A//x/$B}";
    let word = Word::new(text, Span::new(0, text.len()), Escape::Backslash);
    let error = word.expand(&|_| Some("x".repeat(100_000))).unwrap_err();
    assert!(error.message.contains("larger than"), "{}", error.message);
    let deep = "${A:-".repeat(1000);
    let word = Word::new(deep.clone(), Span::new(0, deep.len()), Escape::Backslash);
    assert!(word.expand(&lookup).unwrap_err().message.contains("nested"));
}

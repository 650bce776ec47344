#![allow(clippy::unwrap_used)]
use super::*;

fn ignored(patterns: &str, path: &str) -> bool {
    Ignore::parse(patterns).unwrap().is_ignored(path.as_bytes())
}

#[test]
fn one_pattern() {
    let cases = [
        // pattern, ignored, seen
        ("a", vec!["a", "a/b", "a/b/c"], vec!["b", "b/a", "ab"]),
        ("/a", vec!["a"], vec!["b/a"]),
        ("./a/", vec!["a", "a/b"], vec!["b"]),
        ("a/../b", vec!["b"], vec!["a"]),
        ("a/b", vec!["a/b", "a/b/c"], vec!["a", "a/c"]),
        ("*.o", vec!["x.o", "x.o/y", ".o"], vec!["d/x.o", "x.ob"]),
        ("*", vec!["a", "a/b", ".hidden"], vec![]),
        ("*/*", vec!["a/b", "a/b/c"], vec!["a"]),
        ("a?c", vec!["abc", "aéc"], vec!["ac", "a/c", "abbc"]),
        ("[a-c]x", vec!["ax", "cx"], vec!["dx", "x"]),
        ("[^a-c]x", vec!["dx"], vec!["ax", "/x"]),
        ("a\\*b", vec!["a*b"], vec!["axb"]),
        ("a[]-]", vec![], vec![]),
        ("**", vec!["a", "a/b"], vec![]),
        ("**/a", vec!["a", "b/a", "b/c/a", "b/a/x"], vec!["ba", "b/ca"]),
        ("**/*.o", vec!["x.o", "a/x.o", "a/b/x.o"], vec!["x.c"]),
        ("a/**", vec!["a/b", "a/b/c"], vec!["a", "ab"]),
        ("a/**/b", vec!["a/b", "a/x/b", "a/x/y/b"], vec!["a/xb", "b", "ab"]),
        ("**/a/**", vec!["a/b", "x/a/b"], vec!["a", "x/a", "xa/b"]),
        ("**.o", vec!["x.o", "a/x.o"], vec!["x.c"]),
        ("**/a*b", vec!["ab", "x/axb"], vec!["x/ac", "a/b"]),
        ("*/a/**/[xy].c", vec!["q/a/x.c", "q/a/b/c/y.c"], vec!["a/x.c", "q/a/z.c"]),
        (".git", vec![".git", ".git/config"], vec!["a/.git", ".gitignore"]),
        (".", vec![], vec!["a"]),
        ("a+(b)|c^$", vec!["a+(b)|c^$"], vec!["a"]),
        ("# no comment\n #x", vec!["#x"], vec!["x"]),
        ("  spaced  ", vec!["spaced"], vec![]),
        ("a b", vec!["a b"], vec!["a", "b"]),
        ("\u{feff}a", vec!["a"], vec![]),
        ("a\r\nb\r\n", vec!["a", "b"], vec![]),
    ];
    for (pattern, yes, no) in cases {
        let Ok(ignore) = Ignore::parse(pattern) else {
            assert!(yes.is_empty() && no.is_empty(), "{pattern} is refused");
            continue;
        };
        for path in yes {
            assert!(ignore.is_ignored(path.as_bytes()), "{pattern:?} ignores {path:?}");
        }
        for path in no {
            assert!(!ignore.is_ignored(path.as_bytes()), "{pattern:?} does not ignore {path:?}");
        }
    }
}

#[test]
fn the_last_line_that_matches_decides() {
    assert!(!ignored("*\n!a", "a"));
    assert!(ignored("*\n!a", "b"));
    assert!(ignored("!a\n*", "a"));
    assert!(!ignored("*.md\n!README*.md", "README-x.md"));
    assert!(ignored("*.md\n!README*.md\nREADME-secret.md", "README-secret.md"));
    assert!(!ignored("dir\n!dir/keep", "dir/keep"));
    assert!(!ignored("dir\n!dir/keep", "dir/keep/below"));
    assert!(ignored("dir\n!dir/keep", "dir/other"));
    assert!(ignored("dir\n!dir/keep\ndir", "dir/keep"));
    assert!(!ignored("*\n! a ", "a/b"));
}

#[test]
fn bad_patterns_are_named_with_their_line() {
    for (text, line) in [("a\n[", 2), ("!", 1), ("a\\", 1), ("\n\n[]", 3), ("[b-a]", 1), ("[a-", 1)] {
        assert_eq!(Ignore::parse(text).unwrap_err().line, line, "{text:?}");
    }
}

#[test]
fn a_walk_enters_ignored_directories_only_where_something_may_be_seen() {
    let enters = |patterns: &str, path: &str| {
        let ignore = Ignore::parse(patterns).unwrap();
        let mut verdict = ignore.root();
        let parts: Vec<&str> = path.split('/').collect();
        for length in 1..=parts.len() {
            verdict = ignore.child(&verdict, parts[..length].join("/").as_bytes());
        }
        ignore.may_reinclude(&verdict, path.as_bytes())
    };
    assert!(!enters("node_modules", "node_modules"));
    assert!(enters("*\n!src/main", "src"));
    assert!(!enters("*\n!src/main", "other"));
    assert!(!enters("*\n!src/main", "srcx"));
    assert!(enters("*\n!**/keep", "other"));
    assert!(enters("*\n!a/*/c", "a"));
    assert!(enters("*\n!a/*/c", "a/b"));
    assert!(!enters("*\n!a/*/c", "b"));
    assert!(enters("*\n!a/**", "a"));
    assert!(!enters("!a/keep\n*", "a"));
}

#[test]
fn paths_need_not_be_text() {
    let ignore = Ignore::parse("a?\n*.o").unwrap();
    assert!(ignore.is_ignored(b"a\xff"));
    assert!(ignore.is_ignored(b"\xfe\xff.o"));
    assert!(!ignore.is_ignored(b"b\xff"));
}

#[test]
fn many_rules_and_long_patterns() {
    let many: String = (0..200).map(|number| format!("dir{number}\n")).collect();
    assert!(ignored(&many, "dir150/x/y"));
    assert!(!ignored(&format!("{many}!dir150/x"), "dir150/x/y"));
    let long = format!("{}*{}", "a".repeat(200), "b".repeat(50));
    assert!(ignored(&long, &format!("{}xyz{}", "a".repeat(200), "b".repeat(50))));
    assert!(!ignored(&long, &format!("{}xyz{}", "a".repeat(200), "b".repeat(49))));
    // No way through the pattern is tried twice.
    let hostile = format!("{}c", "**/*a".repeat(40));
    assert!(!ignored(&hostile, &"a/".repeat(300).replace("a/", "a/a/b/")));
}

#[test]
fn fifty_thousand_files() {
    let patterns = "node_modules\n**/*.o\n*.log\n!keep.log\n.git\ndocs/**\nbuild/*/tmp\n**/__pycache__\n**/.cache/**\ntarget\n";
    let ignore = Ignore::parse(patterns).unwrap();
    let mut seen = 0;
    for directory in 0..500 {
        let name = format!("directory-{directory}");
        let verdict = ignore.child(&ignore.root(), name.as_bytes());
        for file in 0..100 {
            let path = format!("{name}/file-{file}.{}", if file % 10 == 0 { "o" } else { "c" });
            seen += usize::from(!ignore.child(&verdict, path.as_bytes()).ignored());
        }
    }
    assert_eq!(seen, 45_000);
}

#[test]
fn which_files_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let touch = |name: &str| std::fs::write(at(name), "").unwrap();
    assert_eq!(find_containerfile(directory.path()), None);
    touch("Dockerfile");
    assert_eq!(find_containerfile(directory.path()), Some(at("Dockerfile")));
    touch("Containerfile");
    assert_eq!(find_containerfile(directory.path()), Some(at("Containerfile")));
    let found = || find_ignore_file(directory.path(), Some(&at("Containerfile")));
    assert_eq!(found(), None);
    for name in
        [".dockerignore", ".containerignore", "Containerfile.containerignore", "Containerfile.dockerignore"]
    {
        touch(name);
        assert_eq!(found(), Some(at(name)));
    }
    assert_eq!(find_ignore_file(directory.path(), None), Some(at(".containerignore")));
}

//! Files that are small and ask for much: an error or a result in seconds, and in memory that grows with the file.
//! With `FULL_SIZES=1` they are ten times as large: 100,000 instructions, lines of a megabyte.

use builder::ignore::Ignore;
use builder::testing;
use std::fmt::Write as _;
use std::time::Duration;

/// Of processor time, with unoptimised code; optimised it is a tenth.
const LIMIT: Duration = Duration::from_secs(15);

/// Processor time that this thread used.
pub(crate) fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
}

/// A number of things, or a tenth of it.
fn size(full: usize) -> usize {
    if std::env::var_os("FULL_SIZES").is_some() { full } else { full / 10 }
}

fn bounded(what: &str, text: &str) {
    let begin = used();
    testing::containerfile(text.as_bytes());
    testing::lower_stages(text.as_bytes());
    let elapsed = used() - begin;
    assert!(elapsed < LIMIT, "{what}: {elapsed:?}");
}

fn repeated(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn many_stages() {
    let chain = repeated(size(10_000), |n| match n {
        0 => "FROM base AS s0\nRUN x\n".to_owned(),
        n => format!("FROM s{} AS s{n}\nRUN x\n", n - 1),
    });
    bounded("10,000 stages, each on the one before", &chain);
    let fan = repeated(size(10_000), |n| {
        format!("FROM base AS s{n}\nRUN x\nCOPY --from={} x y\n", n.saturating_sub(1))
    });
    bounded("10,000 stages, each with a copy from the one before", &fan);
    let triggers = repeated(size(5_000), |n| format!("FROM trigger AS a\nENV A={n}\n"));
    bounded("5,000 stages whose triggers copy from the one before", &triggers);
    let inherited = repeated(size(5_000), |n| format!("ENV A{n}=1\n"));
    let heirs = repeated(size(5_000), |n| format!("FROM big AS s{n}\nRUN x\n"));
    let use_all = repeated(size(5_000), |n| format!("COPY --from=s{n} x y\n"));
    bounded(
        "5,000 heirs of a big stage",
        &format!("FROM base AS big\n{inherited}{heirs}FROM base\n{use_all}"),
    );
    let selves = repeated(size(10_000), |n| format!("FROM s{n} AS s{n}\nCOPY --from=s{n} a b\n"));
    bounded("10,000 stages that refer to themselves", &selves);
    let forward = repeated(size(5_000), |n| format!("FROM x AS s{n}\nCOPY --from=s{} a b\n", n + 1));
    bounded("references to later stages", &forward);
}

#[test]
fn many_instructions() {
    for line in [
        "RUN x\n",
        "COPY a b\n",
        "CMD x\n",
        "WORKDIR a\n",
        "LABEL a=$A\n",
        "USER 1\n",
        "ONBUILD RUN x\n",
        "run X\n",
    ] {
        bounded(&format!("100,000 × {line:?}"), &format!("FROM base\n{}", line.repeat(size(100_000))));
    }
    bounded(
        "100,000 ARGs",
        &format!("FROM base\n{}RUN x\n", repeated(size(100_000), |n| format!("ARG A{n}=$A{}\n", n / 2))),
    );
    bounded(
        "100,000 global ARGs",
        &format!("{}FROM base\n", repeated(size(100_000), |n| format!("ARG A{n}=1\n"))),
    );
    bounded("100,000 names of one ARG", &format!("FROM base\nARG{}\n", " a=$b".repeat(size(100_000))));
    bounded(
        "20,000 ENVs and RUNs in turn",
        &format!("FROM base\n{}", repeated(size(20_000), |n| format!("ENV A{n}=1\nRUN x\n"))),
    );
    bounded("100,000 comments", &format!("FROM base\n{}", "# a comment\nARG a\n".repeat(size(100_000))));
    bounded(
        "100,000 unset variables",
        &format!("FROM base\n{}", repeated(size(100_000), |n| format!("ENV B=${{NAME{n}}}\n"))),
    );
    bounded("ports", &format!("FROM base\n{}", "EXPOSE 1-65535\n".repeat(10_000)));
}

#[test]
fn values_that_double() {
    let double = repeated(40, |_| "ENV A=$A$A\n".to_owned());
    bounded("a value doubled 40 times", &format!("FROM base\nENV A=xxxxxxxx\n{double}"));
    let double = repeated(16, |_| "ENV A=$A$A\n".to_owned());
    let big = format!("FROM base\nENV A=xxxxxxxx\n{double}");
    for line in [
        "LABEL a=$A\n",
        "RUN x\n",
        "LABEL a=${A:+x}\n",
        "LABEL a=${A%%*a*b*c}\n",
        "ENV B=${A//x/y}\n",
        "ARG C=$A\n",
    ] {
        bounded(&format!("512 KiB in {line:?}"), &format!("{big}{}", line.repeat(10_000)));
    }
    bounded("512 KiB, 100,000 times in a line", &format!("{big}LABEL {}\n", "a=$A ".repeat(size(100_000))));
    let global = repeated(40, |_| "ARG A=$A$A\n".to_owned());
    bounded(
        "a global value doubled",
        &format!("ARG A=xxxxxxxx\n{global}{}FROM $A\n", "ARG B=$A\n".repeat(1_000)),
    );
    let pattern = format!("ENV B=${{A%%*{}b}}\n", "x".repeat(4_000));
    bounded("a long pattern on a long value", &format!("{big}{}", pattern.repeat(size(100))));
}

#[test]
fn long_lines() {
    let x = "x".repeat(size(1 << 20));
    for keyword in [
        "RUN",
        "COPY a",
        "FROM",
        "FROM a AS",
        "LABEL",
        "ENV",
        "NOTHING",
        "",
        "ARG",
        "EXPOSE",
        "#",
        "RUN --mount=",
    ] {
        bounded(&format!("1 MiB behind {keyword:?}"), &format!("FROM base\n{keyword} {x}\nRUN y\n"));
        bounded(&format!("1 MiB right behind {keyword:?}"), &format!("FROM base\n{keyword}{x}\nRUN y\n"));
    }
    for part in [
        "a ",
        "$",
        "${",
        "${a:-",
        "${a#",
        "\\",
        "\"",
        "'",
        "a=b ",
        "--x ",
        "--mount=type=bind ",
        "<<a ",
        "[\"",
        "[",
        ",",
        "=",
        "\u{0}",
        "é ",
        "\\\n",
        "# x\n",
        "<<a\na\n",
        "{",
    ] {
        let long = part.repeat(size(1 << 20) / part.len());
        for keyword in
            ["RUN", "COPY", "ENV", "LABEL", "NOTHING", "CMD", "VOLUME", "ONBUILD COPY", "ARG", "HEALTHCHECK"]
        {
            bounded(
                &format!("1 MiB of {part:?} behind {keyword}"),
                &format!("FROM base\n{keyword} {long}\n"),
            );
        }
        testing::heredoc(long.as_bytes());
        testing::expand(long.as_bytes());
    }
    let marks = "<<a ".repeat(size(100_000));
    bounded(
        "100,000 marks of an unknown instruction",
        &format!("FROM base\nNOTHING {marks}\n{}", "b\n".repeat(size(200_000))),
    );
    bounded(
        "100,000 here-documents",
        &format!("FROM base\nCOPY {marks} /x/\n{}", "a\n".repeat(size(100_000))),
    );
    let deep = format!("{}{}", "${a:-".repeat(size(200_000)), "}".repeat(size(200_000)));
    bounded("200,000 levels", &format!("FROM base\nENV A={deep}\nRUN x\n"));
}

#[test]
fn a_large_here_document() {
    let body = "0123456789abcde\n".repeat(size(50 << 16));
    let begin = used();
    testing::lower_stages(format!("FROM base\nRUN <<EOF\n{body}EOF\nCOPY <<EOF /x\n{body}EOF\n").as_bytes());
    assert!((used() - begin) < LIMIT, "{:?}", (used() - begin));
}

#[test]
fn many_patterns() {
    type Line = Box<dyn Fn(usize) -> String>;
    // Kind, how many of the 50,000 files are seen, and the lines.
    let left = 50_000 - size(100_000).min(50_000);
    let mut kinds: Vec<(&str, usize, Line)> = Vec::new();
    kinds.push(("names", left, Box::new(|n| format!("dir{}/file{n}\n", n % 500))));
    kinds.push(("names anywhere", left, Box::new(|n| format!("**/file{n}\n"))));
    kinds.push(("globs", 50_000, Box::new(|n| format!("dir{}/f*{n}.o\n", n % 500))));
    kinds.push((
        "exceptions",
        0,
        Box::new(|n| if n == 0 { "*\n".to_owned() } else { format!("!dir{}/f{n}\n", n % 500) }),
    ));
    kinds.push(("wildcards first", 0, Box::new(|n| format!("*{n}\n"))));
    for (what, expected, kind) in kinds {
        let begin = used();
        match Ignore::parse(&repeated(size(100_000), kind)) {
            Err(error) => assert!(error.to_string().contains("more than 5000 patterns"), "{error}"),
            Ok(ignore) => {
                let mut seen = 0;
                for directory in 0..500 {
                    let name = format!("dir{directory}");
                    let above = ignore.child(&ignore.root(), name.as_bytes());
                    let _ = ignore.may_reinclude(&above, name.as_bytes());
                    let mut path = String::new();
                    for file in 0..100 {
                        path.clear();
                        let _ = write!(path, "{name}/file{}", file * 500 + directory);
                        seen += usize::from(!ignore.child(&above, path.as_bytes()).ignored());
                    }
                }
                assert_eq!(seen, expected, "{what}");
            }
        }
        assert!((used() - begin) < LIMIT, "{what}: {:?}", (used() - begin));
    }
    let error = Ignore::parse(&"a".repeat(1 << 20)).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

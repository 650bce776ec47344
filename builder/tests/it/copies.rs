//! COPY and ADD rules, case by case, beside buildah where it is installed and means the same.

use crate::harness::{Lab, Options, require_root};
use std::process::Command;
use storage::Driver;

/// Makes the context of all cases.
const CONTEXT: &str = "
mkdir -p dir/sub/deep empty 'odd[1]' chmodded && chmod 750 dir/sub && chmod 711 chmodded
printf one > one; printf two > two; printf three > dir/three; printf four > dir/sub/four; printf x > 'odd[1]/x'
printf deep > dir/sub/deep/file; chmod 751 two; chmod 600 one; ln -s three dir/link; ln -s ../one dir/up
ln -s dir dirlink; ln -s one filelink; ln dir/three dir/hard; printf secret > dir/skip.log
touch -d '2001-02-03 04:05:06' one dir/three dir/sub dir; chown 12:34 one dir/sub
";

const LIST: &str = "cd $R && find . -mindepth 1 -printf '%p %y %m %U:%G %l\\n' | sed 's/ *$//' | sort && \
                    find . -type f | sort | xargs -r -d '\\n' grep -H . | sort";

struct Case {
    name: &'static str,
    text: &'static str,
    /// Whether buildah 1.28 leaves the same tree.
    same_in_buildah: bool,
    expected: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "a file to a name, and to a directory",
        text: "COPY one /a/b\nCOPY one two /c/\n",
        same_in_buildah: true,
        expected: "./a d 755 0:0|./a/b f 600 0:0|./c d 755 0:0|./c/one f 600 0:0|./c/two f 751 0:0|\
                   ./a/b:one|./c/one:one|./c/two:two",
    },
    Case {
        name: "of a directory the contents",
        text: "COPY dir /d\n",
        same_in_buildah: false, // buildah gives /d the mode and owner of the source
        expected: "./d d 755 0:0|./d/hard f 644 0:0|./d/link l 777 0:0 three|./d/skip.log f 644 0:0|./d/sub d 750 0:0|\
                   ./d/sub/deep d 755 0:0|./d/sub/deep/file f 644 0:0|./d/sub/four f 644 0:0|./d/three f 644 0:0|\
                   ./d/up l 777 0:0 ../one|./d/hard:three|./d/skip.log:secret|./d/sub/deep/file:deep|\
                   ./d/sub/four:four|./d/three:three",
    },
    Case {
        name: "an existing directory keeps its mode, one below it takes the source's",
        text: "COPY chmodded /p\nCOPY --chmod=700 empty /d/sub/deep\nCOPY dir/sub /d/sub\n",
        same_in_buildah: false,
        expected: "./d d 755 0:0|./d/sub d 755 0:0|./d/sub/deep d 755 0:0|./d/sub/deep/file f 644 0:0|\
                   ./d/sub/four f 644 0:0|./p d 755 0:0|./d/sub/deep/file:deep|./d/sub/four:four",
    },
    Case {
        name: "links: a source that is one is followed, one within a directory is kept",
        text: "COPY filelink /f\nCOPY dirlink /d/\nCOPY dirlink/link /g/\n",
        same_in_buildah: false, // the mode of /d
        expected: "./d d 755 0:0|./d/hard f 644 0:0|./d/link l 777 0:0 three|./d/skip.log f 644 0:0|./d/sub d 750 0:0|\
                   ./d/sub/deep d 755 0:0|./d/sub/deep/file f 644 0:0|./d/sub/four f 644 0:0|./d/three f 644 0:0|\
                   ./d/up l 777 0:0 ../one|./f f 600 0:0|./g d 755 0:0|./g/link f 644 0:0|./d/hard:three|\
                   ./d/skip.log:secret|./d/sub/deep/file:deep|./d/sub/four:four|./d/three:three|./f:one|./g/link:three",
    },
    Case {
        name: "links in the destination are followed within the image",
        text: "COPY dir/sub/deep /real/\nCOPY dir/link dir/up /l/\nCOPY <<EOF /l/one\nthrough\nEOF\n",
        same_in_buildah: false, // buildah 1.28 knows no here-documents
        expected: "./l d 755 0:0|./l/link f 644 0:0|./l/one f 644 0:0|./l/up f 600 0:0|./real d 755 0:0|\
                   ./real/file f 644 0:0|./l/link:three|./l/one:through|./l/up:one|./real/file:deep",
    },
    Case {
        name: "patterns",
        text: "COPY dir/t* o?e /p/\nCOPY [a-z]wo /q\nCOPY d*/sub/f* /r/\n",
        same_in_buildah: true,
        expected: "./p d 755 0:0|./p/one f 600 0:0|./p/three f 644 0:0|./q f 751 0:0|./r d 755 0:0|./r/four f 644 0:0|\
                   ./p/one:one|./p/three:three|./q:two|./r/four:four",
    },
    Case {
        name: "escaped patterns",
        text: "COPY odd[[]1]/x /x\n",
        same_in_buildah: false, // buildah 1.28 finds nothing
        expected: "./x f 644 0:0|./x:x",
    },
    Case {
        name: "a pattern without a match copies nothing",
        text: "COPY one /one\nCOPY none* /x/\n",
        same_in_buildah: false,
        expected: "./one f 600 0:0|./one:one",
    },
    Case {
        name: "owner and mode, also of new parents",
        text: "COPY --chown=5:6 --chmod=640 one /n/e/w\nCOPY --chown=7 dir/sub/deep /n/x/\n",
        same_in_buildah: false, // --chown=7 alone is 7:0 in buildah
        expected: "./n d 755 5:6|./n/e d 755 5:6|./n/e/w f 640 5:6|./n/x d 755 7:7|./n/x/file f 644 7:7|\
                   ./n/e/w:one|./n/x/file:deep",
    },
    Case {
        name: "WORKDIR-relative destinations",
        text: "WORKDIR /w\nCOPY one .\nCOPY one x/y\nCOPY two ./z/\n",
        same_in_buildah: true,
        expected: "./w d 755 0:0|./w/one f 600 0:0|./w/x d 755 0:0|./w/x/y f 600 0:0|./w/z d 755 0:0|./w/z/two f 751 0:0|\
                   ./w/one:one|./w/x/y:one|./w/z/two:two",
    },
    Case {
        name: "--exclude and --parents",
        text: "COPY --exclude=*.log --exclude=sub/deep dir /d/\nCOPY --parents dir/sub/four ./dir/./sub/d* /p/\n",
        same_in_buildah: false,
        expected: "./d d 755 0:0|./d/hard f 644 0:0|./d/link l 777 0:0 three|./d/sub d 750 0:0|./d/sub/four f 644 0:0|\
                   ./d/three f 644 0:0|./d/up l 777 0:0 ../one|./p d 755 0:0|./p/dir d 755 0:0|./p/dir/sub d 750 0:0|\
                   ./p/dir/sub/four f 644 0:0|./p/sub d 750 0:0|./p/sub/deep d 755 0:0|./p/sub/deep/file f 644 0:0|\
                   ./d/hard:three|./d/sub/four:four|./d/three:three|./p/dir/sub/four:four|./p/sub/deep/file:deep",
    },
];

const FAILING: &[(&str, &str)] = &[
    ("COPY missing /x\n", "NotFound"),
    ("COPY one two /x\n", "SeveralSources"),
    ("COPY one /x/\nCOPY dir /x/one\n", "NotADirectory"),
    ("COPY dir/sub/deep /x/three\nCOPY dir /x\n", "IsADirectory"),
    ("COPY dir/three /x/sub\nCOPY dir /x\n", "NotADirectory"),
];

fn lab(driver: Driver) -> Lab {
    let lab = Lab::with_driver(driver);
    let status = Command::new("sh").arg("-ec").arg(CONTEXT).current_dir(lab.context()).status();
    assert!(status.unwrap().success());
    lab
}

fn check(driver: Driver) {
    let lab = lab(driver);
    for case in CASES {
        let built = lab.build(&format!("FROM scratch\n{}", case.text));
        let expected = case.expected.split('|').map(str::trim).collect::<Vec<_>>().join("\n");
        assert_eq!(lab.look(&built, LIST), expected, "{}", case.name);
    }
    for (text, error) in FAILING {
        let failed = lab.try_build(&format!("FROM scratch\n{text}"), &Options::default()).unwrap_err();
        assert!(format!("{failed:?}").contains(error), "{text}: {failed:?}");
    }
}

#[test]
fn cases_on_overlay() {
    require_root!();
    check(Driver::Overlay);
}

#[test]
fn cases_on_vfs() {
    require_root!();
    check(Driver::Vfs);
}

#[test]
fn times_and_hard_links_are_kept() {
    require_root!();
    let lab = lab(Driver::Auto);
    // buildah 1.28 takes the set-id bits away, BuildKit keeps them.
    let status = Command::new("sh").arg("-c").arg("chmod 6755 two").current_dir(lab.context()).status();
    assert!(status.unwrap().success());
    let built = lab.build("FROM scratch\nCOPY two /two\n");
    assert_eq!(lab.look(&built, "stat -c %a $R/two"), "6755");
    let built = lab.build("FROM scratch\nCOPY dir /d\nCOPY one /one\n");
    assert_eq!(
        lab.look(&built, "cd $R && stat -c '%n %Y %h' one d/three d/hard d/sub"),
        "one 981173106 1\nd/three 981173106 2\nd/hard 981173106 2\nd/sub 981173106 3"
    );
}

#[test]
fn destination_links_do_not_leave_the_image() {
    require_root!();
    let lab = lab(Driver::Auto);
    lab.add_busybox();
    let outside = tempfile::tempdir().unwrap();
    let text = format!(
        "FROM busybox\nRUN mkdir -p /data && ln -s {} /escape && ln -s /data /inside && ln -s ../../../../data /up\n\
         COPY one /escape/one\nCOPY one /inside/a\nCOPY one /up/b\n",
        outside.path().display()
    );
    let built = lab.build(&text);
    assert!(std::fs::read_dir(outside.path()).unwrap().next().is_none());
    assert_eq!(
        lab.look(&built, &format!("cd $R && ls data && cat .{}/one", outside.path().display())),
        "a\nb\none"
    );
}

#[test]
fn as_buildah_does() {
    require_root!();
    if Command::new("buildah").arg("--version").output().is_err() {
        println!("skipped: no buildah");
        return;
    }
    let lab = lab(Driver::Auto);
    let storage = tempfile::tempdir().unwrap();
    let buildah = |arguments: &[&str]| {
        let output = Command::new("buildah")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(storage.path().join("root"))
            .arg("--runroot")
            .arg(storage.path().join("run"))
            .args(arguments)
            .current_dir(lab.context())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let file = storage.path().join("Containerfile");
    for case in CASES.iter().filter(|case| case.same_in_buildah) {
        std::fs::write(&file, format!("FROM scratch\n{}", case.text)).unwrap();
        buildah(&["bud", "--isolation", "chroot", "-q", "-t", "case", "-f", file.to_str().unwrap(), "."]);
        let container = buildah(&["from", "--pull-never", "localhost/case"]);
        let root = buildah(&["mount", &container]);
        let listed = Command::new("sh").arg("-c").arg(LIST).env("R", &root).output().unwrap();
        buildah(&["rm", &container]);
        let expected = case.expected.split('|').map(str::trim).collect::<Vec<_>>().join("\n");
        assert_eq!(String::from_utf8(listed.stdout).unwrap().trim_end(), expected, "{}", case.name);
    }
}

//! Copies of many files, which several threads write, into directories that a layer makes and into those that it finds.

use crate::harness::{Lab, Options, require_root};
use std::process::Command;
use storage::Driver;

/// `tree`: 500 small files in 5 directories, one of them with a second name in another directory, and a large one;
/// `extra` replaces one of them; `merged` is what both together are.
const CONTEXT: &str = "
for d in 1 2 3 4 5; do
  mkdir -p tree/d$d/below
  for f in $(seq 100); do printf \"$d $f\" > tree/d$d/f$f; done
done
ln tree/d1/f1 tree/d5/hard; ln -s f2 tree/d1/link; chmod 2750 tree/d2; chmod 6755 tree/d2/f7; chown 12:34 tree/d3
head -c 5000000 /dev/urandom > tree/large
mkdir -p extra/d1/new && printf extra > extra/d1/f9 && printf new > extra/d1/new/file
cp -a tree merged && cp -a extra/. merged
touch -d '2001-02-03 04:05:06' tree/d1/f3 tree/d*
";

const LOWER: &str = "FROM busybox\nRUN mkdir -p /gone/d1 /kept/d1 && echo lower > /gone/d1/lower && \
                     echo lower > /kept/d1/lower && mkdir -m 2775 /kept/d4 && chgrp 7 /kept/d4\nRUN rm -r /gone\n";

fn lab(driver: Driver) -> Lab {
    let lab = Lab::with_driver(driver);
    lab.add_busybox();
    let status = Command::new("sh").arg("-ec").arg(CONTEXT).current_dir(lab.context()).status();
    assert!(status.unwrap().success());
    lab
}

fn check(driver: Driver) {
    let lab = lab(driver);
    let context = lab.context();
    let context = context.display();
    let built = lab.build(&format!("{LOWER}COPY tree extra /gone/\nCOPY tree /kept\n"));
    // What was deleted below does not show through, and what the second source has replaces what the first had.
    assert_eq!(lab.look(&built, &format!("diff -r {context}/merged $R/gone 2>&1")), "");
    assert_eq!(
        lab.look(&built, &format!("cd $R/kept && diff -r {context}/tree . || true")),
        "Only in ./d1: lower"
    );
    let times = "cd $R && stat -c '%n %a %u:%g %Y' gone/d1/f3 kept/d1/f3 gone/d2 gone/d3 kept/d3";
    assert_eq!(
        lab.look(&built, times),
        "gone/d1/f3 644 0:0 981173106\nkept/d1/f3 644 0:0 981173106\ngone/d2 2750 0:0 981173106\n\
         gone/d3 755 0:0 981173106\nkept/d3 755 0:0 981173106"
    );
    assert_eq!(lab.look(&built, "cd $R && stat -c '%n %a %u:%g' kept/d4/f1"), "kept/d4/f1 644 0:0");
    assert_eq!(
        lab.look(&built, "stat -c %a $R/gone/d2/f7 $R/kept/d2/f7; readlink $R/gone/d1/link"),
        "6755\n6755\nf2"
    );
    assert_eq!(
        lab.look(
            &built,
            "cd $R; [ gone/d1/f1 -ef gone/d5/hard ] && [ kept/d1/f1 -ef kept/d5/hard ] && echo y"
        ),
        "y"
    );
    // One thread fails: the others end, and its error is told.
    let text = format!("{LOWER}RUN mkdir -p /kept/d3/f50\nCOPY tree /kept\n");
    let failed = lab.try_build(&text, &Options::default()).unwrap_err();
    assert!(format!("{failed:?}").contains("IsADirectory"), "{failed:?}");
}

#[test]
fn many_files_on_overlay() {
    require_root!();
    check(Driver::Overlay);
}

#[test]
fn many_files_on_vfs() {
    require_root!();
    check(Driver::Vfs);
}

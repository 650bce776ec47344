//! The same Containerfiles through davit and through buildah: the same images, or BuildKit's where the two differ.
//!
//! The cases stand in `testdata/differential`, whose README tells their form. `DIFFERENTIAL=NAME` builds those cases
//! alone whose name has NAME in it; `BLESS=1` writes davit's answers where BuildKit's are to stand, to be read by
//! somebody who knows them.

mod cases;
mod image;
mod peer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Davit, Done, scratch, tool};
use cases::{Case, Peer};
use image::Image;
use peer::Buildah;

/// Builds at once: most of the time is spent waiting for disks.
const WORKERS: usize = 4;

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/differential")
}

struct Lab {
    davit: Davit,
    buildah: Buildah,
    context: tempfile::TempDir,
    base: Image,
}

impl Lab {
    fn new() -> Self {
        let context = scratch();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let script = data().join("context.sh");
        let made = crate::support::finish(
            std::process::Command::new("sh")
                .arg(script)
                .current_dir(context.path())
                .env("BUSYBOX", busybox.expect("busybox-static is installed: run tests/run")),
        );
        made.ok();
        sys::xattr::set(
            std::os::fd::AsFd::as_fd(&std::fs::File::open(context.path().join("dir/d2.log")).unwrap()),
            std::ffi::OsStr::new("user.note"),
            b"kept",
        )
        .unwrap();
        let lab = Self { davit: Davit::new(), buildah: Buildah::new(), context, base: Image::default() };
        for name in ["base", "parent"] {
            let text = std::fs::read_to_string(data().join(format!("{name}.Containerfile"))).unwrap();
            let case = Case { text, ..Case::default() };
            lab.davit(&case, name).ok();
            lab.buildah(&case, name).ok();
        }
        let base = lab.image_of_davit("base");
        Self { base, ..lab }
    }

    /// Builds by davit.
    fn davit(&self, case: &Case, tag: &str) -> Done {
        let files = scratch();
        let arguments = case.arguments(files.path(), self.context.path());
        self.davit.run(
            ["build", "-q", "--network=none", "-t", tag]
                .into_iter()
                .chain(arguments.iter().map(String::as_str)),
        )
    }

    fn image_of_davit(&self, tag: &str) -> Image {
        let files = scratch();
        let archive = files.path().join("image.tar");
        self.davit.run(["save", "-q", "-o", archive.to_str().unwrap(), tag]).ok();
        Image::of_archive(&archive)
    }

    fn buildah(&self, case: &Case, tag: &str) -> Done {
        let files = scratch();
        let arguments = case.arguments(files.path(), self.context.path());
        self.buildah.run(
            &[
                "bud",
                "--isolation=chroot",
                "--format=docker",
                "--pull-never",
                "--layers=false",
                "-q",
                "-t",
                tag,
            ],
            &arguments,
        )
    }

    /// What is wrong with a case; nothing where all is well.
    fn check(
        &self,
        number: usize,
        case: &Case,
        bless: &Mutex<BTreeMap<String, Vec<String>>>,
    ) -> Result<(), String> {
        let tag = format!("case-{number}");
        let ours = self.davit(case, &tag);
        if let Some(text) = &case.fails {
            if ours.code == 0 || !ours.stderr.contains(text.as_str()) {
                return Err(format!("davit was to fail with {text:?}: {ours:#?}"));
            }
            if case.peer == Peer::Same && self.buildah(case, &tag).code == 0 {
                return Err("buildah does not fail".to_owned());
            }
            return Ok(());
        }
        if ours.code != 0 {
            return Err(format!("davit fails: {}", ours.stderr));
        }
        let ours = self.image_of_davit(&tag);
        let answer = ours.beside(&self.base);
        if std::env::var_os("BLESS").is_some() && case.peer != Peer::Same {
            bless.lock().unwrap().insert(case.name.clone(), answer.clone());
        } else if (case.peer != Peer::Same || !case.expected.is_empty()) && answer != case.expected {
            return Err(format!("not BuildKit's answer:\n{}", difference(&case.expected, &answer)));
        }
        if case.peer == Peer::Cannot {
            return Ok(());
        }
        let theirs = self.buildah(case, &tag);
        if theirs.code != 0 {
            return match case.peer {
                Peer::Differs => Ok(()),
                _ => Err(format!("buildah fails: {}", theirs.stderr)),
            };
        }
        let theirs = self.buildah.image(&tag);
        let (ours, theirs) = (ours.lines(), theirs.lines());
        match (ours == theirs, case.peer) {
            (true, Peer::Same) | (false, Peer::Differs) => Ok(()),
            (true, _) => Err("buildah does not differ: say so in the case".to_owned()),
            (false, _) => Err(format!("buildah (-) and davit (+) differ:\n{}", difference(&theirs, &ours))),
        }
    }
}

fn difference(before: &[String], after: &[String]) -> String {
    let minus = before.iter().filter(|line| !after.contains(line)).map(|line| format!("  - {line}"));
    let plus = after.iter().filter(|line| !before.contains(line)).map(|line| format!("  + {line}"));
    minus.chain(plus).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_images_as_the_peers() {
    let wanted = std::env::var("DIFFERENTIAL").ok();
    let mut cases = cases::read(&data());
    assert!(cases.len() >= 150, "{} cases", cases.len());
    if let Some(wanted) = &wanted {
        cases.retain(|case| case.name.contains(wanted));
    }
    let lab = Lab::new();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let bless = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(case) = cases.get(number) else { return };
                    if let Err(reason) = lab.check(number, case, &bless) {
                        failures.lock().unwrap().push(format!("{} ({}): {reason}\n", case.name, case.file));
                    }
                }
            });
        }
    });
    let bless = bless.into_inner().unwrap();
    if !bless.is_empty() {
        cases::write(&data(), &bless);
    }
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {} cases\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn the_comparison_sees_what_differs() {
    assert_eq!(tool("true", [""; 0]).code, 0);
    let mut one = Image::default();
    one.add_file("/a", 0o644, (0, 0), b"x");
    let mut other = Image::default();
    other.add_file("/a", 0o600, (0, 0), b"x");
    assert_ne!(one.lines(), other.lines());
    assert_eq!(other.beside(&one), ["f /a 600 0:0 \"x\""]);
    assert_eq!(Image::default().beside(&one), ["gone /a"]);
}

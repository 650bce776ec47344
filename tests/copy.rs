//! `davit cp`: what lands where, and that nothing leads out of a container.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::support::{Davit, finish, scratch};

/// A directory of this host: f, d/sub/g, links lf and ld; all owned by 1234.
fn source() -> tempfile::TempDir {
    let dir = scratch();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(path("d/sub")).unwrap();
    std::fs::write(path("f"), "f\n").unwrap();
    std::fs::write(path("d/sub/g"), "g\n").unwrap();
    symlink("f", path("lf")).unwrap();
    symlink("d", path("ld")).unwrap();
    for name in ["f", "d", "d/sub", "d/sub/g"] {
        std::os::unix::fs::chown(path(name), Some(1234), Some(1234)).unwrap();
    }
    dir
}

/// What Podman 4.3 does with the same commands, running or not.
fn into_container(davit: &Davit, container: &str) {
    let from = source();
    let host = |name: &str| from.path().join(name).to_str().unwrap().to_owned();
    let cp = |source: &str, to: &str| davit.run(["cp", &host(source), &format!("{container}:{to}")]);
    for (source, to) in [
        ("f", "/tmp/"),
        ("f", "/tmp/newf"),
        ("f", "tmp/relative"),
        ("d", "/tmp/"),
        ("d", "/tmp/nd"),
        ("d/.", "/tmp/dot"),
        ("d/.", "/tmp/nd"),
        ("lf", "/tmp/lf2"),
        ("lf", "/tmp/"),
        ("ld", "/tmp/ldx"),
    ] {
        cp(source, to).ok();
    }
    for (source, to, why) in [
        ("f", "/nodir/", "no such directory"),
        ("f", "/no/x", "no such file"),
        ("d", "/tmp/newf", "directory"),
        ("f", "/tmp/newf/", "no directory"),
        ("nothing", "/tmp", "nothing"),
    ] {
        cp(source, to).fails(125, why);
    }
    davit.run(["cp", "-a=false", &host("f"), &format!("{container}:/tmp/theirs")]).ok();
}

const LISTING: &str = "cd /tmp; find . | sort | xargs stat -c '%n %u:%g %F'";

#[test]
fn what_comes_into_a_container() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name", "r", "-u", "77:78", "busybox", "sleep", "100"]).ok();
    into_container(&davit, "r");
    let running = davit.run(["exec", "r", "sh", "-c", LISTING]).ok();
    let mut wanted = String::from(". 0:0 directory\n");
    for directory in ["d", "dot", "ldx", "nd"] {
        wanted += &format!(
            "./{directory} 77:78 directory\n./{directory}/sub 77:78 directory\n./{directory}/sub/g 77:78 regular file\n"
        );
    }
    for file in ["f", "lf", "lf2", "newf", "relative"] {
        wanted += &format!("./{file} 77:78 regular file\n");
    }
    wanted += "./theirs 1234:1234 regular file\n";
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&running), sorted(&wanted));
    davit.run("run -d --name w -w /home busybox sleep 100".split(' ')).ok();
    davit.run(["cp", "r:/tmp/f", "w:here"]).ok();
    davit.run(["exec", "w", "test", "-f", "/home/here"]).ok();
    // one that does not run gets the same
    davit.run(["create", "--name", "s", "-u", "77:78", "busybox", "sh", "-c", LISTING]).ok();
    into_container(&davit, "s");
    assert_eq!(sorted(&davit.run(["start", "-a", "s"]).ok()), sorted(&wanted));
    // and what is mounted is reached in both
    let dir = scratch();
    let volume = format!("{}:/data", dir.path().display());
    let from = source();
    for (name, create) in [("vr", &["run", "-d"][..]), ("vs", &["create"])] {
        davit
            .run(create.iter().copied().chain(["--name", name, "-v", &volume, "busybox", "sleep", "100"]))
            .ok();
        davit.run(["cp", from.path().join("f").to_str().unwrap(), &format!("{name}:/data/{name}")]).ok();
        assert_eq!(std::fs::read_to_string(dir.path().join(name)).unwrap(), "f\n", "{name}");
    }
}

#[test]
fn what_comes_out_of_a_container() {
    let davit = Davit::with_busybox();
    let script = "mkdir -p /t/d; echo x > /t/x; chown 55:56 /t/x; echo g > /t/d/g; ln -s /etc/passwd /t/pl; ln -s /t/d /t/dl; sleep 100";
    davit.run(["run", "-d", "--name", "c", "busybox", "sh", "-c", script]).ok();
    crate::support::wait_until("the files are there", || {
        davit.run(["exec", "c", "test", "-h", "/t/dl"]).code == 0
    });
    for running in [true, false] {
        if !running {
            davit.run(["stop", "-t", "0", "c"]).ok();
        }
        let out = scratch();
        let path = |name: &str| out.path().join(name);
        let cp = |from: &str, to: &str| davit.run(["cp", &format!("c:{from}"), path(to).to_str().unwrap()]);
        for (from, to) in
            [("/t/x", ""), ("/t/x", "y"), ("/t/pl", ""), ("/t", "."), ("/t/.", "dd"), ("/t/dl", "ed")]
        {
            cp(from, to).ok();
        }
        assert_eq!(std::fs::metadata(path("x")).unwrap().uid(), 0);
        for name in ["x", "y", "passwd", "t/x", "t/d/g", "dd/d/g", "ed/g"] {
            assert!(path(name).is_file(), "{name}, running: {running}");
        }
        assert_eq!(std::fs::read_link(path("t/pl")).unwrap(), Path::new("/etc/passwd"));
        cp("/missing", "z").fails(125, "c:/missing");
        cp("/t/x", "none/").fails(125, "no such directory");
        cp("/t", "x").fails(125, "directory");
        cp("/t/x", "none/x").fails(125, "none/x");
        let stream = davit.command().args(["cp", "c:/t/x", "-"]).output().unwrap();
        std::fs::write(path("x.tar"), &stream.stdout).unwrap();
        let list = crate::support::tool("tar", ["tvf", path("x.tar").to_str().unwrap()]).ok();
        assert!(list.contains("55/56") && list.ends_with(" x"), "{list}");
        let back = finish(
            davit.command().args(["cp", "-", "c:/home"]).stdin(std::fs::File::open(path("x.tar")).unwrap()),
        );
        assert_eq!(back.code, 0, "{back:?}");
        let refused = finish(
            davit.command().args(["cp", "-", "c:/none"]).stdin(std::fs::File::open(path("x.tar")).unwrap()),
        );
        refused.fails(125, "c:/none");
        davit.run(["cp", "c:/home/x", "c:/root/again"]).ok();
        davit.run(["cp", "c:/root/again", path("again").to_str().unwrap()]).ok();
        assert_eq!(std::fs::read_to_string(path("again")).unwrap(), "x\n");
    }
    davit.run(["cp", "a", "b"]).fails(125, "CONTAINER:PATH");
}

/// CVE-2018-15664 and its kin: a link that a container planted is followed inside of the container alone.
#[test]
fn planted_links_lead_nowhere() {
    let davit = Davit::with_busybox();
    let out = scratch();
    let secret = out.path().join("secret");
    std::fs::write(&secret, "host\n").unwrap();
    let place = out.path().to_str().unwrap();
    let script = format!(
        "mkdir -p /in; ln -s {place} /in/abs; ln -s ../../../../../../../..{place} /in/rel; ln -s {place}/secret /in/file; \
         ln -s /proc/1/root/in /in/magic; mkdir -p {place}; echo inside > {place}/secret; sleep 100"
    );
    davit.run(["run", "-d", "--name", "c", "busybox", "sh", "-c", &script]).ok();
    let seen = format!("{place}/secret");
    crate::support::wait_until("the links are there", || {
        davit.run(["exec", "c", "test", "-s", &seen]).code == 0
    });
    std::fs::write(out.path().join("mine"), "mine\n").unwrap();
    let mine = out.path().join("mine").to_str().unwrap().to_owned();
    for running in [true, false] {
        if !running {
            davit.run(["stop", "-t", "0", "c"]).ok();
        }
        let got = out.path().join("got");
        for from in ["/in/file", "/in/abs/secret", "/in/rel/secret"] {
            davit.run(["cp", &format!("c:{from}"), got.to_str().unwrap()]).ok();
            assert_eq!(std::fs::read_to_string(&got).unwrap(), "inside\n", "{from}, running: {running}");
        }
        for to in ["/in/abs", "/in/rel", "/in/abs/new", "/in/file"] {
            davit.run(["cp", &mine, &format!("c:{to}")]);
        }
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "host\n", "running: {running}");
        let mut names: Vec<_> =
            std::fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["got", "mine", "secret"], "running: {running}");
    }
    // a directory that takes the place of a link which was copied before
    davit
        .run([
            "run",
            "-d",
            "--name",
            "e",
            "busybox",
            "sh",
            "-c",
            &format!("mkdir /d; ln -s {place} /d/l; sleep 100"),
        ])
        .ok();
    crate::support::wait_until("the link is there", || {
        davit.run(["exec", "e", "test", "-h", "/d/l"]).code == 0
    });
    let copies = scratch();
    let to = copies.path().to_str().unwrap();
    davit.run(["cp", "e:/d", to]).ok();
    davit.run(["exec", "e", "sh", "-c", "rm /d/l; mkdir /d/l; echo evil > /d/l/secret"]).ok();
    davit.run(["cp", "e:/d", to]);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "host\n");
}

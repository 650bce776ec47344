//! `system check`: what is damaged is named, and mended from what is kept or from the registry.

use std::path::{Path, PathBuf};

use crate::faults::proxy::Proxy;
use crate::support::{Access, Davit, Registry, tool};

/// What happens to the directory /d of a layer.
type Harm<'a> = &'a dyn Fn(&Path);

struct Lab {
    davit: Davit,
    proxy: Proxy,
    _registry: Registry,
    name: String,
}

/// A store with one pulled image, whose upper layer has files of several kinds.
fn lab() -> Lab {
    let maker = Davit::with_busybox();
    let text = "FROM busybox\nRUN mkdir -p /d/e && echo one > /d/one && echo two > /d/e/two && echo three > /d/three && ln -s one /d/link && chown 7:8 /d/one && chmod 4711 /d/one\n";
    maker.build("app", text, &[]).ok();
    let registry = Registry::start(Access::Plain);
    maker.run(["push", "-q", "--tls-verify=false", "app", &format!("{}/app:1", registry.host)]).ok();
    let proxy = Proxy::start(&registry.host);
    let name = format!("{}/app:1", proxy.host);
    let davit = Davit::new();
    let config = davit.dir.path().join("config/containers");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(
        config.join("registries.conf"),
        format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", proxy.host),
    )
    .unwrap();
    davit.run(["pull", "-q", &name]).ok();
    davit.run(["system", "check"]).ok();
    Lab { davit, proxy, _registry: registry, name }
}

impl Lab {
    /// The directory of the image's upper layer.
    fn layer(&self) -> PathBuf {
        self.davit.inspect(&self.name, "{{.GraphDriver.Data.UpperDir}}").into()
    }

    fn look(&self) -> String {
        self.davit.sh(&self.name, "cat /d/one /d/e/two /d/three; readlink /d/link; stat -c '%u:%g %a' /d/one")
    }
}

#[test]
fn damaged_files_are_named_and_come_back_from_the_blob() {
    let lab = lab();
    let before = lab.look();
    let layer = lab.layer();
    // one byte, the length, a file, a link, a directory, the kind
    let harms: [(&str, Harm); 6] = [
        ("/d/one: its content is another one", &|d| std::fs::write(d.join("one"), "onE\n").unwrap()),
        ("/d/three: it has another size", &|d| std::fs::write(d.join("three"), "").unwrap()),
        ("/d/e/two: it is missing", &|d| std::fs::remove_file(d.join("e/two")).unwrap()),
        ("/d/link: the link leads elsewhere", &|d| {
            std::fs::remove_file(d.join("link")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", d.join("link")).unwrap();
        }),
        ("/d/e: it is missing", &|d| std::fs::remove_dir_all(d.join("e")).unwrap()),
        ("/d/three: it is of another kind", &|d| {
            std::fs::remove_file(d.join("three")).unwrap();
            std::fs::create_dir(d.join("three")).unwrap();
            std::fs::write(d.join("three/x"), "x").unwrap();
        }),
    ];
    for (told, harm) in harms {
        harm(&layer.join("d"));
        lab.davit.run(["system", "check", "--quick"]).ok();
        let done = lab.davit.run(["system", "check"]);
        assert_eq!(done.code, 125, "{told}: {done:#?}");
        assert!(done.stdout.contains(told) && done.stdout.contains(&lab.name), "{told}: {done:#?}");
        assert!(done.stderr.contains("--repair"), "{done:#?}");
        let done = lab.davit.run(["system", "check", "--repair"]).ok();
        assert!(
            done.contains(&format!("{told} (used by {})", lab.name)) && done.contains("Repaired: "),
            "{done}"
        );
        assert_eq!(lab.davit.run(["system", "check"]).ok(), "");
        assert_eq!(lab.look(), before, "{told}");
    }
}

#[test]
fn damaged_blobs_come_back_by_one_request_each() {
    let lab = lab();
    let before = lab.look();
    let layer = lab.layer();
    let blobs = lab.davit.root().join("blobs/sha256");
    let mut harmed = Vec::new();
    for entry in std::fs::read_dir(&blobs).unwrap().flatten() {
        let mut bytes = std::fs::read(entry.path()).unwrap();
        bytes[10] ^= 1;
        std::fs::write(entry.path(), bytes).unwrap();
        harmed.push(entry.file_name().into_string().unwrap());
    }
    // and a file, which a damaged blob cannot speak of
    std::fs::write(layer.join("d/one"), "onE\n").unwrap();
    let done = lab.davit.run(["system", "check"]);
    assert!(harmed.iter().all(|hex| done.stdout.contains(hex.as_str())), "{done:#?}");
    lab.proxy.asked.lock().unwrap().clear();
    lab.davit.run(["system", "check", "--repair"]).ok();
    let asked = lab.proxy.asked.lock().unwrap().clone();
    for hex in &harmed {
        let count =
            asked.iter().filter(|line| line.starts_with("GET") && line.contains(hex.as_str())).count();
        assert_eq!(count, 1, "{hex}: {asked:#?}");
    }
    assert_eq!(lab.davit.run(["system", "check"]).ok(), "");
    assert_eq!(lab.look(), before);
}

#[test]
fn what_cannot_be_mended_is_said_and_removed_where_asked() {
    let davit = Davit::with_busybox();
    davit.build("app", "FROM busybox\nRUN echo one > /one\n", &[]).ok();
    davit.run(["system", "check"]).ok();
    let layer = PathBuf::from(davit.inspect("app", "{{.GraphDriver.Data.UpperDir}}"));
    std::fs::write(layer.join("one"), "onE\n").unwrap();
    let done = davit.run(["system", "check"]);
    assert!(done.code == 125 && done.stdout.contains("localhost/app:latest"), "{done:#?}");
    davit.run(["system", "check", "--repair"]).fails(125, "--repair --force");
    davit.run(["image", "exists", "app"]).ok();
    davit.run(["system", "check", "--repair", "--force"]).ok();
    assert_eq!(davit.run(["image", "exists", "app"]).code, 1);
    assert_eq!(davit.sh("busybox", "echo works"), "works", "other images stay");
    davit.run(["system", "check", "--force"]).fails(125, "--repair");
    // a record that nobody can read
    let images = davit.root().join("images");
    let record = std::fs::read_dir(&images).unwrap().flatten().next().unwrap().path();
    std::fs::write(&record, "{").unwrap();
    let done = davit.run(["system", "check"]);
    assert!(done.code == 125 && done.stdout.contains("record"), "{done:#?}");
    assert_eq!(tool("test", ["-s", record.to_str().unwrap()]).code, 0, "a check alone changes nothing");
}

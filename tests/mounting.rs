//! `mount` and `unmount`: what a container or an image has, at a path of the host.

use std::path::{Path, PathBuf};

use crate::rootless::Rootless;
use crate::support::{Davit, mounts_below};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_container_at_rest_is_shown_and_runs_on_what_is_shown() {
    let davit = Davit::with_busybox();
    davit
        .run([
            "create",
            "--name",
            "c",
            "busybox",
            "sh",
            "-c",
            "cat /by-host; echo by-container > /by-container",
        ])
        .ok();
    let path = PathBuf::from(davit.run(["mount", "c"]).ok());
    assert!(path.join("bin/busybox").exists());
    std::fs::write(path.join("by-host"), "by host\n").unwrap();
    assert_eq!(davit.run(["start", "-a", "c"]).ok(), "by host");
    assert_eq!(read(&path.join("by-container")), "by-container\n");
    // copies go to the same place
    let file = davit.dir.path().join("f");
    std::fs::write(&file, "copied\n").unwrap();
    davit.run(["cp", file.to_str().unwrap(), "c:/copied"]).ok();
    assert_eq!(read(&path.join("copied")), "copied\n");
    let listed = davit.run(["mount"]).ok();
    assert!(
        listed.ends_with(path.to_str().unwrap()) && listed.starts_with(&davit.inspect("c", "{{.Id}}")[..12]),
        "{listed}"
    );
    assert!(davit.run(["container", "mount", "--format", "json"]).ok().contains("\"mountpoint\""));
    // asked for twice, taken back twice
    assert_eq!(davit.run(["mount", "c"]).ok(), path.to_str().unwrap());
    davit.run(["unmount", "c"]).ok();
    assert!(path.join("bin").exists());
    davit.run(["umount", "c"]).ok();
    assert!(!path.join("bin").exists());
    davit.run(["unmount", "c"]).fails(125, "not mounted");
    assert_eq!(davit.run(["start", "-a", "c"]).ok(), "by host", "what was written through it stays");
    let place = davit.dir.path().to_str().unwrap();
    assert!(mounts_below(place).is_empty(), "{:?}", mounts_below(place));
}

#[test]
fn a_running_container_is_shown_as_it_is() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name", "c", "--network=none", "busybox", "sleep", "1000"]).ok();
    let path = PathBuf::from(davit.run(["mount", "c"]).ok());
    davit.run(["exec", "c", "sh", "-c", "echo inside > /f"]).ok();
    assert_eq!(read(&path.join("f")), "inside\n");
    std::fs::write(path.join("g"), "outside\n").unwrap();
    assert_eq!(davit.run(["exec", "c", "cat", "/g"]).ok(), "outside");
    // it outlives the process, and the next start runs on it
    davit.run(["restart", "-t", "0", "c"]).ok();
    assert_eq!(davit.run(["exec", "c", "cat", "/f", "/g"]).ok(), "inside\noutside");
    std::fs::write(path.join("h"), "again\n").unwrap();
    assert_eq!(davit.run(["exec", "c", "cat", "/h"]).ok(), "again");
    // its removal takes the mount along, and nothing of the layer's is deleted through it
    davit.run(["rm", "-f", "-t", "0", "c"]).ok();
    assert!(!path.exists());
    let place = davit.dir.path().to_str().unwrap();
    assert!(mounts_below(place).is_empty(), "{:?}", mounts_below(place));
}

#[test]
fn images_are_shown_for_reading() {
    let davit = Davit::with_busybox();
    davit.build("two", "FROM busybox\nRUN echo x > /x\n", &[]).ok();
    for (image, file) in [("busybox", "bin/busybox"), ("two", "x")] {
        let path = PathBuf::from(davit.run(["image", "mount", image]).ok());
        assert!(path.join(file).exists(), "{image}");
        let error = std::fs::write(path.join("new"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{image}");
        assert!(davit.run(["image", "mount"]).ok().contains(path.to_str().unwrap()));
    }
    davit.run(["rmi", "two"]).fails(2, "image unmount");
    davit.run(["image", "prune", "-af"]).ok();
    assert_eq!(davit.run(["image", "exists", "two"]).code, 0);
    davit.run(["image", "unmount", "-a"]).ok();
    davit.run(["rmi", "two"]).ok();
    let place = davit.dir.path().to_str().unwrap();
    assert!(mounts_below(place).is_empty(), "{:?}", mounts_below(place));
}

#[test]
fn an_ordinary_user_mounts_in_unshare() {
    let user = Rootless::new();
    user.run(&["import", "busybox.tar", "busybox"]).ok();
    user.run(&["create", "--name", "c", "--network=none", "busybox", "cat", "/by-host"]).ok();
    user.run(&["mount", "c"]).fails(125, "davit unshare");
    assert_eq!(user.run(&["unshare", "id", "-u"]).ok(), "0");
    let davit = user.dir.path().join("davit");
    let script = format!(
        "set -e; d={}; p=$($d mount c); echo by-host > $p/by-host; $d start -a c; $d ps -aq | wc -l; test $($d mount | wc -l) = 1; $d umount c > /dev/null; ! test -e $p/by-host",
        davit.display()
    );
    assert_eq!(user.run(&["unshare", "sh", "-c", &script]).ok(), "by-host\n1");
    assert_eq!(user.run(&["start", "-a", "c"]).ok(), "by-host", "outside it is the same store");
    assert_eq!(user.run(&["unshare", "sh", "-c", "exit 7"]).code, 7);
    user.run(&["unshare", "no-such-program"]).fails(125, "no-such-program");
    user.run(&["unshare", "--rootless-netns", "true"]).fails(125, "not built yet");
}

#[test]
fn root_has_nothing_to_unshare() {
    Davit::with_busybox().run(["unshare", "true"]).fails(125, "ordinary users");
}

//! A disk that is full at every moment of a command.

use std::path::{Path, PathBuf};

use super::emptied;
use crate::support::{Access, Davit, Registry, context, finish, mounts_below, tool};

/// A small ext4 file system of its own on a loop device, with a ballast that takes what shall be taken.
struct Disk {
    place: PathBuf,
}

impl Disk {
    fn mount(dir: &Path, mebibytes: u64) -> Self {
        let (image, place) = (dir.join("disk.img"), dir.join("root"));
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(mebibytes << 20).unwrap();
        tool("mkfs.ext4", ["-q", "-F", "-m", "0", "-O", "^has_journal", image.to_str().unwrap()]).ok();
        std::fs::create_dir_all(&place).unwrap();
        tool("mount", ["-o", "loop", image.to_str().unwrap(), place.to_str().unwrap()]).ok();
        Self { place }
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.place).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Leaves `bytes` free, whatever was written so far.
    fn leave(&self, bytes: u64) {
        let ballast = std::fs::File::create(self.place.join("ballast")).unwrap();
        let mut take = self.free().saturating_sub(bytes);
        // A file's own blocks of extents count too: what does not fit is asked for again, smaller.
        while take > 0
            && rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, take).is_err()
        {
            take = take.saturating_sub(64 << 10);
        }
    }

    fn make_room(&self) {
        let _ = std::fs::remove_file(self.place.join("ballast"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tool("umount", ["-l", self.place.to_str().unwrap()]);
    }
}

#[test]
fn a_full_disk_fails_one_command_and_no_other() {
    let davit = Davit::new();
    let disk = Disk::mount(davit.dir.path(), 64);
    let busybox = crate::support::busybox_tar().to_str().unwrap();
    davit.run(["import", "-q", "-c", "CMD [\"sh\"]", busybox, "busybox"]).ok();
    let registry = Registry::start(Access::Plain);
    let text = "FROM busybox\nRUN head -c 1000000 /dev/urandom > /a\nCOPY f /f\nRUN head -c 1000000 /dev/urandom > /b; rm /a\n";
    let made = context(text, &[("f", "x")]);
    let made = made.path().to_str().unwrap();
    let remote = format!("{}/base:1", registry.host);
    let scratch = crate::support::scratch();
    let archive = scratch.path().join("saved.tar");
    let archive = archive.to_str().unwrap();
    davit.run(["build", "-q", "-t", "base", made]).ok();
    davit.run(["push", "-q", "--tls-verify=false", "base", &remote]).ok();
    davit.run(["save", "-q", "-o", archive, "base"]).ok();
    davit.run(["create", "--name", "kept", "busybox", "true"]).ok();
    davit.run(["run", "-d", "--name", "lives", "--network=none", "busybox", "sleep", "1000"]).ok();

    let commands: [&[&str]; 9] = [
        &["build", "-q", "--no-cache", "-t", "built", made],
        &["pull", "-q", "--tls-verify=false", &remote],
        &["load", "-q", "-i", archive],
        &["import", "-q", busybox, "imported"],
        &["commit", "-q", "lives", "committed"],
        &["run", "--rm", "--network=none", "busybox", "sh", "-c", "head -c 300000 /dev/urandom > /x"],
        &["tag", "busybox", "another"],
        &["create", "busybox", "true"],
        &["rename", "kept", "kept"],
    ];
    let mut failed = 0;
    for command in commands {
        // From no room at all to enough, in steps that end within every kind of write.
        for kib in [0_u64, 4, 8, 16, 32, 64, 128, 256, 600, 1_200, 2_200, 4_000] {
            if command[0] == "pull" || command[0] == "load" {
                davit.run(["rmi", "-f", "--ignore", "base", &remote]).ok();
            }
            disk.leave(kib << 10);
            let done = davit.run(command);
            if done.code != 0 && command[0] != "rename" {
                failed += 1;
                // In a container it is the program that tells.
                let told = (command[0] == "run" && done.code == 1)
                    || done.stderr.contains("disk is full")
                    || done.stderr.contains("No space left");
                assert!(told, "{command:?} with {kib} KiB does not tell why: {done:#?}");
            }
            // What only reads works while the disk is full, and so does what makes room.
            davit.run(["images"]).ok();
            davit.run(["ps", "-a"]).ok();
            davit.run(["logs", "lives"]).ok();
            davit.run(["exec", "lives", "true"]).ok();
            davit.run(["image", "prune", "-f"]).ok();
            davit.run(["builder", "prune", "-af"]).ok();
            disk.make_room();
            assert_eq!(davit.sh("busybox", "echo works"), "works", "after {command:?} with {kib} KiB");
        }
        // With room it works.
        if command[0] != "rename" {
            davit.run(command).ok();
        }
        davit.run(["rmi", "-f", "--ignore", "built", "imported", "committed", "another"]).ok();
    }
    assert!(failed > 20, "only {failed} commands ran into the full disk");
    davit.run(["system", "check"]).ok();

    // On a disk without a free byte, everything can still be removed.
    davit.run(["build", "-q", "-t", "built", made]).ok();
    disk.leave(0);
    let left = emptied(&davit);
    disk.make_room();
    assert!(left < 1_000_000 + 64 * (1 << 20), "{left}");
    let left = super::bytes(&davit);
    assert!(left < 1_000_000, "{left} bytes are left");
    let place = davit.dir.path().join("root");
    assert_eq!(mounts_below(place.to_str().unwrap()).len(), 1, "only the disk itself");
    drop(disk);
    finish(davit.command().args(["version"])).ok();
}

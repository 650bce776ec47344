//! Attempts to get out of a container, each named by the hole it once went through in other engines.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Davit, Done, binary, busybox_tar, debian_tar, finish, scratch, tool};

/// An image from the tests' busybox root, changed by a shell script that runs in it.
fn import_changed(davit: &Davit, name: &str, script: &str) {
    let dir = scratch();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    tool("tar", ["-C", root.to_str().unwrap(), "-xf", busybox_tar().to_str().unwrap()]).ok();
    finish(Command::new("sh").args(["-ec", script]).current_dir(&root)).ok();
    let tar = dir.path().join("changed.tar");
    tool("tar", ["-C", root.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]).ok();
    davit.run(["import", "-q", tar.to_str().unwrap(), name]).ok();
}

/// The command line of another copy of the binary, so that what gets overwritten is only the copy.
fn copy_of_binary(davit: &Davit) -> (PathBuf, impl Fn(&[&str]) -> Done) {
    let copy = davit.dir.path().join("copy-of-davit");
    std::fs::copy(binary(), &copy).unwrap();
    let (program, root, runroot) = (copy.clone(), davit.root(), davit.runroot());
    let run = move |args: &[&str]| {
        let mut command = Command::new(&program);
        finish(command.arg("--root").arg(&root).arg("--runroot").arg(&runroot).args(args))
    };
    (copy, run)
}

#[test]
fn cve_2019_5736_the_runtimes_binary_is_out_of_reach() {
    let davit = Davit::with_busybox();
    let (copy, run) = copy_of_binary(&davit);
    let before = tool("sha256sum", [copy.to_str().unwrap()]).ok();
    // A process that waits for any program other than its own to appear, holds its executable open for reading, and writes to it
    // when its process has ended (a running program cannot be written to).
    let script = "echo ready; for round in $(seq 400); do \
        for exe in /proc/[0-9]*/exe; do \
          case $(readlink $exe) in /bin/busybox|'') continue ;; esac; \
          { exec 9<$exe; } 2>/dev/null || continue; \
          echo \"held $(readlink /proc/self/fd/9)\"; \
          for try in $(seq 50); do echo overwritten 2>/dev/null >/proc/self/fd/9 && echo WROTE && exit; done; \
        done; done; echo done";
    for (name, flags) in [("privileged", &["--privileged"][..]), ("ordinary", &[])] {
        run(&[&["run", "-d", "--name", name][..], flags, &["busybox", "sh", "-c", script]].concat()).ok();
        for _ in 0..10 {
            // The program that exec starts is the caller's own executable: whatever that is inside of the container.
            run(&["exec", name, "/proc/self/exe", "--version"]);
            run(&["exec", name, "true"]);
        }
        run(&["kill", name]);
        run(&["wait", name]);
        let said = run(&["logs", name]).stdout;
        assert!(said.contains("ready") && !said.contains("WROTE"), "{name}: {said}");
        // Who may trace every process sees the binary, but cannot write to it. Nobody else sees it at all.
        assert!(name == "privileged" || !said.contains("copy-of-davit"), "{name}: {said}");
        assert_eq!(tool("sha256sum", [copy.to_str().unwrap()]).ok(), before);
    }
    // The entry point of an image, too, may be the program that starts it.
    let out = run(&["run", "--rm", "--privileged", "busybox", "sh", "-c", "echo x > /proc/1/exe"]);
    assert_ne!(out.code, 0, "{out:#?}");
    assert_eq!(tool("sha256sum", [copy.to_str().unwrap()]).ok(), before);
}

#[test]
fn cve_2024_21626_no_descriptor_leaks_and_none_is_a_working_directory() {
    let davit = Davit::with_busybox();
    let host = davit.dir.path().join("host-only");
    std::fs::write(&host, "x").unwrap();
    let list = "for f in /proc/self/fd/*; do echo ${f##*/}; done";
    // The shell's own directory stream is the only one beyond the three.
    for command in [
        vec!["run", "--rm", "busybox", "sh", "-c", list],
        vec!["run", "--rm", "-i", "busybox", "sh", "-c", list],
    ] {
        let said = davit.run(command).ok();
        assert_eq!(said.lines().count(), 4, "{said}");
    }
    davit.run(["run", "-d", "--name", "c", "busybox", "sleep", "60"]).ok();
    let said = davit.run(["exec", "c", "sh", "-c", list]).ok();
    assert_eq!(said.lines().count(), 4, "{said}");
    for number in 3..24 {
        for place in ["/proc/self/fd", "/proc/1/fd", "/proc/self/fd/../fd"] {
            let place = format!("{place}/{number}");
            let look = ["sh", "-c", "pwd; ls ../../../../.."];
            let run = [vec!["run", "--rm", "-w", &place, "busybox"], look.to_vec()].concat();
            let exec = [vec!["exec", "-w", &place, "c"], look.to_vec()].concat();
            for command in [run, exec] {
                let done = davit.run(&command);
                // Where the kernel lets the process in, it must be a place of the container.
                assert!(done.code != 0 || !done.stdout.contains("work"), "{command:?}: {done:#?}");
                assert_ne!(done.code, 0, "{command:?}: {done:#?}");
            }
        }
        let text =
            format!("FROM busybox\nWORKDIR /proc/self/fd/{number}\nRUN cd ../../../.. && ls var/tmp/dv*\n");
        let done = davit.build("leak", &text, &[]);
        assert_ne!(done.code, 0, "{done:#?}");
    }
}

#[test]
fn cve_2021_30465_swapped_bind_destinations_stay_in_the_root() {
    let davit = Davit::with_busybox();
    let volume = scratch();
    let secret = scratch();
    std::fs::write(secret.path().join("mark"), "secret").unwrap();
    let host = scratch();
    let (dir, link) = (volume.path().join("d"), volume.path().join("l"));
    std::fs::create_dir(&dir).unwrap();
    symlink(host.path(), &link).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The other container: it swaps a directory of the shared volume with a link to a directory of the host.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &dir, rustix::fs::CWD, &link, flags).unwrap();
            }
        });
        let shared = format!("{}:/vol", volume.path().display());
        let inner = format!("{}:/vol/d/x", secret.path().display());
        let mut started = 0;
        for _ in 0..60 {
            let script = "grep -c ' /vol/d/x \\| .*/x ' /proc/self/mountinfo; cat /proc/self/mountinfo";
            let done = davit.run(["run", "--rm", "-v", &shared, "-v", &inner, "busybox", "sh", "-c", script]);
            if done.code == 0 {
                started += 1;
                // The mount is visible below the container's root, so it was made inside of it.
                assert!(!done.stdout.starts_with('0'), "{done:#?}");
            }
            assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0, "made a place outside: {done:#?}");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(started > 0, "no start of 60 went through");
    });
}

#[test]
fn cve_2021_30465_a_link_of_the_image_as_destination_stays_in_the_root() {
    let davit = Davit::new();
    let outside = scratch();
    let name = outside.path().display().to_string();
    import_changed(&davit, "links", &format!("ln -s {name} abs; ln -s ../../../../../../../..{name} rel"));
    let source = scratch();
    std::fs::write(source.path().join("mark"), "here").unwrap();
    for link in ["abs", "rel"] {
        let volume = format!("{}:/{link}/deep", source.path().display());
        let look = format!("cat {name}/deep/mark");
        assert_eq!(davit.run(["run", "--rm", "-v", &volume, "links", "sh", "-c", &look]).ok(), "here");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn cve_2023_27561_and_cve_2019_19921_proc_and_sys_are_no_links() {
    let davit = Davit::new();
    import_changed(&davit, "proc-link", "rm -rf proc; ln -s tmp proc");
    import_changed(&davit, "sys-link", "rm -rf sys; ln -s tmp sys");
    davit.run(["run", "--rm", "proc-link", "true"]).fails(126, "mount /proc");
    davit.run(["run", "--rm", "sys-link", "true"]).fails(126, "mount /sys");
}

#[test]
fn cve_2019_16884_nothing_is_mounted_over_proc() {
    let davit = Davit::with_busybox();
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, "from a volume\n").unwrap();
    let over = |place: &str| format!("{}:{place}", dir.path().display());
    for place in ["/proc", "/proc/self", "/proc/sys", "/proc/1/attr"] {
        davit.run(["run", "--rm", "-v", &over(place), "busybox", "true"]).fails(126, "only procfs");
    }
    davit.run(["run", "--rm", "--tmpfs", "/proc", "busybox", "true"]).fails(126, "only procfs");
    davit.build("proc-volume", "FROM busybox\nVOLUME /proc\n", &[]).ok();
    // The system's own mount stays where an image names the place a volume.
    let masked = "grep -q '^proc /proc proc ' /proc/mounts && cat /proc/kcore | wc -c";
    assert_eq!(davit.sh("proc-volume", masked), "0");
    // What lxcfs provides is let through.
    let volume = format!("{}:/proc/cpuinfo", file.display());
    assert_eq!(
        davit.run(["run", "--rm", "-v", &volume, "busybox", "cat", "/proc/cpuinfo"]).ok(),
        "from a volume"
    );
    let volume = format!("{}:/proc/version", file.display());
    davit.run(["run", "--rm", "-v", &volume, "busybox", "true"]).fails(126, "only procfs");
}

#[test]
fn cve_2025_31133_masks_are_made_of_the_real_null_device() {
    let davit = Davit::with_busybox();
    // /dev from a volume in which `null` is a link to what the attacker wants bound over a masked path.
    for target in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd"] {
        let dev = scratch();
        symlink(target, dev.path().join("null")).unwrap();
        let volume = format!("{}:/dev", dev.path().display());
        let script = "grep -E ' /proc/(kcore|keys|timer_list) ' /proc/self/mountinfo; exit 7";
        let done = davit.run(["run", "--rm", "-v", &volume, "busybox", "sh", "-c", script]);
        if done.code == 7 {
            assert!(!done.stdout.contains("core_pattern") && !done.stdout.contains("sysrq"), "{done:#?}");
            assert!(!done.stdout.contains("passwd") && !done.stdout.is_empty(), "{done:#?}");
        } else {
            assert_eq!(done.code, 126, "{done:#?}");
        }
    }
    // And as it should be, every mask reads as empty.
    let said = davit.sh(
        "busybox",
        "cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /proc/acpi /sys/firmware | wc -w",
    );
    assert!(said.starts_with('0'), "{said}");
}

#[test]
fn cve_2025_52565_the_console_is_bound_over_no_link() {
    let davit = Davit::with_busybox();
    let dev = scratch();
    let volume = scratch();
    std::fs::write(volume.path().join("target"), "untouched").unwrap();
    symlink("/v/target", dev.path().join("console")).unwrap();
    let (dev, shared) = (format!("{}:/dev", dev.path().display()), format!("{}:/v", volume.path().display()));
    let script = "cat /v/target; grep -c ' /v/target ' /proc/self/mountinfo; exit 7";
    let done = davit.run(["run", "--rm", "-t", "-v", &dev, "-v", &shared, "busybox", "sh", "-c", script]);
    assert!(done.code == 126 || done.stdout.contains("untouched"), "{done:#?}");
    assert!(done.code == 126 || done.stdout.contains('0'), "{done:#?}");
    assert_eq!(std::fs::read_to_string(volume.path().join("target")).unwrap(), "untouched");
}

#[test]
fn cve_2025_52881_kernel_parameters_are_written_to_procfs_alone() {
    let davit = Davit::with_busybox();
    let fake = scratch();
    let place = fake.path().join("kernel");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("msgmax"), "1").unwrap();
    let volume = format!("{}:/proc/sys", fake.path().display());
    let sysctl = ["run", "--rm", "--sysctl", "kernel.msgmax=4321"];
    let look = ["busybox", "cat", "/proc/sys/kernel/msgmax"];
    davit.run([&sysctl[..], &["-v", &volume], &look].concat()).fails(126, "only procfs");
    assert_eq!(std::fs::read_to_string(place.join("msgmax")).unwrap(), "1");
    assert_eq!(davit.run([&sysctl[..], &look].concat()).ok(), "4321");
    // A name that climbs.
    for name in ["kernel/../../../tmp/x", "kernel.msgmax/../../../../tmp/x", "../sysrq-trigger"] {
        let done = davit.run(["run", "--rm", "--sysctl", &format!("{name}=1"), "busybox", "true"]);
        assert_ne!(done.code, 0, "{name}: {done:#?}");
    }
}

#[test]
fn exec_into_a_container_whose_init_switched_roots() {
    let davit = Davit::with_busybox();
    let script = "mkdir -p /new/bin /new/proc && cp /bin/busybox /new/bin/busybox && ln -s busybox /new/bin/sh && \
        echo planted > /new/mark && echo inside > /mark && echo up && exec chroot /new /bin/busybox sleep 60";
    davit.run(["run", "-d", "--name", "c", "busybox", "sh", "-c", script]).ok();
    crate::support::wait_until("the container is up", || davit.run(["logs", "c"]).stdout.contains("up"));
    // exec goes by the container's mount namespace and its root, not by what init has made of its own.
    assert_eq!(davit.run(["exec", "c", "cat", "/mark"]).ok(), "inside");
    // Privileged, with another root pivoted in: still nothing of the host.
    let script = "mkdir -p /new && mount -t tmpfs none /new && mkdir -p /new/bin /new/old /new/proc && \
        cp /bin/busybox /new/bin/ && for a in sh cat ls sleep; do ln -s busybox /new/bin/$a; done; cd /new && \
        pivot_root . old && echo up && exec /bin/busybox sleep 60";
    davit.run(["run", "-d", "--name", "p", "--privileged", "busybox", "sh", "-c", script]).ok();
    crate::support::wait_until("the container is up", || davit.run(["logs", "p"]).stdout.contains("up"));
    let done = davit.run(["exec", "p", "sh", "-c", "ls /; ls /old"]);
    assert!(!done.stdout.contains("work") && !done.stdout.contains("lost+found"), "{done:#?}");
}

#[test]
fn cve_2022_2989_the_primary_group_is_among_the_supplementary_ones() {
    let davit = Davit::with_busybox();
    let groups = |args: &[&str]| {
        let said = davit
            .run([&["run", "--rm"][..], args, &["busybox", "grep", "Groups", "/proc/self/status"]].concat())
            .ok();
        let mut groups: Vec<_> = said.split_whitespace().skip(1).map(str::to_owned).collect();
        groups.sort();
        groups
    };
    assert_eq!(groups(&["-u", "1234:4321"]), ["4321"]);
    assert_eq!(groups(&["-u", "1234:4321", "--group-add", "77"]), ["4321", "77"]);
    assert_eq!(groups(&["-u", "ann"]), ["1000", "50"]);
    // The same in a build step (CVE-2022-2990) and in exec (CVE-2022-2989).
    let said =
        davit.build("g", "FROM busybox\nUSER 1234:4321\nRUN grep Groups /proc/self/status > /tmp/g\n", &[]);
    said.ok();
    assert_eq!(davit.sh("g", "cat /tmp/g").split_whitespace().skip(1).collect::<Vec<_>>(), ["4321"]);
    davit.run(["run", "-d", "--name", "c", "busybox", "sleep", "60"]).ok();
    let said = davit.run(["exec", "-u", "1234:4321", "c", "grep", "Groups", "/proc/self/status"]).ok();
    assert_eq!(said.split_whitespace().skip(1).collect::<Vec<_>>(), ["4321"]);
}

#[test]
fn cve_2022_29162_no_capability_is_inheritable() {
    let davit = Davit::with_busybox();
    let sets = ["grep", "CapInh", "/proc/self/status"];
    let none = |done: Done| assert_eq!(done.ok(), "CapInh:\t0000000000000000");
    for flags in [vec![], vec!["--privileged"], vec!["-u", "1000"], vec!["--cap-add=all"]] {
        none(davit.run([&["run", "--rm"][..], &flags, &["busybox"], &sets].concat()));
    }
    davit.run(["run", "-d", "--name", "c", "busybox", "sleep", "60"]).ok();
    none(davit.run([&["exec", "c"][..], &sets].concat()));
    none(davit.run([&["exec", "--privileged", "c"][..], &sets].concat()));
    davit.build("i", "FROM busybox\nRUN grep CapInh /proc/self/status > /i\n", &[]).ok();
    assert_eq!(davit.sh("i", "cat /i"), "CapInh:\t0000000000000000");
}

#[test]
fn setuid_binaries_under_no_new_privileges() {
    let davit = Davit::new();
    davit.run(["import", "-q", debian_tar().to_str().unwrap(), "debian"]).ok();
    davit.build("setuid", "FROM debian\nRUN cp /usr/bin/id /suid && chmod 4755 /suid\n", &[]).ok();
    let uid = |flags: &[&str]| {
        davit.run([&["run", "--rm", "-u", "1000"][..], flags, &["setuid", "/suid", "-u"]].concat()).ok()
    };
    // That the file works is seen without the option.
    assert_eq!(uid(&[]), "0");
    assert_eq!(uid(&["--security-opt=no-new-privileges"]), "1000");
}

#[test]
fn keyrings_are_not_shared() {
    let davit = Davit::new();
    davit.run(["import", "-q", debian_tar().to_str().unwrap(), "debian"]).ok();
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
    let script = "print syscall(250, 0, -3, 0)";
    let ring = || {
        let flags = ["run", "--rm", "--security-opt=seccomp=unconfined", "debian", "perl", "-e", script];
        davit.run(flags).ok().parse::<i64>().unwrap()
    };
    let (first, second) = (ring(), ring());
    let host: i64 = tool("perl", ["-e", script]).ok().parse().unwrap();
    assert!(first > 0 && second > 0, "{first} {second}");
    assert!(first != second && first != host && second != host, "{first} {second} {host}");
    // The default filter lets keyrings through, as Podman's does: they are the container's own.
    let own: i64 = davit.run(["run", "--rm", "debian", "perl", "-e", script]).ok().parse().unwrap();
    assert!(![first, second, host].contains(&own), "{own}");
}

#[test]
fn cve_2022_0492_release_agents_are_out_of_reach() {
    let davit = Davit::with_busybox();
    // By itself, and with the powers of a user namespace of its own, which the default filter lets a process make.
    let script = "try() { mkdir -p /tmp/c; mount -t cgroup -o rdma cgroup /tmp/c 2>/dev/null && echo MOUNTED; \
        for f in $(find /tmp/c /sys/fs/cgroup -name release_agent 2>/dev/null); do { echo /x > $f; } 2>/dev/null && echo WROTE; done; }; \
        try; unshare -Urm sh -c \"$(type try | tail -n +2); try\" | grep -v MOUNTED; echo end";
    for flags in [&[][..], &["--cap-drop=all"], &["-u", "1000"]] {
        let said = davit.run([&["run", "--rm"][..], flags, &["busybox", "sh", "-c", script]].concat()).ok();
        assert_eq!(said, "end", "{flags:?}");
    }
}

#[test]
fn a_device_that_a_layer_brings_is_dead() {
    // A node in a layer opens nothing: the root file system is mounted nodev, or the device is not allowed.
    let davit = Davit::new();
    let disk = Path::new("/dev/loop0");
    import_changed(
        &davit,
        "nodes",
        "mknod disk b 7 0; mknod mem c 1 1; mknod kmsg c 1 11; chmod 666 disk mem kmsg",
    );
    let script =
        "for f in /disk /mem /kmsg; do head -c 1 $f >/dev/null 2>&1 && echo OPENED $f; done; echo end";
    assert_eq!(davit.sh("nodes", script), "end", "{}", disk.exists());
    assert_eq!(davit.run(["run", "--rm", "-u", "1000", "nodes", "sh", "-c", script]).ok(), "end");
    let mode = std::fs::metadata("/dev/null").unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "the host's own device was changed");
}

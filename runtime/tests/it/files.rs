//! The root file system: mounts, devices, masks.

use crate::lab::{Lab, Test, spec};
use runtime::Rootfs;
use serde_json::{Value, json};

pub(crate) const TESTS: &[Test] = &[
    ("files::devices", devices),
    ("files::masks", masks),
    ("files::binds", binds),
    ("files::read_only_root", read_only_root),
    ("files::copy_up", copy_up),
    ("files::hostile_targets", hostile_targets),
    ("files::cgroup_tree", cgroup_tree),
    ("files::sysctl", sysctl),
    ("files::plain_directory", plain_directory),
    ("files::mount_options", mount_options),
];

fn with_mount(arguments: &[&str], mount: Value) -> Value {
    let mut value = spec(arguments);
    value["mounts"].as_array_mut().unwrap().push(mount);
    value
}

fn devices(lab: &Lab) {
    let output = lab.shell(
        "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$d; done
         for l in fd stdin stdout stderr core ptmx; do readlink /dev/$l; done
         head -c 3 /dev/zero | wc -c; echo x > /dev/null; test -e /dev/console && echo console",
    );
    for line in [
        "/dev/null character special file 1:3 666",
        "/dev/tty character special file 5:0 666",
        "/proc/self/fd\n/proc/self/fd/0\n",
        "/proc/kcore\npts/ptmx\n3\n",
    ] {
        assert!(output.stdout.contains(line), "{line}: {output:?}");
    }
    assert!(!output.stdout.contains("console"));
    let mut value =
        spec(&["sh", "-c", "stat -c '%t:%T %a %u' /dev/fuse2; cat /dev/fuse2 | head -c 2 | wc -c"]);
    value["linux"]["devices"] =
        json!([{ "path": "/dev/fuse2", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3 }]);
    assert_eq!(lab.run_spec(&value).stdout, "1:5 640 3\n2\n");
}

fn masks(lab: &Lab) {
    let output = lab.shell(
        "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; touch /sys/firmware/x;
         echo 1 > /proc/sys/kernel/panic; echo x > /proc/irq/default_smp_affinity; grep -c ' /proc/sys ' /proc/self/mountinfo",
    );
    assert_eq!(output.stdout, "0\n0\n1\n", "{output:?}");
    assert_eq!(output.stderr.matches("Read-only file system").count(), 3, "{output:?}");
}

fn binds(lab: &Lab) {
    let host = lab.scratch();
    std::fs::write(host.join("file"), "host\n").unwrap();
    let bind = |source: &std::path::Path, target: &str, options: &[&str]| json!({ "destination": target, "type": "bind", "source": source, "options": options });
    let value = with_mount(
        &["sh", "-c", "cat /mnt/deep/file; echo new > /mnt/deep/out"],
        bind(&host, "/mnt/deep", &["rbind"]),
    );
    assert_eq!(lab.run_spec(&value).stdout, "host\n");
    assert_eq!(std::fs::read_to_string(host.join("out")).unwrap(), "new\n");
    let value = with_mount(
        &["sh", "-c", "cat /etc/one; touch /etc/one"],
        bind(&host.join("file"), "/etc/one", &["bind", "ro"]),
    );
    let output = lab.run_spec(&value);
    assert_eq!((output.stdout.as_str(), output.record.code), ("host\n", 1));
    assert!(output.stderr.contains("Read-only"), "{output:?}");
    // A mount made in the container stays there.
    let mut value = with_mount(
        &["sh", "-c", "mkdir -p /mnt/in && mount -t tmpfs x /mnt/in && touch /mnt/in/x"],
        bind(&host, "/mnt", &["rbind"]),
    );
    value["linux"].as_object_mut().unwrap().remove("seccomp");
    value["process"]["capabilities"] = json!({
        "bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]
    });
    let output = lab.run_spec(&value);
    assert_eq!(output.record.code, 0, "{output:?}");
    assert!(!host.join("in/x").exists());
}

fn read_only_root(lab: &Lab) {
    let mut value = spec(&["sh", "-c", "touch /x; touch /dev/y && echo dev"]);
    value["root"]["readonly"] = json!(true);
    let output = lab.run_spec(&value);
    assert!(output.stderr.contains("Read-only") && output.stdout == "dev\n", "{output:?}");
}

fn copy_up(lab: &Lab) {
    let mount = |options: &[&str]| json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options });
    let script = ["sh", "-c", "cat /data/file /data/sub/deep; echo more >> /data/file; stat -f -c %T /data"];
    let output = lab.run_spec(&with_mount(&script, mount(&["rw", "tmpcopyup"])));
    assert_eq!(output.stdout, "from the image\ndeep\ntmpfs\n", "{output:?}");
    let output = lab.run_spec(&with_mount(&["ls", "/data"], mount(&["rw"])));
    assert_eq!(output.stdout, "");
}

fn hostile_targets(lab: &Lab) {
    let host = lab.scratch();
    let root = lab.scratch();
    for name in ["bin", "proc", "dev", "sys"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    std::fs::copy(lab.root().join("bin/busybox"), root.join("bin/sh")).unwrap();
    // Targets that lead out when followed in the host's tree.
    std::os::unix::fs::symlink(&host, root.join("escape")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../..", root.join("up")).unwrap();
    let mut value = spec(&["sh", "-c", "true"]);
    for target in ["/escape/in", &format!("/up{}/two", host.display())] {
        value["mounts"].as_array_mut().unwrap().push(json!({
            "destination": target, "type": "tmpfs", "source": "tmpfs", "options": []
        }));
    }
    let spec = crate::lab::parse(&value);
    let mut launch = lab.launch(&spec);
    launch.rootfs = Rootfs::Path(root);
    // Whether it works or not, nothing may be made in the host's tree.
    if let Ok(launched) = lab.spawner.launch(launch) {
        crate::lab::finish(launched, None);
    }
    assert_eq!(std::fs::read_dir(&host).unwrap().count(), 0);
}

fn cgroup_tree(lab: &Lab) {
    let output = lab.run_limited(&spec(&["sh", "-c", "ls /sys/fs/cgroup; cat /sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null; mkdir /sys/fs/cgroup/x"]));
    assert!(output.stdout.lines().any(|line| line == "1"), "{output:?}");
    assert_ne!(output.record.code, 0);
}

fn sysctl(lab: &Lab) {
    let mut value =
        spec(&["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/msgmax"]);
    value["linux"]["sysctl"] =
        json!({ "net.ipv4.ip_unprivileged_port_start": "77", "kernel.msgmax": "4242" });
    assert_eq!(lab.run_spec(&value).stdout, "77\n4242\n");
}

fn plain_directory(lab: &Lab) {
    let value = spec(&["cat", "/data/file"]);
    let spec = crate::lab::parse(&value);
    let mut launch = lab.launch(&spec);
    launch.rootfs = Rootfs::Path(lab.root());
    let output = crate::lab::finish(lab.spawner.launch(launch).unwrap(), None);
    assert_eq!(output.stdout, "from the image\n");
}

fn mount_options(lab: &Lab) {
    let output = lab.run(&["cat", "/proc/self/mounts"]);
    let line = |target: &str| {
        output
            .stdout
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(target))
            .unwrap_or_else(|| panic!("{output:?}"))
    };
    assert!(line("/").starts_with("overlay / overlay rw,"), "{}", line("/"));
    assert!(line("/").contains("volatile"));
    assert!(line("/proc").contains("proc rw,nosuid,nodev,noexec"));
    assert!(line("/dev").contains("tmpfs rw,nosuid,") && line("/dev").contains("size=65536k,mode=755"));
    assert!(line("/dev/pts").contains("gid=5,mode=620,ptmxmode=666"));
    assert!(line("/sys").contains("sysfs ro,nosuid,nodev,noexec"));
    // The host's tree is out of sight.
    assert!(!output.stdout.contains(" /work") && !output.stdout.contains(" /tmp"), "{output:?}");
    // Nor can the host's control groups be written.
    let writable = output.stdout.lines().filter(|line| line.starts_with("cgroup") && line.contains(" rw"));
    assert_eq!(writable.count(), 0, "{output:?}");
}

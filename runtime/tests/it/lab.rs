//! A root file system, specs, and shorthand for running them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_spec::runtime::Spec;
use runtime::attach::{Client, PumpEnd, PumpStreams};
use runtime::{CgroupSetup, ExitRecord, Launch, Launched, Rootfs, Spawner};
use serde_json::{Value, json};
use sys::mount::Mount;

pub(crate) type Test = (&'static str, fn(&Lab));

pub(crate) struct Lab {
    pub(crate) spawner: Spawner,
    pub(crate) directory: tempfile::TempDir,
    next: AtomicUsize,
}

/// What a finished container leaves.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) record: ExitRecord,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn skip_or_fail(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must not skip: {reason}");
    println!("skipped: {reason}");
}

impl Lab {
    pub(crate) fn new(spawner: Spawner) -> Self {
        let directory = tempfile::TempDir::with_prefix("davit-runtime-").unwrap();
        let lab = Self { spawner, directory, next: AtomicUsize::new(0) };
        let root = lab.root();
        for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "data/sub"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        std::fs::copy(busybox.expect("busybox-static is installed"), root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "ls", "cat", "true", "false", "sleep", "echo", "id", "stty", "head", "dd", "kill",
            "hostname",
        ]
        .into_iter()
        .chain([
            "mount", "grep", "touch", "test", "tty", "stat", "pwd", "env", "mkdir", "wc", "ip", "ps", "yes",
            "readlink", "sysctl", "seq",
        ]) {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        std::fs::write(root.join("data/file"), "from the image\n").unwrap();
        std::fs::write(root.join("data/sub/deep"), "deep\n").unwrap();
        std::fs::write(root.join("etc/notexec"), "x").unwrap();
        lab
    }

    /// The image's root file system.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    /// A number for names that must differ.
    pub(crate) fn unique(&self) -> String {
        format!("t{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A fresh directory.
    pub(crate) fn scratch(&self) -> PathBuf {
        let path = self.directory.path().join(self.unique());
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// An overlay over the image that nobody else uses.
    pub(crate) fn rootfs(&self) -> Rootfs {
        let scratch = self.scratch();
        for name in ["upper", "work", "empty"] {
            std::fs::create_dir(scratch.join(name)).unwrap();
        }
        let lower = vec![scratch.join("empty"), self.root()];
        let mount = Mount::overlay(lower, scratch.join("upper"), scratch.join("work")).with_flag("volatile");
        Rootfs::Mounts(vec![mount])
    }

    pub(crate) fn launch<'a>(&self, spec: &'a Spec) -> Launch<'a> {
        let mut launch = Launch::new(self.unique(), self.scratch(), spec, self.rootfs());
        launch.attach = true;
        launch
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_spec(&spec(arguments))
    }

    pub(crate) fn shell(&self, script: &str) -> Output {
        self.run(&["sh", "-c", script])
    }

    pub(crate) fn run_spec(&self, value: &Value) -> Output {
        let spec = parse(value);
        finish(self.spawner.launch(self.launch(&spec)).unwrap(), None)
    }

    /// As `run_spec`, in a control group of its own.
    pub(crate) fn run_limited(&self, value: &Value) -> Output {
        let spec = parse(value);
        let mut launch = self.launch(&spec);
        let run_dir = launch.run_dir.clone();
        launch.cgroup = CgroupSetup::Path(PathBuf::from(format!("davit-test/{}", launch.id)));
        let output = finish(self.spawner.launch(launch).unwrap(), None);
        runtime::delete(&run_dir).unwrap();
        output
    }
}

pub(crate) fn parse(value: &Value) -> Spec {
    serde_json::from_value(value.clone()).unwrap()
}

/// Collects output until the end, sending `input` first.
pub(crate) fn finish(mut launched: Launched, input: Option<&[u8]>) -> Output {
    let client = launched.attach.take().unwrap();
    let (end, stdout, stderr) = collect(&client, input);
    let PumpEnd::Exited(record) = end else { panic!("{end:?}") };
    assert_eq!(launched.wait().unwrap(), record);
    launched.finish();
    Output { record, stdout, stderr }
}

pub(crate) fn collect(client: &Client, input: Option<&[u8]>) -> (PumpEnd, String, String) {
    use std::os::fd::AsFd;
    let file = || tempfile::tempfile().unwrap();
    let (out, err) = (file(), file());
    if let Some(input) = input {
        client.send_stdin(input).unwrap();
        client.close_stdin().unwrap();
    }
    let streams =
        PumpStreams { stdout: Some(out.as_fd()), stderr: Some(err.as_fd()), ..PumpStreams::default() };
    let end = client.pump(&streams).unwrap();
    let text = |mut file: std::fs::File| {
        use std::io::{Read, Seek};
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (end, text(out), text(err))
}

/// What the engine makes of plain options, in short.
pub(crate) fn spec(arguments: &[&str]) -> Value {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ];
    let set = runtime::capabilities::CapabilitySet(0x8004_05fb);
    json!({
        "ociVersion": "1.2.1",
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "box",
        "process": {
            "args": arguments,
            "cwd": "/",
            "env": ["PATH=/usr/bin:/bin", "HOME=/root"],
            "user": { "uid": 0, "gid": 0 },
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": false,
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["rprivate", "nosuid", "noexec", "nodev", "relatime", "ro"] },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" },
            ],
            "seccomp": runtime::seccomp::default_for(set),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/interrupts", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

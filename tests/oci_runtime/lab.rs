//! Bundles, and runtimes to run them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Done, binary, busybox_tar, finish, scratch, tool};

/// A runtime with a state directory of its own. Dropping it removes its containers.
pub(crate) struct Lab {
    pub(crate) program: PathBuf,
    pub(crate) dir: TempDir,
    pub(crate) ours: bool,
    next: AtomicUsize,
}

/// Runs a test on a peer and on davit, and says which of them is at it.
#[allow(clippy::print_stderr)]
pub(crate) fn each(test: impl Fn(&Lab)) {
    if let Some(peer) = Lab::peer() {
        eprintln!("-- {}", peer.program.display());
        test(&peer);
    }
    let davit = Lab::davit();
    eprintln!("-- davit");
    test(&davit);
}

/// A root file system of busybox that nobody writes to.
pub(crate) fn rootfs() -> &'static Path {
    static ROOTFS: OnceLock<TempDir> = OnceLock::new();
    ROOTFS
        .get_or_init(|| {
            let dir = scratch();
            tool(
                "tar",
                [OsStr::new("-C"), dir.path().as_os_str(), OsStr::new("-xf"), busybox_tar().as_os_str()],
            )
            .ok();
            for (name, text) in [("etc/deep/file", "from the image\n"), ("etc/notexec", "x")] {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            // Places for what the tests mount: runc makes them in the root file system, which then differs.
            for name in ["a", "b", "run/notify", "c"] {
                std::fs::create_dir_all(dir.path().join(name)).unwrap();
            }
            std::os::unix::fs::chown(dir.path(), Some(0), Some(0)).unwrap();
            std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
            dir
        })
        .path()
}

impl Lab {
    /// Our own.
    pub(crate) fn davit() -> Self {
        let dir = scratch();
        let program = dir.path().join("davit-runtime");
        std::os::unix::fs::symlink(binary(), &program).unwrap();
        Self { program, dir, ours: true, next: AtomicUsize::new(0) }
    }

    /// runc, or what `DAVIT_TEST_PEER` names (`none`: davit alone): crun refuses a machine with both layouts of control
    /// groups.
    fn peer() -> Option<Self> {
        let program = std::env::var_os("DAVIT_TEST_PEER").unwrap_or_else(|| "runc".into());
        let program = PathBuf::from(program);
        (program != Path::new("none")).then(|| Self {
            program,
            dir: scratch(),
            ours: false,
            next: AtomicUsize::new(0),
        })
    }

    /// Whether the peer is crun, which has its own way here and there.
    pub(crate) fn is_crun(&self) -> bool {
        self.program.ends_with("crun")
    }

    /// A name that no other container has.
    pub(crate) fn id(&self) -> String {
        let own = self.dir.path().file_name().unwrap().to_string_lossy().replace('.', "");
        format!("{own}-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Path of a new file or directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.path("state")).stdin(Stdio::null());
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn verb<I, S>(&self, args: I) -> Done
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        finish(self.command().args(args))
    }

    /// A bundle whose program is a shell with this script.
    pub(crate) fn bundle(&self, script: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
        let bundle = self.path(&format!("bundle-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&bundle).unwrap();
        let mut config = config(script);
        edit(&mut config);
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }

    /// Runs a script in a container to its end.
    pub(crate) fn run(&self, script: &str, edit: impl FnOnce(&mut Value)) -> Done {
        let bundle = self.bundle(script, edit);
        self.verb([OsStr::new("run"), OsStr::new("-b"), bundle.as_os_str(), OsStr::new(&self.id())])
    }

    /// What a script prints in a container.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str, edit: impl FnOnce(&mut Value)) -> String {
        self.run(script, edit).ok()
    }

    /// Creates a container, and gives its ID. Its output goes to the file `out` of the bundle.
    pub(crate) fn create(&self, script: &str, edit: impl FnOnce(&mut Value)) -> (String, PathBuf) {
        let (id, bundle) = (self.id(), self.bundle(script, edit));
        let out = std::fs::File::create(bundle.join("out")).unwrap();
        let status = self
            .command()
            .args([OsStr::new("create"), OsStr::new("-b"), bundle.as_os_str(), OsStr::new(&id)])
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status()
            .unwrap();
        let said = std::fs::read_to_string(bundle.join("out")).unwrap();
        assert!(status.success(), "{said}");
        (id, bundle)
    }

    /// Creates and starts a container.
    pub(crate) fn start(&self, script: &str, edit: impl FnOnce(&mut Value)) -> (String, PathBuf) {
        let (id, bundle) = self.create(script, edit);
        self.verb(["start", &id]).ok();
        (id, bundle)
    }

    /// The state of a container.
    #[track_caller]
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.verb(["state", id]).ok()).unwrap()
    }

    /// The word for the state of a container.
    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().unwrap().to_owned()
    }

    /// Waits until a container has ended.
    pub(crate) fn wait(&self, id: &str) {
        crate::support::wait_until("the container ends", || self.status(id) == "stopped");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for id in self.verb(["list", "-q"]).stdout.lines() {
            self.verb(["delete", "-f", id]);
        }
    }
}

/// A configuration as `spec` writes it, without a terminal.
pub(crate) fn config(script: &str) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin", "A=1"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true,
        },
        "root": { "path": rootfs(), "readonly": true },
        "hostname": "box",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"],
        },
    })
}

/// Adds a mount.
pub(crate) fn mount(config: &mut Value, value: Value) {
    config["mounts"].as_array_mut().unwrap().push(value);
}

/// Adds a namespace, in the place of one of the same type.
pub(crate) fn namespace(config: &mut Value, value: Value) {
    let all = config["linux"]["namespaces"].as_array_mut().unwrap();
    all.retain(|space| space["type"] != value["type"]);
    all.push(value);
}

/// Waits until somebody connects, but not for ever.
pub(crate) fn accept(listener: &std::os::unix::net::UnixListener) -> std::os::unix::net::UnixStream {
    let mut accepted = None;
    listener.set_nonblocking(true).unwrap();
    crate::support::wait_until("somebody connects", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

//! A store of its own for each test, with a busybox image in it.

use engine::containers::{CreateRequest, Ran, RunRequest, SessionEnd, Streams};
use engine::entry::Entered;
use engine::images::{ImportRequest, TransferProgress};
use engine::{Engine, EngineOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub(crate) type Test = (&'static str, fn(&Lab));

pub(crate) const QUIET: TransferProgress<'static> = &|_| {};

pub(crate) struct Lab {
    directory: tempfile::TempDir,
    entered: Mutex<Vec<Entered>>,
    pub(crate) engine: Engine,
}

/// What an attached run gave.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Lab {
    pub(crate) fn new(mut entered: Vec<Entered>) -> Self {
        let directory = tempfile::TempDir::with_prefix("davit-engine-").unwrap();
        let engine = open(directory.path(), "one", entered.pop().unwrap());
        let lab = Self { directory, entered: Mutex::new(entered), engine };
        let request = ImportRequest { reference: Some("box".into()), ..ImportRequest::default() };
        lab.engine.images().import(&request, Box::new(std::io::Cursor::new(rootfs())), QUIET).unwrap();
        lab
    }

    /// A second engine with an empty store.
    pub(crate) fn other(&self) -> Engine {
        let entered = self.entered.lock().unwrap().pop().unwrap();
        open(self.directory.path(), "two", entered)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn create(&self, command: &[&str]) -> CreateRequest {
        CreateRequest {
            image: "box".into(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..CreateRequest::default()
        }
    }

    /// Runs attached, with this input.
    pub(crate) fn run_with(&self, mut create: CreateRequest, input: Option<&str>) -> engine::Result<Output> {
        create.interactive = input.is_some();
        let (streams, collect) = streams(input);
        let ran: Ran = self
            .engine
            .containers()
            .run(RunRequest { create, attach: Some(streams), ..RunRequest::default() }, QUIET)?;
        let (stdout, stderr) = collect();
        match ran.end.unwrap() {
            SessionEnd::Exited(code) | SessionEnd::OutOfMemory { code, .. } => {
                Ok(Output { code, stdout, stderr })
            }
            SessionEnd::Detached => panic!("detached"),
        }
    }

    /// Runs a shell script attached in a container that goes when it is done.
    pub(crate) fn shell(&self, script: &str) -> Output {
        let create = CreateRequest { auto_remove: true, ..self.create(&["sh", "-c", script]) };
        self.run_with(create, None).unwrap()
    }

    /// Starts a container in the background; its ID.
    pub(crate) fn detached(&self, name: &str, script: &str) -> String {
        let create = CreateRequest { name: Some(name.into()), ..self.create(&["sh", "-c", script]) };
        self.engine
            .containers()
            .run(RunRequest { create, ..RunRequest::default() }, QUIET)
            .unwrap()
            .container
            .id
    }

    /// Files of the store's containers, snapshots being written and run directories: what must be gone in the end.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for place in [
            "one/root/containers",
            "one/root/names",
            "one/root/active",
            "one/run/containers",
            "one/run/steps",
        ] {
            let entries = std::fs::read_dir(self.path(place)).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
        left
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let request = engine::containers::RemoveRequest {
            selection: engine::containers::Selection { all: true, ..Default::default() },
            force: true,
            timeout: Some(0),
            volumes: false,
            depend: false,
        };
        let _ = self.engine.containers().remove(&request);
    }
}

fn open(directory: &Path, name: &str, entered: Entered) -> Engine {
    let options = EngineOptions {
        root: Some(directory.join(name).join("root")),
        runroot: Some(directory.join(name).join("run")),
        ..EngineOptions::default()
    };
    Engine::open(options, entered).unwrap()
}

/// Pipes for an attached session, and what collects their output afterwards.
pub(crate) fn streams(input: Option<&str>) -> (Streams, impl FnOnce() -> (String, String)) {
    let (mut out, out_end) = std::io::pipe().unwrap();
    let (mut err, err_end) = std::io::pipe().unwrap();
    let stdin: Option<OwnedFd> = input.map(|input| {
        let (end, mut writer) = std::io::pipe().unwrap();
        writer.write_all(input.as_bytes()).unwrap();
        end.into()
    });
    let streams = Streams {
        stdin,
        stdout: Some(out_end.into()),
        stderr: Some(err_end.into()),
        detach_keys: Vec::new(),
        signal_proxy: false,
    };
    let collect = move || {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        out.read_to_string(&mut stdout).unwrap();
        err.read_to_string(&mut stderr).unwrap();
        (stdout, stderr)
    };
    (streams, collect)
}

/// A tar of a busybox root file system.
fn rootfs() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = std::fs::read(busybox.expect("busybox-static is installed")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut entry = |name: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, name, content).unwrap();
    };
    for directory in ["bin", "etc", "root", "var", "home", "home/app"] {
        entry(directory, tar::EntryType::Directory, 0o755, b"", "");
    }
    entry("tmp", tar::EntryType::Directory, 0o1777, b"", "");
    entry("bin/busybox", tar::EntryType::Regular, 0o755, &busybox, "");
    for applet in [
        "sh", "cat", "echo", "ls", "sleep", "id", "true", "false", "env", "pwd", "touch", "mount", "grep",
        "stat", "rm", "mkdir", "tty", "hostname", "wc", "head", "dd", "kill", "test", "ln", "chmod", "chown",
        "printf", "seq", "tr", "od",
    ] {
        entry(&format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, b"", "busybox");
    }
    entry(
        "etc/passwd",
        tar::EntryType::Regular,
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
        "",
    );
    entry("etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n", "");
    tar.into_inner().unwrap()
}

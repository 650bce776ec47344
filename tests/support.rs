//! A davit with a store of its own, images to run, registries to talk to.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub(crate) fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the command ended with 0; gives what it printed, trimmed.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout.trim_end().to_owned()
    }

    /// Fails the test unless the command ended with `code` and said `text` on standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, text: &str) {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.stderr.contains(text), "standard error lacks {text:?}: {self:#?}");
    }
}

/// The scratch directory of the tests: on a real file system, where overlay works, and with a short name, because
/// socket addresses are bounded.
pub(crate) fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("dv").tempdir_in("/var/tmp").unwrap()
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_davit"))
}

/// A davit with its own store. Dropping it removes its containers and its files.
pub(crate) struct Davit {
    pub dir: TempDir,
}

impl Davit {
    /// An empty store.
    pub(crate) fn new() -> Self {
        assert!(is_root(), "these tests need root: run tests/run");
        Self { dir: scratch() }
    }

    /// A store with the image `busybox`.
    pub(crate) fn with_busybox() -> Self {
        let davit = Self::new();
        davit.run(["import", "-q", "-c", "CMD [\"sh\"]", busybox_tar().to_str().unwrap(), "busybox"]).ok();
        davit
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn runroot(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// The command, to be given arguments behind the global options.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("--root")
            .arg(self.root())
            .arg("--runroot")
            .arg(self.runroot())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .env("HOME", self.dir.path())
            .env_remove("REGISTRY_AUTH_FILE")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run<I, S>(&self, args: I) -> Done
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        finish(self.command().args(args))
    }

    /// Runs a command with bytes on its standard input.
    pub(crate) fn run_with_input<I, S>(&self, args: I, input: &[u8]) -> Done
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Done::of(&output)
    }

    /// Builds a context directory of `files` and the Containerfile `text` into the image `name`.
    pub(crate) fn build(&self, name: &str, text: &str, files: &[(&str, &str)]) -> Done {
        let context = context(text, files);
        self.run(["build", "--progress=plain", "-t", name, context.path().to_str().unwrap()])
    }

    /// What a shell command prints in a container of `image`.
    #[track_caller]
    pub(crate) fn sh(&self, image: &str, script: &str) -> String {
        self.run(["run", "--rm", "--network=none", image, "sh", "-c", script]).ok()
    }

    /// The value of a template over `inspect`.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str, template: &str) -> String {
        self.run(["inspect", "--format", template, name]).ok()
    }
}

impl Drop for Davit {
    fn drop(&mut self) {
        let _ = finish(self.command().args(["rm", "-af", "-t", "0"]));
    }
}

/// A context directory.
pub(crate) fn context(text: &str, files: &[(&str, &str)]) -> TempDir {
    let dir = scratch();
    std::fs::write(dir.path().join("Containerfile"), text).unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Done {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    Done::of(&output.unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// Runs a peer or a tool to its end.
pub(crate) fn tool<I, S>(program: &str, args: I) -> Done
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    finish(Command::new(program).args(args).stdin(Stdio::null()))
}

pub(crate) fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0\t")))
}

/// A tar archive with a root file system of busybox alone. It lies in the target directory: what a static holds is
/// never dropped, and a scratch directory would stay behind.
pub(crate) fn busybox_tar() -> &'static Path {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(|| {
        let dir = scratch();
        let root = dir.path().join("root");
        for name in ["bin", "etc", "tmp", "root", "usr/bin", "var", "home", "proc", "sys", "dev"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("busybox-static is installed: run tests/run");
        std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        let list = tool(busybox, ["--list"]).ok();
        for applet in list.lines().filter(|applet| *applet != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n",
        )
        .unwrap();
        std::fs::write(root.join("etc/group"), "root:x:0:\nann:x:1000:\nstaff:x:50:ann\n").unwrap();
        let tar = dir.path().join("busybox.tar");
        tool(
            "tar",
            [
                "-C",
                root.to_str().unwrap(),
                "--numeric-owner",
                "--owner=0",
                "--group=0",
                "-cf",
                tar.to_str().unwrap(),
                ".",
            ],
        )
        .ok();
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox.tar");
        let new = place.with_extension(format!("{}.new", std::process::id()));
        std::fs::copy(&tar, &new).unwrap();
        std::fs::rename(&new, &place).unwrap();
        place
    })
}

/// The Debian root file system that `tests/rootfs` makes.
pub(crate) fn debian_tar() -> PathBuf {
    // target/debug/davit -> target/test-rootfs.tar
    let path = binary().parent().unwrap().parent().unwrap().join("test-rootfs.tar");
    assert!(path.exists(), "{} is missing: run tests/run, which makes it", path.display());
    path
}

/// Debian's docker-registry on a port of its own.
pub(crate) struct Registry {
    child: Child,
    pub dir: TempDir,
    pub host: String,
}

/// How a registry is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Plain http.
    Plain,
    /// https with a private CA, and user `ann` with password `s3cret`.
    TlsAndPassword,
}

impl Registry {
    pub(crate) fn start(access: Access) -> Self {
        let dir = scratch();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            path("data")
        );
        if access == Access::TlsAndPassword {
            make_certificates(dir.path());
            let line = tool("htpasswd", ["-nbB", "ann", "s3cret"]).ok();
            std::fs::write(dir.path().join("htpasswd"), line).unwrap();
            config +=
                &format!("  tls: {{certificate: {}, key: {}}}\n", path("server.crt"), path("server.key"));
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path("htpasswd"));
        }
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed: run tests/run");
        let host = format!("127.0.0.1:{port}");
        wait_until("the registry listens", || TcpStream::connect(&host).is_ok());
        Self { child, dir, host }
    }

    /// The directory with `ca.crt`, as `--cert-dir` wants it.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.dir.path().join("certs.d")
    }

    /// Number of files that hold blobs.
    pub(crate) fn blob_files(&self) -> usize {
        let list =
            tool("find", [self.dir.path().join("data").to_str().unwrap(), "-name", "data", "-type", "f"])
                .ok();
        list.lines().count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn make_certificates(dir: &Path) {
    let certs = dir.join("certs.d");
    std::fs::create_dir_all(&certs).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let openssl = |args: &[&str]| tool("openssl", args).ok();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test ca",
        "-keyout",
        &path("ca.key"),
        "-out",
        &path("ca.pem"),
    ]);
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
        "-keyout",
        &path("server.key"),
        "-out",
        &path("server.csr"),
    ]);
    std::fs::write(
        dir.join("san"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n",
    )
    .unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        &path("server.csr"),
        "-CA",
        &path("ca.pem"),
        "-CAkey",
        &path("ca.key"),
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &path("san"),
        "-out",
        &path("server.crt"),
    ]);
    std::fs::copy(dir.join("ca.pem"), certs.join("ca.crt")).unwrap();
}

/// Waits for a condition that another process brings about; fails the test after 20 seconds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The mounts of this host whose place or options mention `text`.
pub(crate) fn mounts_below(text: &str) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// The processes whose command line mentions `text`.
pub(crate) fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_err() || pid == std::process::id().to_string() {
            continue;
        }
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push(format!("{pid} {line}"));
        }
    }
    found
}

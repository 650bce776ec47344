//! The same as an ordinary user with subordinate ids.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::{Access, Done, Registry, binary, busybox_tar, finish, scratch, tool};

/// The user of these tests, made on first use.
const USER: &str = "davit-test";

fn user() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        if tool("id", [USER]).code != 0 {
            tool("useradd", ["-m", "-s", "/bin/sh", USER]).ok();
        }
        let ids = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
        if !ids.lines().any(|line| line.starts_with(&format!("{USER}:"))) {
            tool("usermod", ["--add-subuids", "700000-765535", "--add-subgids", "700000-765535", USER]).ok();
        }
    });
}

pub(crate) struct Rootless {
    pub(crate) dir: tempfile::TempDir,
}

impl Rootless {
    pub(crate) fn new() -> Self {
        user();
        let dir = scratch();
        tool("chown", [USER, dir.path().to_str().unwrap()]).ok();
        // The build directory may lie where only root can look.
        let bin = dir.path().join("davit");
        std::fs::copy(binary(), &bin).unwrap();
        tool("chmod", ["755", bin.to_str().unwrap()]).ok();
        let tar = dir.path().join("busybox.tar");
        std::fs::copy(busybox_tar(), &tar).unwrap();
        tool("chmod", ["644", tar.to_str().unwrap()]).ok();
        Self { dir }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let path = self.dir.path();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", USER, "--regid", USER, "--init-groups", "--"])
            .arg(path.join("davit"))
            .args(args)
            .env("HOME", path)
            .env("USER", USER)
            .env("XDG_RUNTIME_DIR", path.join("xdg"))
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(path)
            .stdin(Stdio::null());
        finish(&mut command)
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        tool("chown", ["-R", USER, self.dir.path().to_str().unwrap()]).ok();
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "-af", "-t", "0"]);
        // The holder of the namespaces names no path: what runs this test's binary is this test's.
        let bin = self.dir.path().join("davit");
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            if std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == bin) {
                let _ = tool("kill", ["-KILL", entry.file_name().to_str().unwrap()]);
            }
        }
    }
}

#[test]
fn build_share_and_run() {
    let davit = Rootless::new();
    std::fs::create_dir_all(davit.dir.path().join("xdg")).unwrap();
    davit.file(
        "ctx/Containerfile",
        "FROM busybox\nRUN mkdir /owned && chown 1000:50 /owned && rm /etc/group && id -u > /uid\nCOPY --chown=ann f /f\nCMD [\"cat\", \"/uid\", \"/f\"]\n",
    );
    davit.file("ctx/f", "file\n");
    davit.run(&["import", "-q", "busybox.tar", "busybox"]).ok();
    davit.run(&["build", "--progress=plain", "-t", "app", "ctx"]).ok();
    assert_eq!(davit.run(&["run", "--rm", "app"]).ok(), "0\nfile");
    assert_eq!(
        davit.run(&["run", "--rm", "app", "stat", "-c", "%u:%g", "/owned", "/f"]).ok(),
        "1000:50\n1000:1000"
    );
    assert_ne!(davit.run(&["run", "--rm", "app", "ls", "/etc/group"]).code, 0);
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/app", registry.host);
    davit.run(&["push", "-q", "--tls-verify=false", "app", &name]).ok();
    davit.run(&["rmi", "-f", "app"]).ok();
    davit.run(&["pull", "-q", "--tls-verify=false", &name]).ok();
    assert_eq!(davit.run(&["run", "--rm", &name, "stat", "-c", "%u:%g", "/owned"]).ok(), "1000:50");
    // The same image as root has the same content.
    let root = crate::support::Davit::new();
    root.run(["pull", "-q", "--tls-verify=false", &name]).ok();
    assert_eq!(root.run(["run", "--rm", &name, "stat", "-c", "%u:%g", "/owned"]).ok(), "1000:50");
}

#[test]
fn containers_live() {
    let davit = Rootless::new();
    davit.file("xdg/.keep", "");
    davit.run(&["import", "-q", "busybox.tar", "busybox"]).ok();
    davit.run(&["run", "-d", "--name", "one", "busybox", "sh", "-c", "echo up; exec sleep 60"]).ok();
    assert_eq!(davit.run(&["ps", "--format", "{{.Names}} {{.State}}"]).ok(), "one running");
    assert_eq!(davit.run(&["exec", "one", "sh", "-c", "id -u; exit 3"]).code, 3);
    assert_eq!(davit.run(&["exec", "-u", "ann", "one", "id", "-u"]).ok(), "1000");
    assert_eq!(davit.run(&["logs", "one"]).ok(), "up");
    davit.run(&["kill", "one"]).ok();
    assert_eq!(davit.run(&["wait", "one"]).ok(), "137");
    davit.run(&["rm", "one"]).ok();
    assert_eq!(davit.run(&["--runtime=runc", "run", "--rm", "busybox", "echo", "by runc"]).ok(), "by runc");
    let status = davit.run(&["run", "--rm", "busybox", "grep", "CapEff", "/proc/self/status"]).ok();
    assert!(status.ends_with("00000000800405fb"), "{status}");
}

#[test]
fn flags_outputs_and_contexts_of_builds() {
    use std::os::unix::fs::MetadataExt;
    let davit = Rootless::new();
    davit.file("xdg/.keep", "");
    davit.file(
        "ctx/Containerfile",
        "FROM busybox AS one\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /n && chown 1000:50 /n && rm /etc/group\nFROM one\nCOPY --from=named f /f\n",
    );
    davit.file("named/f", "named\n");
    davit.file("secret", "12345");
    davit.run(&["import", "-q", "busybox.tar", "busybox"]).ok();
    let flags = ["build", "-q", "--secret=id=s,src=secret", "--build-context=named=named", "-t", "app"];
    let more = [
        "--squash",
        "--annotation=a=b",
        "--metadata-file=meta",
        "-o",
        "out",
        "-o",
        "type=tar,dest=t.tar",
        "ctx",
    ];
    davit.run(&[&flags[..], &more[..]].concat()).ok();
    assert_eq!(davit.run(&["run", "--rm", "app", "cat", "/n", "/f"]).ok(), "5\nnamed");
    assert_eq!(davit.run(&["run", "--rm", "app", "stat", "-c", "%u:%g", "/n"]).ok(), "1000:50");
    assert_ne!(davit.run(&["run", "--rm", "app", "ls", "/etc/group"]).code, 0);
    // What lands on the host belongs to the user.
    let path = davit.dir.path();
    let owner = std::fs::metadata(path).unwrap().uid();
    assert_eq!(std::fs::metadata(path.join("out/n")).unwrap().uid(), owner);
    assert_eq!(std::fs::metadata(path.join("t.tar")).unwrap().uid(), owner);
    // The tar has the owners of the image.
    let listed = tool("tar", ["-tvf", path.join("t.tar").to_str().unwrap(), "n"]).ok();
    assert!(listed.contains("1000/50"), "{listed}");
    davit.file("multi/Containerfile", "FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /f\n");
    davit.file("multi/f", "1\n");
    davit.run(&["build", "-q", "--platform=linux/amd64,linux/arm64", "-t", "multi", "multi"]).ok();
    let index = davit.run(&["manifest", "inspect", "multi"]).ok();
    assert!(index.contains("amd64") && index.contains("arm64"), "{index}");
}

#[test]
fn namespaces_of_the_host() {
    let davit = Rootless::new();
    davit.file("xdg/.keep", "");
    davit.run(&["import", "-q", "busybox.tar", "busybox"]).ok();
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
    let pid = |options: &[&str]| {
        let mut line = vec!["run", "--rm"];
        line.extend(options);
        line.extend(["busybox", "readlink", "/proc/self/ns/pid"]);
        davit.run(&line).ok()
    };
    assert_eq!(pid(&["--pid=host"]), own);
    assert_ne!(pid(&[]), own);
    for namespace in ["--ipc=host", "--uts=host", "--network=host"] {
        davit.run(&["run", "--rm", namespace, "busybox", "true"]).ok();
    }
    let masked =
        davit.run(&["run", "--rm", "--pid=host", "busybox", "sh", "-c", "echo 1 > /proc/sys/kernel/panic"]);
    assert_ne!(masked.code, 0);
    assert_eq!(davit.run(&["run", "--rm", "-u", "4321", "busybox", "whoami"]).ok(), "4321");
}

/// Copies, commits and exports happen in the user's namespace: owners are the container's, and the user's outside.
#[test]
fn what_containers_changed_is_theirs_outside_too() {
    let davit = Rootless::new();
    // first of all: it gives the whole directory, a store in it too, to the user
    davit.file("mine", "mine\n");
    davit.run(&["import", "-q", "-c", "CMD [\"sh\"]", "busybox.tar", "busybox"]).ok();
    davit
        .run(&["run", "-d", "--name", "c", "-u", "ann", "busybox", "sh", "-c", "echo x > /tmp/x; sleep 100"])
        .ok();
    crate::support::wait_until("the file is there", || {
        davit.run(&["exec", "c", "test", "-s", "/tmp/x"]).code == 0
    });
    davit.run(&["cp", "mine", "c:/tmp/"]).ok();
    assert_eq!(davit.run(&["exec", "c", "stat", "-c", "%U", "/tmp/mine"]).ok(), "ann");
    davit.run(&["cp", "c:/tmp/x", "back"]).ok();
    let path = davit.dir.path();
    let owner = |name: &str| tool("stat", ["-c", "%U", path.join(name).to_str().unwrap()]).ok();
    assert_eq!(owner("back"), USER);
    assert_eq!(davit.run(&["diff", "c"]).ok(), "C /tmp\nA /tmp/mine\nA /tmp/x");
    davit.run(&["commit", "-q", "c", "made"]).ok();
    assert_eq!(davit.run(&["run", "--rm", "made", "stat", "-c", "%U", "/tmp/x"]).ok(), "ann");
    davit.run(&["export", "-o", "c.tar", "c"]).ok();
    assert!(tool("tar", ["tf", path.join("c.tar").to_str().unwrap()]).ok().contains("tmp/x"));
    assert_eq!(
        davit.run(&["top", "c", "user", "args"]).ok().lines().nth(1).map(|line| &line[..3]),
        Some("ann")
    );
    let told = davit.run(&["events", "--stream=false", "--filter=event=commit", "--format={{.Name}}"]).ok();
    assert_eq!(told, "c");
    davit.run(&["rm", "-f", "-t", "0", "c"]).ok();
}

//! Servers that demand something: git over http with a token, over ssh with a key; as root and as an ordinary user.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::rootless::Rootless;
use crate::support::{Davit, processes_with, scratch, tool, wait_until};

/// A bare repository with a Containerfile, made ready for servers that only give files.
fn repository(dir: &Path) {
    let (work, bare) = (dir.join("work"), dir.join("r.git"));
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("Containerfile"), "FROM busybox\nCOPY f /f\n").unwrap();
    std::fs::write(work.join("f"), "from git\n").unwrap();
    let (work, bare) = (work.to_str().unwrap(), bare.to_str().unwrap());
    let identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"];
    tool("git", ["-C", work, "init", "-q", "-b", "main", "."]).ok();
    tool("git", ["-C", work, "add", "-A"]).ok();
    tool("git", ["-C", work].iter().chain(&identity).chain(&["commit", "-q", "-m", "one"])).ok();
    tool("git", ["clone", "-q", "--bare", work, bare]).ok();
    tool("git", ["-C", bare, "update-server-info"]).ok();
}

/// Gives the files of `dir` to whom says `authorization`; gives the address of the repository.
fn private_server(dir: &Path, authorization: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/r.git", listener.local_addr().unwrap());
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut head).is_ok_and(|length| length > 2) {}
            let path = head.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or_default().to_owned();
            let allowed = head.lines().any(|line| line == format!("Authorization: {authorization}"));
            let (status, body) = match std::fs::read(dir.join(path.trim_start_matches('/'))) {
                _ if !allowed => ("401 No\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new()),
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}

#[test]
fn a_git_server_that_wants_a_token() {
    let dir = scratch();
    repository(dir.path());
    // x-access-token:letmein
    let header = "Basic eC1hY2Nlc3MtdG9rZW46bGV0bWVpbg==";
    let url = private_server(dir.path(), header);
    let host = url.trim_start_matches("http://").trim_end_matches("/r.git").to_owned();
    let davit = Rootless::new();
    davit.file("xdg/.keep", "");
    davit.file("token", "letmein\n");
    davit.file("header", header);
    davit.file("wrong", "guess");
    davit.file("add/Containerfile", &format!("FROM busybox\nADD {url} /g\n"));
    davit.run(&["import", "-q", "busybox.tar", "busybox"]).ok();
    for secret in [
        "--secret=id=GIT_AUTH_TOKEN,src=token".to_owned(),
        format!("--secret=id=GIT_AUTH_TOKEN.{host},src=token"),
        "--secret=id=GIT_AUTH_HEADER,src=header".to_owned(),
    ] {
        davit.run(&["build", "-q", "--no-cache", "-t", "a", &secret, &url]).ok();
        assert_eq!(davit.run(&["run", "--rm", "a", "cat", "/f"]).ok(), "from git");
        davit.run(&["build", "-q", "--no-cache", "-t", "b", &secret, "add"]).ok();
        assert_eq!(davit.run(&["run", "--rm", "b", "cat", "/g/f"]).ok(), "from git");
    }
    for secret in ["--secret=id=GIT_AUTH_TOKEN,src=wrong", "--secret=id=GIT_AUTH_TOKEN.other,src=token"] {
        for context in [url.as_str(), "add"] {
            let done = davit.run(&["build", "-q", "--no-cache", secret, context]);
            done.fails(125, "GIT_AUTH_TOKEN");
            assert!(!done.stderr.contains("guess"), "{done:#?}");
        }
    }
}

/// An OpenSSH server that lets one key in, as root.
struct Ssh {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Ssh {
    fn start(key: &Path) -> Self {
        let dir = scratch();
        repository(dir.path());
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &path("host")]).ok();
        std::fs::copy(key.with_extension("pub"), path("keys")).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::write(
            path("config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
                 PidFile none\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
                path("host"),
                path("keys")
            ),
        )
        .unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f", &path("config"), "-E", &path("log")])
            .stdin(Stdio::null())
            .spawn()
            .expect("openssh-server is installed: run tests/run");
        wait_until("the ssh server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, dir, port }
    }

    fn address(&self) -> String {
        format!("ssh://root@127.0.0.1:{}{}/r.git", self.port, self.dir.path().display())
    }

    fn known(&self, key: &str) -> String {
        let text = std::fs::read_to_string(self.dir.path().join(key)).unwrap();
        let words: Vec<&str> = text.split(' ').take(2).collect();
        format!("[127.0.0.1]:{} {}\n", self.port, words.join(" "))
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_repository_behind_ssh() {
    let davit = Rootless::new();
    davit.file("xdg/.keep", "");
    let key = davit.dir.path().join("key");
    tool("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()]).ok();
    let server = Ssh::start(&key);
    let url = server.address();
    davit.file(".ssh/known_hosts", &server.known("host.pub"));
    davit.file("add/Containerfile", &format!("FROM busybox\nADD {url} /g\n"));
    davit.run(&["import", "-q", "busybox.tar", "busybox"]).ok();
    davit.run(&["build", "-q", "--no-cache", "-t", "a", "--ssh=default=key", "add"]).ok();
    assert_eq!(davit.run(&["run", "--rm", "a", "cat", "/g/f"]).ok(), "from git");
    davit.run(&["build", "-q", "--no-cache", "-t", "b", "--ssh=default=key", &url]).ok();
    assert_eq!(davit.run(&["run", "--rm", "b", "cat", "/f"]).ok(), "from git");
    // The agent of a step is the same.
    davit.file(
        "step/Containerfile",
        "FROM busybox\nRUN --mount=type=ssh,required=true test -S $SSH_AUTH_SOCK\n",
    );
    davit.run(&["build", "-q", "--ssh=default=key", "step"]).ok();
    davit.run(&["build", "-q", "--no-cache", "add"]).fails(125, "--ssh=default");
    // A host that is not known is learnt; one whose key is another is refused.
    davit.file(".ssh/known_hosts", "");
    davit.run(&["build", "-q", "--no-cache", "--ssh=default=key", "add"]).ok();
    let learnt = std::fs::read_to_string(davit.dir.path().join(".ssh/known_hosts")).unwrap();
    // Its name may be kept as a digest.
    assert!(learnt.contains(" ssh-ed25519 "), "{learnt:?}");
    std::fs::copy(davit.dir.path().join("key.pub"), server.dir.path().join("other.pub")).unwrap();
    davit.file(".ssh/known_hosts", &server.known("other.pub"));
    davit
        .run(&["build", "-q", "--no-cache", "--ssh=default=key", "add"])
        .fails(125, "Host key verification failed");
}

#[test]
fn a_signal_ends_the_waiting_for_a_silent_server() {
    let davit = Davit::with_busybox();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let url = format!("http://{host}/r.git");
    let dir = crate::support::context(&format!("FROM busybox\nADD {url} /g\n"), &[]);
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let image = format!("{host}/x");
    let path = dir.path().to_str().unwrap();
    let commands = [
        vec!["build", "-q", &url],
        vec!["build", "-q", path],
        vec!["pull", "-q", "--tls-verify=false", &image],
        vec!["push", "-q", "--tls-verify=false", "busybox", &image],
    ];
    for (signal, code) in [("INT", 130), ("TERM", 143), ("KILL", 137)] {
        for words in &commands {
            let mut command = davit.command();
            let child = command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // It waits once it has asked.
            let (mut stream, _) = listener.accept().unwrap();
            assert_ne!(stream.read(&mut [0; 1]).unwrap(), 0);
            tool("kill", [&format!("-{signal}"), &child.id().to_string()]).ok();
            let output = child.wait_with_output().unwrap();
            assert_eq!(crate::support::Done::of(&output).code, code, "{words:?} {output:?}");
            wait_until("git is gone", || processes_with(&url).is_empty());
        }
    }
}

//! Input that is wrong or hostile: a clear error, nothing half-made, and the next command works.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support::{Access, Davit, Registry, context, finish, mounts_below, scratch, tool};

#[test]
fn containerfile_errors_show_the_place() {
    let davit = Davit::with_busybox();
    for (text, line, hint) in [
        ("FROM busybox\nRUNN true\n", "RUNN true", "RUN"),
        ("FROM busybox\nCOPY --chwon=1 a b\n", "COPY --chwon=1 a b", "--chown"),
        (
            "FROM busybox AS builder\nFROM busybox\nCOPY --from=buidler /a /b\n",
            "COPY --from=buidler /a /b",
            "builder",
        ),
        ("FROM busybox\nRUN <<EOF\nno end\n", "RUN <<EOF", "EOF"),
        ("RUN true\n", "RUN true", "FROM"),
        ("FROM busybox\nENV\n", "ENV", ""),
        ("FROM busybox\nCOPY one\n", "COPY one", ""),
    ] {
        let done = davit.build("bad", text, &[]);
        assert_eq!(done.code, 125, "{done:#?}");
        for needle in ["Containerfile", line, "^", hint] {
            assert!(done.stderr.contains(needle), "{needle:?} is missing for {text:?}: {}", done.stderr);
        }
    }
    let dir = context("FROM busybox AS builder\nRUN true\n", &[]);
    let done = davit.run(["build", "--target", "bulider", dir.path().to_str().unwrap()]);
    done.fails(125, "builder");
    davit.run(["build", "/no/such/context"]).fails(125, "/no/such/context");
    let empty = scratch();
    davit.run(["build", empty.path().to_str().unwrap()]).fails(125, "Containerfile");
}

#[test]
fn files_that_a_shell_passes_as_pipes_are_read() {
    let davit = Davit::with_busybox();
    let dir = context("FROM scratch\n", &[]);
    tool("mkfifo", [dir.path().join("fifo")]).ok();
    let shell = |script: &str| {
        let davit = davit.command();
        let mut command = std::process::Command::new("bash");
        command.args(["-c", script, davit.get_program().to_str().unwrap()]).args(davit.get_args());
        for (name, value) in davit.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        finish(command.current_dir(dir.path()))
    };
    for script in [
        "\"$0\" \"$@\" build -q -t x -f <(sleep 0.2; echo FROM busybox; echo ENV A=1) .",
        "\"$0\" \"$@\" build -q -t x -f <(echo FROM busybox) -f <(echo ENV A=1) .",
        "{ sleep 0.2; echo FROM busybox; echo ENV A=1; } > fifo & \"$0\" \"$@\" build -q -t x -f fifo .",
    ] {
        shell(script).ok();
        assert_eq!(davit.sh("x", "echo $A"), "1", "{script}");
        davit.run(["rmi", "x"]).ok();
    }
    let shown = shell("\"$0\" \"$@\" run --rm --env-file <(echo A=passed) busybox sh -c 'echo $A'").ok();
    assert_eq!(shown, "passed");
}

#[test]
fn contexts_cannot_be_left() {
    let davit = Davit::with_busybox();
    let outside = scratch();
    std::fs::write(outside.path().join("secret"), "outside").unwrap();
    let dir = context("FROM busybox\nCOPY link/secret /stolen\n", &[]);
    std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
    assert_ne!(davit.run(["build", "-t", "x", dir.path().to_str().unwrap()]).code, 0);
    let dir = context("FROM busybox\nCOPY ../../../../../../../etc/passwd /stolen\n", &[]);
    assert_ne!(davit.run(["build", "-t", "x", dir.path().to_str().unwrap()]).code, 0);
}

/// A tar archive whose members are given as name, kind and content or link target.
fn hostile_tar(members: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, text) in members {
        let body: &[u8] = if *kind == b'0' { text.as_bytes() } else { b"" };
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = *kind;
        if *kind != b'0' {
            header[157..157 + text.len()].copy_from_slice(text.as_bytes());
        }
        header[257..263].copy_from_slice(b"ustar\0");
        header[263..265].copy_from_slice(b"00");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(body);
        out.resize(out.len().div_ceil(512) * 512, 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn hostile_archives_write_nothing_outside() {
    let outside = scratch();
    let target = outside.path().join("target");
    let place = outside.path().to_str().unwrap();
    let absolute = format!("{place}/target");
    let cases: Vec<Vec<(&str, u8, &str)>> = vec![
        vec![("../../../../../../../../tmp/davit-escape", b'0', "x")],
        vec![("link", b'2', place), ("link/target", b'0', "x")],
        vec![("a", b'2', "../../../../../../../.."), ("a/tmp/davit-escape", b'0', "x")],
        vec![("h", b'1', "/etc/passwd"), ("h", b'0', "x")],
        vec![(absolute.as_str(), b'0', "x")],
    ];
    for members in cases {
        let davit = Davit::new();
        let _ = davit.run_with_input(["import", "-q", "-", "hostile"], &hostile_tar(&members));
        assert!(!target.exists() && !std::path::Path::new("/tmp/davit-escape").exists(), "{members:?}");
        assert!(davit.run(["images"]).code == 0);
    }
    let davit = Davit::with_busybox();
    let mut cut = std::fs::read(crate::support::busybox_tar()).unwrap();
    cut.truncate(cut.len() / 2);
    assert_eq!(davit.run_with_input(["import", "-q", "-", "cut"], &cut).code, 125);
    assert_eq!(davit.run(["images", "-q"]).ok().lines().count(), 1);
    davit.run_with_input(["load", "-q"], b"neither a tar nor anything else").fails(125, "");
}

#[test]
fn corrupted_blobs_are_refused() {
    let davit = Davit::with_busybox();
    let registry = Registry::start(Access::Plain);
    let name = format!("{}/app:1", registry.host);
    davit.run(["push", "-q", "--tls-verify=false", "busybox", &name]).ok();
    let list = tool(
        "find",
        [registry.dir.path().join("data").to_str().unwrap(), "-name", "data", "-type", "f", "-size", "+100k"],
    )
    .ok();
    let blob = list.lines().next().unwrap();
    let whole = std::fs::read(blob).unwrap();
    let mut wrong = whole.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    for bytes in [wrong, whole[..whole.len() / 2].to_vec()] {
        std::fs::write(blob, bytes).unwrap();
        let other = Davit::new();
        let done = other.run(["pull", "-q", "--tls-verify=false", "--retry=0", &name]);
        assert_eq!(done.code, 125, "{done:#?}");
        assert_eq!(other.run(["images", "-q"]).ok(), "");
        std::fs::write(blob, &whole).unwrap();
        other.run(["pull", "-q", "--tls-verify=false", &name]).ok();
        assert_eq!(other.sh(&name, "echo fine"), "fine");
    }
}

#[test]
fn registries_that_answer_nonsense_or_nothing() {
    let davit = Davit::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let answer: Vec<u8> = if text.starts_with("GET /v2/ ") {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()
                } else if text.contains("/bomb/") {
                    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
                    bytes.resize(bytes.len() + 8_000_000, b'[');
                    bytes
                } else {
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 9\r\n\r\nnot json!".to_vec()
                };
                let _ = stream.write_all(&answer);
            });
        }
    });
    for name in ["bomb/x", "plain/x"] {
        let done = davit.run(["pull", "-q", "--tls-verify=false", "--retry=0", &format!("{host}/{name}")]);
        assert_eq!(done.code, 125, "{done:#?}");
    }
    assert_eq!(davit.run(["pull", "-q", "--tls-verify=false", "--retry=0", "127.0.0.1:1/x"]).code, 125);
    assert_eq!(davit.run(["images", "-q"]).ok(), "");
    assert!(mounts_below(davit.dir.path().to_str().unwrap()).is_empty());
}

#[test]
fn names_that_are_none() {
    let davit = Davit::with_busybox();
    davit.run(["tag", "busybox", "UPPER/Case"]).fails(125, "UPPER");
    davit.run(["run", "--name", "bad/name", "busybox", "true"]).fails(125, "bad/name");
    davit.run(["run", "--memory=12q", "busybox", "true"]).fails(125, "12q");
    davit.run(["run", "-v", "relative", "--mount", "type=nonsense,dst=/x", "busybox", "true"]).fails(125, "");
    davit.run(["run", "--cap-add=NO_SUCH_CAP", "busybox", "true"]).fails(125, "NO_SUCH_CAP");
    davit.run(["run", "--security-opt=nonsense", "busybox", "true"]).fails(125, "nonsense");
    assert_eq!(davit.run(["ps", "-aq"]).ok(), "");
}

//! What the process finds: exit codes, credentials, environment, streams.

use crate::lab::{Lab, Test, finish, parse, spec};
use runtime::{OutputMode, StdinMode};
use serde_json::json;

pub(crate) const TESTS: &[Test] = &[
    ("process::exit_codes", exit_codes),
    ("process::signals", signals),
    ("process::capabilities", capabilities),
    ("process::user", user),
    ("process::no_new_privileges_and_seccomp", no_new_privileges_and_seccomp),
    ("process::isolation", isolation),
    ("process::environment", environment),
    ("process::input", input),
    ("process::direct_streams", direct_streams),
    ("process::descriptors", descriptors),
    ("process::executable_is_hidden", executable_is_hidden),
    ("process::large_output", large_output),
];

fn exit_codes(lab: &Lab) {
    assert_eq!(lab.run(&["true"]).record.code, 0);
    assert_eq!(lab.run(&["false"]).record.code, 1);
    let output = lab.shell("echo out; echo err >&2; exit 42");
    assert_eq!((output.record.code, output.stdout.as_str(), output.stderr.as_str()), (42, "out\n", "err\n"));
    assert!(output.record.finished_unix_nanos >= output.record.started_unix_nanos);
}

fn signals(lab: &Lab) {
    // Init is immune to its own signals; a child is not, and the shell tells.
    assert_eq!(lab.shell("sleep 9 & kill -9 $!; wait $!").record.code, 137);
    let value = spec(&["sleep", "100"]);
    let spec = parse(&value);
    let launch = lab.launch(&spec);
    let run_dir = launch.run_dir.clone();
    let launched = lab.spawner.launch(launch).unwrap();
    runtime::kill(&run_dir, 9).unwrap();
    let record = finish(launched, None).record;
    assert_eq!((record.code, record.signal), (137, Some(9)));
    assert!(runtime::kill(&run_dir, 9).is_err());
}

fn capabilities(lab: &Lab) {
    let status = lab.run(&["cat", "/proc/self/status"]).stdout;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    for name in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(name), "00000000800405fb", "{name}");
    }
    for name in ["CapInh:", "CapAmb:"] {
        assert_eq!(field(name), "0000000000000000", "{name}");
    }
    assert_eq!(field("NoNewPrivs:"), "0");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("Groups:"), "");
}

fn user(lab: &Lab) {
    let mut value =
        spec(&["sh", "-c", "id -u; id -g; id -G; grep Cap /proc/self/status; umask; touch /tmp/x"]);
    value["process"]["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 7], "umask": 0o077 });
    value["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_NET_RAW"], "effective": ["CAP_NET_RAW"], "permitted": ["CAP_NET_RAW"],
        "inheritable": ["CAP_NET_RAW"], "ambient": ["CAP_NET_RAW"],
    });
    let output = lab.run_spec(&value);
    assert!(output.stdout.starts_with("1000\n1001\n1001 5 7\n"), "{output:?}");
    for (name, bits) in [("Inh", "2000"), ("Prm", "2000"), ("Eff", "2000"), ("Amb", "2000"), ("Bnd", "2001")]
    {
        assert!(output.stdout.contains(&format!("Cap{name}:\t000000000000{bits}")), "{output:?}");
    }
    assert!(output.stdout.contains("0077"), "{output:?}");
    // A plain user keeps nothing.
    value["process"]["capabilities"] = json!({ "bounding": ["CAP_CHOWN"] });
    let output = lab.run_spec(&value);
    assert!(
        output.stdout.contains("CapPrm:\t0000000000000000")
            && output.stdout.contains("Bnd:\t0000000000000001")
    );
}

fn no_new_privileges_and_seccomp(lab: &Lab) {
    for (uid, no_new) in [(0, true), (1000, true), (1000, false)] {
        let mut value =
            spec(&["sh", "-c", "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; mount -t tmpfs x /tmp"]);
        value["process"]["noNewPrivileges"] = json!(no_new);
        value["process"]["user"]["uid"] = json!(uid);
        if uid != 0 {
            value["process"]["capabilities"] = json!({ "bounding": ["CAP_CHOWN"] });
        }
        let output = lab.run_spec(&value);
        assert!(output.stdout.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new))), "{output:?}");
        assert!(output.stdout.contains("Seccomp:\t2"), "{output:?}");
        assert_ne!(output.record.code, 0);
    }
}

fn isolation(lab: &Lab) {
    let output = lab.shell("echo $$; hostname; ip addr show lo; ls /proc/self/ns >/dev/null; ps | wc -l");
    let mut lines = output.stdout.lines();
    assert_eq!((lines.next(), lines.next()), (Some("1"), Some("box")));
    assert!(output.stdout.contains("127.0.0.1/8"), "{output:?}");
}

fn environment(lab: &Lab) {
    let mut value = spec(&["env"]);
    value["process"]["env"] = json!(["PATH=/bin", "A=b=c", "EMPTY="]);
    value["process"]["cwd"] = json!("/root");
    assert_eq!(lab.run_spec(&value).stdout, "PATH=/bin\nA=b=c\nEMPTY=\n");
    value["process"]["args"] = json!(["pwd"]);
    assert_eq!(lab.run_spec(&value).stdout, "/root\n");
}

fn input(lab: &Lab) {
    let value = spec(&["cat"]);
    let spec = parse(&value);
    // /dev/null: ends at once.
    assert_eq!(finish(lab.spawner.launch(lab.launch(&spec)).unwrap(), None).stdout, "");
    let mut launch = lab.launch(&spec);
    launch.stdin = StdinMode::Attach { keep_open: false };
    let text = "line\n".repeat(100_000);
    let launched = lab.spawner.launch(launch).unwrap();
    let output = std::thread::scope(|scope| {
        let client = runtime::attach::Client::connect(&run_dir_of(&launched)).ok();
        drop(client);
        scope.spawn(|| finish_with_input(launched, text.as_bytes())).join().unwrap()
    });
    assert_eq!(output.len(), text.len());
    assert!(output == text);
}

/// A second client must not disturb the first one's input.
fn run_dir_of(_: &runtime::Launched) -> std::path::PathBuf {
    std::path::PathBuf::from("/nonexistent")
}

fn finish_with_input(mut launched: runtime::Launched, input: &[u8]) -> String {
    let client = launched.attach.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.send_stdin(input).unwrap();
            client.close_stdin().unwrap();
        });
        crate::lab::collect(&client, None).1
    })
}

fn direct_streams(lab: &Lab) {
    use std::io::Read;
    let value = spec(&["sh", "-c", "cat; echo err >&2"]);
    let spec = parse(&value);
    let mut launch = lab.launch(&spec);
    let (mut out, writer) = std::io::pipe().unwrap();
    let (reader, mut feed) = std::io::pipe().unwrap();
    launch.stdin = StdinMode::Fd(reader.into());
    launch.stdout = OutputMode::Fd(writer.into());
    launch.stderr = OutputMode::Null;
    launch.attach = false;
    let run_dir = launch.run_dir.clone();
    let launched = lab.spawner.launch(launch).unwrap();
    assert!(!run_dir.join("attach.sock").exists());
    std::io::Write::write_all(&mut feed, b"direct").unwrap();
    drop(feed);
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "direct");
    assert_eq!(launched.wait().unwrap().code, 0);
    launched.finish();
}

fn descriptors(lab: &Lab) {
    // 0, 1, 2 and the directory that ls reads.
    assert_eq!(lab.run(&["ls", "/proc/self/fd"]).stdout, "0\n1\n2\n3\n");
}

fn executable_is_hidden(lab: &Lab) {
    use std::os::unix::fs::PermissionsExt;
    // A script whose interpreter is "what called execve" gets the trampoline, which makes nothing of its arguments.
    let script = lab.root().join("bin/evil");
    std::fs::write(&script, "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let spec = parse(&spec(&["evil"]));
    match lab.spawner.launch(lab.launch(&spec)) {
        Ok(launched) => assert_ne!(finish(launched, None).record.code, 0),
        Err(error) => assert!(
            matches!(
                error,
                runtime::Error::CommandNotFound { .. } | runtime::Error::CommandNotRunnable { .. }
            ),
            "{error}"
        ),
    }
}

fn large_output(lab: &Lab) {
    let output = lab.shell("yes 0123456789abcdef | head -n 300000");
    assert_eq!(output.stdout.len(), 17 * 300_000);
}

//! User namespaces: new ones for a container, and the one that a rootless engine lives in.

use crate::lab::{Lab, Test, spec};
use serde_json::json;

pub(crate) const TESTS: &[Test] =
    &[("rootless::new_user_namespace", new_user_namespace), ("rootless::inside_a_user_namespace", inside)];

fn new_user_namespace(lab: &Lab) {
    let mut value = spec(&[
        "sh",
        "-c",
        "cat /proc/self/uid_map; id -u; ls -ln /dev/null /etc/passwd; echo x > /dev/null; grep CapEff /proc/self/status",
    ]);
    value["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    value["linux"]["uidMappings"] = map.clone();
    value["linux"]["gidMappings"] = map;
    let output = lab.run_spec(&value);
    assert_eq!(output.record.code, 0, "{output:?}");
    assert!(output.stdout.contains("100000"), "{output:?}");
    assert!(output.stdout.contains("CapEff:\t00000000800405fb"), "{output:?}");
}

const INSIDE: &str = "DAVIT_TEST_INSIDE";

/// The tests once more in a user namespace, entered as a rootless engine does.
pub(crate) fn enter_if_asked() -> bool {
    if std::env::var_os(INSIDE).is_none() {
        return false;
    }
    use nix::sched::{CloneFlags, unshare};
    use std::io::{Read, Write};
    // The map is written by a process that stays outside.
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let (mut done, mut tell) = std::io::pipe().unwrap();
    match sys::process::fork().unwrap() {
        sys::process::Fork::Child => {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get().unsigned_abs();
            let map = [sys::idmap::Range { inside: 0, outside: 100_000, count: 65536 }];
            sys::idmap::write(parent, sys::idmap::Kind::User, &map).unwrap();
            sys::idmap::write(parent, sys::idmap::Kind::Group, &map).unwrap();
            tell.write_all(b"x").unwrap();
            sys::process::exit(0);
        }
        sys::process::Fork::Parent { .. } => {}
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).unwrap();
    writer.write_all(b"x").unwrap();
    done.read_exact(&mut [0]).unwrap();
    sys::user::become_user(0, 0, Some(&[])).unwrap();
    let lab = Lab::new(runtime::Spawner::fork().unwrap());
    let output = lab.shell("id -u; cat /proc/self/uid_map; echo x > /dev/null && ls /dev; exit 5");
    assert_eq!(output.record.code, 5, "{output:?}");
    assert!(output.stdout.starts_with("0\n") && output.stdout.contains("urandom"), "{output:?}");
    let mut value = spec(&["sh", "-c", "tty; stty size; id -u"]);
    value["process"]["terminal"] = json!(true);
    value["process"]["user"]["uid"] = json!(1000);
    value["process"]["consoleSize"] = json!({ "height": 33, "width": 77 });
    let output = lab.run_spec(&value);
    assert_eq!(output.stdout, "/dev/pts/0\r\n33 77\r\n1000\r\n", "{output:?}");
    true
}

fn inside(lab: &Lab) {
    // The files of a rootless engine belong to the user.
    let scratch = lab.scratch();
    std::os::unix::fs::chown(&scratch, Some(100_000), Some(100_000)).unwrap();
    open_up(lab.directory.path());
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .env("TMPDIR", &scratch)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn open_up(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

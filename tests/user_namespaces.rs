//! User namespaces of containers: as root with owners that the kernel maps, as an ordinary user with a copy.

use crate::rootless::Rootless;
use crate::support::{Davit, tool};

/// Maps, then who owns the program and a new file.
const LOOK: &str = "awk '{print $1 \":\" $2 \":\" $3}' /proc/self/uid_map; touch /tmp/new; stat -c %u:%g /bin/busybox /tmp/new";

#[test]
fn owners_are_those_inside_and_on_disk() {
    let davit = Davit::with_busybox();
    let maps = ["--uidmap=0:200000:2000", "--gidmap=0:300000:2000"];
    let run = |args: &[&str]| davit.run([&["run"], &maps[..], args].concat());
    assert_eq!(run(&["--rm", "busybox", "sh", "-c", LOOK]).ok(), "0:200000:2000\n0:0\n0:0");
    assert_eq!(
        run(&["--rm", "-u", "ann", "busybox", "sh", "-c", LOOK]).ok(),
        "0:200000:2000\n0:0\n1000:1000"
    );
    let script = "touch /made; chown 5:6 /made; rm /bin/wget; mkdir /d; echo x > /etc/group; mv /home /moved; sleep 1000";
    run(&["-d", "--name=c", "busybox", "sh", "-c", script]).ok();
    crate::support::wait_until("the script is done", || davit.run(["exec", "c", "ls", "/moved"]).code == 0);
    assert_eq!(davit.run(["exec", "c", "sh", "-c", LOOK]).ok(), "0:200000:2000\n0:0\n0:0");
    let pid = davit.inspect("c", "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t200000") && status.contains("Gid:\t300000"), "{status}");
    // so that the layer can be used under any map
    let upper = davit.inspect("c", "{{.GraphDriver.Data.UpperDir}}");
    assert_eq!(tool("stat", ["-c", "%u:%g", &format!("{upper}/made")]).ok(), "5:6");
    assert_eq!(davit.inspect("c", "{{.HostConfig.IDMappings.UidMap}}"), "[0:200000:2000]");
    davit.run(["restart", "-t0", "c"]).ok();
    davit.run(["rm", "-f", "-t0", "c"]).ok();
    run(&["--rm", "--uidmap=3000:9:1", "busybox", "true"]).ok();
    run(&["--rm", "--uidmap=3000:200001:1", "busybox", "true"]).fails(125, "overlaps");
    run(&["--rm", "--runtime=runc", "busybox", "true"]).fails(125, "use davit's own");
}

#[test]
fn a_mount_shows_owners_as_they_are_inside() {
    let davit = Davit::with_busybox();
    let dir = crate::support::scratch();
    let file = dir.path().join("f");
    std::fs::write(&file, "").unwrap();
    tool("chown", ["7:8", file.to_str().unwrap()]).ok();
    let run = |option: &str| {
        let volume = format!("{}:/v{option}", dir.path().display());
        let script = "stat -c %u:%g /v/f; touch /v/made 2>/dev/null; true";
        let maps = ["--uidmap=0:200000:2000", "--gidmap=0:200000:2000"];
        davit
            .run([&["run", "--rm"], &maps[..], &["-v", &volume, "busybox", "sh", "-c", script]].concat())
            .ok()
    };
    assert_eq!(run(""), "65534:65534");
    assert_eq!(run(":idmap"), "7:8");
    assert_eq!(tool("stat", ["-c", "%u:%g", dir.path().join("made").to_str().unwrap()]).ok(), "0:0");
}

#[test]
fn a_user_namespace_holds_devices_limits_and_terminals() {
    let davit = Davit::with_busybox();
    let run = |args: &[&str]| {
        davit.run([&["run", "--rm", "--uidmap=0:200000:2000"], args, &["busybox", "sh", "-c"]].concat().iter().chain(
            [&"echo a > /dev/null && head -c 3 /dev/zero | wc -c; hostname x 2>&1; id -u; test -e /dev/loop-control && echo loop"],
        ))
    };
    let done = run(&["--device=/dev/loop-control", "--pids-limit=50", "--read-only", "--tmpfs=/t"]);
    assert_eq!(done.stdout, "3\nhostname: sethostname: Operation not permitted\n0\nloop\n", "{done:?}");
    let done = run(&["--privileged"]);
    assert!(done.stdout.contains("loop"), "{done:?}");
}

/// Runs a shell script whose `davit` is the binary with this store, in a mount namespace where `/etc/subuid` and
/// `/etc/subgid` say this.
fn with_subordinate_ids(davit: &Davit, text: &str, script: &str) -> crate::support::Done {
    let file = davit.dir.path().join("subordinate");
    std::fs::write(&file, text).unwrap();
    let prologue = format!(
        "for f in /etc/subuid /etc/subgid; do [ -e $f ] || touch $f; mount --bind {} $f; done; \
         davit() {{ {} --root {} --runroot {} \"$@\"; }}; {script}",
        file.display(),
        crate::support::binary().display(),
        davit.root().display(),
        davit.runroot().display()
    );
    tool("unshare", ["-m", "--propagation=private", "sh", "-ec", &prologue])
}

#[test]
fn automatic_ranges_are_disjoint_and_keep_containers_apart() {
    let davit = Davit::with_busybox();
    with_subordinate_ids(&davit, "someone:100000:65536\n", "davit run --rm --userns=auto busybox true")
        .fails(125, "/etc/subuid");
    let volume = davit.dir.path().join("shared");
    std::fs::create_dir(&volume).unwrap();
    tool("chmod", ["0777", volume.to_str().unwrap()]).ok();
    let volume = format!("{}:/v", volume.display());
    // Both run at the same time: a range is free again when its container is gone.
    let script = format!(
        "start() {{ davit run -d --userns=auto:size=2000 -v {volume} --name $1 busybox sh -c \"$2\"; }}; \
         start a 'echo mine > /v/f; chmod 600 /v/f; touch /v/made; sleep 1000'; \
         until [ -e {made} ]; do sleep 0.1; done; \
         start b 'sleep 1000'",
        made = davit.dir.path().join("shared/made").display()
    );
    with_subordinate_ids(&davit, "containers:500000:5000\n", &script).ok();
    for map in ["uid_map", "gid_map"] {
        let range = |name: &str| {
            let text = davit.run(["exec", name, "cat", &format!("/proc/self/{map}")]).ok();
            let numbers: Vec<u32> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
            assert_eq!((numbers.len(), numbers[0], numbers[2]), (3, 0, 2000), "{text}");
            numbers[1]..numbers[1] + 2000
        };
        let (a, b) = (range("a"), range("b"));
        assert!(a.end <= b.start || b.end <= a.start, "{map}: {a:?} and {b:?} overlap");
        for range in [a, b] {
            assert!(range.start >= 500_000 && range.end <= 505_000, "{range:?} is not of `containers`");
        }
    }
    // Root of one container is nobody to the other, in spite of its capabilities.
    let tried =
        davit.run(["exec", "b", "sh", "-c", "echo theirs >> /v/f; chmod 666 /v/f; chown 0 /v/f; cat /v/f"]);
    assert!(tried.code != 0 && !tried.stdout.contains("mine"), "{tried:?}");
    assert_eq!(davit.run(["exec", "a", "sh", "-c", "cat /v/f; stat -c %a:%u /v/f"]).ok(), "mine\n600:0");
    // There is no room for a third one of this size beside them, and none is taken from them.
    with_subordinate_ids(
        &davit,
        "containers:500000:5000\n",
        "davit run --rm --userns=auto:size=2000 busybox true",
    )
    .fails(125, "no 2000 IDs in a row are free");
}

#[test]
fn another_containers_user_namespace_is_joined() {
    let davit = Davit::with_busybox();
    davit.run(["run", "-d", "--name=a", "--uidmap=0:200000:2000", "busybox", "sleep", "1000"]).ok();
    let namespace = |name: &str| {
        let pid = davit.inspect(name, "{{.State.Pid}}");
        std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap()
    };
    davit.run(["run", "-d", "--name=b", "--userns=container:a", "busybox", "sleep", "1000"]).ok();
    assert_eq!(namespace("a"), namespace("b"));
    assert_eq!(davit.run(["exec", "b", "sh", "-c", LOOK]).ok(), "0:200000:2000\n0:0\n0:0");
    davit.run(["rm", "-f", "-t0", "a"]).fails(2, "b");
}

#[test]
fn an_ordinary_user_keeps_its_id() {
    let user = Rootless::new();
    user.run(&["import", "-q", "busybox.tar", "busybox"]).ok();
    let uid = tool("id", ["-u", "davit-test"]).ok();
    let here = format!("{}:/here", user.dir.path().display());
    let run = |args: &[&str]| user.run(&[&["run", "--rm", "-v", here.as_str()], args].concat());
    let look = "id -u; stat -c %u /here /bin/busybox; touch /here/made";
    assert_eq!(run(&["--userns=keep-id", "busybox", "sh", "-c", look]).ok(), format!("{uid}\n{uid}\n0"));
    assert_eq!(tool("stat", ["-c", "%U", user.dir.path().join("made").to_str().unwrap()]).ok(), "davit-test");
    assert_eq!(
        run(&["--userns=keep-id:uid=7,gid=8", "busybox", "sh", "-c", "id -u; id -g; stat -c %u /here"]).ok(),
        "7\n8\n7"
    );
    assert_eq!(run(&["--userns=keep-id", "busybox", "whoami"]).ok(), "davit-test");
    assert_eq!(
        run(&["--userns=nomap", "busybox", "stat", "-c", "%u", "/here", "/bin/busybox"]).ok(),
        "65534\n0"
    );
    assert_eq!(
        run(&["--userns=auto:size=1500", "busybox", "awk", "{print $3}", "/proc/self/uid_map"]).ok(),
        "1500"
    );
    assert_eq!(
        run(&[
            "--uidmap=0:1:10",
            "--uidmap=10:0:1",
            "--gidmap=0:0:10",
            "busybox",
            "stat",
            "-c",
            "%u",
            "/here"
        ])
        .ok(),
        "10"
    );
    let script = "chmod 4755 /bin/busybox; su ann -c 'id -u'";
    assert_eq!(run(&["--userns=nomap", "busybox", "sh", "-c", script]).ok(), "1000");
}

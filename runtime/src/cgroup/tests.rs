//! Real groups; these need root and a writable control group file system, and run on whichever layout there is.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use oci_spec::runtime::LinuxResources;

use super::*;

/// Skips where the machine gives nothing to test with; in CI that is a failure.
fn usable() -> Option<Layout> {
    let layout = detect();
    match layout.unavailable() {
        None => Some(layout),
        Some(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI must have control groups: {reason}");
            println!("skipped: {reason}");
            None
        }
    }
}

/// A group that goes away with its processes, whatever the test did.
struct Group(Manager);

impl Group {
    fn new(layout: &Layout, name: &str) -> Self {
        let path = format!("davit-test/{name}-{}", std::process::id());
        Self(Manager::create(layout, Path::new(&path)).unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.0.kill_all(KILL);
        let _ = self.0.thaw();
        self.0.delete().unwrap();
    }
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

fn shell(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn attach(group: &Group, child: &Child) {
    group.0.attach(i32::try_from(child.id()).unwrap()).unwrap();
}

fn has(layout: &Layout, controller: &str) -> bool {
    let has = layout.has(controller);
    if !has {
        println!("skipped: no controller {controller}");
    }
    has
}

#[test]
fn a_group_is_made_listed_killed_and_removed() {
    let Some(layout) = usable() else { return };
    let group = Group::new(&layout, "kill");
    let again =
        Manager::open(serde_json::from_str(&serde_json::to_string(group.0.paths()).unwrap()).unwrap());
    assert_eq!(again.paths(), group.0.paths());
    // It forks while it is being moved, so that a child of it may end up in some hierarchies only.
    let mut child = shell("sleep 100 & sleep 100 & sleep 100");
    attach(&group, &child);
    assert!(again.processes().unwrap().contains(&i32::try_from(child.id()).unwrap()));
    again.kill_all(KILL).unwrap();
    assert!(!child.wait().unwrap().success());
    again.delete().unwrap();
    again.delete().unwrap();
    assert!(again.processes().unwrap().is_empty());
    assert!(!again.is_frozen().unwrap());
}

#[test]
fn a_child_joins_by_itself() {
    let Some(layout) = usable() else { return };
    let group = Group::new(&layout, "join");
    let joiner = group.0.joiner().unwrap();
    // The shell stands for the single-threaded child: it inherits the descriptors and writes 0 to each.
    let names: Vec<String> = joiner
        .files
        .iter()
        .map(|file| {
            use std::os::fd::AsRawFd as _;
            format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
        })
        .collect();
    let writes: Vec<String> = names.iter().map(|name| format!("echo 0 > {name}")).collect();
    let mut child = shell(&format!("{} && echo joined && read line", writes.join(" && ")));
    let mut line = [0_u8; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(group.0.processes().unwrap(), [i32::try_from(child.id()).unwrap()]);
    for directory in group.0.directories() {
        assert_eq!(
            read(&directory.join("cgroup.procs")).unwrap().trim(),
            child.id().to_string(),
            "{directory:?}"
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn limits_reach_the_kernel_and_change() {
    let Some(layout) = usable() else { return };
    let group = Group::new(&layout, "limits");
    let file = |v1: (&str, &str), v2: &str| match group.0.paths() {
        Paths::V1(directories) => read(&directories[v1.0].join(v1.1)).unwrap().trim().to_owned(),
        Paths::V2(directory) => read(&directory.join(v2)).unwrap().trim().to_owned(),
        Paths::None(reason) => panic!("{reason}"),
    };
    if has(&layout, "memory") {
        for (limit, swap) in [(64 << 20, 128 << 20), (32 << 20, 32 << 20), (256_i64 << 20, 512 << 20)] {
            group.0.apply(&resources(&format!(r#"{{"memory":{{"limit":{limit},"swap":{swap}}}}}"#))).unwrap();
            assert_eq!(file(("memory", "memory.limit_in_bytes"), "memory.max"), limit.to_string());
        }
        let error = group.0.apply(&resources(r#"{"memory":{"limit":1048576,"swap":1024}}"#)).unwrap_err();
        assert!(matches!(error, Error::Invalid { setting: "memory swap", .. }), "{error}");
        assert_eq!(group.0.stats().unwrap().memory_limit_bytes, Some(256 << 20));
    }
    if has(&layout, "pids") {
        group.0.apply(&resources(r#"{"pids":{"limit":7}}"#)).unwrap();
        assert_eq!(file(("pids", "pids.max"), "pids.max"), "7");
        group.0.apply(&resources(r#"{"pids":{"limit":-1}}"#)).unwrap();
        assert_eq!(file(("pids", "pids.max"), "pids.max"), "max");
    }
    if has(&layout, "cpu") {
        group.0.apply(&resources(r#"{"cpu":{"shares":512,"quota":50000,"period":100000}}"#)).unwrap();
        assert_eq!(file(("cpu", "cpu.cfs_quota_us"), "cpu.max").split(' ').next(), Some("50000"));
        group.0.apply(&resources(r#"{"cpu":{"quota":-1}}"#)).unwrap();
        assert!(["-1", "max 100000"].contains(&file(("cpu", "cpu.cfs_quota_us"), "cpu.max").as_str()));
    }
    if has(&layout, "cpuset") {
        group.0.apply(&resources(r#"{"cpu":{"cpus":"0"}}"#)).unwrap();
        assert_eq!(file(("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");
    }
    if has(&layout, "blkio") {
        let device = block_device();
        if let Some(device) = device {
            let (major, minor) = device.split_once(':').unwrap();
            let throttle = format!(
                r#"{{"blockIO":{{"throttleReadBpsDevice":[{{"major":{major},"minor":{minor},"rate":1048576}}]}}}}"#
            );
            group.0.apply(&resources(&throttle)).unwrap();
            assert!(file(("blkio", "blkio.throttle.read_bps_device"), "io.max").contains("1048576"));
        }
    }
}

/// The number of some whole disk.
fn block_device() -> Option<String> {
    let mut disks = std::fs::read_dir("/sys/block").ok()?.flatten();
    disks
        .find_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok())
        .map(|text| text.trim().to_owned())
}

#[test]
fn a_limit_without_its_controller_is_refused_by_name() {
    let Some(layout) = usable() else { return };
    let none =
        Manager::create(&Layout::None { reason: "cgroup x is not delegated".into() }, Path::new("a/b"))
            .unwrap();
    none.apply(&resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#)).unwrap();
    for (json, name) in [
        (r#"{"pids":{"limit":5}}"#, "pids"),
        (r#"{"memory":{"limit":5}}"#, "memory"),
        (r#"{"cpu":{"shares":5}}"#, "cpu"),
    ] {
        let text = none.apply(&resources(json)).unwrap_err().to_string();
        assert!(text.starts_with(name) && text.contains("not delegated"), "{text}");
    }
    assert!(none.freeze().is_err());
    none.delete().unwrap();

    if !layout.has("hugetlb") {
        let group = Group::new(&layout, "missing");
        let huge = resources(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#);
        let error = group.0.apply(&huge).unwrap_err();
        assert!(matches!(error, Error::NoController { controller: "hugetlb", .. }), "{error}");
    }
    assert!(Manager::create(&layout, Path::new("a/../b")).is_err());
    assert!(Manager::create(&layout, Path::new("/")).is_err());
}

#[test]
fn a_frozen_group_stands_still() {
    let Some(layout) = usable() else { return };
    if !has(&layout, "freezer") {
        return;
    }
    let group = Group::new(&layout, "freeze");
    let mut child = shell("while :; do :; done");
    attach(&group, &child);
    group.0.freeze().unwrap();
    assert!(group.0.is_frozen().unwrap());
    let time = || group.0.stats().unwrap().cpu_nanos;
    let before = time();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(time(), before);
    group.0.thaw().unwrap();
    assert!(!group.0.is_frozen().unwrap());
    group.0.freeze().unwrap();
    // Killed while frozen.
    group.0.kill_all(KILL).unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn counters_count() {
    let Some(layout) = usable() else { return };
    let group = Group::new(&layout, "stats");
    let mut child =
        shell("read line; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read line");
    attach(&group, &child);
    use std::io::Write as _;
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let mut line = [0_u8; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    let stats = group.0.stats().unwrap();
    assert!(stats.cpu_nanos.unwrap_or(1) > 0);
    if layout.has("pids") {
        assert_eq!(stats.pids, Some(1));
    }
    if layout.has("memory") {
        assert!(stats.memory_usage_bytes.unwrap() > 0 && stats.memory_limit_bytes.is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn lack_of_memory_is_reported() {
    let Some(layout) = usable() else { return };
    if !has(&layout, "memory") {
        return;
    }
    let group = Group::new(&layout, "oom");
    group.0.apply(&resources(r#"{"memory":{"limit":16777216,"swap":16777216}}"#)).unwrap();
    let watch = group.0.oom_watch().unwrap().unwrap();
    assert!(!watch.drain());
    let mut child = shell("read line; exec dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null");
    attach(&group, &child);
    use std::io::Write as _;
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert!(!child.wait().unwrap().success());
    let mut fds = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1, "the watch stayed silent");
    assert!(watch.drain());
    let event = group.0.oom_event().unwrap();
    assert!(event.kills >= 1, "{event:?}");
    assert_eq!(event.limit_bytes, Some(16 << 20));
    assert!(event.peak_bytes.is_none_or(|peak| peak > 8 << 20), "{event:?}");
}

#[test]
fn device_rules_hold() {
    let Some(layout) = usable() else { return };
    if !has(&layout, "devices") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may set device rules");
        return;
    }
    let group = Group::new(&layout, "devices");
    let rules = crate::devices::effective_rules(&[crate::devices::rule(
        false,
        oci_spec::runtime::LinuxDeviceType::A,
        None,
        None,
        "rwm",
    )]);
    let mut wanted = resources("{}");
    wanted.set_devices(Some(rules.clone()));
    group.0.apply(&wanted).unwrap();
    // kmsg (1:11) exists on every machine and is not among the default devices.
    let script = "read line; head -c1 /dev/zero >/dev/null && echo zero; (: < /dev/kmsg) 2>/dev/null && echo kmsg; exit 0";
    let run = || {
        let mut child = shell(script);
        attach(&group, &child);
        use std::io::Write as _;
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    if !Path::new("/dev/kmsg").exists() {
        println!("skipped: no /dev/kmsg");
        return;
    }
    assert_eq!(run(), "zero\n");
    // A second application takes the place of the first.
    let mut open = rules;
    open.push(crate::devices::rule(true, oci_spec::runtime::LinuxDeviceType::C, Some(1), Some(11), "r"));
    wanted.set_devices(Some(open));
    group.0.apply(&wanted).unwrap();
    assert_eq!(run(), "zero\nkmsg\n");
}

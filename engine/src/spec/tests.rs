//! Whole specs.

use std::path::Path;

use oci_spec::runtime::Capability;
use runtime::cgroup::Layout;
use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;
use crate::options::{MountKind, Seccomp};

const ID: &str = "d50d17a56ec8f767e7056d66a71ba1ebea5c95cdd859408d5d90dfffac1a66d3";

fn host() -> Host {
    Host {
        hostname: "machine".into(),
        in_user_namespace: false,
        bounding: CapabilitySet::ALL,
        may_raise_limits: true,
        nofile_hard: 4096,
        nproc_hard: u64::MAX,
        oom_score_adj: 0,
        tty_group_mapped: true,
        unified: true,
        no_cgroup: None,
        pids_controller: true,
        message_queues: true,
        ping_group_range: true,
        thermal_throttle: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
        apparmor: false,
        seccomp: true,
    }
}

fn options() -> SpecOptions {
    SpecOptions {
        id: ID.into(),
        rootfs: "/rootfs".into(),
        args: vec!["sleep".into(), "30".into()],
        user: ResolvedUser { home: "/root".into(), ..ResolvedUser::default() },
        ..SpecOptions::default()
    }
}

fn spec_of(options: &SpecOptions, host: &Host) -> Value {
    serde_json::to_value(build(options, host).unwrap().spec).unwrap()
}

fn mount<'a>(spec: &'a Value, destination: &str) -> Option<&'a Value> {
    spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == destination)
}

fn bind(destination: &str, words: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: MountKind::Bind { source: "/tmp".into() },
        options: words.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_default_container() {
    let mut spec = spec_of(&options(), &host());
    let seccomp = spec["linux"].as_object_mut().unwrap().remove("seccomp").unwrap();
    assert_eq!(seccomp["defaultErrnoRet"], 38);
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        let set = spec["process"]["capabilities"][set].as_array_mut().unwrap();
        set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    let eleven = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT"
    ]);
    let expected = json!({
        "ociVersion": "1.2.1",
        "root": {"path": "/rootfs", "readonly": false},
        "hostname": "d50d17a56ec8",
        "process": {
            "user": {"uid": 0, "gid": 0, "umask": 18},
            "args": ["sleep", "30"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=podman",
                "HOME=/root", "HOSTNAME=d50d17a56ec8"
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": eleven, "effective": eleven, "permitted": eleven, "inheritable": [], "ambient": []
            },
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": 1_048_576, "soft": 1_048_576},
                {"type": "RLIMIT_NPROC", "hard": 1_048_576, "soft": 1_048_576}
            ]
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536000", "rw"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["rprivate", "nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "sysctl": {"net.ipv4.ping_group_range": "0 0"},
            "resources": {"devices": [{"allow": false, "type": "a", "access": "rwm"}], "pids": {"limit": 2048}},
            "cgroupsPath": format!("davit/{ID}"),
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
                "/proc/timer_list", "/proc/timer_stats", "/proc/interrupts", "/sys/devices/virtual/powercap",
                "/sys/firmware", "/sys/fs/selinux", "/sys/devices/system/cpu/cpu0/thermal_throttle"
            ],
            "readonlyPaths": [
                "/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
            ]
        }
    });
    assert_eq!(spec, expected, "{}", serde_json::to_string_pretty(&spec).unwrap());
}

#[test]
fn a_machine_with_less() {
    let poor = Host {
        may_raise_limits: false,
        unified: false,
        no_cgroup: Some("cgroup /x is not delegated to this user".into()),
        pids_controller: false,
        in_user_namespace: true,
        tty_group_mapped: false,
        message_queues: true,
        ping_group_range: false,
        bounding: CapabilitySet::DEFAULT.difference(CapabilitySet::EMPTY.with(Capability::Kill)),
        ..host()
    };
    let built = build(&options(), &poor).unwrap();
    assert_eq!(
        built.notes,
        ["the number of processes is not limited to 2048: cgroup /x is not delegated to this user"]
    );
    let spec = serde_json::to_value(&built.spec).unwrap();
    assert_eq!(spec["process"]["rlimits"][0]["hard"], 4096);
    assert!(mount(&spec, "/sys/fs/cgroup").is_none());
    assert_eq!(mount(&spec, "/sys").unwrap()["type"], "sysfs");
    let pts = mount(&spec, "/dev/pts").unwrap()["options"].to_string();
    assert!(!pts.contains("gid=5"), "{pts}");
    assert!(!spec["process"]["capabilities"]["bounding"].to_string().contains("KILL"));
    assert!(!spec["linux"]["namespaces"].to_string().contains("cgroup"));
    assert!(spec["linux"].get("sysctl").is_none() && spec["linux"]["resources"].get("pids").is_none());

    let mut shared = options();
    shared.namespaces.network = NamespaceSource::Host;
    let sys = spec_of(&shared, &poor);
    assert_eq!(mount(&sys, "/sys").unwrap()["type"], "bind");
}

#[test]
fn users_mounts_replace_ours_and_may_not_collide() {
    let mut wanted = options();
    wanted.files =
        vec![("/run/x/hosts".into(), "/etc/hosts".into()), ("/run/x/rc".into(), "/etc/resolv.conf".into())];
    wanted.mounts = vec![
        bind("/var/lib/deep/data", &["rbind", "rprivate"]),
        bind("/etc/hosts", &["ro", "rbind"]),
        bind("/dev/shm", &["rbind"]),
        Mount {
            destination: "/t".into(),
            kind: MountKind::Tmpfs,
            options: vec!["size=1m".into(), "rw".into()],
        },
    ];
    let spec = spec_of(&wanted, &host());
    let destinations: Vec<&str> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["destination"].as_str().unwrap())
        .collect();
    assert_eq!(destinations.last(), Some(&"/var/lib/deep/data"));
    assert_eq!(destinations.iter().filter(|path| **path == "/etc/hosts").count(), 1);
    assert_eq!(mount(&spec, "/etc/hosts").unwrap()["source"], "/tmp");
    assert_eq!(mount(&spec, "/etc/resolv.conf").unwrap()["options"], json!(["bind", "rprivate"]));
    assert_eq!(mount(&spec, "/dev/shm").unwrap()["type"], "bind");
    assert_eq!(mount(&spec, "/t").unwrap()["options"], json!(["size=1m", "rw", "rprivate"]));

    wanted.mounts.push(bind("/t", &[]));
    let error = build(&wanted, &host()).unwrap_err();
    assert_eq!(error.to_string(), "/t: duplicate mount destination");
    wanted.mounts = vec![bind("/b", &["ro", "rw"])];
    assert_eq!(build(&wanted, &host()).unwrap_err().kind(), ErrorKind::Invalid);
    wanted.mounts = vec![bind("/dev", &["rbind"])];
    let spec = spec_of(&wanted, &host());
    assert!(mount(&spec, "/dev/pts").is_none() && mount(&spec, "/dev").unwrap()["type"] == "bind");
}

#[test]
fn read_only_root() {
    let mut wanted = SpecOptions { read_only: true, ..options() };
    wanted.mounts = vec![bind("/tmp", &["rbind"])];
    let spec = spec_of(&wanted, &host());
    assert_eq!(spec["root"]["readonly"], true);
    assert_eq!(
        mount(&spec, "/var/tmp").unwrap()["options"],
        json!(["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"])
    );
    assert_eq!(mount(&spec, "/tmp").unwrap()["type"], "bind");
    wanted.read_only_tmpfs = false;
    let spec = spec_of(&wanted, &host());
    assert!(mount(&spec, "/run").is_none());
    assert!(mount(&spec, "/dev").unwrap()["options"].to_string().contains("\"ro\""));
}

#[test]
fn privileged_has_no_confinement() {
    let spec = spec_of(&SpecOptions { privileged: true, ..options() }, &host());
    let linux = &spec["linux"];
    assert!(linux.get("seccomp").is_none());
    assert_eq!((&linux["maskedPaths"], &linux["readonlyPaths"]), (&json!([]), &json!([])));
    assert_eq!(linux["resources"]["devices"], json!([{"allow": true, "type": "a", "access": "rwm"}]));
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
    for path in ["/sys", "/sys/fs/cgroup"] {
        assert!(mount(&spec, path).unwrap()["options"].to_string().contains("\"rw\""), "{path}");
    }
}

#[test]
fn security_options() {
    let mut wanted = options();
    wanted.security = Security {
        no_new_privileges: true,
        mask: vec!["/secret".into()],
        unmask: vec!["/proc/kcore".into(), "/sys/*".into(), "/proc/sys".into()],
        ..Security::default()
    };
    let spec = spec_of(&wanted, &host());
    assert_eq!(spec["process"]["noNewPrivileges"], true);
    let masked = spec["linux"]["maskedPaths"].to_string();
    assert!(
        masked.contains("/secret") && !masked.contains("kcore") && !masked.contains("/sys/firmware"),
        "{masked}"
    );
    assert!(masked.contains("powercap"), "a star does not cross a slash: {masked}");
    assert!(!spec["linux"]["readonlyPaths"].to_string().contains("/proc/sys\""));
    wanted.security.unmask = vec!["ALL".into()];
    assert_eq!(spec_of(&wanted, &host())["linux"]["maskedPaths"], json!(["/secret"]));

    wanted.security.seccomp = Seccomp::Unconfined;
    assert!(spec_of(&wanted, &host())["linux"].get("seccomp").is_none());
    wanted.security.seccomp = Seccomp::File("/p.json".into());
    wanted.seccomp_profile = Some(b"{}".to_vec());
    assert_eq!(build(&wanted, &host()).unwrap_err().to_string(), "load seccomp profile /p.json");
    wanted.seccomp_profile = Some(br#"{"defaultAction":"SCMP_ACT_LOG"}"#.to_vec());
    assert_eq!(spec_of(&wanted, &host())["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_LOG");
    wanted.security.apparmor = Some("foo".into());
    assert_eq!(build(&wanted, &host()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn limits() {
    let mut wanted = options();
    wanted.limits = Limits {
        memory: Some(64 << 20),
        milli_cpus: Some(500),
        cpu_shares: Some(5),
        cpuset_cpus: Some("0".into()),
        pids: Some(7),
        blkio_weight: Some(100),
        ..Limits::default()
    };
    wanted.ulimits = vec![Ulimit { name: "nofile".into(), soft: 10, hard: 20 }];
    let spec = spec_of(&wanted, &host());
    let resources = &spec["linux"]["resources"];
    assert_eq!(resources["memory"], json!({"limit": 67_108_864, "swap": 134_217_728}));
    assert_eq!(resources["cpu"], json!({"shares": 5, "quota": 50000, "period": 100_000, "cpus": "0"}));
    assert_eq!((&resources["pids"]["limit"], &resources["blockIO"]["weight"]), (&json!(7), &json!(100)));
    let limits = spec["process"]["rlimits"].as_array().unwrap();
    assert!(limits.contains(&json!({"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20})) && limits.len() == 2);

    wanted.limits.pids = Some(-1);
    assert!(spec_of(&wanted, &host())["linux"]["resources"].get("pids").is_none());
    for bad in [
        Limits { memory: Some(2000), memory_swap: Some(1000), ..Limits::default() },
        Limits { memory_swap: Some(1000), ..Limits::default() },
        Limits { memory: Some(1000), memory_reservation: Some(2000), ..Limits::default() },
        Limits { milli_cpus: Some(1), cpu_quota: Some(1000), ..Limits::default() },
        Limits { blkio_weight: Some(1), ..Limits::default() },
        Limits { memory_swappiness: Some(101), ..Limits::default() },
    ] {
        wanted.limits = bad;
        assert_eq!(build(&wanted, &host()).unwrap_err().kind(), ErrorKind::Invalid, "{:?}", wanted.limits);
    }
}

#[test]
fn namespaces_and_names() {
    let mut wanted = options();
    wanted.namespaces = Namespaces {
        pid: NamespaceSource::Host,
        ipc: NamespaceSource::Host,
        network: NamespaceSource::Host,
        cgroup: Some(NamespaceSource::Host),
        uts: NamespaceSource::Path("/proc/5/ns/uts".into()),
        user: None,
    };
    let spec = spec_of(&wanted, &host());
    assert_eq!(
        spec["linux"]["namespaces"],
        json!([{"type": "uts", "path": "/proc/5/ns/uts"}, {"type": "mount"}])
    );
    assert_eq!(spec["hostname"], "machine");
    assert_eq!(mount(&spec, "/dev/shm").unwrap()["source"], "/dev/shm");
    assert!(spec["linux"].get("sysctl").is_none());
    wanted.namespaces.uts = NamespaceSource::Host;
    let spec = spec_of(&wanted, &host());
    assert!(
        spec.get("hostname").is_none() && spec["process"]["env"].to_string().contains("HOSTNAME=machine")
    );

    wanted.sysctls = [("net.core.somaxconn".to_owned(), "5".to_owned())].into();
    assert_eq!(build(&wanted, &host()).unwrap_err().kind(), ErrorKind::Invalid);
    wanted.namespaces.network = NamespaceSource::New;
    assert_eq!(spec_of(&wanted, &host())["linux"]["sysctl"]["net.core.somaxconn"], "5");
}

#[test]
fn other_users_and_devices() {
    let mut wanted = options();
    wanted.user =
        ResolvedUser { uid: 1000, gid: 1001, additional_gids: vec![1001, 10], ..ResolvedUser::default() };
    wanted.cap_add = vec!["net_raw".into()];
    wanted.devices = vec![Device {
        source: "/dev/null".into(),
        destination: "/dev/hole".into(),
        permissions: "rw".into(),
    }];
    let spec = spec_of(&wanted, &host());
    assert_eq!(
        spec["process"]["user"],
        json!({"uid": 1000, "gid": 1001, "umask": 18, "additionalGids": [1001, 10]})
    );
    assert_eq!(spec["process"]["capabilities"]["ambient"], json!(["CAP_NET_RAW"]));
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 12);
    let node = &spec["linux"]["devices"][0];
    assert_eq!((&node["path"], &node["major"], &node["minor"]), (&json!("/dev/hole"), &json!(1), &json!(3)));
    assert_eq!(
        spec["linux"]["resources"]["devices"][1],
        json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"})
    );
    let rootless = Host { in_user_namespace: true, ..host() };
    let spec = spec_of(&wanted, &rootless);
    assert!(spec["linux"].get("devices").is_none());
    assert_eq!(mount(&spec, "/dev/hole").unwrap()["source"], "/dev/null");

    wanted.devices[0].source = "/dev/nonexistent".into();
    assert!(build(&wanted, &host()).is_err());
    wanted.devices.clear();
    wanted.cap_add = vec!["flying".into()];
    assert_eq!(build(&wanted, &host()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn exec_takes_over_confinement_and_environment() {
    let mut wanted = options();
    wanted.security.no_new_privileges = true;
    let spec = build(&wanted, &host()).unwrap().spec;
    let exec = ExecOptions {
        args: vec!["id".into()],
        env: vec![("A".into(), "1".into())],
        user: Some(ResolvedUser { uid: 5, gid: 6, home: "/h".into(), ..ResolvedUser::default() }),
        ..ExecOptions::default()
    };
    let process = exec_process(&spec, &exec, &host()).unwrap();
    assert_eq!(process.cwd(), Path::new("/"));
    assert_eq!(process.no_new_privileges(), Some(true));
    let env = process.env().as_ref().unwrap();
    assert!(env.contains(&"HOME=/h".to_owned()) && env.contains(&"A=1".to_owned()));
    assert!(!env.iter().any(|variable| variable.starts_with("HOSTNAME=")));
    let sets = process.capabilities().as_ref().unwrap();
    assert!(sets.effective().as_ref().unwrap().is_empty());
    assert_eq!(sets.bounding().as_ref().unwrap().len(), 11);
    let relative = ExecOptions { cwd: Some("x".into()), ..exec };
    assert!(exec_process(&spec, &relative, &host()).is_err());
}

#[test]
fn the_host_is_seen_without_groups_too() {
    let host = Host::look(&Layout::None { reason: "none".into() }).unwrap();
    assert_eq!(host.no_cgroup.as_deref(), Some("none"));
    assert!(!host.pids_controller && !host.unified);
}

//! A container as Podman's `inspect` shows it.

use super::{ContainerSize, Containers, OutOfMemory, Status};
use crate::options::{BlockLimitKind, Limits, MountKind, Namespace, Seccomp};
use crate::spec::Host;
use crate::state::{ContainerRecord, files};
use crate::time::Instant;
use crate::{Engine, Result};
use oci_spec::runtime::{Capabilities, Spec};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// A container in Podman's JSON shape.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerInspect {
    /// 64 hex digits.
    pub id: String,
    /// RFC 3339.
    pub created: String,
    /// First word of the command.
    pub path: String,
    /// The others.
    pub args: Vec<String>,
    /// State.
    pub state: InspectState,
    /// Image ID, 64 hex digits.
    pub image: String,
    /// Digest of the image's manifest.
    pub image_digest: String,
    /// Image as the user named it.
    pub image_name: String,
    /// Root file system, when not an image.
    pub rootfs: String,
    /// Pod.
    pub pod: String,
    /// Path of the /etc/resolv.conf it sees.
    pub resolv_conf_path: String,
    /// Path of the /etc/hostname it sees.
    pub hostname_path: String,
    /// Path of the /etc/hosts it sees.
    pub hosts_path: String,
    /// Directory of its own files.
    pub static_dir: String,
    /// Path of the runtime specification of the last start.
    #[serde(rename = "OCIConfigPath")]
    pub oci_config_path: String,
    /// Runtime.
    #[serde(rename = "OCIRuntime")]
    pub oci_runtime: String,
    /// Process ID of the monitor's file.
    pub conmon_pid_file: String,
    /// Process ID file.
    pub pid_file: String,
    /// Name.
    pub name: String,
    /// Restarts.
    pub restart_count: u32,
    /// Storage driver.
    pub driver: String,
    /// SELinux label.
    pub mount_label: String,
    /// SELinux label.
    pub process_label: String,
    /// `AppArmor` profile.
    pub app_armor_profile: String,
    /// Effective capabilities.
    pub effective_caps: Vec<String>,
    /// Bounding capabilities.
    pub bounding_caps: Vec<String>,
    /// Exec sessions.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Vec<String>,
    /// Where its layers lie.
    pub graph_driver: crate::images::GraphDriver,
    /// With `--size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// With `--size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
    /// Mounts.
    pub mounts: Vec<InspectMount>,
    /// Containers that it needs.
    pub dependencies: Vec<String>,
    /// Network.
    pub network_settings: InspectNetwork,
    /// Name space.
    pub namespace: String,
    /// Whether it is an infra container.
    pub is_infra: bool,
    /// Whether it is a service container.
    pub is_service: bool,
    /// What was asked for.
    pub config: InspectConfig,
    /// How the host treats it.
    pub host_config: serde_json::Value,
}

/// State in [`ContainerInspect`].
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectState {
    /// Version of the runtime specification.
    pub oci_version: String,
    /// Word of [`super::Status`].
    pub status: String,
    /// Running or paused.
    pub running: bool,
    /// Paused.
    pub paused: bool,
    /// Restarting.
    pub restarting: bool,
    /// Whether the kernel killed it for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Dead.
    pub dead: bool,
    /// Process ID, 0 when not running.
    pub pid: u32,
    /// Process ID of the monitor.
    pub conmon_pid: u32,
    /// Of the last exit.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// Path of the cgroup.
    pub cgroup_path: String,
    /// Whether it was checkpointed.
    pub checkpointed: bool,
    /// Whether it was restored.
    pub restored: bool,
    /// What is known of its health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<InspectHealth>,
    /// Whether `stop` or `kill` ended it.
    pub stopped_by_user: bool,
}

/// Health in [`ContainerInspect`].
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectHealth {
    /// Word of [`super::HealthStatus`].
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results.
    pub log: Vec<super::HealthResult>,
}

/// Mount in [`ContainerInspect`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectMount {
    /// `bind`, `tmpfs`.
    pub r#type: String,
    /// Name of a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Host path.
    pub source: String,
    /// Path inside.
    pub destination: String,
    /// Volume driver.
    pub driver: String,
    /// SELinux mode.
    pub mode: String,
    /// Options.
    pub options: Vec<String>,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Propagation.
    pub propagation: String,
}

/// Network in [`ContainerInspect`].
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectNetwork {
    /// Bridge.
    pub bridge: String,
    /// Address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Gateway.
    pub gateway: String,
    /// Hardware address.
    pub mac_address: String,
    /// Published ports.
    pub ports: BTreeMap<String, serde_json::Value>,
    /// Path of the network namespace.
    pub sandbox_key: String,
    /// By name.
    pub networks: BTreeMap<String, serde_json::Value>,
}

/// What was asked for, in [`ContainerInspect`].
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectConfig {
    /// Host name.
    pub hostname: String,
    /// Domain name.
    pub domainname: String,
    /// User.
    pub user: String,
    /// Whether standard input was asked for.
    pub attach_stdin: bool,
    /// Always false, as in Podman.
    pub attach_stdout: bool,
    /// Always false, as in Podman.
    pub attach_stderr: bool,
    /// Terminal.
    pub tty: bool,
    /// Whether standard input stays open.
    pub open_stdin: bool,
    /// Whether standard input closes with the first client.
    pub stdin_once: bool,
    /// Environment.
    pub env: Vec<String>,
    /// Command.
    pub cmd: Vec<String>,
    /// Image as the user named it.
    pub image: String,
    /// Volumes.
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// Working directory.
    pub working_dir: String,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Build-time instructions.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Stop signal's name.
    pub stop_signal: String,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
    /// What happens to an unhealthy container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck_on_failure_action: Option<&'static str>,
    /// Where results of checks are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_log_destination: Option<String>,
    /// Results that are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck_max_log_count: Option<u32>,
    /// Characters that are kept of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck_max_log_size: Option<u32>,
    /// The check that comes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_health_check: Option<serde_json::Value>,
    /// Time zone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timezone: String,
    /// Whether it is set up for systemd.
    pub systemd_mode: bool,
    /// Who speaks to the service manager.
    #[serde(rename = "sdNotifyMode")]
    pub sdnotify_mode: String,
    /// False where /etc/passwd is left to the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passwd: Option<bool>,
    /// The command line as typed.
    pub create_command: Vec<String>,
    /// Octal.
    pub umask: String,
    /// Seconds.
    pub timeout: u32,
    /// Seconds.
    pub stop_timeout: u32,
    /// Ports.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
}

/// Podman's text for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl Containers<'_> {
    /// Describes a container in Podman's JSON shape.
    pub fn inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        let engine = self.engine;
        let record = engine.state().find(name)?;
        let seen = engine.seen(&record.id)?;
        let settings = &record.settings;
        let run_dir = engine.state().run_directory(&record.id);
        let spec: Option<Spec> = files::read_json(&run_dir.join("config.json"))?;
        let process = spec.as_ref().and_then(|spec| spec.process().as_ref());
        let capabilities = process.and_then(|process| process.capabilities().as_ref());
        let names = |set: Option<&Capabilities>| -> Vec<String> {
            let mut names: Vec<String> =
                set.into_iter().flatten().map(ToString::to_string).map(|name| with_prefix(&name)).collect();
            names.sort();
            names
        };
        let running = seen.is_running();
        let start = engine.start_record(&record.id)?;
        let time = |nanos: i64| if nanos == 0 { NEVER.to_owned() } else { Instant(nanos).rfc3339() };
        let file = |name: &str| {
            let path = run_dir.join(name);
            if path.is_file() { path.to_string_lossy().into_owned() } else { String::new() }
        };
        let argv = record.argv();
        let size = if size { Some(engine.container_size(&record)?) } else { None };
        let state = InspectState {
            oci_version: "1.2.1".to_owned(),
            status: seen.status.as_str().to_owned(),
            running,
            paused: seen.status == Status::Paused,
            restarting: false,
            oom_killed: seen.exit.as_ref().is_some_and(|exit| exit.oom_killed),
            dead: false,
            pid: seen.pid(),
            conmon_pid: match (&seen.process, running) {
                (Some(process), true) => process.monitor_pid,
                _ => 0,
            },
            exit_code: seen.exit_code(),
            error: match seen.exit.as_ref().and_then(OutOfMemory::of) {
                Some(memory) if start.error.is_empty() => memory.to_string(),
                _ => start.error.clone(),
            },
            started_at: time(seen.started_nanos()),
            finished_at: time(seen.finished_nanos()),
            cgroup_path: seen
                .process
                .as_ref()
                .filter(|_| running)
                .and_then(|process| process.cgroup.as_ref())
                .map(group_path)
                .unwrap_or_default(),
            checkpointed: false,
            restored: false,
            health: engine.health(&record)?.map(|health| InspectHealth {
                status: health.status.as_str().to_owned(),
                failing_streak: health.failing_streak,
                log: health.log,
            }),
            stopped_by_user: start.stopped_by_user,
        };
        Ok(ContainerInspect {
            created: Instant(record.created_nanos).rfc3339(),
            path: argv.first().cloned().unwrap_or_default(),
            args: argv.iter().skip(1).cloned().collect(),
            image: record.image_id.clone(),
            image_digest: record.image_digest.clone(),
            image_name: record.image_name.clone(),
            rootfs: settings
                .rootfs
                .as_ref()
                .map(|rootfs| rootfs.path.display().to_string())
                .unwrap_or_default(),
            pod: String::new(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            static_dir: engine.state().directory(&record.id).to_string_lossy().into_owned(),
            oci_config_path: file("config.json"),
            oci_runtime: runtime_name(record.runtime.as_deref()),
            conmon_pid_file: file("pid.json"),
            pid_file: settings
                .pidfile
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            restart_count: start.restarts,
            driver: engine.store()?.snapshots().name().to_owned(),
            mount_label: String::new(),
            process_label: String::new(),
            app_armor_profile: settings.security.apparmor.clone().unwrap_or_default(),
            effective_caps: names(capabilities.and_then(|sets| sets.effective().as_ref())),
            bounding_caps: names(capabilities.and_then(|sets| sets.bounding().as_ref())),
            exec_ids: exec_sessions(&run_dir),
            graph_driver: graph_driver(engine, &record)?,
            size_rw: size.map(|size| size.rw),
            size_root_fs: size.map(|size| size.root_fs),
            mounts: mounts(&record, &self.engine.volume_files()),
            dependencies: settings.requires.clone(),
            network_settings: InspectNetwork::default(),
            namespace: String::new(),
            is_infra: false,
            is_service: false,
            config: config(&record, process, engine.host()?),
            host_config: host_config(engine, &record)?,
            state,
            name: record.name,
            id: record.id,
        })
    }
}

/// Name of the runtime of a container; `None` = davit itself.
fn runtime_name(program: Option<&std::path::Path>) -> String {
    let name = program.and_then(std::path::Path::file_name).unwrap_or("davit".as_ref());
    name.to_string_lossy().into_owned()
}

fn with_prefix(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

/// Where the container's processes are listed.
fn group_path(paths: &runtime::cgroup::Paths) -> String {
    use runtime::cgroup::Paths;
    let path = match paths {
        Paths::None(_) => None,
        Paths::V2(path) => Some(path),
        Paths::V1(groups) => groups.get("memory").or_else(|| groups.values().next()),
    };
    path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

fn exec_sessions(run_dir: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(run_dir.join("exec")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn graph_driver(engine: &Engine, record: &ContainerRecord) -> Result<crate::images::GraphDriver> {
    let below = engine.graph_driver(record.chain.as_ref())?;
    let snapshots = engine.store()?.snapshots();
    let mut data = BTreeMap::new();
    if let Ok(upper) = snapshots.layer_directory(&record.snapshot) {
        data.insert("UpperDir".to_owned(), upper.to_string_lossy().into_owned());
    }
    let lower: Vec<String> =
        ["UpperDir", "LowerDir"].into_iter().filter_map(|key| below.data.get(key).cloned()).collect();
    if !lower.is_empty() {
        data.insert("LowerDir".to_owned(), lower.join(":"));
    }
    Ok(crate::images::GraphDriver { name: below.name, data })
}

fn mounts(record: &ContainerRecord, volumes: &crate::volumes::VolumeFiles) -> Vec<InspectMount> {
    const PROPAGATION: [&str; 8] =
        ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"];
    record
        .settings
        .mounts
        .iter()
        .map(|mount| {
            let is = |word: &str| mount.options.iter().any(|option| option == word);
            let propagation = PROPAGATION.into_iter().find(|word| is(word)).unwrap_or_default().to_owned();
            let (kind, source) = match &mount.kind {
                MountKind::Bind { source } => ("bind", source.to_string_lossy().into_owned()),
                MountKind::Tmpfs => ("tmpfs", String::new()),
                MountKind::Ramfs => ("ramfs", String::new()),
                MountKind::Devpts => ("devpts", String::new()),
                MountKind::Glob { pattern } => ("glob", pattern.clone()),
                MountKind::Image { reference, .. } => ("image", reference.clone()),
                MountKind::Overlay { .. } => ("overlay", String::new()),
                MountKind::Volume { name, .. } => {
                    ("volume", volumes.data(name).to_string_lossy().into_owned())
                }
            };
            InspectMount {
                r#type: kind.to_owned(),
                name: mount.volume().map(str::to_owned),
                source,
                destination: mount.destination.to_string_lossy().into_owned(),
                driver: if mount.volume().is_some() { "local".to_owned() } else { String::new() },
                mode: String::new(),
                rw: !is("ro"),
                options: mount
                    .options
                    .iter()
                    .filter(|option| {
                        !PROPAGATION.contains(&option.as_str()) && !matches!(option.as_str(), "ro" | "rw")
                    })
                    .cloned()
                    .collect(),
                propagation,
            }
        })
        .collect()
}

fn config(
    record: &ContainerRecord,
    process: Option<&oci_spec::runtime::Process>,
    host: &Host,
) -> InspectConfig {
    let settings = &record.settings;
    let hostname = settings.hostname.clone().unwrap_or_else(|| host.hostname.clone());
    // what runs tells best; before the first start there is only what was asked for
    let env = match process.and_then(|process| process.env().clone()) {
        Some(env) => env,
        None => settings.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
    };
    let signal = settings.stop_signal.as_deref().and_then(sys::signal::parse).unwrap_or(15);
    InspectConfig {
        hostname,
        domainname: settings.domainname.clone().unwrap_or_default(),
        user: settings.user.clone().unwrap_or_default(),
        attach_stdin: false,
        attach_stdout: false,
        attach_stderr: false,
        tty: settings.tty,
        open_stdin: settings.interactive,
        stdin_once: false,
        env,
        cmd: record.command.clone(),
        image: record.image_name.clone(),
        volumes: None,
        working_dir: settings.workdir.clone().unwrap_or_else(|| "/".to_owned()),
        entrypoint: record.entrypoint.clone(),
        on_build: None,
        labels: settings.labels.clone(),
        annotations: settings.annotations.clone(),
        stop_signal: sys::signal::name(signal)
            .map_or_else(|| signal.to_string(), |name| format!("SIG{}", name.trim_start_matches("SIG"))),
        healthcheck: settings.health_check.as_ref().map(|check| {
            let mut config = health_config(&check.test, check.interval, check.timeout, check.retries);
            config["StartPeriod"] = json!(u64::try_from(check.start_period.as_nanos()).unwrap_or(u64::MAX));
            config
        }),
        healthcheck_on_failure_action: settings.health_check.as_ref().map(|check| check.on_failure.as_str()),
        health_log_destination: settings.health_check.as_ref().map(|check| check.log.destination.clone()),
        healthcheck_max_log_count: settings.health_check.as_ref().map(|check| check.log.count),
        healthcheck_max_log_size: settings.health_check.as_ref().map(|check| check.log.size),
        startup_health_check: settings.health_check.as_ref().and_then(|check| check.startup.as_ref()).map(
            |startup| {
                let mut config =
                    health_config(&startup.test, startup.interval, startup.timeout, startup.retries);
                config["Successes"] = json!(startup.successes);
                config
            },
        ),
        timezone: settings.timezone.clone().unwrap_or_default(),
        systemd_mode: settings.systemd.applies(&record.argv()),
        sdnotify_mode: settings.sdnotify.as_str().to_owned(),
        passwd: (settings.no_passwd).then_some(false),
        create_command: settings.create_command.clone(),
        umask: format!("{:04o}", settings.umask.unwrap_or(0o022)),
        timeout: settings.timeout,
        stop_timeout: settings.stop_timeout.unwrap_or(super::stop::STOP_TIMEOUT),
        exposed_ports: settings.expose.iter().map(|port| (port.clone(), json!(null))).collect(),
    }
}

fn block_limits(limits: &Limits, kind: BlockLimitKind) -> Vec<serde_json::Value> {
    let name = if kind == BlockLimitKind::Weight { "Weight" } else { "Rate" };
    let of_kind = limits.block_devices.iter().filter(|limit| limit.kind == kind);
    of_kind.map(|limit| json!({ "Path": limit.device, name: limit.value })).collect()
}

fn id_mappings(maps: &crate::IdMaps) -> serde_json::Value {
    let lines = |ranges: &[sys::idmap::Range]| -> Vec<String> {
        let line = |range: &sys::idmap::Range| format!("{}:{}:{}", range.inside, range.outside, range.count);
        ranges.iter().map(line).collect()
    };
    json!({ "UidMap": lines(&maps.users), "GidMap": lines(&maps.groups) })
}

/// A health check in the shape of Docker's image format.
fn health_config(test: &[String], interval: Duration, timeout: Duration, retries: u32) -> serde_json::Value {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({ "Test": test, "Interval": nanos(interval), "Timeout": nanos(timeout), "Retries": retries })
}

fn host_config(engine: &Engine, record: &ContainerRecord) -> Result<serde_json::Value> {
    let settings = &record.settings;
    let limits = &settings.limits;
    let mode = |namespace: &Namespace| match namespace {
        Namespace::None => "none".to_owned(),
        Namespace::Path(path) => format!("ns:{}", path.display()),
        Namespace::Private => "private".to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Container(id) => format!("container:{id}"),
    };
    let nano_cpus = limits.milli_cpus.map_or(0, |cpus| cpus.saturating_mul(1_000_000));
    let mut security = Vec::new();
    if settings.security.no_new_privileges {
        security.push("no-new-privileges".to_owned());
    }
    match &settings.security.seccomp {
        Seccomp::Default | Seccomp::Text(_) => {}
        Seccomp::Unconfined => security.push("seccomp=unconfined".to_owned()),
        Seccomp::File(path) => security.push(format!("seccomp={}", path.display())),
    }
    let binds: Vec<String> = settings
        .mounts
        .iter()
        .filter_map(|mount| match &mount.kind {
            MountKind::Bind { source } => Some(format!(
                "{}:{}:{}",
                source.display(),
                mount.destination.display(),
                mount.options.join(",")
            )),
            MountKind::Volume { name, .. } => {
                Some(format!("{name}:{}:{}", mount.destination.display(), mount.options.join(",")))
            }
            _ => None,
        })
        .collect();
    let tmpfs: BTreeMap<String, String> = settings
        .mounts
        .iter()
        .filter(|mount| mount.kind == MountKind::Tmpfs)
        .map(|mount| (mount.destination.to_string_lossy().into_owned(), mount.options.join(",")))
        .collect();
    let mut config = serde_json::Map::new();
    let mut put = |part: serde_json::Value| {
        if let serde_json::Value::Object(part) = part {
            config.extend(part);
        }
    };
    put(json!({
        "Binds": binds,
        "Tmpfs": tmpfs,
        "CgroupManager": engine.groups()?.manager.name(),
        "CgroupMode": mode(&settings.cgroupns),
        "ContainerIDFile": settings.cidfile.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default(),
        "LogConfig": {
            "Type": settings.log_driver.as_deref().unwrap_or("k8s-file"),
            "Config": settings.log_options,
            "Path": engine.log_path(record),
            "Tag": settings.log_options.get("tag").cloned().unwrap_or_default(),
            "Size": settings.log_options.get("max-size").cloned().unwrap_or_else(|| "0B".to_owned()),
        },
        "NetworkMode": super::select::network_word(record),
        "PortBindings": {},
        "RestartPolicy": { "Name": settings.restart.as_str(), "MaximumRetryCount": settings.restart.limit() },
        "AutoRemove": settings.auto_remove,
        "Annotations": settings.annotations,
    }));
    let with_prefixes = |names: &[String]| names.iter().map(|name| with_prefix(name)).collect::<Vec<_>>();
    put(json!({
        "CapAdd": with_prefixes(&settings.cap_add),
        "CapDrop": with_prefixes(&settings.cap_drop),
        "Dns": settings.dns,
        "DnsOptions": settings.dns_options,
        "DnsSearch": settings.dns_search,
        "ExtraHosts": settings.add_hosts,
        "GroupAdd": settings.groups,
        "IpcMode": mode(&settings.ipc),
        "PidMode": mode(&settings.pid),
        "UTSMode": mode(&settings.uts),
        "UsernsMode": settings.userns.word(),
        "IDMappings": settings.maps.as_ref().map(id_mappings),
        "Cgroups": settings.cgroups.as_str(),
        "OomScoreAdj": settings.oom_score_adj.unwrap_or(0),
        "Privileged": settings.privileged,
        "PublishAllPorts": false,
        "ReadonlyRootfs": settings.read_only,
        "SecurityOpt": security,
        "ShmSize": settings.shm_size.unwrap_or(64_000 * 1024),
        "Runtime": "oci",
        "Isolation": "",
        "Init": settings.init,
    }));
    let devices: Vec<_> = settings
        .devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.source,
                "PathInContainer": device.destination,
                "CgroupPermissions": device.permissions,
            })
        })
        .collect();
    let ulimits: Vec<_> = settings
        .ulimits
        .iter()
        .map(|limit| {
            json!({
                "Name": format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
                "Soft": limit.soft,
                "Hard": limit.hard,
            })
        })
        .collect();
    put(json!({
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": limits.memory.unwrap_or(0),
        "NanoCpus": nano_cpus,
        "CgroupParent": settings.cgroup_parent.clone().unwrap_or_default(),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": block_limits(limits, BlockLimitKind::Weight),
        "BlkioDeviceReadBps": block_limits(limits, BlockLimitKind::ReadBps),
        "BlkioDeviceWriteBps": block_limits(limits, BlockLimitKind::WriteBps),
        "BlkioDeviceReadIOps": block_limits(limits, BlockLimitKind::ReadIops),
        "BlkioDeviceWriteIOps": block_limits(limits, BlockLimitKind::WriteIops),
        "CpuRealtimePeriod": limits.cpu_rt_period.unwrap_or(0),
        "CpuRealtimeRuntime": limits.cpu_rt_runtime.unwrap_or(0),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices,
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": limits.memory_swap.unwrap_or(0),
        "MemorySwappiness": limits.memory_swappiness.map_or(-1, |value| i64::try_from(value).unwrap_or(-1)),
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids.unwrap_or(2048),
        "Ulimits": ulimits,
    }));
    Ok(serde_json::Value::Object(config))
}

impl Engine {
    /// Sizes of a container's file system.
    pub(crate) fn container_size(&self, record: &ContainerRecord) -> Result<ContainerSize> {
        let rw = self.snapshot_size(record)?;
        let image = match &record.chain {
            Some(chain) => self
                .store()?
                .chain_size(chain)
                .map_err(crate::error::storage(format!("measure the image of container {}", record.name)))?,
            None => 0,
        };
        Ok(ContainerSize { rw, root_fs: rw + image })
    }

    /// Bytes of a container's own layer.
    pub(crate) fn snapshot_size(&self, record: &ContainerRecord) -> Result<u64> {
        let usage = self
            .store()?
            .snapshots()
            .usage(&record.snapshot)
            .map_err(crate::error::storage(format!("measure container {}", record.name)))?;
        Ok(usage.bytes)
    }
}

//! A container as Podman's `inspect` shows it.

mod host;
mod shape;

pub use shape::*;

use super::{ContainerSize, Containers, OutOfMemory, Status};
use crate::options::MountKind;
use crate::spec::Host;
use crate::state::{ContainerRecord, files};
use crate::time::Instant;
use crate::{Engine, Result};
use host::host_config;
use oci_spec::runtime::{Capabilities, Spec};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

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

/// A health check in the shape of Docker's image format.
fn health_config(test: &[String], interval: Duration, timeout: Duration, retries: u32) -> serde_json::Value {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    json!({ "Test": test, "Interval": nanos(interval), "Timeout": nanos(timeout), "Retries": retries })
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

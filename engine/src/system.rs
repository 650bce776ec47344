//! The engine about itself and its host.

use crate::containers::ContainerPruneRequest;
use crate::images::{ImagePruneRequest, PruneReport};
use crate::{Engine, Result};
use serde::Serialize;
use serde_json::json;

/// What `version` shows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// davit's version.
    pub version: String,
    /// Version of the REST API, 0 while there is none.
    #[serde(rename = "APIVersion")]
    pub api_version: String,
    /// `linux/amd64`.
    pub os_arch: String,
    /// Commit it was built from, if known.
    pub git_commit: String,
}

/// What `info` shows, in Podman's shape where it has one. It is JSON because front ends only print it.
pub type Info = serde_json::Value;

/// Remove what nothing needs.
#[derive(Debug, Clone, Default)]
pub struct SystemPruneRequest {
    /// Also images that have a name and no container.
    pub all: bool,
    /// Also the build cache.
    pub build: bool,
    /// Also volumes that no container has.
    pub volumes: bool,
    /// `label=..`, `label!=..`, `until=..`.
    pub filters: Vec<String>,
}

/// What a system prune removed.
#[derive(Debug, Clone, Default)]
pub struct SystemPruneReport {
    /// Containers.
    pub containers: PruneReport,
    /// Images.
    pub images: PruneReport,
    /// Volumes.
    pub volumes: crate::images::PruneReport,
    /// Bytes in all that became free.
    pub reclaimed: u64,
}

impl Engine {
    /// Describes host and engine.
    pub fn info(&self) -> Result<Info> {
        let config = self.config();
        let host = self.host()?;
        let uname = rustix::system::uname();
        let platform = oci::Platform::host();
        let memory = meminfo();
        let store = self.store()?;
        let records = self.state().list()?;
        let mut running = 0;
        let mut paused = 0;
        for record in &records {
            match self.seen(&record.id)?.status {
                crate::containers::Status::Running => running += 1,
                crate::containers::Status::Paused => paused += 1,
                _ => {}
            }
        }
        let images = store.images().list().map_err(crate::error::storage("list images"))?.len();
        let groups = self.groups()?;
        let layout = &groups.layout;
        let controllers: Vec<&str> = [
            "cpuset", "cpu", "io", "blkio", "memory", "hugetlb", "pids", "rdma", "misc", "devices", "freezer",
        ]
        .into_iter()
        .filter(|name| layout.has(name))
        .collect();
        let uptime = read_line("/proc/uptime")
            .split_whitespace()
            .next()
            .and_then(|seconds| seconds.parse::<f64>().ok())
            .unwrap_or(0.0);
        let version = version();
        Ok(json!({
            "host": {
                "arch": platform.architecture,
                "os": platform.os,
                "variant": platform.variant.unwrap_or_default(),
                "hostname": host.hostname,
                "kernel": uname.release().to_string_lossy(),
                "cpus": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                "memTotal": memory("MemTotal"),
                "memFree": memory("MemFree"),
                "swapTotal": memory("SwapTotal"),
                "swapFree": memory("SwapFree"),
                "uptime": format!("{uptime:.0}s"),
                "distribution": distribution(),
                "cgroupManager": if layout.unavailable().is_some() {
                    "none"
                } else {
                    groups.manager.name()
                },
                "cgroupVersion": if runtime::cgroup::unified_mount().is_some() { "v2" } else { "v1" },
                "cgroupControllers": controllers,
                "cgroupUnavailable": layout.unavailable().unwrap_or_default(),
                "eventLogger": "none",
                "logDriver": "k8s-file",
                "ociRuntime": oci_runtime(self.config().runtime.as_deref(), &version.version),
                "security": {
                    "apparmorEnabled": host.apparmor,
                    "capabilities": runtime::capabilities::CapabilitySet::DEFAULT
                        .iter()
                        .map(|capability| capability.to_string())
                        .collect::<Vec<_>>()
                        .join(","),
                    "rootless": config.identity.rootless,
                    "seccompEnabled": host.seccomp,
                    "seccompProfilePath": "built in",
                    "selinuxEnabled": false,
                },
                "serviceIsRemote": false,
            },
            "store": {
                "graphRoot": config.root,
                "runRoot": config.runroot,
                "imageCopyTmpDir": config.tmpdir,
                "graphDriverName": store.snapshots().name(),
                "graphOptions": {},
                "containerStore": {
                    "number": records.len(),
                    "running": running,
                    "paused": paused,
                    "stopped": records.len() - running - paused,
                },
                "imageStore": { "number": images },
            },
            "registries": { "search": self.registries()?.search_registries() },
            "plugins": { "volume": ["local"], "network": ["none", "host"], "log": ["k8s-file", "none"] },
            "version": {
                "APIVersion": version.api_version,
                "Version": version.version,
                "OsArch": version.os_arch,
                "GitCommit": version.git_commit,
            },
        }))
    }

    /// Removes what nothing needs.
    pub fn system_prune(&self, request: &SystemPruneRequest) -> Result<SystemPruneReport> {
        let containers =
            self.containers().prune(&ContainerPruneRequest { filters: request.filters.clone() })?;
        let mounts = if request.build { self.forget_builds()? } else { 0 };
        let images =
            self.images().prune(&ImagePruneRequest { all: request.all, filters: request.filters.clone() })?;
        let unfinished = match request.all || request.build {
            true => self.sweep_all()?,
            false => 0,
        };
        let volumes = match request.volumes {
            true => self.volumes().prune(&request.filters)?,
            false => crate::images::PruneReport::default(),
        };
        self.tell(crate::events::Event::system("prune"));
        let reclaimed = containers.reclaimed + images.reclaimed + volumes.reclaimed + mounts + unfinished;
        Ok(SystemPruneReport { containers, images, volumes, reclaimed })
    }

    /// Removes the cache of builds: results that no image has, and cache mounts that no step uses now. Returns the
    /// number of bytes that became free.
    pub fn prune_builds(&self) -> Result<u64> {
        let mounts = self.forget_builds()?;
        Ok(mounts + self.sweep_all()?)
    }

    /// Frees what nothing needs, blobs too that came in part and that no pull is going on with.
    fn sweep_all(&self) -> Result<u64> {
        let options = storage::SweepOptions { partial_blobs: true, ..storage::SweepOptions::default() };
        let freed = self.store()?.sweep(options).map_err(crate::error::storage("free what nothing needs"))?;
        Ok(freed.bytes)
    }

    /// Removes cache mounts, and the records of results, whose content the next sweep removes.
    fn forget_builds(&self) -> Result<u64> {
        let store = self.store()?;
        let failed = || crate::error::storage("remove the build cache");
        for record in store.cache().list().map_err(failed())? {
            store.cache().remove(&record.key).map_err(failed())?;
        }
        Ok(store.cache_mounts().prune().map_err(failed())?.1)
    }
}

/// The runtime of new containers, as `info` shows it.
fn oci_runtime(program: Option<&std::path::Path>, version: &str) -> serde_json::Value {
    match program {
        None => serde_json::json!({ "name": "davit", "path": "built in", "version": version }),
        Some(program) => {
            let output = std::process::Command::new(program).arg("--version").output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
            serde_json::json!({
                "name": program.file_name().unwrap_or_default().to_string_lossy(),
                "path": program,
                "version": text.unwrap_or_default(),
            })
        }
    }
}

fn read_line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Bytes by field of /proc/meminfo.
fn meminfo() -> impl Fn(&str) -> u64 {
    let text = read_line("/proc/meminfo");
    move |field| {
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kilobytes| kilobytes * 1024)
    }
}

/// Memory of this host, bytes.
pub(crate) fn memory_bytes() -> u64 {
    meminfo()("MemTotal")
}

fn distribution() -> serde_json::Value {
    let text = read_line("/etc/os-release");
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map_or("unknown", |value| value.trim_matches('"'))
            .to_owned()
    };
    json!({ "distribution": field("ID"), "version": field("VERSION_ID"), "codename": field("VERSION_CODENAME") })
}

/// davit's version.
pub fn version() -> Version {
    let platform = oci::Platform::host();
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api_version: env!("CARGO_PKG_VERSION").to_owned(),
        os_arch: format!("{}/{}", platform.os, platform.architecture),
        git_commit: option_env!("DAVIT_GIT_COMMIT").unwrap_or_default().to_owned(),
    }
}

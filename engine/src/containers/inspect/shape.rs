//! The shape of Podman's `inspect`.

use serde::Serialize;
use std::collections::BTreeMap;

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
    /// Word of [`crate::containers::Status`].
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
    /// Word of [`crate::containers::HealthStatus`].
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results.
    pub log: Vec<crate::containers::HealthResult>,
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

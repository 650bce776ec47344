//! What is asked of volumes and what is told of them.

use serde::Serialize;
use std::collections::BTreeMap;

/// A volume to make.
#[derive(Debug, Clone, Default)]
pub struct VolumeCreateRequest {
    /// Its name; `None` = a random one.
    pub name: Option<String>,
    /// `local`, or empty for it.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `type`, `device`, `o`.
    pub options: BTreeMap<String, String>,
    /// Owner of its directory.
    pub uid: u32,
    /// Group of its directory.
    pub gid: u32,
    /// A volume that exists is as good.
    pub ignore: bool,
}

/// Volumes to remove.
#[derive(Debug, Clone, Default)]
pub struct VolumeRemoveRequest {
    /// Names, or beginnings of names.
    pub names: Vec<String>,
    /// All of them.
    pub all: bool,
    /// With the containers that use them; what does not exist is no failure.
    pub force: bool,
    /// Seconds until the containers are killed; -1 = never, `None` = their own.
    pub timeout: Option<i64>,
}

/// A volume as Podman's `volume inspect` shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeReport {
    /// Name.
    pub name: String,
    /// `local`.
    pub driver: String,
    /// Host path of its content.
    pub mountpoint: String,
    /// RFC 3339.
    pub created_at: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `local`.
    pub scope: String,
    /// `type`, `device`, `o`, as they were given.
    pub options: BTreeMap<String, String>,
    /// Owner of its directory, where it is not root.
    #[serde(rename = "UID", skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Group of its directory, where it is not root's.
    #[serde(rename = "GID", skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Made without a name, for one container.
    #[serde(skip_serializing_if = "is_false")]
    pub anonymous: bool,
    /// Running containers that use it, and mounts by hand.
    pub mount_count: u32,
    /// Nothing of an image was offered to it yet.
    #[serde(skip_serializing_if = "is_false")]
    pub needs_copy_up: bool,
    /// No container has used it yet.
    #[serde(skip_serializing_if = "is_false")]
    pub needs_chown: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape that serde wants
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape that serde wants
fn is_false(value: &bool) -> bool {
    !*value
}

/// What a volume takes on the disk.
#[derive(Debug, Clone)]
pub struct VolumeUsage {
    /// Name.
    pub name: String,
    /// Containers that name it.
    pub links: usize,
    /// Bytes of its files.
    pub size: u64,
}

/// What became of one volume.
#[derive(Debug)]
pub struct VolumeOutcome {
    /// The name as it was given, or found.
    pub name: String,
    /// Whether it was removed; `Ok(false)`: it was not there, which was asked for.
    pub result: crate::Result<bool>,
}

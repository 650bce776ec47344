//! The engine about itself and its host.

use crate::images::PruneReport;
use crate::{Engine, Result};
use serde::Serialize;

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
    /// Bytes in all that became free.
    pub reclaimed: u64,
}

impl Engine {
    /// Describes host and engine.
    pub fn info(&self) -> Result<Info> {
        todo!()
    }

    /// Removes what nothing needs.
    pub fn system_prune(&self, _request: &SystemPruneRequest) -> Result<SystemPruneReport> {
        todo!()
    }

    /// Verifies the store; returns what is wrong, empty when all is well.
    pub fn check(&self) -> Result<Vec<String>> {
        todo!()
    }
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

//! What is written down about a container.

use crate::containers::CreateRequest;
use serde::{Deserialize, Serialize, Serializer};

/// Version of the record's format.
pub(crate) const RECORD_VERSION: u32 = 1;

/// `config.json`: all that never changes by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) name: String,
    /// Nanoseconds since 1970.
    pub(crate) created_nanos: i64,
    /// Image as the user named it, made complete.
    pub(crate) image_name: String,
    /// 64 hex digits.
    pub(crate) image_id: String,
    /// Digest of the image's manifest; empty where it has none yet.
    #[serde(default)]
    pub(crate) image_digest: String,
    /// Top layer; `None` for an image without layers.
    #[serde(default)]
    pub(crate) chain: Option<oci::ChainId>,
    /// Program of the OCI runtime that runs it; `None` = davit itself.
    #[serde(default)]
    pub(crate) runtime: Option<std::path::PathBuf>,
    /// Key of the writable snapshot.
    pub(crate) snapshot: String,
    /// What was asked for, with the image's settings merged in: environment, user, directory, labels, stop signal.
    /// Written without what has its default, which is most of it: `ps` reads the records of all containers.
    #[serde(serialize_with = "without_defaults")]
    pub(crate) settings: CreateRequest,
    /// Entry point as it runs.
    #[serde(default)]
    pub(crate) entrypoint: Vec<String>,
    /// Command behind the entry point.
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// Writes settings but for those that have the value which is taken when they are missing.
fn without_defaults<S: Serializer>(settings: &CreateRequest, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::Error;
    let fields = |settings: &CreateRequest| match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(S::Error::custom("settings are not an object")),
        Err(error) => Err(S::Error::custom(error)),
    };
    let (mut fields, defaults) = (fields(settings)?, fields(&CreateRequest::default())?);
    fields.retain(|name, value| defaults.get(name) != Some(&*value));
    fields.serialize(serializer)
}

impl ContainerRecord {
    /// Refuses what would take the owners of the files for those inside.
    pub(crate) fn check_owners(&self, attempt: &str) -> crate::Result<()> {
        if !self.settings.owners_shifted {
            return Ok(());
        }
        Err(crate::Error::unsupported(
            format!("{attempt} of container {}", self.name),
            "its files belong to the IDs of its user namespace, which this kernel or user cannot map back",
        ))
    }

    /// Entry point and command.
    pub(crate) fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.command).cloned().collect()
    }
}

/// `start.json`: written before each start, never synced.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct StartRecord {
    pub(crate) version: u32,
    /// Nanoseconds since 1970.
    pub(crate) started_nanos: i64,
    /// Restarts by policy.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Restarts by policy since the user started it.
    #[serde(default)]
    pub(crate) since_start: u32,
    /// Restarts since it last ran for a while.
    #[serde(default)]
    pub(crate) in_a_row: u32,
    /// Why the last start failed.
    #[serde(default)]
    pub(crate) error: String,
    /// Whether `stop` or `kill` ended it.
    #[serde(default)]
    pub(crate) stopped_by_user: bool,
}

//! Plain requests and reports of the image verbs.

use crate::build::ImageFormat;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the local store has none.
    #[default]
    Missing,
    /// Never.
    Never,
    /// When the registry's differs from the local one; an unreachable registry is no error then.
    Newer,
}

impl std::str::FromStr for PullPolicy {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text {
            "always" | "true" | "1" => Ok(PullPolicy::Always),
            "missing" | "ifnotpresent" | "IfNotPresent" => Ok(PullPolicy::Missing),
            "never" | "false" | "0" => Ok(PullPolicy::Never),
            "newer" | "ifnewer" => Ok(PullPolicy::Newer),
            other => Err(crate::Error::invalid(
                format!("pull policy {other}"),
                "expected always, missing, never or newer",
            )),
        }
    }
}

/// How a registry is talked to.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// `--tls-verify`: `None` = as registries.conf says; `Some(false)` = certificates are not checked and plain
    /// http is tried after https.
    pub tls_verify: Option<bool>,
    /// `--creds USER[:PASSWORD]`.
    pub credentials: Option<String>,
    /// `--authfile`.
    pub authfile: Option<PathBuf>,
    /// `--cert-dir`.
    pub cert_dir: Option<PathBuf>,
    /// Further tries after failures that may pass; `None` = 3.
    pub retry: Option<u32>,
    /// Time between tries; `None` = 1 s, then twice as long each time.
    pub retry_delay: Option<std::time::Duration>,
    /// `--signature-policy`: which images may be used; `None` = the user's or the system's policy.
    pub signature_policy: Option<PathBuf>,
}

/// Fetch an image.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// Reference, with an optional transport.
    pub reference: String,
    /// When; [`PullPolicy::Always`] for the `pull` command.
    pub policy: PullPolicy,
    /// `os/arch[/variant]`; `None` = the host's.
    pub platform: Option<String>,
    /// How.
    pub registry: RegistryOptions,
}

/// What a pull did.
#[derive(Debug, Clone)]
pub struct PullReport {
    /// Image ID, 64 hex digits.
    pub id: String,
    /// Name it was recorded under, if any.
    pub name: Option<String>,
    /// Digest of the manifest.
    pub digest: Option<String>,
    /// Whether something was fetched.
    pub pulled: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Send an image.
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// Local name or ID.
    pub image: String,
    /// Where to, with an optional transport (`docker://`, `oci-archive:`, `docker-archive:`, `oci:`, `dir:`);
    /// `None` = the local name.
    pub destination: Option<String>,
    /// How.
    pub registry: RegistryOptions,
    /// `gzip` or `zstd` for layers that were built here and never compressed; `None` = gzip.
    pub compression: Option<String>,
    /// Format of the manifests and the index; `None` = what they have.
    pub format: Option<ImageFormat>,
    /// Who signs.
    pub sign: SignRequest,
}

/// Who signs what is pushed; nobody where nothing is set.
#[derive(Debug, Clone, Default)]
pub struct SignRequest {
    /// `--sign-by`: a key of the user's GPG keyring.
    pub gpg_key: Option<String>,
    /// `--sign-by-sigstore-private-key`: a file.
    pub private_key: Option<PathBuf>,
    /// `--sign-by-sigstore`: a file that says how.
    pub parameters: Option<PathBuf>,
    /// `--sign-passphrase-file`: its first line unlocks the keys.
    pub passphrase_file: Option<PathBuf>,
    /// Asked for the passphrase of a key that is locked when there is no file.
    pub ask: Option<fn(&Path) -> Option<String>>,
}

/// What a push did.
#[derive(Debug, Clone)]
pub struct PushReport {
    /// Digest of the manifest.
    pub digest: String,
    /// Where it went.
    pub destination: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArchiveFormat {
    /// As `docker save` writes it.
    #[default]
    Docker,
    /// A tar of an OCI layout.
    Oci,
    /// An OCI layout.
    OciDirectory,
    /// A directory with one image in Docker's format.
    DockerDirectory,
}

impl ArchiveFormat {
    /// Whether it is a directory, which no stream can be.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::OciDirectory | Self::DockerDirectory)
    }
}

impl std::str::FromStr for ArchiveFormat {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text {
            "docker-archive" => Ok(ArchiveFormat::Docker),
            "oci-archive" => Ok(ArchiveFormat::Oci),
            "oci-dir" => Ok(ArchiveFormat::OciDirectory),
            "docker-dir" => Ok(ArchiveFormat::DockerDirectory),
            other => Err(crate::Error::invalid(
                format!("format {other}"),
                "expected docker-archive, oci-archive, oci-dir or docker-dir",
            )),
        }
    }
}

/// Write an archive.
#[derive(Debug, Clone, Default)]
pub struct SaveRequest {
    /// Names or IDs; several need [`ArchiveFormat::Docker`] or become several entries of the OCI index. Names of
    /// the same image are further names of one entry.
    pub images: Vec<String>,
    /// Format.
    pub format: ArchiveFormat,
    /// Whether a name behind the first that no image has is a further name of the first image.
    pub further_names: bool,
    /// Platform of images that are lists; `None` = this host's.
    pub platform: Option<String>,
    /// [`ArchiveFormat::DockerDirectory`]: no layer stays plain.
    pub compress: bool,
    /// OCI formats: layers are plain.
    pub uncompressed: bool,
}

/// Bring the images of an archive into the store.
#[derive(Debug)]
pub struct LoadRequest {
    /// Where it comes from.
    pub input: ArchiveInput,
    /// Which images may be used; `None` = the user's or the system's policy.
    pub signature_policy: Option<PathBuf>,
    /// Platform of images; `None` = this host's where there are several.
    pub platform: Option<String>,
}

/// Where an archive comes from.
pub enum ArchiveInput {
    /// A file.
    Path(PathBuf),
    /// A stream, which is spooled inside the store: archives are read at several places.
    Stream(Box<dyn std::io::Read + Send>),
}

impl std::fmt::Debug for ArchiveInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ArchiveInput::Path(path) => f.debug_tuple("Path").field(path).finish(),
            ArchiveInput::Stream(_) => f.write_str("Stream(..)"),
        }
    }
}

/// Sign images that are in registries, and keep the signatures in files.
#[derive(Debug, Clone, Default)]
pub struct ImageSignRequest {
    /// Names, with or without `docker://`.
    pub images: Vec<String>,
    /// A key of the user's GPG keyring.
    pub key: String,
    /// Every image of an index instead of the index.
    pub all: bool,
    /// Where the signatures go; `None` = as registries.d says.
    pub directory: Option<PathBuf>,
    /// How registries are reached.
    pub registry: RegistryOptions,
}

/// Change a policy.
#[derive(Debug, Clone, Default)]
pub struct TrustSetRequest {
    /// A scope of registries, or `default`.
    pub scope: String,
    /// `accept`, `insecureAcceptAnything`, `reject`, `signedBy` or `sigstoreSigned`.
    pub kind: String,
    /// Files with public keys.
    pub keys: Vec<PathBuf>,
    /// The policy; `None` = the one that counts.
    pub policy: Option<PathBuf>,
}

/// One requirement of a policy, as Podman shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustRow {
    /// `all`, `repository` or another transport.
    pub transport: String,
    /// The scope.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The scope again; `default` for what counts where nothing else does.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repo_name: String,
    /// Where simple signatures are read.
    #[serde(rename = "sigstore", skip_serializing_if = "String::is_empty")]
    pub store: String,
    /// `accept`, `reject`, `signed` or `sigstoreSigned`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose keys.
    #[serde(rename = "gpg_id", skip_serializing_if = "String::is_empty")]
    pub owners: String,
}

/// What `load` did.
#[derive(Debug, Clone, Default)]
pub struct LoadReport {
    /// Names of the loaded images, or `sha256:ID` for one without a name.
    pub names: Vec<String>,
}

/// Make an image from a tar archive.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Name of the image.
    pub reference: Option<String>,
    /// `--change` instructions: CMD ENTRYPOINT ENV EXPOSE LABEL STOPSIGNAL USER VOLUME WORKDIR ONBUILD.
    pub changes: Vec<String>,
    /// Comment in the history.
    pub message: Option<String>,
    /// `--signature-policy`: whether archives may become images; `None` = the user's or the system's policy.
    pub signature_policy: Option<PathBuf>,
    /// `os/arch[/variant]`; `None` = the host's.
    pub platform: Option<String>,
}

/// What happens to the parts of an image while it is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferEvent {
    /// A name is being looked up.
    Resolving {
        /// Reference as used.
        reference: String,
    },
    /// A blob's transfer begins.
    Started {
        /// Its digest.
        digest: String,
        /// What it is.
        what: BlobKind,
        /// Bytes in all.
        size: u64,
    },
    /// So many bytes of a blob are done.
    Advanced {
        /// Its digest.
        digest: String,
        /// Bytes from the beginning.
        done: u64,
    },
    /// A blob is done.
    Finished {
        /// Its digest.
        digest: String,
        /// How.
        how: BlobDone,
    },
    /// The manifest is written: the copy is complete.
    Manifest {
        /// Its digest.
        digest: String,
    },
    /// Something the user should know.
    Warning {
        /// Text.
        text: String,
    },
}

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobKind {
    /// Config of an image.
    Config,
    /// Layer.
    Layer,
    /// Anything else.
    Other,
}

/// How a blob's transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobDone {
    /// Its bytes were copied.
    Copied,
    /// It was there already.
    Existed,
    /// The registry took it from another repository.
    Mounted,
}

/// Receives the events of a transfer, from several threads.
pub type TransferProgress<'a> = &'a (dyn Fn(TransferEvent) + Send + Sync);

/// Which images to list.
#[derive(Debug, Clone, Default)]
pub struct ImageListRequest {
    /// `KEY=VALUE`: reference, label, label!, dangling, before, since, after, id, digest, until, containers,
    /// intermediate, readonly.
    pub filters: Vec<String>,
    /// Only names that match this: a repository, a reference or a pattern with `*`.
    pub name: Option<String>,
}

/// A row of `images`.
#[derive(Debug, Clone, Default)]
pub struct ImageSummary {
    /// 64 hex digits.
    pub id: String,
    /// Full references, `registry/repository:tag`; empty for a dangling image.
    pub names: Vec<String>,
    /// `registry/repository@digest`.
    pub repo_digests: Vec<String>,
    /// Digest of the manifest, if there is one already.
    pub digest: Option<String>,
    /// Digest of the manifest under each name, where it has one.
    pub digests: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub created: i64,
    /// Bytes, unpacked, of all layers.
    pub size: u64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Number of containers made from it.
    pub containers: usize,
    /// Whether it has no name.
    pub dangling: bool,
    /// `os/arch[/variant]`.
    pub platform: String,
}

/// A step of an image's history.
#[derive(Debug, Clone, Default)]
pub struct HistoryEntry {
    /// Image ID (64 hex digits) on the newest entry, else `<missing>`.
    pub id: String,
    /// Seconds since 1970; `None` where the image does not say.
    pub created: Option<i64>,
    /// The command.
    pub created_by: String,
    /// Bytes of the layer, unpacked; 0 where the step made none.
    pub size: u64,
    /// Remark.
    pub comment: String,
    /// Names of the image, on the newest entry.
    pub tags: Vec<String>,
}

/// Remove images.
#[derive(Debug, Clone, Default)]
pub struct ImageRemoveRequest {
    /// Names or IDs.
    pub images: Vec<String>,
    /// All images.
    pub all: bool,
    /// Also images with several names (by ID) or with containers, which are removed.
    pub force: bool,
    /// A missing image is no error.
    pub ignore: bool,
    /// Keep unnamed parents.
    pub no_prune: bool,
}

/// What `rmi` did with one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRemoved {
    /// A name went.
    Untagged {
        /// The name.
        name: String,
    },
    /// The image went.
    Deleted {
        /// 64 hex digits.
        id: String,
    },
}

/// Remove images that nothing needs.
#[derive(Debug, Clone, Default)]
pub struct ImagePruneRequest {
    /// Also those with a name and no container.
    pub all: bool,
    /// `label=..`, `label!=..`, `until=..`.
    pub filters: Vec<String>,
}

/// What a prune removed.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// IDs, 64 hex digits.
    pub removed: Vec<String>,
    /// Bytes that became free.
    pub reclaimed: u64,
}

/// An image as Podman's `inspect` shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageInspect {
    /// 64 hex digits.
    pub id: String,
    /// Digest of the manifest; empty while an image that was built here has none.
    pub digest: String,
    /// Full references.
    pub repo_tags: Vec<String>,
    /// `repository@digest`.
    pub repo_digests: Vec<String>,
    /// Always empty: layers carry no parents here.
    pub parent: String,
    /// Comment of the newest history entry.
    pub comment: String,
    /// RFC 3339.
    pub created: Option<String>,
    /// The part of the config that containers take over.
    pub config: serde_json::Value,
    /// Docker version in the config.
    pub version: String,
    /// Author.
    pub author: String,
    /// `amd64`, ...
    pub architecture: String,
    /// `v8`, ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// `linux`.
    pub os: String,
    /// Bytes, unpacked.
    pub size: u64,
    /// The same.
    pub virtual_size: u64,
    /// Where the layers lie.
    pub graph_driver: GraphDriver,
    /// The layers.
    #[serde(rename = "RootFS")]
    pub root_fs: InspectRootFs,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Media type of the manifest.
    pub manifest_type: String,
    /// User.
    pub user: String,
    /// History, oldest first.
    pub history: Vec<oci::History>,
    /// Names that it had.
    pub names_history: Vec<String>,
}

/// Where layers lie.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// `overlay` or `vfs`.
    pub name: String,
    /// `LowerDir`, `UpperDir`, `WorkDir`.
    pub data: BTreeMap<String, String>,
}

/// The layers of an image by diffID.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InspectRootFs {
    /// `layers`.
    pub r#type: String,
    /// Lowest first.
    pub layers: Vec<String>,
}

//! `davit volume …`

use super::Deferred;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `davit volume …`
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume
    Create(Deferred<VolumeCreateArgs>),
    /// Exit with 0 if a volume exists and with 1 if not
    Exists(Deferred<VolumeNameArgs>),
    /// Write the content of a volume as a tar archive
    Export(Deferred<VolumeExportArgs>),
    /// Unpack a tar archive into a volume
    Import(Deferred<VolumeImportArgs>),
    /// Describe volumes as JSON
    Inspect(Deferred<VolumeInspectArgs>),
    /// List the volumes
    #[command(visible_alias = "list")]
    Ls(Deferred<VolumeLsArgs>),
    /// Show the content of a volume at a path of this host, which is printed
    Mount(Deferred<VolumeNamesArgs>),
    /// Remove all volumes that no container has
    Prune(Deferred<VolumePruneArgs>),
    /// Look for volumes of plugins: there are none
    Reload(Deferred<VolumeReloadArgs>),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(Deferred<VolumeRmArgs>),
    /// Take one `volume mount` back
    #[command(alias = "umount")]
    Unmount(Deferred<VolumeNamesArgs>),
}

/// `davit volume create`
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeCreateArgs {
    /// Driver (local)
    #[arg(long, short = 'd', value_name = "DRIVER", default_value = "local")]
    pub(crate) driver: String,
    /// Group of its directory
    #[arg(long, value_name = "GID", default_value_t = 0, hide_default_value = true)]
    pub(crate) gid: u32,
    /// A volume that exists is as good
    #[arg(long)]
    pub(crate) ignore: bool,
    /// Label KEY=VALUE (repeatable)
    #[arg(long, short = 'l', value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Option of the driver: type=TYPE, device=DEVICE, o=MOUNT-OPTIONS (repeatable)
    #[arg(long, short = 'o', value_name = "KEY=VALUE")]
    pub(crate) opt: Vec<String>,
    /// Owner of its directory
    #[arg(long, value_name = "UID", default_value_t = 0, hide_default_value = true)]
    pub(crate) uid: u32,
    /// Name; a random one without
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// A volume.
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeNameArgs {
    /// Volume
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
}

/// Volumes.
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeNamesArgs {
    /// Volumes
    #[arg(value_name = "VOLUME", required = true)]
    pub(crate) volumes: Vec<String>,
}

/// `davit volume export`
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeExportArgs {
    /// File to write; standard output without
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Volume
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
}

/// `davit volume import`
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeImportArgs {
    /// Volume, which exists
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
    /// Archive, plain or compressed; standard input without, or with -
    #[arg(value_name = "SOURCE")]
    pub(crate) source: Option<PathBuf>,
}

/// `davit volume inspect`
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeInspectArgs {
    /// All volumes
    #[arg(long, short = 'a', conflicts_with = "volumes")]
    pub(crate) all: bool,
    /// Go template, or json
    #[arg(long, short = 'f', value_name = "FORMAT", default_value = "json", hide_default_value = true)]
    pub(crate) format: String,
    /// Volumes
    #[arg(value_name = "VOLUME", required_unless_present = "all")]
    pub(crate) volumes: Vec<String>,
}

/// `davit volume ls`
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeLsArgs {
    /// Only what matches KEY=VALUE: name, driver, label, opt, scope, until, dangling, after (repeatable)
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Go template, `table …` or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Without headings
    #[arg(long, short = 'n')]
    pub(crate) noheading: bool,
    /// Names alone
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
}

/// `davit volume prune`
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumePruneArgs {
    /// Same as without: volumes that have a name go too
    #[arg(long, short = 'a', hide = true)]
    pub(crate) all: bool,
    /// Only what matches KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
}

/// `davit volume reload`
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeReloadArgs {}

/// `davit volume rm`
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeRmArgs {
    /// All volumes
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// With the containers that use them; a missing volume is no error
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// Seconds between the stop signal and SIGKILL, with --force
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) time: Option<i64>,
    /// Volumes, or beginnings of their names
    #[arg(value_name = "VOLUME", required_unless_present = "all")]
    pub(crate) volumes: Vec<String>,
}

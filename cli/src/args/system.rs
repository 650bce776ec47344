//! davit itself.

use std::path::PathBuf;

use clap::Args;

/// `davit completion`
#[derive(Args, Clone, Debug)]
pub(crate) struct CompletionArgs {
    /// File to write (standard output)
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Shell (bash, zsh, fish, powershell)
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `davit man-pages`
#[derive(Args, Clone, Debug)]
pub(crate) struct ManPagesArgs {
    /// Directory, which is made if missing
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// `davit info`
#[derive(Args, Clone, Debug)]
pub(crate) struct InfoArgs {
    /// Go template, or json
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `davit version`
#[derive(Args, Clone, Debug)]
pub(crate) struct VersionArgs {
    /// Go template, or json
    #[arg(long, short = 'f', value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `davit system prune`
#[derive(Args, Clone, Debug)]
pub(crate) struct SystemPruneArgs {
    /// Also images that have a name and no container
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Also the cache of builds
    #[arg(long)]
    pub(crate) build: bool,
    /// Only what matches KEY=VALUE (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// Also volumes that no container has
    #[arg(long)]
    pub(crate) volumes: bool,
}

/// `davit system check`
#[derive(Args, Clone, Debug)]
pub(crate) struct SystemCheckArgs {
    /// With --repair: remove what cannot be brought back, with the images that need it
    #[arg(long, short = 'f', requires = "repair")]
    pub(crate) force: bool,
    /// Look at records alone: no content is read
    #[arg(long, short = 'q')]
    pub(crate) quick: bool,
    /// Bring back what is damaged: files from blobs that are kept, blobs from their registries
    #[arg(long, short = 'r')]
    pub(crate) repair: bool,
}

/// `davit system df`
#[derive(Args, Clone, Debug)]
pub(crate) struct SystemDfArgs {
    /// Go template, `table …` or json
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    pub(crate) format: Option<String>,
    /// A line for each object
    #[arg(long, short = 'v')]
    pub(crate) verbose: bool,
}

/// `davit system reset`
#[derive(Args, Clone, Debug)]
pub(crate) struct SystemResetArgs {
    /// Do not ask
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
}

//! `mount`, `unmount`, of containers and images.

use clap::Args;

/// `davit mount`
#[derive(Args, Clone, Debug)]
pub(crate) struct MountArgs {
    /// All containers
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// json instead of lines
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    pub(crate) format: Option<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Whole IDs
    #[arg(long, alias = "notruncate")]
    pub(crate) no_trunc: bool,
    /// Containers; without any those that are mounted are listed
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `davit unmount`
#[derive(Args, Clone, Debug)]
pub(crate) struct UnmountArgs {
    /// All containers that are mounted
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// However often it was mounted
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// The container that was made last
    #[arg(long, short = 'l')]
    pub(crate) latest: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest"])]
    pub(crate) containers: Vec<String>,
}

/// `davit unshare`
#[derive(Args, Clone, Debug)]
pub(crate) struct UnshareArgs {
    /// Program and its arguments (the shell in SHELL, or /bin/sh)
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

/// `davit image mount`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageMountArgs {
    /// All images
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// json instead of lines
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    pub(crate) format: Option<String>,
    /// Images; without any those that are mounted are listed
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `davit image unmount`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageUnmountArgs {
    /// All images that are mounted
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// However often it was mounted
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// Images
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    pub(crate) images: Vec<String>,
}

//! What the user may type: one file a noun, flags named as in Podman.
//!
//! Nothing here knows the engine. `commands` turns these plain structs into requests. A flag or a command that
//! Podman or Docker has and davit does not have yet is listed in `unbuilt.tsv` and refused by name.

mod artifact;
mod build;
mod changes;
mod containers;
mod copy;
mod deferred;
mod events;
mod images;
mod manifest;
mod mounting;
mod registry;
mod run;
mod run_further;
mod run_health;
mod run_limits;
mod runtime;
mod system;
mod trust;
pub(crate) mod unbuilt;
mod update;
mod usage;
mod volume;

pub(crate) use artifact::*;
pub(crate) use build::{BuildArgs, BuilderPruneArgs, ImageExplainArgs, OnFail, ProgressMode};
pub(crate) use changes::*;
pub(crate) use containers::*;
pub(crate) use copy::*;
pub(crate) use deferred::Deferred;
pub(crate) use events::EventsArgs;
pub(crate) use images::*;
pub(crate) use manifest::*;
pub(crate) use mounting::*;
pub(crate) use registry::*;
pub(crate) use run::*;
pub(crate) use run_further::*;
pub(crate) use run_health::*;
pub(crate) use run_limits::*;
pub(crate) use runtime::*;
pub(crate) use system::*;
pub(crate) use trust::*;
pub(crate) use update::UpdateArgs;
pub(crate) use usage::{StatsArgs, TopArgs};
pub(crate) use volume::*;

use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// How much davit says of what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What was done.
    Info,
    /// What may be wrong.
    #[value(alias = "warning")]
    Warn,
    /// What failed.
    Error,
    /// What ends the command.
    Fatal,
    /// What ends the command.
    Panic,
}

/// Options that stand before the command.
#[derive(Args, Clone, Debug)]
pub(crate) struct GlobalArgs {
    /// Directory with descriptions of devices (CDI; /etc/cdi and /var/run/cdi)
    #[arg(long, value_name = "DIR")]
    pub(crate) cdi_spec_dir: Vec<std::path::PathBuf>,
    /// Cgroup manager of containers and build steps (cgroupfs, systemd)
    #[arg(long, value_name = "MANAGER")]
    pub(crate) cgroup_manager: Option<String>,
    /// Where events are kept (file, none)
    #[arg(long, value_name = "BACKEND")]
    pub(crate) events_backend: Option<String>,
    /// Messages from this level on are printed
    #[arg(long, value_enum, default_value = "warn", value_name = "LEVEL", hide_possible_values = true)]
    pub(crate) log_level: LogLevel,
    /// Directory that keeps images, containers and their state
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<std::path::PathBuf>,
    /// Directory of the state that ends with a reboot
    #[arg(long, value_name = "DIR")]
    pub(crate) runroot: Option<std::path::PathBuf>,
    /// OCI runtime of new containers and build steps: davit (the built-in one), a name in PATH, or a path
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<String>,
    /// Driver that stores file systems (overlay, vfs)
    #[arg(long, value_name = "DRIVER", env = "STORAGE_DRIVER")]
    pub(crate) storage_driver: Option<String>,
    /// Directory of short-lived files
    #[arg(long, value_name = "DIR")]
    pub(crate) tmpdir: Option<std::path::PathBuf>,
    /// Same as --log-level=debug
    #[arg(long, short = 'D', hide = true)]
    pub(crate) debug: bool,
}

/// Builds images from Containerfiles, shares them through registries and runs them, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "davit",
    bin_name = "davit",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true
)]
#[command(subcommand_required = true, arg_required_else_help = true, infer_long_args = false)]
#[command(after_help = "`davit COMMAND --help` tells more about a command. `alias docker=davit` works.")]
pub(crate) struct Davit {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// Print the version
    #[arg(long, short = 'v', action = ArgAction::Version)]
    version: (),
    #[command(subcommand)]
    pub(crate) command: DavitCommand,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // one value a process; boxing would only obscure the derive
pub(crate) enum DavitCommand {
    /// Manage artifacts: files in registries that are no images
    #[command(subcommand, arg_required_else_help = true)]
    Artifact(Deferred<ArtifactCommand>),
    /// Join the standard streams of a running container
    Attach(Deferred<AttachArgs>),
    /// Build an image from a Containerfile
    #[command(visible_alias = "bud")]
    Build(Deferred<BuildArgs>),
    /// Manage the cache of builds
    #[command(subcommand, arg_required_else_help = true)]
    Builder(Deferred<BuilderCommand>),
    /// Make an image of a container
    Commit(Deferred<CommitArgs>),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completion(Deferred<CompletionArgs>),
    /// Manage containers
    #[command(subcommand, arg_required_else_help = true)]
    Container(Deferred<ContainerCommand>),
    /// Copy images between registries, archives, directories and the local store
    Copy(Deferred<CopyArgs>),
    /// Copy files between this host and containers
    Cp(Deferred<CpArgs>),
    /// Make a container without starting it
    Create(Deferred<CreateArgs>),
    /// List the paths that a container or an image changes
    Diff(Deferred<DiffArgs>),
    /// Show what happened, and what happens from now on
    Events(Deferred<EventsArgs>),
    /// Run a command in a running container
    Exec(Deferred<ExecArgs>),
    /// Write the file system of a container as a tar archive
    Export(Deferred<ExportArgs>),
    /// Look after the health of containers
    #[command(subcommand, arg_required_else_help = true)]
    Healthcheck(Deferred<HealthcheckCommand>),
    /// Show how an image was made, layer by layer
    History(Deferred<HistoryArgs>),
    /// Manage images
    #[command(subcommand, arg_required_else_help = true)]
    Image(Deferred<ImageCommand>),
    /// List the images of the local store
    Images(Deferred<ImagesArgs>),
    /// Make an image of one layer from a tar archive of a file system
    Import(Deferred<ImportArgs>),
    /// Describe this host and this davit
    Info(Deferred<InfoArgs>),
    /// Describe containers or images as JSON
    Inspect(Deferred<InspectArgs>),
    /// Send a signal to running containers
    Kill(Deferred<KillArgs>),
    /// Bring images from an archive into the local store
    Load(Deferred<LoadArgs>),
    /// Check and keep the credentials for a registry
    Login(Deferred<LoginArgs>),
    /// Forget the credentials for a registry
    Logout(Deferred<LogoutArgs>),
    /// Print what containers wrote
    Logs(Deferred<LogsArgs>),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    ManPages(Deferred<ManPagesArgs>),
    /// Manage lists of images: one name for several platforms
    #[command(subcommand, arg_required_else_help = true)]
    Manifest(Deferred<ManifestCommand>),
    /// Show the file system of a container at a path of this host, which is printed
    Mount(Deferred<MountArgs>),
    /// Freeze the processes of containers
    Pause(Deferred<PauseArgs>),
    /// List containers
    Ps(Deferred<PsArgs>),
    /// Fetch images from a registry
    Pull(Deferred<PullArgs>),
    /// Send an image to a registry
    Push(Deferred<PushArgs>),
    /// Be a registry
    #[command(subcommand, arg_required_else_help = true)]
    Registry(Deferred<RegistryCommand>),
    /// Give a container another name
    Rename(Deferred<RenameArgs>),
    /// Stop containers and start them again
    Restart(Deferred<RestartArgs>),
    /// Remove containers
    Rm(Deferred<RmArgs>),
    /// Remove images from the local store
    Rmi(Deferred<RmiArgs>),
    /// Run a command in a new container
    Run(Deferred<RunArgs>),
    /// Run containers from OCI bundles, as crun and runc do; also as davit-runtime
    #[command(hide = true, arg_required_else_help = true)]
    Runtime(Deferred<RuntimeArgs>),
    /// Write images to an archive
    Save(Deferred<SaveArgs>),
    /// Look for images in registries
    Search(Deferred<SearchArgs>),
    /// Start containers
    Start(Deferred<StartArgs>),
    /// Show what containers use
    Stats(Deferred<StatsArgs>),
    /// Stop containers
    Stop(Deferred<StopArgs>),
    /// Manage davit itself
    #[command(subcommand, arg_required_else_help = true)]
    System(Deferred<SystemCommand>),
    /// Give an image further names
    Tag(Deferred<TagArgs>),
    /// List the processes of a container
    Top(Deferred<TopArgs>),
    /// Take one `mount` back
    #[command(visible_alias = "umount")]
    Unmount(Deferred<UnmountArgs>),
    /// Thaw the processes of containers
    Unpause(Deferred<PauseArgs>),
    /// Run a program in the namespaces of an ordinary user's containers
    Unshare(Deferred<UnshareArgs>),
    /// Take names from an image
    Untag(Deferred<UntagArgs>),
    /// Change the limits of a container
    Update(Deferred<UpdateArgs>),
    /// Print the version of davit
    Version(Deferred<VersionArgs>),
    /// Manage volumes: directories that outlive containers
    #[command(subcommand, arg_required_else_help = true)]
    Volume(Deferred<VolumeCommand>),
    /// Wait for containers to stop and print their exit codes
    Wait(Deferred<WaitArgs>),
}

/// `davit container …`
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum ContainerCommand {
    /// Join the standard streams of a running container
    Attach(Deferred<AttachArgs>),
    /// Release what an exited container holds; called by its monitor
    Cleanup(Deferred<CleanupArgs>),
    /// Make an image of a container
    Commit(Deferred<CommitArgs>),
    /// Copy files between this host and containers
    Cp(Deferred<CpArgs>),
    /// Make a container without starting it
    Create(Deferred<CreateArgs>),
    /// List the paths that a container changes
    Diff(Deferred<DiffArgs>),
    /// Run a command in a running container
    Exec(Deferred<ExecArgs>),
    /// Write the file system of a container as a tar archive
    Export(Deferred<ExportArgs>),
    /// Exit with 0 if a container exists and with 1 if not
    Exists(Deferred<ContainerExistsArgs>),
    /// Describe containers as JSON
    Inspect(Deferred<ContainerInspectArgs>),
    /// Send a signal to running containers
    Kill(Deferred<KillArgs>),
    /// List containers
    #[command(visible_alias = "ls", alias = "ps")]
    List(Deferred<PsArgs>),
    /// Print what containers wrote
    Logs(Deferred<LogsArgs>),
    /// Show the file system of a container at a path of this host, which is printed
    Mount(Deferred<MountArgs>),
    /// Freeze the processes of containers
    Pause(Deferred<PauseArgs>),
    /// Remove all containers that do not run
    Prune(Deferred<ContainerPruneArgs>),
    /// Give a container another name
    Rename(Deferred<RenameArgs>),
    /// Stop containers and start them again
    Restart(Deferred<RestartArgs>),
    /// Remove containers
    Rm(Deferred<RmArgs>),
    /// Run a command in a new container
    Run(Deferred<RunArgs>),
    /// Start containers
    Start(Deferred<StartArgs>),
    /// Show what containers use
    Stats(Deferred<StatsArgs>),
    /// Stop containers
    Stop(Deferred<StopArgs>),
    /// List the processes of a container
    Top(Deferred<TopArgs>),
    /// Take one `mount` back
    #[command(visible_alias = "umount")]
    Unmount(Deferred<UnmountArgs>),
    /// Thaw the processes of containers
    Unpause(Deferred<PauseArgs>),
    /// Change the limits of a container
    Update(Deferred<UpdateArgs>),
    /// Wait for containers to stop and print their exit codes
    Wait(Deferred<WaitArgs>),
}

/// `davit image …`
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum ImageCommand {
    /// Build an image from a Containerfile
    Build(Deferred<BuildArgs>),
    /// List the paths that an image's last layer changes
    Diff(Deferred<DiffArgs>),
    /// Exit with 0 if an image exists and with 1 if not
    Exists(Deferred<ImageExistsArgs>),
    /// Say why the steps of the build that made an image ran, and what had changed
    Explain(Deferred<ImageExplainArgs>),
    /// Show how an image was made, layer by layer
    History(Deferred<HistoryArgs>),
    /// Make an image of one layer from a tar archive of a file system
    Import(Deferred<ImportArgs>),
    /// Describe images as JSON
    Inspect(Deferred<ImageInspectArgs>),
    /// List the images of the local store
    #[command(visible_alias = "ls")]
    List(Deferred<ImagesArgs>),
    /// Bring images from an archive into the local store
    Load(Deferred<LoadArgs>),
    /// Show the file system of an image at a path of this host, which is printed
    Mount(Deferred<ImageMountArgs>),
    /// Remove images that nothing needs
    Prune(Deferred<ImagePruneArgs>),
    /// Fetch images from a registry
    Pull(Deferred<PullArgs>),
    /// Send an image to a registry
    Push(Deferred<PushArgs>),
    /// Remove images from the local store
    Rm(Deferred<RmiArgs>),
    /// Write images to an archive
    Save(Deferred<SaveArgs>),
    /// Look for images in registries
    Search(Deferred<SearchArgs>),
    /// Make signatures for images of registries, in files
    Sign(Deferred<ImageSignArgs>),
    /// Give an image further names
    Tag(Deferred<TagArgs>),
    /// Show the layers of an image: what each takes, hides of those below, and has twice
    Tree(Deferred<ImageTreeArgs>),
    /// Take one `image mount` back
    #[command(visible_alias = "umount")]
    Unmount(Deferred<ImageUnmountArgs>),
    /// Which images may be used
    #[command(subcommand, arg_required_else_help = true)]
    Trust(Deferred<TrustCommand>),
    /// Take names from an image
    Untag(Deferred<UntagArgs>),
}

/// `davit healthcheck …`
#[derive(Debug, Subcommand)]
pub(crate) enum HealthcheckCommand {
    /// Check a container's health now: exit with 0 if it is well and with 1 if not
    Run(Deferred<HealthcheckRunArgs>),
}

/// `davit builder …`
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum BuilderCommand {
    /// Build an image from a Containerfile
    #[command(hide = true)]
    Build(Deferred<BuildArgs>),
    /// Remove the cache of builds: results that no image has, and idle cache mounts
    Prune(Deferred<BuilderPruneArgs>),
}

/// `davit system …`
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show what images and containers take on the disk
    Df(Deferred<SystemDfArgs>),
    /// Show what happened, and what happens from now on
    Events(Deferred<EventsArgs>),
    /// Describe this host and this davit
    Info(Deferred<InfoArgs>),
    /// Remove what nothing needs: stopped containers, images, leftovers
    Prune(Deferred<SystemPruneArgs>),
    /// Remove all containers, all images and the cache of builds
    Reset(Deferred<SystemResetArgs>),
    /// Verify the store
    Check(Deferred<SystemCheckArgs>),
}

/// The command tree, with switches that also accept `=true` and `=false`, as the originals' do. What is below a
/// command joins it when that command is parsed, or with `build`.
pub(crate) fn command() -> Command {
    relax(Davit::command())
}

/// The whole command tree.
pub(crate) fn whole_command() -> Command {
    let mut command = command();
    command.build();
    command
}

/// Reads the command line of a program that is called `davit-runtime`.
pub(crate) fn runtime_from(
    words: impl Iterator<Item = std::ffi::OsString>,
) -> Result<DavitRuntime, clap::Error> {
    let mut matches = relax(DavitRuntime::command()).try_get_matches_from(words)?;
    DavitRuntime::from_arg_matches_mut(&mut matches)
}

/// Reads the matches of [`command`].
pub(crate) fn from_matches(mut matches: clap::ArgMatches) -> Result<Davit, clap::Error> {
    Davit::from_arg_matches_mut(&mut matches)
}

fn relax(command: Command) -> Command {
    command.mut_args(relax_switch)
}

fn relax_switch(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(parse_go_bool)
        .hide_default_value(true)
        .hide_possible_values(true)
        .value_name("BOOL")
}

/// Reads a switch's value as Go's `strconv.ParseBool` does, which the originals use.
pub(crate) fn parse_go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Davit {
        from_matches(command().try_get_matches_from(words).unwrap()).unwrap()
    }

    #[test]
    fn the_tree_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn switches_join_and_take_values() {
        let DavitCommand::Run(Deferred(run)) =
            parse(&["davit", "run", "-it", "--rm=false", "-d=true", "img", "sh", "-c", "x"]).command
        else {
            panic!("not run")
        };
        assert!(run.create.interactive && run.create.tty && !run.rm && run.detach);
        assert_eq!(run.create.image_and_command, ["img", "sh", "-c", "x"]);
    }

    #[test]
    fn flags_behind_the_image_belong_to_the_command() {
        let DavitCommand::Run(Deferred(run)) = parse(&["davit", "run", "img", "--rm", "-e", "A=1"]).command
        else {
            panic!("not run")
        };
        assert!(!run.rm);
        assert_eq!(run.create.image_and_command, ["img", "--rm", "-e", "A=1"]);
    }
}

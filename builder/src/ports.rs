//! What the builder asks of its surroundings: running a step, resolving an image, showing progress.
//!
//! The engine implements these traits; the tests of this crate have small ones of their own. The builder knows
//! nothing about runtimes, registries or terminals.

use oci::{ChainId, Digest, ImageConfig, Platform};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use sys::mount::Mount;

/// An error of a port's implementation, kept whole as the source of the builder's own.
pub type PortError = Box<dyn std::error::Error + Send + Sync>;

/// Runs RUN steps.
pub trait Executor: Sync {
    /// Runs one step and waits for its end. Called from several threads at once.
    ///
    /// The process gets `io.stdout` and `io.stderr` themselves; the executor keeps no copy of them open while it
    /// waits. Standard input is empty. When `io.cancel` fires, it kills the step and returns as soon as that is done.
    /// A command that ended with another status than 0 is not an error.
    fn run(&self, spec: StepSpec, io: StepIo<'_>) -> Result<StepExit, PortError>;

    /// Fails where programs of a platform cannot run here; the reason says what is missing. Asked before such a step.
    fn can_run(&self, platform: &Platform) -> Result<(), PortError> {
        let _ = platform;
        Ok(())
    }

    /// Paths that a step with this device finds mounted over, where a vendor describes the device (CDI); `None` where
    /// nobody does. Asked before anything runs.
    fn described_device(&self, name: &str) -> Result<Option<Vec<String>>, PortError> {
        let _ = name;
        Ok(None)
    }

    /// Paths that every step finds mounted over, besides [`StepSpec::mounts`], and that the runtime may have to
    /// create as mount points. The builder takes those that it created, and that stayed empty, out of the layer.
    fn mount_points(&self) -> &[&str] {
        &["/proc", "/sys", "/dev", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/run/.containerenv"]
    }

    /// Whether [`Executor::repair`] is to be asked about failed steps (`--on-fail=shell`).
    fn repairs(&self) -> bool {
        false
    }

    /// Lets a person work in the root file system that a failed step left. `spec` is the step's, with a shell as its
    /// command. Called for one step at a time. Exit status 0 means: go on with what is there now.
    fn repair(&self, _spec: StepSpec, _cancel: &Cancel) -> Result<StepExit, PortError> {
        Err("this executor cannot open a shell".into())
    }
}

/// One RUN step.
#[derive(Debug, Clone)]
pub struct StepSpec {
    /// A unique short name of the step within the store, fit for a container's ID.
    pub id: String,
    /// The root file system, writable; mounted by the executor in the step's own mount namespace.
    pub rootfs: Vec<Mount>,
    /// Command and arguments.
    pub argv: Vec<String>,
    /// The whole environment, `NAME=value`, with `PATH`; `HOME` is missing where the image does not set it, and then
    /// comes from the image's passwd file.
    pub env: Vec<String>,
    /// Working directory, absolute; made by the executor when it is missing.
    pub cwd: String,
    /// `user[:group]`, names or numbers, looked up in the root file system; empty means root.
    pub user: String,
    /// The step's network.
    pub network: NetworkMode,
    /// What is mounted over the root file system, in order.
    pub mounts: Vec<StepMount>,
    /// Whether `RUN --security=insecure` was asked for (and allowed).
    pub insecure: bool,
    /// Devices that the step sees (`RUN --device`, and allowed): paths of the host, or names that are described.
    pub devices: Vec<String>,
    /// Host name, where the build fixes one (`BUILDKIT_SANDBOX_HOSTNAME`).
    pub hostname: Option<String>,
}

/// Something mounted into a step.
#[derive(Debug, Clone)]
pub struct StepMount {
    /// Absolute path in the step.
    pub target: String,
    /// What is mounted there.
    pub source: StepMountSource,
    /// Whether the step may not write to it.
    pub read_only: bool,
    /// Further options in `mount`'s words: `nosuid`, `nodev`, `noexec`, propagation, `bind` instead of `rbind`.
    pub options: Vec<String>,
}

/// What a [`StepMount`] shows.
#[derive(Debug, Clone)]
pub enum StepMountSource {
    /// A directory or file of the host.
    Path(PathBuf),
    /// A whole snapshot, or with `subpath` a directory or file in it.
    Snapshot {
        /// The mounts of the snapshot.
        mounts: Vec<Mount>,
        /// Path in it, resolved without leaving it; empty for all of it.
        subpath: String,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Size limit in bytes.
        size: Option<u64>,
        /// Permission bits; `None` = 1777.
        mode: Option<u32>,
        /// Whether it begins with a copy of what the root file system has at the target.
        copy_up: bool,
    },
    /// A file with this content that never touches a disk (secrets).
    Bytes {
        /// The content.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Network of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// What the engine gives to steps.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

impl NetworkMode {
    /// As written in `RUN --network=`.
    pub fn as_str(self) -> &'static str {
        match self {
            NetworkMode::Default => "default",
            NetworkMode::None => "none",
            NetworkMode::Host => "host",
        }
    }
}

/// A step's output and its end.
#[derive(Debug)]
pub struct StepIo<'a> {
    /// Write end of the step's standard output.
    pub stdout: OwnedFd,
    /// Write end of the step's standard error.
    pub stderr: OwnedFd,
    /// Fires when the build is given up.
    pub cancel: &'a Cancel,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepExit {
    /// Exit status; 128 + signal for a killed process.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the memory limit killed a process of the step.
    pub oom_killed: bool,
    /// The memory limit in bytes, where it killed.
    pub memory_limit: Option<u64>,
    /// Highest use of memory in bytes, where it is known.
    pub memory_peak: Option<u64>,
    /// Whether a step that failed had no space left for what it writes.
    pub disk_full: bool,
}

impl StepExit {
    /// Whether the step ended well.
    pub fn success(&self) -> bool {
        self.code == 0 && self.signal.is_none()
    }
}

/// Finds what a Containerfile names and the context does not have.
pub trait Resolver: Sync {
    /// Resolves an image reference as written in the Containerfile (already expanded), by the build's pull policy,
    /// and makes sure that its layers are in the store. Called from several threads at once.
    fn image(&self, reference: &str, platform: &Platform) -> Result<ResolvedImage, PortError>;

    /// Downloads a file for `ADD URL`.
    fn http(&self, request: &HttpRequest<'_>) -> Result<HttpAnswer, PortError>;

    /// Asks a repository which commit a name stands for: 40 or 64 hexadecimal digits.
    fn git_commit(&self, source: &GitSource, access: &GitAccess<'_>) -> Result<String, PortError>;

    /// Fetches a commit into an empty directory, submodules included where wanted. What the repository brings
    /// (hooks, filters, configuration) must not run. Gives the commit's time in seconds since 1970.
    fn git_checkout(
        &self,
        source: &GitSource,
        access: &GitAccess<'_>,
        commit: &str,
        into: &std::path::Path,
    ) -> Result<i64, PortError>;
}

/// A download.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    /// Where from.
    pub url: &'a str,
    /// What an earlier download of the same URL said about itself.
    pub known: Option<&'a HttpMemory>,
    /// Value of the `Authorization` header for the URL's host alone.
    pub authorization: Option<&'a str>,
    /// Fires when the build is given up.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for HttpRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpRequest")
            .field("url", &self.url)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// A place in a git repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct GitSource {
    /// Address of the repository.
    pub remote: String,
    /// Branch, tag, full reference or commit; empty = the remote's HEAD.
    pub reference: String,
    /// Directory in it; empty = all of it.
    pub subdir: String,
    /// Whether the checkout keeps its `.git`.
    pub keep_git_dir: bool,
    /// Whether submodules are fetched.
    pub submodules: bool,
    /// Whether all files get the time of the commit (`mtime=commit`); `None` where the address does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_times: Option<bool>,
}

/// What opens private repositories, and when to stop.
#[derive(Clone, Copy)]
pub struct GitAccess<'a> {
    /// Value of the `Authorization` header.
    pub header: Option<&'a str>,
    /// A token, where there is no header.
    pub token: Option<&'a str>,
    /// Socket of an ssh agent.
    pub agent: Option<&'a std::path::Path>,
    /// Fires when the build is given up.
    pub cancel: &'a Cancel,
}

impl std::fmt::Debug for GitAccess<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitAccess").field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// An image in the store.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The normalised name, for display.
    pub name: String,
    /// Digest of the image's manifest, or of its config where there is no manifest.
    pub digest: Digest,
    /// The image's config.
    pub config: ImageConfig,
    /// Its layers, lowest first, all of them in the store. Empty for an image without layers.
    pub chain: Vec<ChainId>,
}

/// What a server said about a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HttpMemory {
    /// `ETag` header.
    pub etag: Option<String>,
    /// `Last-Modified` header, seconds since 1970.
    pub last_modified: Option<i64>,
}

/// Answer to a download.
#[derive(Debug)]
pub enum HttpAnswer {
    /// The file is as it was (304).
    Unchanged,
    /// The file.
    File {
        /// Its content, in a file without a name.
        body: std::fs::File,
        /// For the next time.
        memory: HttpMemory,
    },
}

/// A build cache somewhere else (`--cache-from`). It is asked only for what is not known here, and may be slow then. It
/// tells its failures itself: to the builder they are misses.
pub trait RemoteCache: Sync {
    /// The final key behind a key that is made of definitions alone.
    fn alias(&self, cheap: &Digest) -> Option<Digest>;

    /// Whether it has the result under a key.
    fn has(&self, key: &Digest) -> bool;

    /// The top of the layers of a result, which need not be here.
    fn chain(&self, key: &Digest) -> Option<ChainId>;

    /// Brings a result into the store, where the build's lease holds it; returns the top of its layers. Called from
    /// several threads at once.
    fn fetch(&self, key: &Digest) -> Option<ChainId>;

    /// Fills the new directory of a cache mount; says whether it had anything for it.
    fn fill_mount(&self, id: &str, directory: &std::path::Path) -> bool;
}

/// Watches a build. Called from several threads at once; must not block for long.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);
}

/// Something that happened in a build.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The steps are known. Comes once, before the other events, but for warnings.
    Plan(&'a [VertexInfo]),
    /// A warning about the Containerfile, ready to print.
    Warning(&'a str),
    /// Work on a vertex begins.
    Started(usize),
    /// The vertex's result was known.
    Cached(usize),
    /// The vertex's result was not known, because of this; it runs, unless the build ends here.
    Missed(usize, &'a [crate::explain::Cause]),
    /// The vertex ran to its end.
    Done(usize, Duration),
    /// The vertex's new layer has a name; comes at the end of a build.
    Layer {
        /// The vertex.
        vertex: usize,
        /// Sum of the sizes of its files, bytes.
        content_size: u64,
        /// Length of its plain tar, bytes.
        tar_size: u64,
    },
    /// The vertex failed.
    Failed(usize, &'a str),
    /// A command failed, and a shell takes over the terminal ([`Executor::repair`]); the text is the failure.
    ShellOpened(usize, &'a str),
    /// The shell ended, and the terminal is free again.
    ShellClosed(usize),
    /// The vertex was given up because another one failed or the build was cancelled.
    Cancelled(usize),
    /// What there is of a line that a step writes over again and again with carriage returns, now and then; all of it
    /// comes as [`Event::Log`] when it ends.
    Partial {
        /// The step.
        vertex: usize,
        /// The text since the line began.
        text: &'a [u8],
    },
    /// Output of a step, one line or the rest of one, with its line end if it had one.
    Log {
        /// The step.
        vertex: usize,
        /// Where it was written.
        stream: Stream,
        /// The text.
        text: &'a [u8],
    },
}

/// Output stream of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A vertex as users see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexInfo {
    /// Its number in the events.
    pub id: usize,
    /// `[stage 2/5] RUN make`
    pub name: String,
    /// Name or number of its stage.
    pub stage: String,
    /// Number of the step in its stage (1 = FROM), as buildah and Docker's old builder count.
    pub step: usize,
    /// Steps of the stage.
    pub steps: usize,
    /// Line in the Containerfile, 1 = first; 0 for what no line asks for.
    pub line: usize,
    /// The vertices that it needs.
    pub inputs: Vec<usize>,
}

/// Progress that shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// A token that ends a build from outside or inside. Clones share the state.
#[derive(Debug, Clone)]
pub struct Cancel {
    shared: Arc<CancelState>,
}

#[derive(Debug)]
struct CancelState {
    fired: AtomicBool,
    // Readable once the token fired, so that a wait for a process can be a poll on two descriptors.
    event: OwnedFd,
}

impl Cancel {
    /// A token that has not fired.
    pub fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(CancelState { fired: AtomicBool::new(false), event }) })
    }

    /// Fires it; again is harmless.
    pub fn cancel(&self) {
        self.shared.fired.store(true, Ordering::SeqCst);
        // The counter of an eventfd that nobody reads takes far more writes than there are callers; a full one is
        // readable all the same.
        let _ = rustix::io::write(&self.shared.event, &1u64.to_ne_bytes());
    }

    /// Whether it fired.
    pub fn is_cancelled(&self) -> bool {
        self.shared.fired.load(Ordering::SeqCst)
    }
}

impl AsFd for Cancel {
    /// Readable from the moment the token fires; never read it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

/// Values of `--secret`, by ID.
pub type Secrets = BTreeMap<String, Vec<u8>>;

/// `--ssh`: sockets of agents on this host, by ID. An agent that holds the keys given on the command line is made by
/// the caller.
pub type SshAgents = BTreeMap<String, PathBuf>;

//! What is to be done, as pure data: vertices in an order where inputs come first.
//!
//! Everything in an op that changes its result is serialised into its *definition*, from which the cheap cache key
//! is made; what does not (positions, secrets' contents, proxy variables) is skipped there. Changing the shape of
//! these types changes every key, which costs one build without cache and nothing else.

use crate::ports::NetworkMode;
use oci::{Digest, Platform};
use serde::Serialize;
use std::sync::Arc;

/// Number of a vertex in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(pub usize);

/// A build as a graph of operations.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    vertices: Vec<Vertex>,
}

/// One operation, its inputs, and how users know it.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// The operation.
    pub op: Op,
    /// Where its inputs come from, in the order in which the op counts them.
    pub inputs: Vec<Edge>,
    /// Whether it runs even when its result is known.
    pub no_cache: bool,
    /// Where it stands in the Containerfile.
    pub place: Place,
}

/// An input of a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The vertex whose output is the input.
    pub from: VertexId,
    /// Whether only what the op selects of the input counts for the key.
    pub by_content: bool,
}

/// Where a vertex stands in the Containerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The instruction as users know it.
    pub text: String,
    /// Name of the stage, or its number.
    pub stage: String,
    /// Number of the step in the stage, FROM is 1; 0 for what no step asks for by itself.
    pub step: usize,
    /// Steps of the stage.
    pub steps: usize,
    /// Line, 1 = first; 0 for none.
    pub line: usize,
}

/// An operation.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// An empty root file system. No inputs.
    Scratch,
    /// An image's root file system, already in the store. No inputs.
    Image(ImageOp),
    /// A directory of the host. No inputs.
    Directory(DirectoryOp),
    /// A file from the network. No inputs.
    Http(HttpOp),
    /// A commit of a git repository. No inputs.
    Git(GitOp),
    /// RUN. Input 0 is the root file system, the others are those of its bind mounts.
    Exec(Box<ExecOp>),
    /// COPY or ADD. Input 0 is the root file system, the others are the sources'.
    Copy(Box<CopyOp>),
    /// WORKDIR. Input 0 is the root file system.
    Workdir(WorkdirOp),
    /// A layer that was made on an empty root, on top of another root file system (`COPY --link`). Input 0 is what
    /// is below, input 1 the layer.
    Stack,
}

/// An image of the store.
#[derive(Debug, Clone, Serialize)]
pub struct ImageOp {
    /// The image.
    #[serde(skip)]
    pub name: String,
    /// Digest of the manifest or config, for display.
    #[serde(skip)]
    pub digest: Option<Digest>,
    /// Its layers, lowest first: what an image is for what is built on it.
    pub chain: Vec<oci::ChainId>,
}

/// A directory of the host.
#[derive(Debug, Clone, Serialize)]
pub struct DirectoryOp {
    /// The named context, or `None` for the build context.
    pub name: Option<String>,
}

/// A download.
#[derive(Debug, Clone, Serialize)]
pub struct HttpOp {
    /// Where from.
    pub url: String,
    /// What it must be.
    pub checksum: Option<Digest>,
}

/// A commit of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitOp {
    /// Which one.
    pub source: crate::ports::GitSource,
    /// The commit that it must be, or its first digits.
    pub checksum: Option<String>,
}

/// A command.
#[derive(Debug, Clone, Serialize)]
pub struct ExecOp {
    /// Command and arguments.
    pub argv: Vec<String>,
    /// Environment, `NAME=value`: the image's, then the ARGs in scope.
    #[serde(serialize_with = "shared_list")]
    pub env: Arc<Vec<String>>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`, empty for root.
    pub user: String,
    /// Network.
    #[serde(serialize_with = "network_name")]
    pub network: NetworkMode,
    /// Whether the step runs without confinement.
    pub insecure: bool,
    /// Devices of the host that the step sees.
    pub devices: Vec<String>,
    /// Mounts, in order.
    pub mounts: Vec<MountOp>,
    /// A script that stands at its path while the step runs, mode 0755 (a here-document that begins with `#!`).
    pub script: Option<Script>,
    /// What the executor does differently for this build.
    pub settings: String,
    /// The platform that the step runs on.
    pub platform: Platform,
    /// Environment that is no part of the key.
    #[serde(skip)]
    pub proxy: Vec<String>,
    /// The stage's shell, without the arguments that make it read a command line.
    #[serde(skip)]
    pub shell: String,
    /// Host name.
    pub hostname: Option<String>,
    /// Names in `env` that come from ARG, for explanations.
    #[serde(skip)]
    pub args: Vec<String>,
    /// Times of new files.
    #[serde(skip_serializing_if = "FileTimes::are_kept")]
    pub times: FileTimes,
}

// An Arc is written as what it holds.
fn shared_list<S: serde::Serializer>(list: &Arc<Vec<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    list.as_slice().serialize(serializer)
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn network_name<S: serde::Serializer>(mode: &NetworkMode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.as_str())
}

/// A script of a step.
#[derive(Debug, Clone, Serialize)]
pub struct Script {
    /// Absolute path in the step.
    pub path: String,
    /// Its text.
    pub content: String,
}

/// `RUN --mount`.
#[derive(Debug, Clone, Serialize)]
pub struct MountOp {
    /// Absolute path in the step.
    pub target: String,
    /// Whether the step may not write.
    pub read_only: bool,
    /// Further options in `mount`'s words: `nosuid`, `nodev`, `noexec`, propagation.
    pub options: Vec<String>,
    /// Whether all files belong to the step's user (buildah's `U`).
    pub chown: bool,
    /// What is mounted.
    pub kind: MountKind,
}

/// Kinds of `RUN --mount`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// Part of an input.
    Bind {
        /// Number of the input.
        input: usize,
        /// Path in it.
        source: String,
        /// Whether a link there is shown as a link, and not what it leads to (buildah's `no-dereference`).
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        keep_link: bool,
    },
    /// A directory that is kept between builds.
    Cache {
        /// Its name.
        id: String,
        /// How steps share it.
        sharing: Sharing,
        /// Permission bits when it is made.
        mode: u32,
        /// Owner when it is made.
        uid: u32,
        /// Group when it is made.
        gid: u32,
        /// Its first content: number of the input, path in it.
        from: Option<(usize, String)>,
    },
    /// Memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
        /// Whether it begins with what the image has there.
        copy_up: bool,
    },
    /// An agent that signs with the user's keys. Which keys these are is no part of the key.
    Ssh {
        /// Which agent.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
        /// Whether `SSH_AUTH_SOCK` names it.
        env: bool,
    },
    /// A secret, as file, variable or both. Its content is no part of the key.
    Secret {
        /// Which one.
        id: String,
        /// Whether there is a file at the target.
        file: bool,
        /// The variable.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Permission bits of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
}

/// How steps that run at the same time share a cache directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// All use it at once.
    Shared,
    /// One waits for the other.
    Locked,
    /// A second one gets a directory of its own.
    Private,
}

/// COPY or ADD.
#[derive(Debug, Clone, Serialize)]
pub struct CopyOp {
    /// `COPY` or `ADD`: which errors are meant.
    #[serde(skip)]
    pub add: bool,
    /// What is copied, in order.
    pub sources: Vec<CopySource>,
    /// Where to: absolute, with a trailing slash where the Containerfile has one.
    pub destination: String,
    /// Owner, as written.
    pub chown: Option<String>,
    /// Mode, as written.
    pub chmod: Option<String>,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// Whether files keep their owners where `chown` says nothing: those of stages and images do, those of the host
    /// become root's.
    pub keep_owners: bool,
    /// Times of new files.
    #[serde(skip_serializing_if = "FileTimes::are_kept")]
    pub times: FileTimes,
}

/// One source of a [`CopyOp`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopySource {
    /// Files of an input.
    Path {
        /// Number of the input.
        input: usize,
        /// Path or pattern in it.
        path: String,
    },
    /// A here-document.
    Text {
        /// Name of the file.
        name: String,
        /// Its content.
        content: String,
    },
    /// A downloaded file.
    Download {
        /// Number of the input.
        input: usize,
        /// Its name where the destination is a directory.
        name: String,
        /// Whether it is unpacked if it is an archive.
        unpack: bool,
    },
}

/// WORKDIR.
#[derive(Debug, Clone, Serialize)]
pub struct WorkdirOp {
    /// Absolute path.
    pub path: String,
    /// `user[:group]` that owns what is made, empty for root.
    pub user: String,
    /// Times of new files.
    #[serde(skip_serializing_if = "FileTimes::are_kept")]
    pub times: FileTimes,
}

/// What becomes of the times of the files in a new layer, in seconds since 1970. Keys of builds that leave them alone
/// do not mention it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileTimes {
    /// They stay.
    #[default]
    Kept,
    /// Later ones become this one.
    AtMost(i64),
    /// All become this one.
    Exactly(i64),
}

impl FileTimes {
    // The signature is serde's.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn are_kept(&self) -> bool {
        *self == Self::Kept
    }
}

impl Op {
    /// Says what becomes of the times of the files that the operation makes.
    pub(crate) fn set_times(&mut self, times: FileTimes) {
        match self {
            Op::Exec(op) => op.times = times,
            Op::Copy(op) => op.times = times,
            Op::Workdir(op) => op.times = times,
            // A stack is made of a layer that has its times.
            Op::Stack | Op::Scratch | Op::Image(_) | Op::Directory(_) | Op::Http(_) | Op::Git(_) => {}
        }
    }
}

impl Graph {
    /// Adds a vertex whose inputs are already there.
    pub fn add(&mut self, vertex: Vertex) -> VertexId {
        debug_assert!(vertex.inputs.iter().all(|edge| edge.from.0 < self.vertices.len()));
        self.vertices.push(vertex);
        VertexId(self.vertices.len() - 1)
    }

    /// The vertex.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.vertices[id.0]
    }

    /// The vertex, to be changed while the graph is made.
    pub(crate) fn vertex_mut(&mut self, id: VertexId) -> &mut Vertex {
        &mut self.vertices[id.0]
    }

    /// Says of all operations what becomes of the times of the files that they make.
    pub(crate) fn set_times(&mut self, times: FileTimes) {
        self.vertices.iter_mut().for_each(|vertex| vertex.op.set_times(times));
    }

    /// All vertices, inputs first.
    pub fn vertices(&self) -> impl Iterator<Item = (VertexId, &Vertex)> {
        self.vertices.iter().enumerate().map(|(index, vertex)| (VertexId(index), vertex))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.vertices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.vertices.is_empty()
    }
}

impl Edge {
    /// An input that counts as a whole.
    pub fn whole(from: VertexId) -> Self {
        Self { from, by_content: false }
    }

    /// An input of which only the selected files count.
    pub fn by_content(from: VertexId) -> Self {
        Self { from, by_content: true }
    }
}

//! `RUN --mount`: what a step sees besides its root file system.

use super::owner::Owner;
use super::snapshot::{Active, Rootfs, Workspace};
use super::ssh::Agent;
use super::tree::{Tree, Visit};
use super::{Error, beneath, copy, io_error};
use crate::context::OpenContext;
use crate::graph::{CopyOp, CopySource, FileTimes, MountKind, MountOp, Sharing};
use crate::ports::{Cancel, RemoteCache, Secrets, SshAgents, StepMount, StepMountSource};
use rustix::fs::{AtFlags, FileType, Gid, Uid, chownat};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use storage::snapshot::open_detached;
use storage::{CacheMount, MountUse};

/// What bind mounts take from.
pub(crate) enum Source {
    Rootfs(Rootfs, Tree),
    Context(Arc<OpenContext>),
}

/// The mounts of one step, and what must live as long as they do.
#[derive(Default)]
pub(crate) struct StepMounts<'a> {
    pub(crate) mounts: Vec<StepMount>,
    /// Links that stand where a mount would: path in the step, and what they lead to.
    pub(crate) links: Vec<(String, PathBuf)>,
    /// Variables from secrets.
    pub(crate) env: Vec<String>,
    /// Snapshots whose changes are thrown away.
    scratch: Vec<Active<'a>>,
    /// Cache directories in use.
    caches: BTreeMap<String, CacheMount>,
    /// Sockets that speak to agents.
    agents: Vec<Agent>,
}

/// What mounts are made of.
pub(crate) struct Given<'a, 'w> {
    pub(crate) workspace: &'w Workspace<'w>,
    /// Inputs of the step by number.
    pub(crate) source: &'a dyn Fn(usize) -> Option<Source>,
    pub(crate) secrets: &'a Secrets,
    pub(crate) ssh: &'a SshAgents,
    pub(crate) remote: Option<&'a dyn RemoteCache>,
    /// Who the step runs as.
    pub(crate) user: Owner,
    pub(crate) cancel: &'a Cancel,
}

/// Makes the mounts of a step.
pub(crate) fn make<'w>(mounts: &[MountOp], given: &Given<'_, 'w>) -> Result<StepMounts<'w>, Error> {
    let mut made = StepMounts { caches: open_caches(given, mounts)?, ..StepMounts::default() };
    for mount in mounts {
        match &mount.kind {
            MountKind::Bind { input, source: path, .. } => {
                let source = given_source(given, *input)?;
                if let Some(link) = kept_link(&mount.kind, source.tree())? {
                    made.links.push((mount.target.clone(), link));
                    continue;
                }
                made.bind(given, mount, source, path)?;
            }
            MountKind::Cache { id, .. } => {
                let Some(cache) = made.caches.get(id) else { continue };
                let path = cache.path().to_owned();
                if mount.chown {
                    let root = sys::fs::open_dir(&path).map_err(storage::Error::from)?;
                    own_all(root.as_fd(), "", given.user)?;
                }
                made.push(mount, StepMountSource::Path(path), mount.read_only);
            }
            MountKind::Tmpfs { size, mode, copy_up } => {
                let source = StepMountSource::Tmpfs { size: *size, mode: *mode, copy_up: *copy_up };
                made.push(mount, source, mount.read_only);
            }
            MountKind::Ssh { id, required, mode, uid, gid, env } => match given.ssh.get(id) {
                None if *required => return Err(Error::MissingAgent { id: id.clone() }),
                None => {}
                Some(socket) => {
                    let directory = given.workspace.lease.directory()?;
                    let name = given.workspace.unique_name("ssh-")?;
                    let owner = Owner { uid: *uid, gid: *gid };
                    let agent = Agent::start(socket, &directory, &name, owner, *mode)
                        .map_err(io_error("forward the ssh agent to", mount.target.as_str()))?;
                    if *env {
                        made.env.push(format!("SSH_AUTH_SOCK={}", mount.target));
                    }
                    made.push(mount, StepMountSource::Path(agent.path().to_owned()), false);
                    made.agents.push(agent);
                }
            },
            MountKind::Secret { id, file, env, required, mode, uid, gid } => match given.secrets.get(id) {
                None if *required => return Err(Error::MissingSecret { id: id.clone() }),
                None => {}
                Some(content) => {
                    if let Some(name) = env {
                        made.env.push(format!("{name}={}", String::from_utf8_lossy(content)));
                    }
                    if *file {
                        let source = StepMountSource::Bytes {
                            content: content.clone(),
                            mode: *mode,
                            uid: *uid,
                            gid: *gid,
                        };
                        made.push(mount, source, true);
                    }
                }
            },
        }
    }
    Ok(made)
}

/// What the link at a mount's source leads to, where it is one and to be shown as one.
pub(crate) fn kept_link(kind: &MountKind, tree: &Tree) -> Result<Option<PathBuf>, Error> {
    let MountKind::Bind { source, keep_link: true, .. } = kind else { return Ok(None) };
    let failed = || io_error("read link", source.as_str());
    let clean = beneath::clean(Path::new(source));
    let found = beneath::canonical(tree.root(), &clean, false).map_err(failed())?;
    let is_link = found.stat.as_ref().is_some_and(|stat| beneath::file_type(stat) == FileType::Symlink);
    if !is_link || !tree.shows(&found) {
        return Ok(None);
    }
    let (parent, name) = beneath::split(&found.path);
    let directory = beneath::open_directory(tree.root(), parent).map_err(failed())?;
    beneath::read_link_at(directory.as_fd(), name).map(Some).map_err(failed())
}

fn given_source(given: &Given<'_, '_>, input: usize) -> Result<Source, Error> {
    (given.source)(input).ok_or_else(|| crate::solver::Broken::Stuck.into())
}

impl Source {
    fn tree(&self) -> &Tree {
        match self {
            Source::Rootfs(_, tree) => tree,
            Source::Context(context) => &context.tree,
        }
    }

    fn into_tree(self) -> Tree {
        match self {
            Source::Rootfs(_, tree) => tree,
            Source::Context(context) => context.tree.clone(),
        }
    }
}

/// Gives everything in a directory of a tree to one owner.
fn own_all(root: BorrowedFd<'_>, path: &str, owner: Owner) -> Result<(), Error> {
    let tree = Tree::new(root.try_clone_to_owned().map_err(io_error("open", "/"))?, None);
    let Some(start) = tree.resolve(Path::new(path), path)? else { return Ok(()) };
    tree.walk(&start, &mut |entry, visit| {
        if visit == Visit::Leave {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        chownat(entry.directory, entry.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| io_error("change owner of", entry.path)(error.into()))
    })
}

impl<'w> StepMounts<'w> {
    fn push(&mut self, mount: &MountOp, source: StepMountSource, read_only: bool) {
        let (target, options) = (mount.target.clone(), mount.options.clone());
        self.mounts.push(StepMount { target, source, read_only, options });
    }

    fn bind(
        &mut self,
        given: &Given<'_, 'w>,
        mount: &MountOp,
        source: Source,
        path: &str,
    ) -> Result<(), Error> {
        let (workspace, cancel) = (given.workspace, given.cancel);
        let tree = match &source {
            Source::Rootfs(_, tree) => tree.clone(),
            Source::Context(context) => context.tree.clone(),
        };
        let found = tree.resolve(&beneath::clean(Path::new(path)), path)?;
        let Some(found) = found else { return Err(Error::NotFound { path: format!("/{path}") }) };
        let subpath = found.path.to_string_lossy().into_owned();
        match source {
            Source::Rootfs(rootfs, _) if mount.read_only && !mount.chown => {
                let mounts = match workspace.snapshot(&rootfs)? {
                    Some(name) => workspace.store.snapshots().view(&name)?,
                    None => return Err(Error::NotFound { path: path.to_owned() }),
                };
                self.push(mount, StepMountSource::Snapshot { mounts, subpath }, true);
            }
            Source::Rootfs(rootfs, _) => {
                let parent = workspace.snapshot(&rootfs)?;
                let active = workspace.prepare(parent.as_deref())?;
                if mount.chown {
                    own_all(open_detached(&active.mounts)?.as_fd(), &subpath, given.user)?;
                }
                let source = StepMountSource::Snapshot { mounts: active.mounts.clone(), subpath };
                self.push(mount, source, mount.read_only);
                self.scratch.push(active);
            }
            Source::Context(context) if mount.read_only && !mount.chown && !context.filtered => {
                self.push(mount, StepMountSource::Path(context.path.join(&found.path)), true);
            }
            Source::Context(context) => {
                // What is hidden must stay hidden, and what is written must not reach the user's files: a copy.
                let active = workspace.prepare(None)?;
                let root = open_detached(&active.mounts)?;
                let name = found.path.file_name().map(|name| name.to_string_lossy().into_owned());
                let directory = found.is_directory();
                let op = copy_of(&subpath, false);
                let into = super::write::Destination::new(root.as_fd(), None);
                copy::copy_all(&op, into, &|_| Some(copy::Input::Tree(&context.tree)), cancel)?;
                if mount.chown {
                    own_all(root.as_fd(), "", given.user)?;
                }
                drop(root);
                let subpath = if directory { String::new() } else { name.unwrap_or_default() };
                let mounts = active.mounts.clone();
                self.push(mount, StepMountSource::Snapshot { mounts, subpath }, mount.read_only);
                self.scratch.push(active);
            }
        }
        Ok(())
    }
}

/// A copy of one path to the root.
fn copy_of(path: &str, keep_owners: bool) -> CopyOp {
    CopyOp {
        add: false,
        sources: vec![CopySource::Path { input: 0, path: escape(path) }],
        destination: "/".to_owned(),
        chown: None,
        chmod: None,
        exclude: Vec::new(),
        parents: false,
        unpack: false,
        keep_owners,
        times: FileTimes::Kept,
    }
}

/// A path as a pattern that matches itself alone.
fn escape(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '*' | '?' | '[' => escaped.extend(['[', c, ']']),
            '\\' => escaped.push_str("[\\\\]"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// What a cache directory is when it is made.
struct NewCache<'a> {
    mode: u32,
    owner: Owner,
    /// The input, and the directory in it whose content it begins with.
    content: Option<&'a (usize, String)>,
}

/// Takes the directory of a cache mount and makes it where it is missing; waits while others are in the way.
fn open_cache(
    given: &Given<'_, '_>,
    id: &str,
    sharing: Sharing,
    new: &NewCache<'_>,
) -> Result<CacheMount, Error> {
    let mounts = given.workspace.store.cache_mounts();
    let usage = match sharing {
        Sharing::Shared => MountUse::Shared,
        Sharing::Locked | Sharing::Private => MountUse::Alone,
    };
    let mut number = 0;
    let taken = loop {
        match mounts.try_take(id, number, usage)? {
            Some(taken) => break taken,
            None if sharing == Sharing::Private => number += 1,
            None => wait(given.cancel)?,
        }
    };
    taken.make(given.workspace.lease, |path| {
        if let Some((input, source)) = new.content {
            fill(path, &given_source(given, *input)?.into_tree(), source, given.cancel)?;
        } else if let Some(remote) = given.remote
            && number == 0
        {
            remote.fill_mount(id, path);
        }
        let owner = (Uid::from_raw(new.owner.uid), Gid::from_raw(new.owner.gid));
        rustix::fs::chown(path, Some(owner.0), Some(owner.1))
            .map_err(|error| io_error("change owner of", path)(error.into()))?;
        Ok::<_, Error>(sys::fs::set_mode(path, new.mode).map_err(storage::Error::from)?)
    })?;
    Ok(taken)
}

/// Copies a directory of a tree into a new cache directory.
fn fill(path: &Path, tree: &Tree, source: &str, cancel: &Cancel) -> Result<(), Error> {
    let clean = super::beneath::clean(Path::new(source));
    let found = tree.resolve(&clean, source)?;
    let found = found.ok_or_else(|| Error::NotFound { path: format!("/{}", clean.display()) })?;
    if !found.is_directory() {
        return Err(Error::NotADirectory { path: Path::new("/").join(clean) });
    }
    let root = sys::fs::open_dir(path).map_err(storage::Error::from)?;
    let op = copy_of(&found.path.to_string_lossy(), true);
    let into = super::write::Destination::new(root.as_fd(), None);
    copy::copy_all(&op, into, &|_| Some(copy::Input::Tree(tree)), cancel)
}

/// The cache mounts of a step, each name once, in an order that all steps have: two steps that want the same ones for
/// themselves never wait for each other.
fn open_caches(given: &Given<'_, '_>, mounts: &[MountOp]) -> Result<BTreeMap<String, CacheMount>, Error> {
    let mut wanted: BTreeMap<&str, (Sharing, NewCache<'_>)> = BTreeMap::new();
    for mount in mounts {
        let MountKind::Cache { id, sharing, mode, uid, gid, from } = &mount.kind else { continue };
        let new = NewCache { mode: *mode, owner: Owner { uid: *uid, gid: *gid }, content: from.as_ref() };
        let (known, _) = wanted.entry(id).or_insert((*sharing, new));
        // the strictest wish counts
        if *known == Sharing::Shared {
            *known = *sharing;
        }
    }
    let mut taken = BTreeMap::new();
    for (id, (sharing, new)) in wanted {
        taken.insert(id.to_owned(), open_cache(given, id, sharing, &new)?);
    }
    Ok(taken)
}

/// Waits a little for another step, or for the end of the build.
fn wait(cancel: &Cancel) -> Result<(), Error> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(cancel, PollFlags::IN)];
    // A failing poll is a short wait.
    let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 }));
    if cancel.is_cancelled() { Err(crate::solver::Broken::Cancelled.into()) } else { Ok(()) }
}

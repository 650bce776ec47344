//! `RUN --mount`: what a step sees besides its root file system.

use super::snapshot::{Active, Rootfs, Workspace};
use super::tree::Tree;
use super::{Error, copy, io_error};
use crate::context::OpenContext;
use crate::graph::{CopyOp, CopySource, MountKind, MountOp, Sharing};
use crate::ports::{Cancel, RemoteCache, Secrets, StepMount, StepMountSource};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
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
    /// Variables from secrets.
    pub(crate) env: Vec<String>,
    /// Snapshots whose changes are thrown away.
    scratch: Vec<Active<'a>>,
    /// Cache directories in use.
    caches: BTreeMap<String, CacheMount>,
}

/// Makes the mounts of a step.
pub(crate) fn make<'a>(
    workspace: &'a Workspace<'a>,
    mounts: &[MountOp],
    source: &dyn Fn(usize) -> Option<Source>,
    secrets: &Secrets,
    remote: Option<&dyn RemoteCache>,
    cancel: &Cancel,
) -> Result<StepMounts<'a>, Error> {
    let mut made =
        StepMounts { caches: open_caches(workspace, mounts, remote, cancel)?, ..StepMounts::default() };
    for mount in mounts {
        match &mount.kind {
            MountKind::Bind { input, source: path } => {
                let Some(source) = source(*input) else { return Err(crate::solver::Broken::Stuck.into()) };
                made.bind(workspace, mount, source, path, cancel)?;
            }
            MountKind::Cache { id, .. } => {
                let Some(cache) = made.caches.get(id) else { continue };
                let path = cache.path().to_owned();
                made.push(mount, StepMountSource::Path(path), mount.read_only);
            }
            MountKind::Tmpfs { size } => {
                made.push(mount, StepMountSource::Tmpfs { size: *size }, mount.read_only)
            }
            MountKind::Secret { id, file, env, required, mode, uid, gid } => match secrets.get(id) {
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

impl<'a> StepMounts<'a> {
    fn push(&mut self, mount: &MountOp, source: StepMountSource, read_only: bool) {
        self.mounts.push(StepMount { target: mount.target.clone(), source, read_only });
    }

    fn bind(
        &mut self,
        workspace: &'a Workspace<'a>,
        mount: &MountOp,
        source: Source,
        path: &str,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let tree = match &source {
            Source::Rootfs(_, tree) => tree.clone(),
            Source::Context(context) => context.tree.clone(),
        };
        let found = tree.resolve(&super::beneath::clean(Path::new(path)), path)?;
        let Some(found) = found else { return Err(Error::NotFound { path: format!("/{path}") }) };
        let subpath = found.path.to_string_lossy().into_owned();
        match source {
            Source::Rootfs(rootfs, _) if mount.read_only => {
                let mounts = match workspace.snapshot(&rootfs)? {
                    Some(name) => workspace.store.snapshots().view(&name)?,
                    None => return Err(Error::NotFound { path: path.to_owned() }),
                };
                self.push(mount, StepMountSource::Snapshot { mounts, subpath }, true);
            }
            Source::Rootfs(rootfs, _) => {
                let parent = workspace.snapshot(&rootfs)?;
                let active = workspace.prepare(parent.as_deref())?;
                self.push(mount, StepMountSource::Snapshot { mounts: active.mounts.clone(), subpath }, false);
                self.scratch.push(active);
            }
            Source::Context(context) if mount.read_only && !context.filtered => {
                self.push(mount, StepMountSource::Path(context.path.join(&found.path)), true);
            }
            Source::Context(context) => {
                // What is hidden must stay hidden, and what is written must not reach the user's files: a copy.
                let active = workspace.prepare(None)?;
                let root = open_detached(&active.mounts)?;
                let name = found.path.file_name().map(|name| name.to_string_lossy().into_owned());
                let directory = found.is_directory();
                let op = CopyOp {
                    add: false,
                    sources: vec![CopySource::Path { input: 0, path: escape(&subpath) }],
                    destination: "/".to_owned(),
                    chown: None,
                    chmod: None,
                    exclude: Vec::new(),
                    parents: false,
                    unpack: false,
                };
                let into = super::write::Destination::new(root.as_fd(), None);
                copy::copy_all(&op, into, &|_| Some(copy::Input::Tree(&context.tree)), cancel)?;
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

/// Takes the directory of a cache mount and makes it where it is missing; waits while others are in the way.
fn open_cache(
    workspace: &Workspace<'_>,
    id: &str,
    sharing: Sharing,
    (mode, uid, gid): (u32, u32, u32),
    remote: Option<&dyn RemoteCache>,
    cancel: &Cancel,
) -> Result<CacheMount, Error> {
    let mounts = workspace.store.cache_mounts();
    let usage = match sharing {
        Sharing::Shared => MountUse::Shared,
        Sharing::Locked | Sharing::Private => MountUse::Alone,
    };
    let mut number = 0;
    let taken = loop {
        match mounts.try_take(id, number, usage)? {
            Some(taken) => break taken,
            None if sharing == Sharing::Private => number += 1,
            None => wait(cancel)?,
        }
    };
    taken.make(workspace.lease, |path| {
        if let Some(remote) = remote
            && number == 0
        {
            remote.fill_mount(id, path);
        }
        let owner = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
        rustix::fs::chown(path, Some(owner.0), Some(owner.1))
            .map_err(|error| io_error("change owner of", path)(error.into()))?;
        Ok::<_, Error>(sys::fs::set_mode(path, mode).map_err(storage::Error::from)?)
    })?;
    Ok(taken)
}

/// The cache mounts of a step, each name once, in an order that all steps have: two steps that want the same ones for
/// themselves never wait for each other.
fn open_caches(
    workspace: &Workspace<'_>,
    mounts: &[MountOp],
    remote: Option<&dyn RemoteCache>,
    cancel: &Cancel,
) -> Result<BTreeMap<String, CacheMount>, Error> {
    let mut wanted: BTreeMap<&str, (Sharing, (u32, u32, u32))> = BTreeMap::new();
    for mount in mounts {
        let MountKind::Cache { id, sharing, mode, uid, gid } = &mount.kind else { continue };
        let (known, _) = wanted.entry(id).or_insert((*sharing, (*mode, *uid, *gid)));
        // the strictest wish counts
        if *known == Sharing::Shared {
            *known = *sharing;
        }
    }
    let mut taken = BTreeMap::new();
    for (id, (sharing, owner)) in wanted {
        taken.insert(id.to_owned(), open_cache(workspace, id, sharing, owner, remote, cancel)?);
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

//! The solver's work: operations, their keys and their records.

use super::remote::{Commit, Download, Remote};
use super::{AssertCached, BuildRequest, CacheEntry, Context, Error, NamedContext, failure};
use crate::cache::content_hash::Selection;
use crate::cache::listing::Listing;
use crate::cache::memory::Memory;
use crate::cache::{Key, index, key};
use crate::context::{self, OpenContext};
use crate::explain::{Explainer, Miss};
use crate::graph::{CopyOp, CopySource, Edge, ExecOp, Graph, MountKind, Op, Place, VertexId};
use crate::ignore::Ignore;
use crate::ops::exec::{self, Repairs, Surroundings};
use crate::ops::snapshot::{Own, Rootfs, Workspace, wait_for_digest};
use crate::ops::tree::Tree;
use crate::ops::{self, copy, mounts, owner, stack};
use crate::ports::Event;
use crate::solver::{Broken, Step, VertexKeys, Work};
use oci::{ChainId, DiffId, Digest, Digester};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Digests that take longer than this are of layers that the disk will take its time for, too.
const LONG_WAIT: Duration = Duration::from_millis(50);

/// What a vertex gives to others.
#[derive(Debug, Clone)]
pub(super) enum Output {
    Rootfs(Rootfs),
    Context(Arc<OpenContext>),
    Download(Arc<Download>),
    Commit(Arc<Commit>),
}

/// One build's work.
pub(super) struct Build<'a> {
    request: &'a BuildRequest<'a>,
    graph: &'a Graph,
    workspace: &'a Workspace<'a>,
    contexts: BTreeMap<Option<String>, Arc<OpenContext>>,
    /// Stat memories of the contexts, read when something is hashed.
    memories: BTreeMap<Option<String>, OnceLock<Arc<Memory>>>,
    /// New layers in the order in which they were made, with what they are recorded under.
    made: Mutex<Vec<Made>>,
    explainer: &'a Explainer<'a>,
    asserted: Option<&'a AssertCached>,
    repairs: Repairs,
}

struct Made {
    vertex: VertexId,
    key: Option<Key>,
    text: String,
    rootfs: Rootfs,
}

/// A layer of the image.
#[derive(Debug, Clone)]
pub(crate) struct NamedLayer {
    pub(crate) chain_id: ChainId,
    pub(crate) diff_id: DiffId,
    pub(crate) size: u64,
    /// When it was first made, RFC 3339.
    pub(crate) created: String,
}

impl<'a> Build<'a> {
    pub(super) fn new(
        request: &'a BuildRequest<'a>,
        graph: &'a Graph,
        workspace: &'a Workspace<'a>,
        ignore: Option<Arc<Ignore>>,
        explainer: &'a Explainer<'a>,
        asserted: Option<&'a AssertCached>,
    ) -> Result<Self, Error> {
        let mut contexts = BTreeMap::new();
        for (_, vertex) in graph.vertices() {
            let Op::Directory(directory) = &vertex.op else { continue };
            let (path, ignore) = match &directory.name {
                None => match &request.context {
                    Context::Directory(path) => (path.clone(), ignore.clone()),
                    Context::Empty => {
                        let path = workspace.lease.directory()?.join("empty");
                        sys::fs::create_dir_all(&path, 0o755).map_err(storage::Error::from)?;
                        (path, None)
                    }
                },
                Some(name) => match request.named_contexts.get(name) {
                    Some(NamedContext::Directory(path)) => {
                        let ignore = request.named_ignores.get(name).map(super::parse_ignore).transpose()?;
                        (path.clone(), ignore)
                    }
                    _ => return Err(Broken::Stuck.into()),
                },
            };
            let open = context::open(&path, ignore).map_err(|source| Error::Context { source })?;
            contexts.insert(directory.name.clone(), Arc::new(open));
        }
        let memories = contexts.keys().map(|name| (name.clone(), OnceLock::new())).collect();
        Ok(Self {
            request,
            graph,
            workspace,
            contexts,
            memories,
            made: Mutex::default(),
            explainer,
            asserted,
            repairs: Repairs::default(),
        })
    }

    /// The store as this build uses it.
    pub(super) fn workspace(&self) -> &Workspace<'a> {
        self.workspace
    }

    /// Writes what was learnt about the contexts' files. Losing it costs time only.
    pub(super) fn write_memories(&self) {
        for memory in self.memories.values().filter_map(OnceLock::get) {
            let _ = memory.write();
        }
    }

    fn memory(&self, name: &Option<String>) -> Option<Arc<Memory>> {
        let context = self.contexts.get(name)?;
        let cell = self.memories.get(name)?;
        let memory = cell.get_or_init(|| {
            let directory = self.request.store.root().join("build");
            let path = match rustix::fs::fstat(context.tree.root()) {
                Ok(stat) => Memory::path_for(&directory, &stat),
                Err(_) => directory.join("stat-unknown"),
            };
            Arc::new(Memory::read(path))
        });
        Some(memory.clone())
    }

    fn tree(&self, output: &Output) -> Result<Tree, ops::Error> {
        match output {
            Output::Rootfs(rootfs) => self.workspace.read(rootfs),
            Output::Context(context) => Ok(context.tree.clone()),
            Output::Commit(commit) => self.remote().tree(commit),
            Output::Download(_) => Err(Broken::Stuck.into()),
        }
    }

    fn remote(&self) -> Remote<'_> {
        Remote {
            store: self.request.store,
            lease: self.workspace.lease,
            resolver: self.request.resolver,
            secrets: &self.request.secrets,
            ssh: &self.request.ssh,
            cancel: &self.request.cancel,
        }
    }

    fn fail(&self, vertex: VertexId, source: ops::Error) -> Error {
        if let ops::Error::Solver(Broken::Cancelled) = source {
            return Error::Cancelled;
        }
        let place = self.graph.vertex(vertex).place.clone();
        let report = Box::new(failure::report(self.request, &place, &source));
        let file = self.request.containerfile_name.clone();
        Error::Step { file, place, report, source: Box::new(source) }
    }

    /// The steps whose layers were changed by hand, as users know them.
    pub(super) fn changed_by_hand(&self) -> Vec<&Place> {
        self.repairs.steps().into_iter().map(|vertex| &self.graph.vertex(VertexId(vertex)).place).collect()
    }

    /// Digest of what a COPY selects of one input.
    fn copied_content(
        &self,
        op: &CopyOp,
        input: usize,
        edge: &Edge,
        output: &Output,
        step: &Step<'_>,
    ) -> Result<(Digest, Listing), ops::Error> {
        match output {
            Output::Download(download) => {
                let mut digester = Digester::new();
                digester.update(download.digest.as_str().as_bytes());
                digester.update(format!("{:?}", download.modified).as_bytes());
                return Ok((digester.finish(), Listing::default()));
            }
            Output::Commit(commit) => return Ok((commit.digest(), Listing::default())),
            Output::Rootfs(_) | Output::Context(_) => {}
        }
        let tree = self.tree(output)?;
        let memory = self.memory_of(edge);
        let owners = op.keep_owners && op.chown.is_none();
        let mut selection = Selection::new(memory.as_deref()).with_owners(owners);
        if let (Output::Context(_), Some(seconds)) = (output, self.request.context_time)
            && let Op::Directory(directory) = &self.graph.vertex(edge.from).op
            && directory.name.is_none()
        {
            selection.add_bytes(b"time", &seconds.to_be_bytes());
        }
        for source in &op.sources {
            let CopySource::Path { input: number, path } = source else { continue };
            if *number != input {
                continue;
            }
            selection.add_bytes(b"source", path.as_bytes());
            for (tree, selected) in copy::select(op, &tree, path)? {
                selection.add(&tree, &selected.name, &selected.source, !op.parents)?;
            }
        }
        selection.finish(step.compute)
    }

    fn memory_of(&self, edge: &Edge) -> Option<Arc<Memory>> {
        match &self.graph.vertex(edge.from).op {
            Op::Directory(directory) => self.memory(&directory.name),
            _ => None,
        }
    }

    /// Digest of what a RUN mounts of one input.
    fn mounted_content(
        &self,
        op: &ExecOp,
        input: usize,
        edge: &Edge,
        output: &Output,
        step: &Step<'_>,
    ) -> Result<(Digest, Listing), ops::Error> {
        let tree = self.tree(output)?;
        let memory = self.memory_of(edge);
        let owners = matches!(output, Output::Rootfs(_));
        let mut selection = Selection::new(memory.as_deref()).with_owners(owners);
        for mount in &op.mounts {
            let (MountKind::Bind { input: number, source, .. }
            | MountKind::Cache { from: Some((number, source)), .. }) = &mount.kind
            else {
                continue;
            };
            if *number != input {
                continue;
            }
            if let Some(link) = mounts::kept_link(&mount.kind, &tree)? {
                selection.add_bytes(b"link", link.as_os_str().as_encoded_bytes());
                continue;
            }
            let found = tree.resolve(&ops::beneath::clean(Path::new(source)), source)?;
            let found = found.ok_or_else(|| ops::Error::NotFound { path: format!("/{source}") })?;
            selection.add(&tree, Path::new(""), &found, false)?;
        }
        selection.finish(step.compute)
    }

    fn run_op(&self, vertex: VertexId, inputs: &[Output], step: &Step<'_>) -> Result<Output, ops::Error> {
        let op = &self.graph.vertex(vertex).op;
        match op {
            Op::Http(op) => return Ok(Output::Download(Arc::new(self.remote().download(op)?))),
            Op::Git(op) => return Ok(Output::Commit(Arc::new(self.remote().commit(op)?))),
            _ => {}
        }
        let Some(Output::Rootfs(rootfs)) = inputs.first() else { return Err(Broken::Stuck.into()) };
        let made = match op {
            Op::Exec(op) => {
                let around = Surroundings {
                    workspace: self.workspace,
                    executor: self.request.executor,
                    secrets: &self.request.secrets,
                    remote: self.request.cache.remote,
                    repairs: &self.repairs,
                    ssh: &self.request.ssh,
                };
                let mut trees = BTreeMap::new();
                for (number, output) in inputs.iter().enumerate().skip(1) {
                    trees.insert(number, self.tree(output)?);
                }
                let source = |number: usize| match inputs.get(number)? {
                    Output::Rootfs(rootfs) => {
                        Some(mounts::Source::Rootfs(rootfs.clone(), trees.get(&number)?.clone()))
                    }
                    Output::Context(context) => Some(mounts::Source::Context(context.clone())),
                    Output::Download(_) | Output::Commit(_) => None,
                };
                exec::run(op, &around, rootfs, &source, step)?
            }
            Op::Copy(op) => {
                let mut trees = BTreeMap::new();
                let mut files = BTreeMap::new();
                for (number, output) in inputs.iter().enumerate().skip(1) {
                    if let Output::Download(download) = output {
                        files.insert(number, (self.remote().file(download)?, download.modified));
                    } else {
                        trees.insert(number, self.tree(output)?);
                    }
                }
                let input = |number: usize| match files.get(&number) {
                    Some((file, modified)) => Some(copy::Input::Download(file, *modified)),
                    None => trees.get(&number).map(copy::Input::Tree),
                };
                self.workspace.write_layer(rootfs, |into| copy::copy_all(op, into, &input, step.cancel))?
            }
            Op::Workdir(op) => self.workspace.write_layer(rootfs, |into| {
                let root = into.root;
                let path = ops::beneath::canonical(root, Path::new(&op.path), true)
                    .map_err(ops::io_error("resolve", op.path.as_str()))?;
                let missing = path.stat.is_none();
                let owner = if missing && !op.user.is_empty() {
                    owner::resolve(root, &op.user)?
                } else {
                    owner::Owner::default()
                };
                into.make_directories(&path.path, owner).map(|_| ())
            })?,
            Op::Stack => {
                let Some(Output::Rootfs(layer)) = inputs.get(1) else { return Err(Broken::Stuck.into()) };
                stack::stack(self.workspace, rootfs, layer, step.cancel)?
            }
            Op::Scratch | Op::Image(_) | Op::Directory(_) | Op::Http(_) | Op::Git(_) => {
                return Err(Broken::Stuck.into());
            }
        };
        self.start_digest(&made, step);
        Ok(Output::Rootfs(made))
    }

    /// Hands the computation of the new layer's digest over, to run beside later steps.
    fn start_digest(&self, rootfs: &Rootfs, step: &Step<'_>) {
        let Some(own) = &rootfs.own else { return };
        if own.pending.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let (store, snapshot) = (self.request.store.clone(), own.snapshot.clone());
        let pending = step.compute.spawn(move || storage::diff::diff_id_of(&store, &snapshot));
        *own.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(pending);
    }

    /// Gives all new layers their names, records them, and returns the image's layers, lowest first.
    pub(super) fn name_layers(&self, image: &Rootfs) -> Result<Vec<NamedLayer>, ops::Error> {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        if made.is_empty() {
            return self.name_all(&made, image);
        }
        // The image's record will be preceded by a sync. Where there is so much data that its digests have to be
        // waited for, the disk may as well begin now.
        let (named, waiting) = channel::<()>();
        let root = self.request.store.root();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if waiting.recv_timeout(LONG_WAIT) == Err(RecvTimeoutError::Timeout) {
                    // The sync that counts tells of errors.
                    let _ = sys::fs::sync_fs(root);
                }
            });
            let result = self.name_all(&made, image);
            drop(named);
            result
        })
    }

    fn name_all(&self, made: &[Made], image: &Rootfs) -> Result<Vec<NamedLayer>, ops::Error> {
        for made in made {
            self.name_stack(&made.rootfs)?;
            self.tell_layer(made)?;
            if let (Some(key), Some(own)) = (&made.key, &made.rootfs.own)
                && let Some((chain_id, _)) = own.named.get()
            {
                index::put_named(self.workspace, key, chain_id, 0, &made.text)?;
            }
        }
        self.name_stack(image)?;
        let top = match &image.own {
            Some(own) => own.named.get().map(|(chain_id, _)| chain_id.clone()),
            None => image.base.clone(),
        };
        let mut layers = Vec::new();
        let mut next = top;
        while let Some(chain_id) = next {
            let layer = self.request.store.layers().get(&chain_id)?;
            let layer = layer.ok_or(storage::Error::LayerNotFound { chain_id })?;
            next = layer.parent.clone();
            layers.push(NamedLayer {
                chain_id: layer.chain_id,
                diff_id: layer.diff_id,
                size: layer.unpacked_size,
                created: layer.created,
            });
        }
        layers.reverse();
        Ok(layers)
    }

    /// What a cache elsewhere should know of this build, in the order of the graph.
    pub(super) fn export(
        &self,
        target: VertexId,
        keys: &[VertexKeys],
    ) -> Result<Vec<CacheEntry>, ops::Error> {
        if !self.repairs.steps().is_empty() {
            return Ok(Vec::new());
        }
        let mut image = BTreeSet::new();
        let mut next = Some(target);
        while let Some(id) = next {
            image.insert(id);
            next = self.graph.vertex(id).inputs.first().map(|edge| edge.from);
        }
        let mut entries = Vec::new();
        for (id, vertex) in self.graph.vertices() {
            let VertexKeys { cheap, key: Some(key) } = &keys[id.0] else { continue };
            if vertex.inputs.is_empty() {
                continue;
            }
            let mut chain = None;
            if let Some(rootfs) = index::look_up(self.workspace, key) {
                self.name_stack(&rootfs)?;
                chain = match &rootfs.own {
                    Some(own) => own.named.get().map(|(chain_id, _)| chain_id.clone()),
                    None => rootfs.base.clone(),
                };
            } else if let Some(remote) = self.request.cache.remote {
                chain = remote.chain(&key.0);
            }
            let cheap = cheap.as_ref().map(|cheap| cheap.0.clone());
            entries.push(CacheEntry { key: key.0.clone(), cheap, chain, in_image: image.contains(&id) });
        }
        Ok(entries)
    }

    /// Tells the size of a new layer.
    fn tell_layer(&self, made: &Made) -> Result<(), ops::Error> {
        let Some((chain_id, _)) = made.rootfs.own.as_ref().and_then(|own| own.named.get()) else {
            return Ok(());
        };
        if let Some(layer) = self.request.store.layers().get(chain_id)? {
            self.request.progress.event(Event::Layer {
                vertex: made.vertex.0,
                content_size: layer.unpacked_size,
                tar_size: layer.tar_size,
            });
        }
        Ok(())
    }

    /// Names the new layers of a root file system, lowest first.
    fn name_stack(&self, rootfs: &Rootfs) -> Result<(), ops::Error> {
        let mut stack: Vec<&Arc<Own>> = Vec::new();
        let mut next = rootfs.own.as_ref();
        while let Some(own) = next {
            stack.push(own);
            next = own.below.as_ref();
        }
        let mut parent = rootfs.base.clone();
        for own in stack.into_iter().rev() {
            if let Some((chain_id, _)) = own.named.get() {
                parent = Some(chain_id.clone());
                continue;
            }
            let diff = match wait_for_digest(own)? {
                Some(diff) => diff,
                // A layer of a build that was killed before it knew.
                None => storage::diff::diff_id_of(self.request.store, &own.snapshot)?,
            };
            let chain_id = ChainId::next(parent.as_ref(), &diff.diff_id);
            let layer = storage::Layer {
                chain_id: chain_id.clone(),
                diff_id: diff.diff_id.clone(),
                parent: parent.take(),
                snapshot: own.snapshot.clone(),
                blobs: Vec::new(),
                tar_size: diff.tar_size,
                unpacked_size: diff.content_size,
                created: jiff::Timestamp::now().to_string(),
            };
            self.request.store.layers().put(self.workspace.lease, &layer)?;
            // Set once only, or by another stage's stack with the same value.
            let _ = own.named.set((chain_id.clone(), diff.diff_id));
            parent = Some(chain_id);
        }
        Ok(())
    }
}

impl Work for Build<'_> {
    type Output = Output;
    type Error = Error;

    fn source(&self, vertex: VertexId) -> Option<(Output, Option<Key>)> {
        match &self.graph.vertex(vertex).op {
            Op::Scratch => Some((Output::Rootfs(Rootfs::default()), Some(Key(self.definition(vertex))))),
            Op::Image(image) => {
                let rootfs = Rootfs { base: image.chain.last().cloned(), own: None };
                Some((Output::Rootfs(rootfs), Some(Key(self.definition(vertex)))))
            }
            Op::Directory(directory) => {
                self.contexts.get(&directory.name).map(|context| (Output::Context(context.clone()), None))
            }
            _ => None,
        }
    }

    fn definition(&self, vertex: VertexId) -> Digest {
        key::definition(&self.graph.vertex(vertex).op)
    }

    fn known_as(&self, cheap: &Key) -> Option<Key> {
        if let Some(key) = index::alias(self.workspace, cheap) {
            return Some(key);
        }
        let key = self.request.cache.remote?.alias(&cheap.0).map(Key)?;
        self.remember_as(cheap, &key);
        Some(key)
    }

    fn remember_as(&self, cheap: &Key, key: &Key) {
        if !self.repairs.steps().is_empty() {
            return;
        }
        // A forgotten alias costs a hash, not the build.
        let _ = index::put_alias(self.workspace, cheap, key);
    }

    fn look_up(&self, _vertex: VertexId, key: &Key) -> Option<Output> {
        index::look_up(self.workspace, key).map(Output::Rootfs)
    }

    fn is_elsewhere(&self, key: &Key) -> bool {
        self.request.cache.remote.is_some_and(|remote| remote.has(&key.0))
    }

    fn fetch(&self, vertex: VertexId, key: &Key) -> Option<Output> {
        let chain = self.request.cache.remote?.fetch(&key.0)?;
        let text = &self.graph.vertex(vertex).place.text;
        // A record that cannot be written costs a fetch the next time.
        let _ = index::put_named(self.workspace, key, &chain, 0, text);
        Some(Output::Rootfs(Rootfs { base: Some(chain), own: None }))
    }

    fn missed(&self, miss: &Miss<'_>) -> Result<(), Error> {
        let vertex = self.graph.vertex(miss.vertex);
        if matches!(vertex.op, Op::Http(_) | Op::Git(_) | Op::Stack) {
            // A download is asked for to know what it is, not because anything changed; and a layer that is only put
            // on another base was not made again.
            return Ok(());
        }
        let causes = self.explainer.miss(miss);
        self.request.progress.event(Event::Missed(miss.vertex.0, &causes));
        let place = &vertex.place;
        let asserted = match self.asserted {
            None => false,
            Some(AssertCached::All) => true,
            Some(AssertCached::Stage(stage)) => place.stage == *stage,
        };
        if !asserted {
            return Ok(());
        }
        let why: Vec<String> = causes.iter().map(ToString::to_string).collect();
        Err(Error::NotCached {
            file: self.request.containerfile_name.clone(),
            place: Box::new(place.clone()),
            name: self.explainer.name(miss.vertex),
            why: why.join("; "),
        })
    }

    fn content(&self, vertex: VertexId, inputs: &[Output], step: &Step<'_>) -> Result<Vec<Digest>, Error> {
        let node = self.graph.vertex(vertex);
        let by_content = node.inputs.iter().enumerate().filter(|(_, edge)| edge.by_content);
        by_content
            .zip(inputs)
            .map(|((number, edge), output)| {
                let (digest, listing) = match &node.op {
                    Op::Copy(op) => self.copied_content(op, number, edge, output, step),
                    Op::Exec(op) => self.mounted_content(op, number, edge, output, step),
                    _ => Err(Broken::Stuck.into()),
                }?;
                self.explainer.selected(vertex, number, &digest, listing);
                Ok(digest)
            })
            .collect::<Result<_, _>>()
            .map_err(|source| self.fail(vertex, source))
    }

    fn run(
        &self,
        vertex: VertexId,
        key: Option<&Key>,
        inputs: &[Output],
        step: &Step<'_>,
    ) -> Result<Output, Error> {
        let output = self.run_op(vertex, inputs, step).map_err(|source| self.fail(vertex, source))?;
        if let Output::Rootfs(rootfs) = &output {
            let text = self.graph.vertex(vertex).place.text.clone();
            let key = key.filter(|_| self.repairs.steps().is_empty());
            if let Some(key) = key {
                index::put_result(self.workspace, key, rootfs, &text)
                    .map_err(|source| self.fail(vertex, source))?;
            }
            let made = Made { vertex, key: key.cloned(), text, rootfs: rootfs.clone() };
            self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
        }
        Ok(output)
    }
}

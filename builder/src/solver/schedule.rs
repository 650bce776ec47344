//! The coordinator's state: what is wanted, what is known, what may start.

use super::{Broken, Message, Order, Solved, VertexKeys, Work};
use crate::cache::Key;
use crate::cache::key::Input;
use crate::diagnostic::with_causes;
use crate::explain::Miss;
use crate::graph::VertexId;
use crate::ports::Event;
use oci::Digest;
use std::collections::{BTreeSet, VecDeque};

/// The key of a vertex.
enum KeyState {
    Idle,
    Wanted,
    Hashing {
        cheap: Option<Key>,
    },
    /// `None`: the vertex has no key that lasts.
    Known(Option<Key>),
}

/// The result of a vertex.
enum OutputState<O> {
    Idle,
    Wanted,
    /// On its way from a cache elsewhere.
    Fetching,
    Running,
    Done(O),
}

impl<O> OutputState<O> {
    fn is_busy_or_done(&self) -> bool {
        matches!(self, OutputState::Fetching | OutputState::Running | OutputState::Done(_))
    }
}

struct Node<O> {
    key: KeyState,
    /// The key from definitions alone, where the final one is another.
    cheap: Option<Key>,
    output: OutputState<O>,
    /// Whether the index was asked for the result.
    looked_up: bool,
    /// Whether users were told that the vertex is cached.
    told: bool,
    /// Asked for afresh, itself or what it is built on.
    fresh: bool,
    /// The key cannot be known before some step has run.
    blocked: bool,
}

/// Something that may start now.
pub(super) struct Job<O> {
    pub(super) vertex: VertexId,
    pub(super) inputs: Vec<O>,
    pub(super) kind: JobKind,
}

pub(super) enum JobKind {
    Hash,
    Fetch { key: Key },
    Run { key: Option<Key> },
}

pub(super) struct Schedule<'a, W: Work> {
    work: &'a W,
    order: &'a Order<'a>,
    nodes: Vec<Node<W::Output>>,
    /// By vertex: those that take from it.
    consumers: Vec<Vec<VertexId>>,
    /// Vertices that changed, so that their demands must be passed on.
    demands: BTreeSet<VertexId>,
    /// Vertices that changed, or whose inputs did. Only these are looked at: the work is that of what changes, not
    /// the size of the graph for each message.
    dirty: BTreeSet<VertexId>,
    ready: VecDeque<Job<W::Output>>,
    failure: Option<W::Error>,
    stopped: bool,
    ran: usize,
    cached: usize,
}

impl<'a, W: Work> Schedule<'a, W> {
    pub(super) fn new(work: &'a W, order: &'a Order<'a>) -> Self {
        let mut nodes: Vec<Node<W::Output>> = Vec::with_capacity(order.graph.len());
        let mut consumers: Vec<Vec<VertexId>> = vec![Vec::new(); order.graph.len()];
        for (id, vertex) in order.graph.vertices() {
            for edge in &vertex.inputs {
                let known = &mut consumers[edge.from.0];
                if known.last() != Some(&id) {
                    known.push(id);
                }
            }
            let fresh = vertex.no_cache || vertex.inputs.iter().any(|edge| nodes[edge.from.0].fresh);
            nodes.push(Node {
                key: KeyState::Idle,
                cheap: None,
                output: OutputState::Idle,
                looked_up: false,
                told: false,
                fresh,
                blocked: false,
            });
        }
        let mut schedule = Self {
            work,
            order,
            nodes,
            consumers,
            demands: BTreeSet::new(),
            dirty: BTreeSet::new(),
            ready: VecDeque::new(),
            failure: None,
            stopped: false,
            ran: 0,
            cached: 0,
        };
        for target in order.targets {
            schedule.nodes[target.0].output = OutputState::Wanted;
            schedule.touch(*target);
        }
        schedule
    }

    /// Notes that something of a vertex changed.
    fn touch(&mut self, vertex: VertexId) {
        self.demands.insert(vertex);
        self.dirty.insert(vertex);
        self.dirty.extend(&self.consumers[vertex.0]);
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn take_ready(&mut self) -> Option<Job<W::Output>> {
        if self.stopped { None } else { self.ready.pop_front() }
    }

    /// Starts nothing more; what runs is waited for.
    pub(super) fn stop(&mut self) {
        if !self.stopped {
            self.stopped = true;
            for job in self.ready.drain(..) {
                if matches!(job.kind, JobKind::Run { .. }) {
                    self.order.progress.event(Event::Cancelled(job.vertex.0));
                }
            }
        }
    }

    pub(super) fn hear(&mut self, message: Message<W::Output, W::Error>) {
        match message {
            Message::Hashed(vertex, Ok(digests)) => self.hashed(vertex, &digests),
            Message::Ran(vertex, Ok(output), elapsed) => {
                self.ran += 1;
                self.nodes[vertex.0].output = OutputState::Done(output);
                self.touch(vertex);
                self.order.progress.event(Event::Done(vertex.0, elapsed));
            }
            Message::Fetched(vertex, Some(output)) => self.found(vertex, output),
            // It was looked for everywhere: it runs.
            Message::Fetched(vertex, None) => {
                self.nodes[vertex.0].output = OutputState::Wanted;
                self.touch(vertex);
            }
            Message::Hashed(vertex, Err(error)) | Message::Ran(vertex, Err(error), _) => {
                self.fail(vertex, error);
            }
        }
    }

    fn fail(&mut self, vertex: VertexId, error: W::Error) {
        // After the first failure the others fail because they were told to stop.
        if self.failure.is_some() || self.order.cancel.is_cancelled() {
            self.order.progress.event(Event::Cancelled(vertex.0));
        } else {
            // Which step it is, its number tells.
            let source = std::error::Error::source(&error);
            let text = source.map_or_else(|| with_causes(&error), with_causes);
            self.order.progress.event(Event::Failed(vertex.0, &text));
            self.failure = Some(error);
            self.order.cancel.cancel();
        }
        self.stop();
    }

    fn hashed(&mut self, vertex: VertexId, digests: &[Digest]) {
        let KeyState::Hashing { cheap } =
            std::mem::replace(&mut self.nodes[vertex.0].key, KeyState::Known(None))
        else {
            return;
        };
        let mut digests = digests.iter();
        let mut inputs = Vec::new();
        for edge in &self.order.graph.vertex(vertex).inputs {
            if edge.by_content {
                match digests.next() {
                    Some(digest) => inputs.push(Input::Content(digest)),
                    None => return,
                }
            } else {
                match &self.nodes[edge.from.0].key {
                    KeyState::Known(Some(key)) => inputs.push(Input::Whole(key)),
                    _ => return,
                }
            }
        }
        let key = Key::of(&self.work.definition(vertex), inputs);
        if let Some(cheap) = &cheap {
            self.work.remember_as(cheap, &key);
        }
        self.nodes[vertex.0].cheap = cheap;
        self.set_key(vertex, Some(key));
    }

    /// Carries all demands and results as far as they go without waiting: demands from the target down, then results
    /// from the sources up, and again.
    pub(super) fn settle(&mut self) {
        while !self.stopped {
            while let Some(vertex) = self.demands.pop_last() {
                self.demand(vertex);
            }
            let mut from = VertexId(0);
            while let Some(vertex) = self.dirty.range(from..).next().copied() {
                self.dirty.remove(&vertex);
                // What this changes above is met in this pass, what it changes here or below in the next one.
                from = VertexId(vertex.0 + 1);
                self.note_blocked(vertex);
                self.advance_key(vertex);
                self.advance_output(vertex);
            }
            if self.demands.is_empty() && self.dirty.is_empty() {
                break;
            }
        }
    }

    fn want_key(&mut self, vertex: VertexId) {
        if matches!(self.nodes[vertex.0].key, KeyState::Idle) {
            self.nodes[vertex.0].key = KeyState::Wanted;
            self.touch(vertex);
        }
    }

    fn want_output(&mut self, vertex: VertexId) {
        if matches!(self.nodes[vertex.0].output, OutputState::Idle) {
            self.nodes[vertex.0].output = OutputState::Wanted;
            self.touch(vertex);
        }
    }

    /// Passes a vertex's demands on to its inputs.
    fn demand(&mut self, vertex: VertexId) {
        if matches!(self.nodes[vertex.0].output, OutputState::Wanted) {
            self.want_key(vertex);
        }
        let graph = self.order.graph;
        let inputs = &graph.vertex(vertex).inputs;
        let node = &self.nodes[vertex.0];
        let output_wanted = matches!(node.output, OutputState::Wanted);
        match node.key {
            KeyState::Wanted => {
                // Something below must run before the key can be known, so most likely this vertex must run too:
                // what else it needs runs meanwhile.
                let needs_inputs = node.blocked && output_wanted;
                for edge in inputs {
                    self.want_key(edge.from);
                    if needs_inputs {
                        self.want_output(edge.from);
                    }
                }
            }
            KeyState::Known(_) if output_wanted && node.looked_up => {
                for edge in inputs {
                    self.want_output(edge.from);
                }
            }
            KeyState::Idle | KeyState::Hashing { .. } | KeyState::Known(_) => {}
        }
    }

    /// Notes whether the vertex' key waits for a step that runs, or is known to have to.
    fn note_blocked(&mut self, vertex: VertexId) {
        let wanted = matches!(self.nodes[vertex.0].key, KeyState::Wanted);
        let blocked = wanted
            && self.order.graph.vertex(vertex).inputs.iter().any(|edge| {
                let input = &self.nodes[edge.from.0];
                let runs = match input.output {
                    OutputState::Running => true,
                    OutputState::Wanted => input.looked_up,
                    OutputState::Idle | OutputState::Fetching | OutputState::Done(_) => false,
                };
                input.blocked || (edge.by_content && runs)
            });
        if std::mem::replace(&mut self.nodes[vertex.0].blocked, blocked) != blocked {
            self.touch(vertex);
        }
    }

    fn advance_key(&mut self, vertex: VertexId) {
        if !matches!(self.nodes[vertex.0].key, KeyState::Wanted) {
            return;
        }
        let graph = self.order.graph;
        let inputs = &graph.vertex(vertex).inputs;
        if let Some((output, key)) = self.work.source(vertex) {
            let node = &mut self.nodes[vertex.0];
            node.key = KeyState::Known(key);
            node.output = OutputState::Done(output);
            self.touch(vertex);
            return;
        }
        if inputs.is_empty() {
            self.set_key(vertex, None);
            return;
        }
        let mut keys: Vec<Option<Key>> = Vec::with_capacity(inputs.len());
        for edge in inputs {
            match &self.nodes[edge.from.0].key {
                KeyState::Known(key) => keys.push(key.clone()),
                _ => return,
            }
        }
        if inputs.iter().zip(&keys).any(|(edge, key)| !edge.by_content && key.is_none()) {
            self.set_key(vertex, None);
            return;
        }
        let cheap: Option<Key> = keys
            .into_iter()
            .collect::<Option<Vec<Key>>>()
            .map(|keys| Key::of(&self.work.definition(vertex), keys.iter().map(Input::Whole)));
        if !inputs.iter().any(|edge| edge.by_content) {
            self.set_key(vertex, cheap);
            return;
        }
        if let Some(cheap) = &cheap
            && !self.nodes[vertex.0].fresh
            && let Some(key) = self.work.known_as(cheap)
        {
            self.nodes[vertex.0].cheap = Some(cheap.clone());
            self.set_key(vertex, Some(key));
            return;
        }
        self.start_hash(vertex, cheap);
    }

    /// Hashes the selected content as soon as the inputs that hold it are there.
    fn start_hash(&mut self, vertex: VertexId, cheap: Option<Key>) {
        let graph = self.order.graph;
        let mut outputs = Vec::new();
        let mut waiting = false;
        for edge in graph.vertex(vertex).inputs.iter().filter(|edge| edge.by_content) {
            match &self.nodes[edge.from.0].output {
                OutputState::Done(output) => outputs.push(output.clone()),
                _ => {
                    waiting = true;
                    self.want_output(edge.from);
                }
            }
        }
        if waiting {
            // Some step must run before the key can be known. If the other inputs are not known either, then most
            // likely neither is this vertex: let them run meanwhile.
            if matches!(self.nodes[vertex.0].output, OutputState::Wanted) {
                for edge in &graph.vertex(vertex).inputs {
                    self.want_output(edge.from);
                }
            }
            return;
        }
        self.nodes[vertex.0].key = KeyState::Hashing { cheap };
        self.touch(vertex);
        self.ready.push_back(Job { vertex, inputs: outputs, kind: JobKind::Hash });
    }

    fn set_key(&mut self, vertex: VertexId, key: Option<Key>) {
        self.nodes[vertex.0].key = KeyState::Known(key);
        self.touch(vertex);
    }

    /// Tells that a vertex is cached, and with it all that it is made of and that was not needed: nobody looked
    /// those up, which is the point.
    fn tell_cached(&mut self, vertex: VertexId) {
        let mut found = vec![vertex];
        let mut todo = vec![vertex];
        self.nodes[vertex.0].told = true;
        while let Some(next) = todo.pop() {
            for edge in &self.order.graph.vertex(next).inputs {
                let node = &mut self.nodes[edge.from.0];
                if !node.told && !node.output.is_busy_or_done() {
                    node.told = true;
                    found.push(edge.from);
                    todo.push(edge.from);
                }
            }
        }
        found.sort_unstable();
        self.cached += found.len();
        for vertex in found {
            self.order.progress.event(Event::Cached(vertex.0));
        }
    }

    fn found(&mut self, vertex: VertexId, output: W::Output) {
        self.nodes[vertex.0].output = OutputState::Done(output);
        self.touch(vertex);
        if !self.nodes[vertex.0].told {
            self.tell_cached(vertex);
        }
    }

    fn advance_output(&mut self, vertex: VertexId) {
        let node = &mut self.nodes[vertex.0];
        if !matches!(node.output, OutputState::Wanted) {
            return;
        }
        let KeyState::Known(key) = &node.key else { return };
        let key = key.clone();
        if !node.looked_up {
            node.looked_up = true;
            let fresh = node.fresh;
            self.touch(vertex);
            if !fresh && let Some(key) = key {
                if let Some(output) = self.work.look_up(vertex, &key) {
                    self.found(vertex, output);
                } else if self.work.is_elsewhere(&key) {
                    self.nodes[vertex.0].output = OutputState::Fetching;
                    self.ready.push_back(Job { vertex, inputs: Vec::new(), kind: JobKind::Fetch { key } });
                }
            }
            return;
        }
        let mut inputs = Vec::new();
        for edge in &self.order.graph.vertex(vertex).inputs {
            match &self.nodes[edge.from.0].output {
                OutputState::Done(output) => inputs.push(output.clone()),
                _ => return,
            }
        }
        if let Err(error) = self.tell_missed(vertex, key.as_ref()) {
            self.fail(vertex, error);
            return;
        }
        self.nodes[vertex.0].output = OutputState::Running;
        self.touch(vertex);
        self.ready.push_back(Job { vertex, inputs, kind: JobKind::Run { key } });
    }

    fn tell_missed(&self, vertex: VertexId, key: Option<&Key>) -> Result<(), W::Error> {
        let inputs: Vec<Option<Key>> = self
            .order
            .graph
            .vertex(vertex)
            .inputs
            .iter()
            .map(|edge| match &self.nodes[edge.from.0].key {
                KeyState::Known(key) => key.clone(),
                _ => None,
            })
            .collect();
        self.work.missed(&Miss { vertex, key, inputs: &inputs, fresh: self.nodes[vertex.0].fresh })
    }

    pub(super) fn finish(self) -> Result<Solved<W::Output>, W::Error> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.order.cancel.is_cancelled() {
            return Err(Broken::Cancelled.into());
        }
        let mut outputs = Vec::new();
        for target in self.order.targets {
            match &self.nodes[target.0].output {
                OutputState::Done(output) => outputs.push(output.clone()),
                _ => return Err(Broken::Stuck.into()),
            }
        }
        let keys = self.nodes.into_iter().map(|node| VertexKeys {
            cheap: node.cheap,
            key: if let KeyState::Known(key) = node.key { key } else { None },
        });
        Ok(Solved { outputs, ran: self.ran, cached: self.cached, keys: keys.collect() })
    }
}

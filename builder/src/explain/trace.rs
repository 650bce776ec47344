//! The trace of a build: read when a step misses, written when something is new.

use super::parts::{self, Part, short};
use super::place::{self, Spot};
use super::{Cause, CauseKind, ExplainedStep, Outcome, compare};
use crate::cache::Key;
use crate::cache::listing::Listing;
use crate::graph::{Graph, MountKind, Op, Vertex, VertexId};
use crate::ports::VertexInfo;
use oci::{Digest, Digester};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock, PoisonError};
use storage::{Hold, Lease, Store, Trace, TraceLine};

/// Listings up to this many paths stand in the trace itself.
const INLINE_PATHS: usize = 24;
/// Largest blob of a listing, in bytes.
const LISTING_LIMIT: u64 = 256 << 20;

/// One step as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StepTrace {
    name: String,
    stage: String,
    text: String,
    line: usize,
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<InputTrace>,
}

/// One input of a step as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct InputTrace {
    /// What it was, for people.
    name: String,
    /// Its digest, for people, shortened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    digest: String,
    /// What of it is in the key: a key, or the digest of what was selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listing: Option<ListingTrace>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ListingTrace {
    /// Mode, digest, path.
    Inline(Vec<(u32, Digest, String)>),
    Blob(Digest),
}

/// The builder's part of a trace.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Data {
    steps: Vec<StepTrace>,
}

/// What a vertex selected of its inputs, by the number of the input.
type Selected = BTreeMap<usize, (Digest, Listing)>;

/// One build's explanations.
pub(crate) struct Explainer<'a> {
    store: &'a Store,
    lease: &'a Lease,
    graph: &'a Graph,
    /// The steps, as users know them.
    infos: &'a [VertexInfo],
    line: Digest,
    newest: OnceLock<Option<TraceLine>>,
    last: OnceLock<Option<Last>>,
    seen: Mutex<Seen>,
}

/// The last build of the line.
struct Last {
    steps: Vec<StepTrace>,
    /// Number of the old step for each vertex.
    places: BTreeMap<VertexId, usize>,
}

#[derive(Default)]
struct Seen {
    selected: BTreeMap<VertexId, Selected>,
    ran: BTreeMap<VertexId, Vec<Cause>>,
}

/// What the solver knows of a step that is about to run.
pub(crate) struct Miss<'a> {
    pub(crate) vertex: VertexId,
    pub(crate) key: Option<&'a Key>,
    /// Keys of its inputs.
    pub(crate) inputs: &'a [Option<Key>],
    /// Whether the cache was not asked.
    pub(crate) fresh: bool,
}

impl<'a> Explainer<'a> {
    pub(crate) fn new(
        store: &'a Store,
        lease: &'a Lease,
        graph: &'a Graph,
        infos: &'a [VertexInfo],
        line: &str,
    ) -> Self {
        Self {
            store,
            lease,
            graph,
            infos,
            line: Digest::of(line.as_bytes()),
            newest: OnceLock::new(),
            last: OnceLock::new(),
            seen: Mutex::default(),
        }
    }

    /// A step as progress shows it.
    pub(crate) fn name(&self, id: VertexId) -> String {
        self.describe(id, None).0
    }

    /// Notes what a vertex selected of an input.
    pub(crate) fn selected(&self, vertex: VertexId, input: usize, digest: &Digest, listing: Listing) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.selected.entry(vertex).or_default().insert(input, (digest.clone(), listing));
    }

    /// Why a step is about to run; notes it for the trace.
    pub(crate) fn miss(&self, miss: &Miss<'_>) -> Vec<Cause> {
        let causes = self.causes(miss);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.ran.insert(miss.vertex, causes.clone());
        causes
    }

    fn causes(&self, miss: &Miss<'_>) -> Vec<Cause> {
        let note = |kind, text| vec![Cause::note(kind, text)];
        if miss.fresh {
            return note(CauseKind::Cache, "the cache was not asked (--no-cache)");
        }
        let Some(last) = self.last() else {
            return note(CauseKind::New, "there is no earlier build to compare with");
        };
        let Some(before) = last.places.get(&miss.vertex).and_then(|at| last.steps.get(*at)) else {
            return note(CauseKind::New, "the last build had no such step");
        };
        match (&before.key, miss.key) {
            (_, None) => return note(CauseKind::Cache, "its result cannot be kept"),
            (Some(old), Some(new)) if old == new.0.hex() => {
                return note(CauseKind::Cache, "nothing changed, but its result is not in the cache");
            }
            _ => {}
        }
        let vertex = self.graph.vertex(miss.vertex);
        let text = &vertex.place.text;
        if keyword(&before.text) != keyword(text) {
            let how = parts::side_by_side(&before.text, text);
            return vec![Cause { how, ..Cause::note(CauseKind::Instruction, keyword(text)) }];
        }
        let mut causes = compare::parts(&before.parts, &self.parts(vertex));
        for (number, edge) in vertex.inputs.iter().enumerate() {
            let old = before.inputs.get(number).cloned().unwrap_or_default();
            if edge.by_content {
                causes.extend(self.content_causes(miss.vertex, number, &old));
                continue;
            }
            let key = miss.inputs.get(number).cloned().flatten();
            if old.key.as_deref() == key.as_ref().map(|key| key.0.hex()) {
                continue;
            }
            let (name, digest) = self.describe(edge.from, key.as_ref());
            let is_base = matches!(self.graph.vertex(edge.from).op, Op::Image(_) | Op::Scratch);
            let name = match is_base && old.name != name && !old.name.is_empty() {
                true => format!("{} -> {name}", old.name),
                false => name,
            };
            causes.push(Cause {
                kind: if is_base { CauseKind::Base } else { CauseKind::Parent },
                name,
                how: String::new(),
                old: Some(old.digest).filter(|digest| !digest.is_empty()),
                new: Some(digest).filter(|digest| !digest.is_empty()),
            });
        }
        if causes.is_empty() {
            causes.push(Cause::note(CauseKind::New, "something changed that the last build did not note"));
        }
        causes
    }

    /// What changed of the files that a step selects of one input.
    fn content_causes(&self, id: VertexId, input: usize, old: &InputTrace) -> Vec<Cause> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((digest, listing)) = seen.selected.get(&id).and_then(|inputs| inputs.get(&input)) else {
            return Vec::new();
        };
        if old.key.as_deref() == Some(digest.hex()) {
            return Vec::new();
        }
        let vertex = self.graph.vertex(id);
        let from = vertex.inputs[input].from;
        let kind = match (&self.graph.vertex(from).op, &vertex.op) {
            (Op::Http(_) | Op::Git(_), _) => CauseKind::Download,
            (_, Op::Exec(_)) => CauseKind::Mount,
            _ => CauseKind::Path,
        };
        let (name, _) = self.describe(from, None);
        let of = match &self.graph.vertex(from).op {
            Op::Directory(directory) if directory.name.is_none() => String::new(),
            _ => format!(" of {name}"),
        };
        let (old_digest, new_digest) = (old.key.as_deref().map(short_hex), Some(short(digest)));
        let whole = |what: &str| {
            vec![Cause {
                kind,
                name: what.to_owned(),
                how: String::new(),
                old: old_digest.clone(),
                new: new_digest.clone(),
            }]
        };
        if kind == CauseKind::Download {
            return whole(&name);
        }
        let Some(before) = old.listing.as_ref().and_then(|listing| self.listing(listing)) else {
            return whole(&format!("files{of}"));
        };
        let causes = compare::paths(kind, &of, &before, listing);
        // The same files under other names at the destination.
        if causes.is_empty() { whole(&format!("names of the files{of}")) } else { causes }
    }

    /// A vertex as an input of another one: its name, and a digest for people.
    fn describe(&self, id: VertexId, key: Option<&Key>) -> (String, String) {
        let vertex = self.graph.vertex(id);
        match &vertex.op {
            Op::Image(image) => (image.name.clone(), image.digest.as_ref().map(short).unwrap_or_default()),
            Op::Scratch => ("scratch".to_owned(), String::new()),
            Op::Directory(directory) => {
                let name = directory.name.as_ref().map(|name| format!("context {name}"));
                (name.unwrap_or_else(|| "the context".to_owned()), String::new())
            }
            Op::Http(op) => (op.url.clone(), String::new()),
            Op::Git(op) => (op.source.remote.clone(), String::new()),
            _ => {
                let info = self.infos.iter().find(|info| info.id == id.0);
                let name = info.map_or(vertex.place.text.as_str(), |info| info.name.as_str());
                (name.to_owned(), key.map(|key| short(&key.0)).unwrap_or_default())
            }
        }
    }

    fn parts(&self, vertex: &Vertex) -> Vec<Part> {
        if vertex.inputs.is_empty() {
            return Vec::new();
        }
        parts::parts(&vertex.op, keyword(&vertex.place.text))
    }

    fn newest(&self) -> Option<&TraceLine> {
        self.newest.get_or_init(|| self.store.traces().line(&self.line).ok().flatten()).as_ref()
    }

    fn last(&self) -> Option<&Last> {
        let read = || {
            let steps = read_steps(self.store, &self.newest()?.image).ok()??;
            let old: Vec<Spot<'_>> =
                steps.iter().map(|step| Spot { stage: &step.stage, text: &step.text }).collect();
            let ids: Vec<VertexId> = self.infos.iter().map(|info| VertexId(info.id)).collect();
            let new: Vec<Spot<'_>> = ids
                .iter()
                .map(|id| {
                    let place = &self.graph.vertex(*id).place;
                    Spot { stage: &place.stage, text: &place.text }
                })
                .collect();
            let pairs = place::pair(&old, &new);
            let places = ids.into_iter().zip(pairs).filter_map(|(id, at)| at.map(|at| (id, at))).collect();
            Some(Last { steps, places })
        };
        self.last.get_or_init(read).as_ref()
    }

    fn listing(&self, listing: &ListingTrace) -> Option<Listing> {
        match listing {
            ListingTrace::Inline(entries) => Some(Listing(
                entries
                    .iter()
                    .map(|(mode, digest, path)| crate::cache::listing::Entry {
                        path: path.clone().into_bytes(),
                        mode: *mode,
                        digest: digest.clone(),
                    })
                    .collect(),
            )),
            ListingTrace::Blob(digest) => {
                Listing::decode(&self.store.content().read(digest, LISTING_LIMIT).ok()?)
            }
        }
    }

    /// Writes the trace, unless the newest of the line says the same already.
    pub(crate) fn write(&self, image: &Digest, keys: &[Option<Key>]) -> storage::Result<()> {
        let mut summary = Digester::new();
        for info in self.infos {
            let vertex = self.graph.vertex(VertexId(info.id));
            summary.update(vertex.place.stage.as_bytes());
            summary.update(b"\0");
            summary.update(vertex.place.text.as_bytes());
            summary.update(b"\0");
            if let Some(key) = keys.get(info.id).and_then(Option::as_ref) {
                summary.update(key.0.as_str().as_bytes());
            }
        }
        let summary = summary.finish().hex().to_owned();
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        if seen.ran.is_empty()
            && self.newest().is_some_and(|newest| newest.image == *image && newest.summary == summary)
        {
            return Ok(());
        }
        let mut blobs = BTreeSet::new();
        let mut steps = Vec::new();
        for info in self.infos {
            steps.push(self.step(info, keys, &seen, &mut blobs)?);
        }
        let all = steps.iter().filter_map(|step| step.key.clone()).collect();
        // Strings, numbers and lists.
        let data = serde_json::to_value(Data { steps }).expect("plain data");
        let trace = Trace {
            image: image.clone(),
            keys: all,
            blobs: blobs.into_iter().collect(),
            created: jiff::Timestamp::now().to_string(),
            data,
        };
        self.store.traces().put(self.lease, &self.line, &summary, &trace)
    }

    fn step(
        &self,
        info: &VertexInfo,
        keys: &[Option<Key>],
        seen: &Seen,
        blobs: &mut BTreeSet<Digest>,
    ) -> storage::Result<StepTrace> {
        let id = VertexId(info.id);
        let vertex = self.graph.vertex(id);
        let key_of = |id: VertexId| keys.get(id.0).cloned().flatten();
        let key = key_of(id).map(|key| key.0.hex().to_owned());
        // A step whose files were not looked at has those of the last build with the same key.
        let same = match &key {
            Some(key) => {
                self.last().and_then(|last| last.steps.iter().find(|step| step.key.as_ref() == Some(key)))
            }
            None => None,
        };
        let mut inputs = Vec::new();
        for (number, edge) in vertex.inputs.iter().enumerate() {
            let from = key_of(edge.from);
            let (name, digest) = self.describe(edge.from, from.as_ref());
            let mut input = InputTrace { name, digest, ..InputTrace::default() };
            if !edge.by_content {
                input.key = from.map(|key| key.0.hex().to_owned());
            } else if let Some((digest, listing)) =
                seen.selected.get(&id).and_then(|inputs| inputs.get(&number))
            {
                input.key = Some(digest.hex().to_owned());
                let known = same.and_then(|step| step.inputs.get(number));
                let known = known.filter(|known| known.key == input.key);
                input.listing = match known.and_then(|known| known.listing.clone()) {
                    Some(known) => Some(known),
                    None => Some(self.put_listing(listing)?),
                };
            } else if let Some(known) = same.and_then(|step| step.inputs.get(number)) {
                input.key.clone_from(&known.key);
                input.listing.clone_from(&known.listing);
            }
            if let Some(ListingTrace::Blob(digest)) = &input.listing {
                // One that is gone by now is not named.
                match self.lease.hold(Hold::Blob(digest.clone()))? {
                    true => drop(blobs.insert(digest.clone())),
                    false => input.listing = None,
                }
            }
            inputs.push(input);
        }
        let causes = seen.ran.get(&id);
        Ok(StepTrace {
            name: info.name.clone(),
            stage: vertex.place.stage.clone(),
            text: vertex.place.text.clone(),
            line: vertex.place.line,
            outcome: match (vertex.inputs.is_empty(), causes) {
                (true, _) => Outcome::Source,
                (false, Some(_)) => Outcome::Ran,
                (false, None) => Outcome::Hit,
            },
            key,
            causes: causes.cloned().unwrap_or_default(),
            parts: self.parts(vertex),
            inputs,
        })
    }

    fn put_listing(&self, listing: &Listing) -> storage::Result<ListingTrace> {
        let readable = |path: &Vec<u8>| String::from_utf8(path.clone()).ok();
        if listing.0.len() <= INLINE_PATHS {
            let entries: Option<Vec<_>> = listing
                .0
                .iter()
                .map(|entry| Some((entry.mode, entry.digest.clone(), readable(&entry.path)?)))
                .collect();
            if let Some(entries) = entries {
                return Ok(ListingTrace::Inline(entries));
            }
        }
        self.store.content().put(self.lease, &listing.encode()).map(ListingTrace::Blob)
    }
}

/// Cache mounts that a graph uses, by their names.
pub(crate) fn cache_mounts(graph: &Graph) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (_, vertex) in graph.vertices() {
        let Op::Exec(op) = &vertex.op else { continue };
        for mount in &op.mounts {
            if let MountKind::Cache { id, .. } = &mount.kind {
                ids.insert(id.clone());
            }
        }
    }
    ids
}

/// The instruction that a text begins with.
fn keyword(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("step")
}

fn short_hex(hex: &str) -> String {
    format!("sha256:{}", hex.get(..12).unwrap_or(hex))
}

fn read_steps(store: &Store, image: &Digest) -> storage::Result<Option<Vec<StepTrace>>> {
    let Some(trace) = store.traces().get(image)? else { return Ok(None) };
    // What another version wrote is nothing to compare with.
    Ok(serde_json::from_value::<Data>(trace.data).ok().map(|data| data.steps))
}

/// The trace of an image for people.
pub(super) fn read(store: &Store, image: &Digest) -> storage::Result<Option<Vec<ExplainedStep>>> {
    let steps = read_steps(store, image)?;
    Ok(steps.map(|steps| {
        steps
            .into_iter()
            .map(|step| ExplainedStep {
                name: step.name,
                line: step.line,
                outcome: step.outcome,
                causes: step.causes,
            })
            .collect()
    }))
}

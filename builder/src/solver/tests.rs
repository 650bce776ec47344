#![allow(clippy::unwrap_used)]
//! The solver with fake work: order, parallelism, what hits and what misses, failing and cancelling.

use super::*;
use crate::cache::key;
use crate::graph::{DirectoryOp, Edge, FileTimes, Op, Place, Vertex, WorkdirOp};
use crate::ports::Silent;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Broken(#[from] Broken),
    #[error("{0} failed")]
    Step(String),
}

/// Outputs are texts: what a vertex "holds". `files` is what the outside world holds.
#[derive(Default)]
struct Fake {
    graph: Graph,
    files: BTreeMap<String, String>,
    known: Mutex<BTreeMap<Key, String>>,
    aliases: Mutex<BTreeMap<Key, Key>>,
    log: Mutex<Vec<String>>,
    failing: BTreeSet<String>,
    /// Whether outputs are digests of what they are made of.
    short: bool,
    meeting: Option<(usize, Mutex<usize>, Condvar)>,
}

impl Fake {
    fn name(&self, vertex: VertexId) -> String {
        self.graph.vertex(vertex).place.text.clone()
    }

    fn ran(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    fn add(&mut self, name: &str, inputs: &[(VertexId, bool)]) -> VertexId {
        let op = if inputs.is_empty() {
            Op::Directory(DirectoryOp { name: Some(name.into()) })
        } else {
            Op::Workdir(WorkdirOp { path: name.into(), user: String::new(), times: FileTimes::Kept })
        };
        let inputs = inputs.iter().map(|&(from, by_content)| Edge { from, by_content }).collect();
        self.graph.add(Vertex {
            op,
            inputs,
            no_cache: false,
            place: Place { text: name.into(), ..Place::default() },
        })
    }

    fn solve(&self, target: VertexId, jobs: usize) -> Result<Solved<String>, Failure> {
        self.solve_with(target, jobs, &Cancel::new().unwrap())
    }

    fn solve_with(&self, target: VertexId, jobs: usize, cancel: &Cancel) -> Result<Solved<String>, Failure> {
        solve(self, &Order { graph: &self.graph, targets: &[target], jobs, cancel, progress: &Silent })
    }
}

impl Work for Fake {
    type Output = String;
    type Error = Failure;

    fn source(&self, vertex: VertexId) -> Option<(String, Option<Key>)> {
        let name = self.name(vertex);
        if !self.graph.vertex(vertex).inputs.is_empty() {
            return None;
        }
        // "base.." are images with a key that lasts, the others are contexts.
        let key = name.starts_with("base").then(|| Key(Digest::of(name.as_bytes())));
        Some((self.files.get(&name).cloned().unwrap_or(name), key))
    }

    fn definition(&self, vertex: VertexId) -> Digest {
        key::definition(&self.graph.vertex(vertex).op)
    }

    fn known_as(&self, cheap: &Key) -> Option<Key> {
        self.aliases.lock().unwrap().get(cheap).cloned()
    }

    fn remember_as(&self, cheap: &Key, key: &Key) {
        self.aliases.lock().unwrap().insert(cheap.clone(), key.clone());
    }

    fn look_up(&self, _vertex: VertexId, key: &Key) -> Option<String> {
        self.known.lock().unwrap().get(key).cloned()
    }

    fn content(&self, vertex: VertexId, inputs: &[String], _step: &Step<'_>) -> Result<Vec<Digest>, Failure> {
        self.log.lock().unwrap().push(format!("hash {}", self.name(vertex)));
        Ok(inputs.iter().map(|input| Digest::of(input.as_bytes())).collect())
    }

    fn run(
        &self,
        vertex: VertexId,
        key: Option<&Key>,
        inputs: &[String],
        step: &Step<'_>,
    ) -> Result<String, Failure> {
        let name = self.name(vertex);
        self.log.lock().unwrap().push(name.clone());
        if let Some((expected, arrived, all)) = &self.meeting
            && name.starts_with("meet")
        {
            let mut count = arrived.lock().unwrap();
            *count += 1;
            all.notify_all();
            while *count < *expected {
                let (guard, timeout) = all.wait_timeout(count, Duration::from_secs(10)).unwrap();
                count = guard;
                assert!(!timeout.timed_out(), "steps did not run at the same time");
            }
        }
        if name.starts_with("wait") {
            while !step.cancel.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            return Err(Broken::Cancelled.into());
        }
        if name.starts_with("panic") {
            panic!("on purpose");
        }
        if self.failing.contains(&name) {
            return Err(Failure::Step(name));
        }
        // A step called "same.." gives the same whatever it is built on.
        let output =
            if name.starts_with("same") { name.clone() } else { format!("{}>{name}", inputs.join("+")) };
        let output = if self.short { Digest::of(output.as_bytes()).to_string() } else { output };
        if let Some(key) = key {
            self.known.lock().unwrap().insert(key.clone(), output.clone());
        }
        Ok(output)
    }
}

#[test]
fn inputs_run_first_and_only_what_the_target_needs() {
    let mut fake = Fake::default();
    let base = fake.add("base", &[]);
    let a = fake.add("a", &[(base, false)]);
    let unused = fake.add("unused", &[(base, false)]);
    let b = fake.add("b", &[(a, false)]);
    let solved = fake.solve(b, 4).unwrap();
    assert_eq!(solved.outputs, ["base>a>b"]);
    assert_eq!((solved.ran, solved.cached), (2, 0));
    assert_eq!(fake.ran(), ["a", "b"]);
    let _ = unused;
}

#[test]
fn a_second_build_runs_nothing() {
    let mut fake = Fake::default();
    let base = fake.add("base", &[]);
    let context = fake.add("context", &[]);
    let a = fake.add("a", &[(base, false)]);
    let copy = fake.add("copy", &[(a, false), (context, true)]);
    let b = fake.add("b", &[(copy, false)]);
    fake.solve(b, 2).unwrap();
    assert_eq!(fake.ran(), ["hash copy", "a", "copy", "b"]);
    let solved = fake.solve(b, 2).unwrap();
    assert_eq!(fake.ran(), ["hash copy"]);
    assert_eq!(solved.outputs, ["base>a+context>copy>b"]);
    assert_eq!((solved.ran, solved.cached), (0, 3));
}

#[test]
fn changed_content_misses_from_there_on() {
    let mut fake = Fake::default();
    let base = fake.add("base", &[]);
    let context = fake.add("context", &[]);
    let a = fake.add("a", &[(base, false)]);
    let copy = fake.add("copy", &[(a, false), (context, true)]);
    let b = fake.add("b", &[(copy, false)]);
    fake.solve(b, 2).unwrap();
    fake.ran();
    fake.files.insert("context".into(), "edited".into());
    fake.solve(b, 2).unwrap();
    assert_eq!(fake.ran(), ["hash copy", "copy", "b"]);
}

#[test]
fn copy_from_an_equal_result_of_a_changed_stage_hits() {
    let build = |define: &str, fake: &mut Fake| {
        fake.graph = Graph::default();
        let base = fake.add("base", &[]);
        let define = fake.add(define, &[(base, false)]);
        let same = fake.add("same", &[(define, false)]);
        let copy = fake.add("copy", &[(base, false), (same, true)]);
        fake.add("after", &[(copy, false)])
    };
    let mut fake = Fake::default();
    let target = build("one", &mut fake);
    fake.solve(target, 2).unwrap();
    assert_eq!(fake.ran(), ["one", "same", "hash copy", "copy", "after"]);
    let target = build("two", &mut fake);
    let solved = fake.solve(target, 2).unwrap();
    assert_eq!(fake.ran(), ["two", "same", "hash copy"]);
    assert_eq!(solved.outputs, ["base+same>copy>after"]);
    // Now the cheap key is known, so not even the stage is needed.
    fake.known.lock().unwrap().retain(|_, output| output.contains("copy"));
    fake.solve(target, 2).unwrap();
    assert!(fake.ran().is_empty());
}

#[test]
fn independent_steps_run_at_the_same_time() {
    let mut fake = Fake { meeting: Some((2, Mutex::new(0), Condvar::new())), ..Fake::default() };
    let base = fake.add("base", &[]);
    let left = fake.add("meet left", &[(base, false)]);
    let right = fake.add("meet right", &[(base, false)]);
    // As a COPY --from whose own stage must not wait for the other one.
    let join = fake.add("join", &[(left, false), (right, true)]);
    assert_eq!(fake.solve(join, 2).unwrap().outputs, ["base>meet left+base>meet right>join"]);
}

#[test]
fn sources_of_later_copies_do_not_wait_for_earlier_ones() {
    let mut fake = Fake { meeting: Some((2, Mutex::new(0), Condvar::new())), ..Fake::default() };
    let base = fake.add("base", &[]);
    let left = fake.add("meet left", &[(base, false)]);
    let right = fake.add("meet right", &[(base, false)]);
    let first = fake.add("first", &[(base, false), (left, true)]);
    let between = fake.add("between", &[(first, false)]);
    let second = fake.add("second", &[(between, false), (right, true)]);
    assert_eq!(fake.solve(second, 2).unwrap().ran, 5);
    assert_eq!(fake.ran().len(), 7, "two contents and five steps");
}

#[test]
fn one_job_still_ends() {
    let mut fake = Fake::default();
    let base = fake.add("base", &[]);
    let mut tips = Vec::new();
    for index in 0..20 {
        tips.push((fake.add(&format!("s{index}"), &[(base, false)]), index % 2 == 0));
    }
    let mut inputs = vec![(base, false)];
    inputs.extend(tips);
    let join = fake.add("join", &inputs);
    assert_eq!(fake.solve(join, 1).unwrap().ran, 21);
}

#[test]
fn the_first_failure_stops_the_others() {
    let mut fake = Fake::default();
    fake.failing.insert("bad".into());
    let base = fake.add("base", &[]);
    let wait = fake.add("wait", &[(base, false)]);
    let bad = fake.add("bad", &[(base, false)]);
    let join = fake.add("join", &[(wait, false), (bad, false)]);
    assert_eq!(fake.solve(join, 2).unwrap_err(), Failure::Step("bad".into()));
    assert!(!fake.ran().contains(&"join".to_owned()));
}

#[test]
fn a_panic_is_a_failure() {
    let mut fake = Fake::default();
    let base = fake.add("base", &[]);
    let bad = fake.add("panic", &[(base, false)]);
    assert_eq!(fake.solve(bad, 2).unwrap_err(), Failure::Broken(Broken::Panicked));
}

#[test]
fn cancelled_from_outside() {
    let mut fake = Fake::default();
    let base = fake.add("base", &[]);
    let wait = fake.add("wait", &[(base, false)]);
    let cancel = Cancel::new().unwrap();
    let other = cancel.clone();
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        other.cancel();
    });
    assert_eq!(fake.solve_with(wait, 2, &cancel).unwrap_err(), Failure::Broken(Broken::Cancelled));
    canceller.join().unwrap();
}

#[test]
fn no_cache_runs_the_vertex_and_all_above_it() {
    let mut fake = Fake::default();
    let base = fake.add("base", &[]);
    let a = fake.add("a", &[(base, false)]);
    let b = fake.add("b", &[(a, false)]);
    let c = fake.add("c", &[(b, false)]);
    fake.solve(c, 2).unwrap();
    fake.ran();
    let mut graph = Graph::default();
    for (id, vertex) in fake.graph.vertices() {
        graph.add(Vertex { no_cache: id == b, ..vertex.clone() });
    }
    fake.graph = graph;
    let solved = fake.solve(c, 2).unwrap();
    assert_eq!(fake.ran(), ["b", "c"]);
    assert_eq!(solved.cached, 1);
}

/// Many stages on one base, each a few steps and copied from, then a long chain: the work must grow with the graph,
/// not with its square.
#[test]
fn ten_thousand_vertices() {
    let mut fake = Fake { short: true, ..Fake::default() };
    let base = fake.add("base", &[]);
    let mut tip = base;
    for index in 0..2_500 {
        let first = fake.add(&format!("a{index}"), &[(base, false)]);
        let second = fake.add(&format!("b{index}"), &[(first, false)]);
        tip = fake.add(&format!("copy{index}"), &[(tip, false), (second, true)]);
        tip = fake.add(&format!("run{index}"), &[(tip, false)]);
    }
    let begin = std::time::Instant::now();
    assert_eq!(fake.solve(tip, 2).unwrap().ran, 10_000);
    assert_eq!(fake.solve(tip, 2).unwrap().ran, 0);
    let elapsed = begin.elapsed();
    // 0.5 s unoptimised; passes over all vertices for each message took minutes.
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
}

use super::*;
use crate::containers::CreateRequest;
use std::cell::RefCell;

struct Nothing(RefCell<Vec<String>>);

impl Remains for Nothing {
    fn remove(&self, id: &str) -> Result<()> {
        self.0.borrow_mut().push(id.to_owned());
        Ok(())
    }
}

fn nothing() -> Nothing {
    Nothing(RefCell::new(Vec::new()))
}

fn state(directory: &Path) -> State {
    State {
        containers: directory.join("containers"),
        names: directory.join("names"),
        run: directory.join("run"),
    }
}

fn record(id: &str, name: &str, created: i64) -> ContainerRecord {
    ContainerRecord {
        version: RECORD_VERSION,
        id: id.to_owned(),
        name: name.to_owned(),
        created_nanos: created,
        image_name: "localhost/x:latest".to_owned(),
        image_id: "0".repeat(64),
        image_digest: String::new(),
        chain: None,
        runtime: None,
        snapshot: format!("c-{}", &id[..24]),
        settings: CreateRequest::default(),
        entrypoint: vec!["sh".into()],
        command: vec!["-c".into()],
    }
}

fn make(state: &State, name: &str, created: i64) -> String {
    let id = names::random_id().unwrap();
    let _lock = state.begin(&id).unwrap();
    state.claim_name(name, &id).unwrap();
    state.write(&record(&id, name, created)).unwrap();
    id
}

#[test]
fn containers_are_found_by_name_id_and_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let a = make(&state, "one", 1);
    let b = make(&state, "two", 2);
    assert_eq!(state.find("one").unwrap().id, a);
    assert_eq!(state.find(&b).unwrap().name, "two");
    assert_eq!(state.find(&b[..20]).unwrap().name, "two");
    assert!(matches!(state.find("three"), Err(Error::NotFound { .. })));
    assert!(matches!(state.find("../one"), Err(Error::NotFound { .. })));
    let listed: Vec<_> = state.list().unwrap().into_iter().map(|record| record.name).collect();
    assert_eq!(listed, ["two", "one"]);
}

#[test]
fn a_name_is_claimed_once() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let first = make(&state, "one", 1);
    let second = names::random_id().unwrap();
    let _lock = state.begin(&second).unwrap();
    let error = state.claim_name("one", &second).unwrap_err();
    assert!(matches!(&error, Error::NameTaken { id, .. } if *id == first), "{error}");
}

#[test]
fn what_a_killed_create_left_is_reaped_and_its_name_free() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let dead = names::random_id().unwrap();
    let lock = state.begin(&dead).unwrap();
    state.claim_name("one", &dead).unwrap();
    // still being made: neither reaped nor free
    let other = names::random_id().unwrap();
    let _other_lock = state.begin(&other).unwrap();
    assert!(state.claim_name("one", &other).is_err());
    let seen = nothing();
    assert_eq!(state.reap(&seen).unwrap(), 0);
    drop(lock);
    state.claim_name("one", &other).unwrap();
    assert_eq!(state.reap(&seen).unwrap(), 1);
    assert_eq!(*seen.0.borrow(), std::slice::from_ref(&dead));
    assert!(!state.directory(&dead).exists());
    assert_eq!(state.name_holder("one").unwrap().as_deref(), Some(other.as_str()));
}

#[test]
fn removal_ends_everything() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let id = make(&state, "one", 1);
    let record = state.find("one").unwrap();
    let _lock = state.lock(&id).unwrap().unwrap();
    state.remove(&record, &nothing()).unwrap();
    assert!(state.find("one").is_err());
    assert!(state.ids().unwrap().is_empty());
    assert!(state.lock(&id).unwrap().is_none());
    make(&state, "one", 2);
}

#[test]
fn many_processes_worth_of_threads_agree() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let id = names::random_id().unwrap();
                    let _lock = state.begin(&id).unwrap();
                    if state.claim_name("same", &id).is_ok() {
                        state.write(&record(&id, "same", 1)).unwrap();
                        1
                    } else {
                        0
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
}

#[test]
fn a_record_that_a_power_cut_left_empty_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let state = state(directory.path());
    let (kept, cut) = (make(&state, "kept", 1), make(&state, "cut", 2));
    std::fs::write(state.directory(&cut).join("config.json"), "").unwrap();
    assert!(state.read(&cut).unwrap().is_none());
    assert_eq!(state.list().unwrap().len(), 1);
    let remains = nothing();
    assert_eq!(state.reap(&remains).unwrap(), 1);
    assert_eq!(*remains.0.borrow(), [cut]);
    assert!(state.claim_name("cut", &kept).is_ok(), "its name is free");
    // one that is damaged is told
    std::fs::write(state.directory(&kept).join("config.json"), "{").unwrap();
    assert!(state.read(&kept).is_err());
}

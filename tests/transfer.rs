//! What moves over the network: each blob once, and after a kill only what is missing.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use crate::faults::proxy::Proxy;
use crate::support::{Access, Davit, Registry, wait_until};

struct Lab {
    _registry: Registry,
    proxy: Proxy,
    name: String,
}

/// A registry behind a slow line, with an image of a config and two layers.
fn lab() -> Lab {
    let davit = Davit::with_busybox();
    davit
        .build("app", "FROM busybox\nRUN head -c 6000000 /dev/urandom > /big; sha256sum /big > /sum\n", &[])
        .ok();
    let registry = Registry::start(Access::Plain);
    davit.run(["push", "-q", "--tls-verify=false", "app", &format!("{}/app:1", registry.host)]).ok();
    let proxy = Proxy::start(&registry.host);
    let name = format!("{}/app:1", proxy.host);
    Lab { _registry: registry, proxy, name }
}

impl Lab {
    fn blobs_asked(&self) -> usize {
        let asked = self.proxy.asked.lock().unwrap();
        asked.iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/")).count()
    }
}

#[test]
fn four_pulls_at_once_fetch_each_blob_once() {
    let lab = lab();
    lab.proxy.pace(2);
    let davit = Davit::new();
    let children: Vec<_> = (0..4)
        .map(|_| {
            davit
                .command()
                .args(["pull", "-q", "--tls-verify=false", &lab.name])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(lab.blobs_asked(), 3, "{:#?}", lab.proxy.asked.lock().unwrap());
    assert_eq!(davit.sh(&lab.name, "sha256sum -c /sum"), "/big: OK");
}

#[test]
fn who_waits_goes_on_where_a_killed_pull_ended() {
    let lab = lab();
    lab.proxy.pace(2);
    let davit = Davit::new();
    let pull = || {
        davit
            .command()
            .args(["pull", "-q", "--tls-verify=false", &lab.name])
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut first = pull();
    wait_until("some has come", || lab.proxy.passed.load(Ordering::Relaxed) > 1_500_000);
    let mut second = pull();
    wait_until("half of it has come", || lab.proxy.passed.load(Ordering::Relaxed) > 3_500_000);
    first.kill().unwrap();
    first.wait().unwrap();
    let before = lab.proxy.passed.load(Ordering::Relaxed);
    assert!(second.wait().unwrap().success());
    let after = lab.proxy.passed.load(Ordering::Relaxed) - before;
    assert!(after < 4_500_000, "{after} bytes came after the kill");
    assert_eq!(davit.sh(&lab.name, "sha256sum -c /sum"), "/big: OK");
}

#[test]
fn a_killed_pull_is_resumed_by_range() {
    let lab = lab();
    lab.proxy.pace(2);
    let davit = Davit::new();
    let arguments = ["pull", "-q", "--tls-verify=false", &lab.name];
    let whole = {
        let other = Davit::new();
        other.run(arguments).ok();
        lab.proxy.passed.swap(0, Ordering::Relaxed)
    };
    let mut child = davit.command().args(arguments).stdout(Stdio::null()).spawn().unwrap();
    wait_until("half of it has come", || lab.proxy.passed.load(Ordering::Relaxed) > whole / 2);
    child.kill().unwrap();
    child.wait().unwrap();
    // what was on its way when the client went
    std::thread::sleep(std::time::Duration::from_millis(100));
    lab.proxy.passed.store(0, Ordering::Relaxed);
    davit.run(arguments).ok();
    let again = lab.proxy.passed.load(Ordering::Relaxed);
    assert!(again * 100 <= whole * 55, "{again} of {whole} bytes came again");
    assert_eq!(davit.sh(&lab.name, "sha256sum -c /sum"), "/big: OK");
}

#[test]
fn a_second_push_moves_nothing_from_a_fresh_store_too() {
    let lab = lab();
    let davit = Davit::new();
    davit.run(["pull", "-q", "--tls-verify=false", &lab.name]).ok();
    lab.proxy.asked.lock().unwrap().clear();
    davit.run(["push", "-q", "--tls-verify=false", &lab.name]).ok();
    let asked = lab.proxy.asked.lock().unwrap().clone();
    assert!(!asked.iter().any(|line| line.contains("/uploads/")), "{asked:#?}");
}
